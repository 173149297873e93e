"""The CachekitIO backend."""

from __future__ import annotations

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.backends.cachekitio.config import CachekitIOBackendConfig

_HOMES = {
    "CachekitIOBackendConfig": "cachekit.backends.cachekitio.config",
}

__all__ = ["CachekitIOBackendConfig"]

__getattr__ = lazy(__name__, _HOMES)
