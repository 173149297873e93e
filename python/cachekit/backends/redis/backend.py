"""`RedisBackend`: entries in Redis, or anything that speaks its protocol."""

from __future__ import annotations

from cachekit import _native
from cachekit.backends.engine import EngineBackend
from cachekit.backends.errors import BackendError
from cachekit.config import effective, fields
from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import Self

    from cachekit.backends.redis.config import RedisBackendConfig


class RedisBackend(EngineBackend):
    """Stores entries in Redis under their bare keys. Making one connects to nothing.

    Takes a URL (``redis://``, ``rediss://``, ``unix://``, and the cluster and sentinel forms), a
    `RedisBackendConfig`, or nothing: then the settings decide, and where they say nothing, localhost.
    What the URL does not say (pool size, timeouts) comes from the settings. Failures are raised as
    `BackendError`; a URL that cannot be understood is a `ConfigurationError`.
    """

    __slots__ = ()

    def __init__(self, redis_url: str | RedisBackendConfig | None = None) -> None:
        self._open(redis_url, None)

    @classmethod
    def _zero_config(cls) -> Self:
        """The backend that the settings describe, with keys ``t:default:{key}``."""
        self = cls.__new__(cls)
        self._open(None, "default")
        return self

    def _open(self, source: str | RedisBackendConfig | None, tenant: str | None) -> None:
        if source is None or isinstance(source, str):
            settings: Any = effective.current()
            url: str = settings.redis_url if source is None else source
        elif not hasattr(source, "redis_url"):
            raise fields.no_model(fields.REDIS, source)
        else:
            settings, url = source, source.redis_url
        self.key_prefix = "" if tenant is None else f"t:{tenant}:"
        try:
            self._backend = _native.Backend.redis(
                url=url,
                pool_size=settings.connection_pool_size,
                socket_timeout=settings.socket_timeout,
                connect_timeout=settings.socket_connect_timeout,
                tenant=tenant,
            )
        except (BackendError, ValueError) as error:
            message = getattr(error, "message", None) or str(error)
            if message.startswith("socket_"):  # a timeout that no clock can count
                raise ConfigurationError(message) from None
            where = _variable() if source is None else None
            raise ConfigurationError(
                f"{where or 'redis_url'} is not a Redis URL that can be used: {message}; "
                "write it like redis://localhost:6379/0",
                "E040",
            ) from None


def _variable() -> str | None:
    """The variable that the Redis URL came from."""
    present = fields.variables()
    return next((name for name in fields.REDIS[0].variables if name in present), None)
