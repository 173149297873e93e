"""The Memcached backend."""

from __future__ import annotations

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.backends.memcached.backend import MemcachedBackend
    from cachekit.backends.memcached.config import MemcachedBackendConfig

_HOMES = {
    "MemcachedBackend": "cachekit.backends.memcached.backend",
    "MemcachedBackendConfig": "cachekit.backends.memcached.config",
}

__all__ = ["MemcachedBackend", "MemcachedBackendConfig"]

__getattr__ = lazy(__name__, _HOMES)
