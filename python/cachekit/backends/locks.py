"""Locks as objects: awaited, entered with ``async with``, or entered with ``with``."""

from __future__ import annotations

from math import isnan
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from cachekit._native import Backend


class _Attempt:
    """One attempt at a lock: its key, its lease, the token that will prove who holds it."""

    __slots__ = ("_backend", "_deadline", "_key", "_lease", "_patience", "_token")

    def __init__(self, backend: Backend, key: str, timeout: float, blocking_timeout: float | None) -> None:
        from secrets import token_hex

        if blocking_timeout is not None and isnan(blocking_timeout):
            raise ValueError(f"blocking_timeout must be a number of seconds or None, got {blocking_timeout}")
        self._backend = backend
        self._key = key
        self._lease = timeout
        self._patience = blocking_timeout
        self._token: str = token_hex(16)
        self._deadline: float | None = None

    def _wait(self, held_for: float) -> float:
        """Seconds to wait for the holder, whose lease has `held_for` left; 0 or less: give up."""
        if self._patience is None:
            return 0.0
        now = monotonic()
        if self._deadline is None:
            self._deadline = now + self._patience
        return min(held_for, self._deadline - now)


class PendingLock(_Attempt):
    """A lock that is asked for: await it for its id, or enter it with ``async with``."""

    __slots__ = ("_held",)

    def __await__(self) -> Generator[Any, Any, str | None]:
        return self._acquire().__await__()

    async def __aenter__(self) -> bool:
        self._held = await self._acquire() is not None
        return self._held

    async def __aexit__(self, *exc: object) -> None:
        if self._held:
            await self._backend.unlock_async(self._key, self._token)

    async def _acquire(self) -> str | None:
        self._wait(0.0)  # the clock starts when the lock is asked for
        while True:
            held_for = await self._backend.try_lock_async(self._key, self._token, self._lease)
            if not held_for:
                return self._token
            wait = self._wait(held_for)
            if wait <= 0.0:
                return None
            await self._backend.released_async(self._key, wait)


class HeldLock(_Attempt):
    """A lock for ``with``: whether it was got is what ``as`` names."""

    __slots__ = ("_held",)

    def __enter__(self) -> bool:
        self._held = self._acquire()
        return self._held

    def __exit__(self, *exc: object) -> None:
        if self._held:
            self._backend.unlock(self._key, self._token)

    def _acquire(self) -> bool:
        self._wait(0.0)
        while True:
            held_for = self._backend.try_lock(self._key, self._token, self._lease)
            if not held_for:
                return True
            wait = self._wait(held_for)
            if wait <= 0.0:
                return False
            self._backend.released(self._key, wait)
