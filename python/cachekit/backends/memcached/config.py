"""`MemcachedBackendConfig`: which memcached servers there are, and how to speak to them."""

from __future__ import annotations

from typing import Annotated

from cachekit.config import fields
from cachekit.config.settings import EnvironmentConfig, field, read


class MemcachedBackendConfig(EnvironmentConfig):
    """Which memcached servers there are, and how to speak to them. Fields that are not given come from
    the variables ``CACHEKIT_MEMCACHED_*``.
    """

    table = fields.MEMCACHED

    servers: Annotated[tuple[str, ...], read(fields.Servers())] = field(fields.MEMCACHED, "servers")
    connect_timeout: float = field(fields.MEMCACHED, "connect_timeout")
    timeout: float = field(fields.MEMCACHED, "timeout")
    max_pool_size: int = field(fields.MEMCACHED, "max_pool_size")
    retry_attempts: int = field(fields.MEMCACHED, "retry_attempts")
    key_prefix: str = field(fields.MEMCACHED, "key_prefix")
    max_item_size_bytes: int = field(fields.MEMCACHED, "max_item_size_bytes")
