"""cachekit: decorate a function and forget about it.

``from cachekit import cache`` is all that most programs need. Importing this package reads no
setting, opens no connection and loads nothing optional; names are loaded when they are first used.
"""

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.backends.errors import BackendError, BackendErrorType, CapabilityNotAvailableError
    from cachekit.config.decorator import DecoratorConfig, get_default_backend, set_default_backend
    from cachekit.config.nested import (
        BackpressureConfig,
        CircuitBreakerConfig,
        EncryptionConfig,
        L1CacheConfig,
        MonitoringConfig,
        TimeoutConfig,
    )
    from cachekit.config.settings import CachekitConfig
    from cachekit.config.singleton import configure, get_settings, reset_settings
    from cachekit.config.validation import ConfigurationError
    from cachekit.decorators.decorator import cache
    from cachekit.decorators.typed import AsyncCachedFunction, CachedFunction
    from cachekit.encryption import validate_encryption_config
    from cachekit.info import CacheInfo
    from cachekit.interop import InteropError, decode_interop_value, encode_interop_value, generate_interop_key
    from cachekit.switches import disabled
    from cachekit.ttl import FOREVER

__version__: str

# Where each public name lives.
_HOMES = {
    "AsyncCachedFunction": "cachekit.decorators.typed",
    "BackendError": "cachekit.backends.errors",
    "BackendErrorType": "cachekit.backends.errors",
    "BackpressureConfig": "cachekit.config.nested",
    "CacheInfo": "cachekit.info",
    "CachedFunction": "cachekit.decorators.typed",
    "CachekitConfig": "cachekit.config.settings",
    "CapabilityNotAvailableError": "cachekit.backends.errors",
    "CircuitBreakerConfig": "cachekit.config.nested",
    "ConfigurationError": "cachekit.config.validation",
    "DecoratorConfig": "cachekit.config.decorator",
    "FOREVER": "cachekit.ttl",
    "EncryptionConfig": "cachekit.config.nested",
    "InteropError": "cachekit.interop",
    "L1CacheConfig": "cachekit.config.nested",
    "MonitoringConfig": "cachekit.config.nested",
    "TimeoutConfig": "cachekit.config.nested",
    "cache": "cachekit.decorators.decorator",
    "configure": "cachekit.config.singleton",
    "decode_interop_value": "cachekit.interop",
    "disabled": "cachekit.switches",
    "encode_interop_value": "cachekit.interop",
    "generate_interop_key": "cachekit.interop",
    "get_default_backend": "cachekit.config.decorator",
    "get_settings": "cachekit.config.singleton",
    "reset_settings": "cachekit.config.singleton",
    "set_default_backend": "cachekit.config.decorator",
    "validate_encryption_config": "cachekit.encryption",
}

__all__ = [
    "AsyncCachedFunction",
    "BackendError",
    "BackendErrorType",
    "BackpressureConfig",
    "CacheInfo",
    "CachedFunction",
    "CachekitConfig",
    "CapabilityNotAvailableError",
    "CircuitBreakerConfig",
    "ConfigurationError",
    "DecoratorConfig",
    "EncryptionConfig",
    "FOREVER",
    "InteropError",
    "L1CacheConfig",
    "MonitoringConfig",
    "TimeoutConfig",
    "__version__",
    "cache",
    "configure",
    "decode_interop_value",
    "disabled",
    "encode_interop_value",
    "generate_interop_key",
    "get_default_backend",
    "get_settings",
    "reset_settings",
    "set_default_backend",
    "validate_encryption_config",
]


_load = lazy("cachekit", _HOMES)


def __getattr__(name: str) -> object:
    if name != "__version__":
        return _load(name)
    from importlib.metadata import version

    value = globals()["__version__"] = version("cachekit")
    return value


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
