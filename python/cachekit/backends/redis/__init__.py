"""The Redis backend."""

from __future__ import annotations

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.backends.redis.backend import RedisBackend
    from cachekit.backends.redis.config import RedisBackendConfig

_HOMES = {
    "RedisBackend": "cachekit.backends.redis.backend",
    "RedisBackendConfig": "cachekit.backends.redis.config",
}

__all__ = ["RedisBackend", "RedisBackendConfig"]

__getattr__ = lazy(__name__, _HOMES)
