"""What the engine's own backends have in common, as Python sees them."""

from __future__ import annotations

from cachekit.backends.locks import HeldLock, PendingLock
from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from typing_extensions import Self

    from cachekit import _native

_OPERATIONS = frozenset({"get", "set", "delete", "exists", "get_async", "set_async", "delete_async", "exists_async"})


class EngineBackend:
    """A backend of the engine's own: every operation for the calling thread and for tasks.

    What its class adds is how it is made. The engine drives it without Python, unless an heir
    changes an operation. Failures are raised as `BackendError`.
    """

    __slots__ = ("__weakref__", "_backend", "key_prefix")

    key_prefix: str
    """What stands before every key in the store."""

    _backend: _native.Backend

    _rewritten = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.partition(".")[0] != "cachekit":
            cls._rewritten = cls._rewritten or not _OPERATIONS.isdisjoint(vars(cls))

    @property
    def _native(self) -> _native.Backend:
        """The engine's own backend, which it drives without Python; not for heirs that change an operation."""
        if self._rewritten:
            raise AttributeError("_native")
        return self._backend

    @classmethod
    def _zero_config(cls) -> Self:
        """The backend that the settings describe, as functions that name none get it."""
        return cls()

    def __reduce__(self) -> str:
        raise TypeError(
            f"{type(self).__name__} cannot be pickled, as its connections are this process's: let the other process "
            "choose it by its environment or set_default_backend(), or import the function that has it from a module"
        )

    def get(self, key: str) -> bytes | None:
        """The value, None where there is none."""
        return self._backend.get(key)

    def set(self, key: str, value: bytes, ttl: float | None = None) -> None:
        """Stores the value for `ttl` seconds, without end for None."""
        self._backend.set(key, value, ttl)

    def delete(self, key: str) -> bool:
        """Removes the key; whether it was there."""
        return self._backend.delete(key)

    def exists(self, key: str) -> bool:
        """Whether the key is there."""
        return self._backend.exists(key)

    def health_check(self) -> tuple[bool, dict[str, Any]]:
        """Whether the store answers, with `latency_ms`, `backend_type` and what else it tells of itself."""
        return self._backend.health_check()

    def get_async(self, key: str) -> Awaitable[bytes | None]:
        """`get` in a task."""
        return self._backend.get_async(key)

    def set_async(self, key: str, value: bytes, ttl: float | None = None) -> Awaitable[None]:
        """`set` in a task."""
        return self._backend.set_async(key, value, ttl)

    def delete_async(self, key: str) -> Awaitable[bool]:
        """`delete` in a task."""
        return self._backend.delete_async(key)

    def exists_async(self, key: str) -> Awaitable[bool]:
        """`exists` in a task."""
        return self._backend.exists_async(key)

    def health_check_async(self) -> Awaitable[tuple[bool, dict[str, Any]]]:
        """`health_check` in a task."""
        return self._backend.health_check_async()

    async def get_ttl(self, key: str) -> int | None:
        """Seconds that the key has left, rounded up; None where it is missing or has no end."""
        return await self._backend.ttl_async(key)

    async def refresh_ttl(self, key: str, ttl: float) -> bool:
        """Lets the key live `ttl` seconds from now; whether it was there."""
        return await self._backend.expire_async(key, ttl)

    def acquire_lock(self, key: str, timeout: float, blocking_timeout: float | None = None) -> PendingLock:
        """Asks for the lock on `key`, which ends by itself after `timeout` seconds.

        Await the result for a lock id, None where another holds it; give it to `release_lock`. Or
        enter it with ``async with``, for whether the lock was got; leaving releases it. Another's
        lock is waited for up to `blocking_timeout` seconds, not at all for None.
        """
        return PendingLock(self._backend, key, timeout, blocking_timeout)

    async def release_lock(self, key: str, lock_id: str) -> bool:
        """Gives the lock back; False where `lock_id` no longer holds it."""
        return await self._backend.unlock_async(key, lock_id)

    def lock(self, key: str, timeout: float, blocking_timeout: float | None = None) -> HeldLock:
        """`acquire_lock` for ``with``, on the calling thread."""
        return HeldLock(self._backend, key, timeout, blocking_timeout)

    def with_timeout(self, seconds: float) -> Self:
        """A backend for the same store and connections whose calls take at most `seconds`."""
        other = type(self).__new__(type(self))
        other.key_prefix = self.key_prefix
        try:
            other._backend = self._backend.with_timeout(seconds)
        except ValueError as error:
            raise ConfigurationError(f"with_timeout({seconds!r}): {error}") from None
        return other

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{f' for keys {self.key_prefix}*' if self.key_prefix else ''}>"
