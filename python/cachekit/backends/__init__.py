"""Where entries rest between processes: the backend protocols, Redis, and the rule that picks one."""

from __future__ import annotations

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.backends.base import (
        BaseBackend,
        LockableBackend,
        TimeoutConfigurableBackend,
        TTLInspectableBackend,
    )
    from cachekit.backends.cachekitio import CachekitIOBackend, CachekitIOBackendConfig
    from cachekit.backends.errors import BackendError, BackendErrorType, CapabilityNotAvailableError
    from cachekit.backends.file import FileBackend, FileBackendConfig
    from cachekit.backends.memcached import MemcachedBackend
    from cachekit.backends.redis import RedisBackend, RedisBackendConfig

_HOMES = {
    "BackendError": "cachekit.backends.errors",
    "BackendErrorType": "cachekit.backends.errors",
    "BaseBackend": "cachekit.backends.base",
    "CachekitIOBackend": "cachekit.backends.cachekitio.backend",
    "CachekitIOBackendConfig": "cachekit.backends.cachekitio.config",
    "CapabilityNotAvailableError": "cachekit.backends.errors",
    "FileBackend": "cachekit.backends.file.backend",
    "FileBackendConfig": "cachekit.backends.file.config",
    "LockableBackend": "cachekit.backends.base",
    "MemcachedBackend": "cachekit.backends.memcached.backend",
    "RedisBackend": "cachekit.backends.redis.backend",
    "RedisBackendConfig": "cachekit.backends.redis.config",
    "TTLInspectableBackend": "cachekit.backends.base",
    "TimeoutConfigurableBackend": "cachekit.backends.base",
}

__all__ = [
    "BackendError",
    "BackendErrorType",
    "BaseBackend",
    "CachekitIOBackend",
    "CachekitIOBackendConfig",
    "CapabilityNotAvailableError",
    "FileBackend",
    "FileBackendConfig",
    "LockableBackend",
    "MemcachedBackend",
    "RedisBackend",
    "RedisBackendConfig",
    "TTLInspectableBackend",
    "TimeoutConfigurableBackend",
]

__getattr__ = lazy(__name__, _HOMES)
