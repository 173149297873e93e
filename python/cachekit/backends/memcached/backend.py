"""`MemcachedBackend`: entries in memcached."""

from __future__ import annotations

from cachekit import _native
from cachekit.backends.engine import EngineBackend
from cachekit.backends.errors import BackendError
from cachekit.config import fields
from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.backends.memcached.config import MemcachedBackendConfig


class MemcachedBackend(EngineBackend):
    """Stores entries in memcached under their keys, behind `key_prefix`. Making one connects to nothing.

    Takes a `MemcachedBackendConfig`, a URL (``memcached://host:port,host:port?routing=ketama``,
    ``memcacheds://`` for TLS, ``memcached+unix:///path``), or nothing: then the settings decide, and
    where they say nothing, localhost. What the URL does not say comes from the settings. Failures are
    raised as `BackendError`; servers that cannot be understood are a `ConfigurationError`.
    """

    __slots__ = ()

    def __init__(self, config: MemcachedBackendConfig | str | None = None) -> None:
        settings = fields.given(fields.MEMCACHED, None if isinstance(config, str) else config)
        servers = [config] if isinstance(config, str) else list(settings["servers"])
        self.key_prefix = settings["key_prefix"]
        try:
            self._backend = _native.Backend.memcached(
                servers=servers,
                pool_size=settings["max_pool_size"],
                timeout=settings["timeout"],
                connect_timeout=settings["connect_timeout"],
                retry_attempts=settings["retry_attempts"],
                key_prefix=self.key_prefix,
                max_item_size=settings["max_item_size_bytes"],
            )
        except (BackendError, ValueError) as error:
            message = getattr(error, "message", None) or str(error)
            where = "CACHEKIT_MEMCACHED_SERVERS" if config is None else "the servers"
            raise ConfigurationError(f"{where} cannot be used: {message}", "E040") from None
