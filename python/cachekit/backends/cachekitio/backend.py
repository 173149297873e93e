"""`CachekitIOBackend`: entries in a CachekitIO service, managed or of one's own."""

from __future__ import annotations

from cachekit import _native
from cachekit.backends.cachekitio.lock import HeldLock, PendingLock, release
from cachekit.backends.engine import EngineBackend
from cachekit.backends.errors import BackendError
from cachekit.config import fields
from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from typing_extensions import Self

    from cachekit.backends.cachekitio.config import CachekitIOBackendConfig


class CachekitIOBackend(EngineBackend):
    """Stores entries in the account of an API key, over HTTP/2 and TLS. Making one connects to nothing.

    Takes the API's URL and key, a `CachekitIOBackendConfig`, or nothing: then ``CACHEKIT_API_KEY`` and
    its like decide. What is not given (timeout, retries, pool size, custom hosts) comes from the
    settings. Each instance has its own key, URL, timeout and connections. A URL or key that cannot
    be used is a `ConfigurationError`; failures are raised as `BackendError`. The key is never shown.
    """

    __slots__ = ("_io",)

    _io: _native.CachekitIO

    def __init__(
        self,
        api_url: str | CachekitIOBackendConfig | None = None,
        api_key: str | None = None,
        timeout: float | None = None,
    ) -> None:
        if api_url is None and api_key is None and timeout is None:
            values = fields.given(fields.CACHEKITIO, None)
            if values["api_key"] is None:
                raise fields.no_api_key("CachekitIOBackend()")
        elif api_url is not None and not isinstance(api_url, str):
            if api_key is not None or timeout is not None:
                raise ConfigurationError("CachekitIOBackend(config) takes nothing else; set it in the config")
            values = fields.given(fields.CACHEKITIO, api_url)
        elif not api_url or not api_key:
            missing = "api_key" if api_url else "api_url"
            raise ConfigurationError(
                f"CachekitIOBackend() was given no {missing}: give api_url and api_key both, or nothing at all and set "
                "CACHEKIT_API_KEY",
                "E060" if api_url else "E040",
            )
        else:
            values = {**fields.given(fields.CACHEKITIO, None), "api_url": api_url, "api_key": api_key}
            if timeout is not None:
                values["timeout"] = timeout
        refused = self._open(values)
        if refused is not None:
            del values, api_key  # tracebacks may show what frames hold
            raise refused

    def _open(self, values: dict[str, Any]) -> ConfigurationError | None:
        """Makes the backend of these settings; the error where they cannot be used."""
        try:
            io = _native.CachekitIO(
                url=values["api_url"],
                api_key=values["api_key"],
                timeout=values["timeout"],
                pool_size=values["connection_pool_size"],
                max_retries=min(values["max_retries"], (1 << 32) - 1),
                custom_host=values["allow_custom_host"],
            )
        except BackendError as error:
            of_key = error.message.startswith("the API key")
            name, code = ("CACHEKIT_API_KEY", "E060") if of_key else ("CACHEKIT_API_URL", "E040")
            return ConfigurationError(f"{name} cannot be used: {error.message}", code)
        except ValueError as error:
            return ConfigurationError(f"CACHEKIT_TIMEOUT cannot be used: {error}")
        self._use(io)
        return None

    def _use(self, io: _native.CachekitIO) -> None:
        self._io = io
        self._backend = io.backend()
        self.key_prefix = ""

    def get_with_freshness(self, key: str) -> tuple[bytes, bool] | None:
        """The value with whether its TTL has passed; `get` gives fresh ones only."""
        return self._io.get_with_freshness(key)

    def get_with_freshness_async(self, key: str) -> Awaitable[tuple[bytes, bool] | None]:
        """`get_with_freshness` in a task."""
        return self._io.get_with_freshness_async(key)

    def set(self, key: str, value: bytes, ttl: float | None = None, stale_ttl: float | None = None) -> None:
        """Stores the value for `ttl` seconds, for as long as the account's default says where it is None.

        Fractions round up to whole seconds, and what is more than 30 days is 30 days. For `stale_ttl`
        seconds more, `get_with_freshness` gives the value as stale.
        """
        self._io.set(key, value, ttl, stale_ttl)

    def set_async(
        self, key: str, value: bytes, ttl: float | None = None, stale_ttl: float | None = None
    ) -> Awaitable[None]:
        """`set` in a task."""
        return self._io.set_async(key, value, ttl, stale_ttl)

    async def get_ttl(self, key: str) -> int | None:
        """Seconds that the key has left, rounded up; None where it is missing or the service does not say."""
        try:
            return await self._backend.ttl_async(key)
        except BackendError as error:
            _told("the time left of a key is unknown", error)
            return None

    async def refresh_ttl(self, key: str, ttl: float) -> bool:
        """Lets the key live `ttl` seconds from now; False where it was not there or the service did not do it."""
        try:
            return await self._backend.expire_async(key, ttl)
        except BackendError as error:
            _told("a key's time was not refreshed", error)
            return False

    def acquire_lock(self, key: str, timeout: float, blocking_timeout: float | None = None) -> PendingLock:
        """As every backend's; the lock id is the service's own.

        A service that does not answer counts as a lock that another holds. A refused key or request is
        raised.
        """
        return PendingLock(self._io, key, timeout, blocking_timeout)

    async def release_lock(self, key: str, lock_id: str) -> bool:
        """Gives the lock back; False where `lock_id` no longer holds it, or the service did not answer."""
        with release():
            return await self._backend.unlock_async(key, lock_id)
        return False

    def lock(self, key: str, timeout: float, blocking_timeout: float | None = None) -> HeldLock:
        """`acquire_lock` for ``with``, on the calling thread."""
        return HeldLock(self._io, key, timeout, blocking_timeout)

    def with_timeout(self, seconds: float) -> Self:
        """A backend for the same account and connections whose calls take at most `seconds`."""
        other = type(self).__new__(type(self))
        try:
            other._use(self._io.with_timeout(seconds))
        except ValueError as error:
            raise ConfigurationError(f"with_timeout({seconds!r}): {error}") from None
        return other

    def __repr__(self) -> str:
        io = getattr(self, "_io", None)  # none where making it failed
        return f"<CachekitIOBackend {io.api_url if io is not None else 'without settings'}>"


def _told(what: str, error: BackendError) -> None:
    from logging import getLogger

    getLogger("cachekit.backend").debug("%s: %s", what, error)
