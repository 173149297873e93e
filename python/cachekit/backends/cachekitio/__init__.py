"""The CachekitIO backend."""

from __future__ import annotations

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.backends.cachekitio.backend import CachekitIOBackend
    from cachekit.backends.cachekitio.config import CachekitIOBackendConfig

_HOMES = {
    "CachekitIOBackend": "cachekit.backends.cachekitio.backend",
    "CachekitIOBackendConfig": "cachekit.backends.cachekitio.config",
}

__all__ = ["CachekitIOBackend", "CachekitIOBackendConfig"]

__getattr__ = lazy(__name__, _HOMES)
