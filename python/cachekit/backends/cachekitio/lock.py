"""Locks of a CachekitIO service: their ids are the service's, and another's lock is asked for again and again."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic

from cachekit.backends import locks
from cachekit.backends.errors import BackendError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from cachekit._native import CachekitIO

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.5


def _pauses(patience: float | None) -> Iterator[float]:
    """What to wait before each further attempt: doubling, by chance down to half, until the time is up.

    The time begins now, before the first attempt.
    """
    return _until(monotonic() + (patience or 0.0))


def _until(deadline: float) -> Iterator[float]:
    from random import uniform

    pause = _FIRST_PAUSE
    while (left := deadline - monotonic()) > 0:
        yield min(pause * uniform(0.5, 1.0), left)
        pause = min(pause * 2, _LONGEST_PAUSE)


class PendingLock(locks.PendingLock):
    """A lock that is asked for: await it for its id, or enter it with ``async with``."""

    __slots__ = ("_io",)

    def __init__(self, io: CachekitIO, key: str, timeout: float, blocking_timeout: float | None) -> None:
        super().__init__(io.backend(), key, timeout, blocking_timeout)
        self._io = io

    async def __aexit__(self, *exc: object) -> None:
        with release():
            await super().__aexit__(*exc)

    async def _acquire(self) -> str | None:
        from asyncio import sleep

        pauses = _pauses(self._patience)
        while (lock_id := await self._io.acquire_async(self._key, self._lease)) is None:
            pause = next(pauses, None)
            if pause is None:
                return None
            await sleep(pause)
        self._token = lock_id
        return lock_id


class HeldLock(locks.HeldLock):
    """A lock for ``with``: whether it was got is what ``as`` names."""

    __slots__ = ("_io",)

    def __init__(self, io: CachekitIO, key: str, timeout: float, blocking_timeout: float | None) -> None:
        super().__init__(io.backend(), key, timeout, blocking_timeout)
        self._io = io

    def __exit__(self, *exc: object) -> None:
        with release():
            super().__exit__(*exc)

    def _acquire(self) -> bool:
        from time import sleep

        pauses = _pauses(self._patience)
        while (lock_id := self._io.acquire(self._key, self._lease)) is None:
            pause = next(pauses, None)
            if pause is None:
                return False
            sleep(pause)
        self._token = lock_id
        return True


@contextmanager
def release() -> Generator[None]:
    """A release whose failure is only logged: the lease ends by itself."""
    try:
        yield
    except BackendError as error:
        from logging import getLogger

        getLogger("cachekit.backend").debug("a lock was not released and ends with its lease: %s", error)
