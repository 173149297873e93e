"""What cachekit asks of a backend (PEP 544 protocols, checkable at run time).

The five synchronous methods of `BaseBackend` are enough. Where a backend also has coroutine
methods called ``get_async``, ``set_async``, ``delete_async``, ``exists_async`` and
``health_check_async``, asynchronous callers use those.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from cachekit.backends.errors import BackendError, BackendErrorType, CapabilityNotAvailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextlib import AbstractAsyncContextManager

    from typing_extensions import TypeGuard

__all__ = [
    "BackendError",
    "BackendErrorType",
    "BaseBackend",
    "CapabilityNotAvailableError",
    "LockableBackend",
    "TTLInspectableBackend",
    "TimeoutConfigurableBackend",
]


@runtime_checkable
class BaseBackend(Protocol):
    """A store of bytes by key. Failures are raised as `BackendError`."""

    def get(self, key: str) -> bytes | None:
        """The value, None where there is none."""
        ...

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        """Stores the value for `ttl` seconds, without end for None."""
        ...

    def delete(self, key: str) -> bool:
        """Removes the key; whether it was there."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the key is there."""
        ...

    def health_check(self) -> tuple[bool, dict[str, Any]]:
        """Whether the store answers, and details with at least `latency_ms` and `backend_type`."""
        ...


@runtime_checkable
class TTLInspectableBackend(Protocol):
    """A backend that knows how long an entry still lives."""

    async def get_ttl(self, key: str) -> int | None:
        """Seconds left, rounded up; None where the key is missing or has no end."""
        ...

    async def refresh_ttl(self, key: str, ttl: int) -> bool:
        """Lets the key live `ttl` seconds from now; whether it was there."""
        ...


class Lock(Protocol):
    """A lock that is asked for: await it (a lock id, or None), or enter it (whether it was got)."""

    def __await__(self) -> Any: ...

    async def __aenter__(self) -> bool: ...

    async def __aexit__(self, *exc: object) -> None: ...


@runtime_checkable
class LockableBackend(Protocol):
    """A backend that locks a key across processes. The lock's name is the backend's affair."""

    def acquire_lock(
        self, key: str, timeout: float, blocking_timeout: float | None = None
    ) -> Lock | AbstractAsyncContextManager[bool]:
        """Asks for the lock on `key`, held at most `timeout` seconds, waiting up to `blocking_timeout`."""
        ...

    def release_lock(self, key: str, lock_id: str) -> Awaitable[bool]:
        """Gives the lock back; False where `lock_id` no longer holds it."""
        ...


@runtime_checkable
class TimeoutConfigurableBackend(Protocol):
    """A backend of which another with a different timeout can be had."""

    def with_timeout(self, seconds: float) -> BaseBackend:
        """A backend for the same store whose calls take at most `seconds`."""
        ...


_METHODS = ("get", "set", "delete", "exists", "health_check")


def require_backend(backend: object) -> TypeGuard[BaseBackend]:
    """Raises TypeError, with what is missing, unless `backend` can be used as one."""
    if isinstance(backend, str):
        raise TypeError("backend= takes a backend object, not a URL: write backend=RedisBackend(url)")
    if isinstance(backend, type):
        raise TypeError(f"backend= takes a backend object, not the class: write backend={backend.__name__}(...)")
    missing = [name for name in _METHODS if not callable(getattr(backend, name, None))]
    if missing:
        raise TypeError(f"{type(backend).__name__} object is not a backend: it has no {', '.join(missing)}")
    return True
