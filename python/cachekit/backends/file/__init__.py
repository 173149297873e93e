"""The File backend."""

from __future__ import annotations

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.backends.file.backend import FileBackend
    from cachekit.backends.file.config import FileBackendConfig

_HOMES = {
    "FileBackend": "cachekit.backends.file.backend",
    "FileBackendConfig": "cachekit.backends.file.config",
}

__all__ = ["FileBackend", "FileBackendConfig"]

__getattr__ = lazy(__name__, _HOMES)
