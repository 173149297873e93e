"""The two kinds of cached function, plain and coroutine, so that one test says what holds for both."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

from cachekit import cache
from cachekit.config.nested import L1CacheConfig
from tests.integration.support import LIMIT, until

NO_SWR = L1CacheConfig(swr_enabled=False)


class Gate:
    """Where a function of either kind waits, without blocking its event loop, until the test lets it go on."""

    def __init__(self) -> None:
        self.arrivals = 0
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def wait(self) -> None:
        self.arrivals += 1
        if not self._open.wait(LIMIT):
            raise TimeoutError("the gate stayed shut")

    async def await_(self) -> None:
        self.arrivals += 1
        await until("the gate opens", self._open.is_set)

    async def reached(self, number: int = 1) -> None:
        """Until so many calls have come to the gate."""
        await until(f"{number} calls at the gate", lambda: self.arrivals >= number)


class Kind:
    """How functions of one kind are made, called and invalidated. Every function takes `(x, factor=1)`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_async = name == "async"

    def cached(self, body: Callable[[Any], Any], gate: Any = None, **options: Any) -> Any:
        """A cached function that returns `body(x)`, after the gate where there is one.

        Each call makes another function object of the same name: its entries in L1 are its own, those in the shared
        layer are the others' too, as if it were in another process.
        """
        if self.is_async:

            @cache(**options)
            async def afunction(x: Any, factor: int = 1) -> Any:
                await asyncio.sleep(0)
                result = body(x)
                if gate is not None:
                    await gate.await_()
                return result

            return afunction

        @cache(**options)
        def function(x: Any, factor: int = 1) -> Any:
            result = body(x)
            if gate is not None:
                gate.wait()
            return result

        return function

    def start(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """A call that goes on beside the test: a task, or a thread."""
        if self.is_async:
            return asyncio.ensure_future(ended(function(*args, **kwargs)))
        return asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))


async def ended(outcome: Any) -> Any:
    """What a call of either kind brings."""
    return await asyncio.wait_for(outcome, LIMIT) if inspect.isawaitable(outcome) else outcome
