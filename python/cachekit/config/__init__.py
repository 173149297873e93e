"""Configuration: of one decorated function, and of the process."""

from __future__ import annotations

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    from cachekit.encryption import validate_encryption_config

_HOMES = {
    "BackpressureConfig": "cachekit.config.nested",
    "CachekitConfig": "cachekit.config.settings",
    "CircuitBreakerConfig": "cachekit.config.nested",
    "ConfigurationError": "cachekit.config.validation",
    "DecoratorConfig": "cachekit.config.decorator",
    "EncryptionConfig": "cachekit.config.nested",
    "L1CacheConfig": "cachekit.config.nested",
    "MonitoringConfig": "cachekit.config.nested",
    "TimeoutConfig": "cachekit.config.nested",
    "configure": "cachekit.config.singleton",
    "get_default_backend": "cachekit.config.decorator",
    "get_settings": "cachekit.config.singleton",
    "reset_settings": "cachekit.config.singleton",
    "set_default_backend": "cachekit.config.decorator",
    "validate_encryption_config": "cachekit.encryption",
}

__all__ = [
    "BackpressureConfig",
    "CachekitConfig",
    "CircuitBreakerConfig",
    "ConfigurationError",
    "DecoratorConfig",
    "EncryptionConfig",
    "L1CacheConfig",
    "MonitoringConfig",
    "TimeoutConfig",
    "configure",
    "get_default_backend",
    "get_settings",
    "reset_settings",
    "set_default_backend",
    "validate_encryption_config",
]


__getattr__ = lazy(__name__, _HOMES)
