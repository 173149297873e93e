"""`RedisBackendConfig`: how to reach a Redis."""

from __future__ import annotations

from cachekit.config import fields
from cachekit.config.settings import EnvironmentConfig, field


def without_password(url: str) -> str:
    """The URL with its passwords, if any, replaced by ``***``."""
    from re import DOTALL, sub

    # Up to the last "@": a password whose special characters are not encoded must not show either.
    url = sub(r"(://[^/@:]*:).*@", r"\1***@", url, flags=DOTALL)
    return sub(r"([?&](?:sentinel_)?password=)[^&]*", r"\1***", url)


class RedisBackendConfig(EnvironmentConfig):
    """How to reach a Redis. Fields that are not given come from the environment, as in `CachekitConfig`."""

    table = fields.REDIS

    redis_url: str = field(fields.REDIS, "redis_url")
    connection_pool_size: int = field(fields.REDIS, "connection_pool_size")
    socket_timeout: float = field(fields.REDIS, "socket_timeout")
    socket_connect_timeout: float = field(fields.REDIS, "socket_connect_timeout")

    def __repr__(self) -> str:
        return (
            f"RedisBackendConfig(redis_url={without_password(self.redis_url)!r}, "
            f"connection_pool_size={self.connection_pool_size}, socket_timeout={self.socket_timeout}, "
            f"socket_connect_timeout={self.socket_connect_timeout})"
        )

    __str__ = __repr__
