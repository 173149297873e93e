"""Coroutine methods of a user's own backend: who calls them, on which loop, and what their defects may not do."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections import Counter
from typing import Any

import pytest

from cachekit import cache
from cachekit.config.nested import CircuitBreakerConfig
from cachekit.testing import AsyncContract
from tests.integration.support import LIMIT

BUDGET = 1.0  # a custom backend names no timeout of its own
SLACK = 2.0  # for a busy machine
REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("REQUEST", default="none")


class Both:
    """Entries in a dict, by methods and by coroutine methods; counts what is called, and where."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.threads: set[threading.Thread] = set()
        self.requests: set[str] = set()

    def get(self, key: str) -> bytes | None:
        self.calls["get"] += 1
        return self.entries.get(key)

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        self.calls["set"] += 1
        self.entries[key] = value

    def delete(self, key: str) -> bool:
        self.calls["delete"] += 1
        return self.entries.pop(key, None) is not None

    def exists(self, key: str) -> bool:
        self.calls["exists"] += 1
        return key in self.entries

    def health_check(self) -> tuple[bool, dict[str, Any]]:
        self.calls["health_check"] += 1
        return True, {"backend_type": "both"}

    async def _note(self, method: str) -> None:
        self.calls[method] += 1
        self.loops.add(asyncio.get_running_loop())
        self.threads.add(threading.current_thread())
        self.requests.add(REQUEST.get())
        await asyncio.sleep(0)

    async def get_async(self, key: str) -> bytes | None:
        await self._note("get_async")
        return self.entries.get(key)

    async def set_async(self, key: str, value: bytes, ttl: int | None = None) -> None:
        await self._note("set_async")
        self.entries[key] = value

    async def delete_async(self, key: str) -> bool:
        await self._note("delete_async")
        return self.entries.pop(key, None) is not None

    async def exists_async(self, key: str) -> bool:
        await self._note("exists_async")
        return key in self.entries

    async def health_check_async(self) -> tuple[bool, dict[str, Any]]:
        await self._note("health_check_async")
        return True, {"backend_type": "both"}

    def named(self, ending: str) -> set[str]:
        return {name for name in self.calls if name.endswith("_async") == (ending == "_async")}


class TestContract(AsyncContract):
    @pytest.fixture
    def backend(self) -> Both:
        return Both()


def doubling(backend: Any, namespace: str, **options: Any) -> Any:
    @cache(backend=backend, namespace=namespace, **options)
    async def double(x: int) -> int:
        return 2 * x

    return double


def test_coroutines_use_coroutine_methods_alone(namespace: str) -> None:
    backend = Both()
    double = doubling(backend, namespace)

    async def main() -> None:
        REQUEST.set("this one")
        assert await double(4) == 8
        double._core._reset_backend()  # as another process, whose L1 is empty
        assert await double(4) == 8
        await double.ainvalidate_cache(4)
        assert backend.loops == {asyncio.get_running_loop()}

    asyncio.run(main())
    assert backend.named("_async") == {"get_async", "set_async", "delete_async"}
    assert backend.named("") == set()
    assert double.cache_info().hits == 1
    assert backend.threads == {threading.main_thread()}
    assert backend.requests == {"this one"}


def test_functions_use_the_methods(namespace: str) -> None:
    backend = Both()

    @cache(backend=backend, namespace=namespace)
    def double(x: int) -> int:
        return 2 * x

    async def main() -> None:
        assert double(5) == 10

    assert double(4) == 8
    asyncio.run(main())
    assert backend.named("_async") == set()
    assert backend.named("") >= {"get", "set"}


def test_a_missing_coroutine_method_is_the_methods_turn(namespace: str) -> None:
    class OnlyGet(Both):
        set_async = None  # type: ignore[assignment]
        delete_async = None  # type: ignore[assignment]

    backend = OnlyGet()
    double = doubling(backend, namespace)
    assert asyncio.run(double(4)) == 8
    assert backend.calls["get_async"] >= 1
    assert backend.calls["set"] == 2, "the generation and the entry"
    assert backend.calls["get"] == 0


def test_each_loop_runs_its_own_calls(namespace: str) -> None:
    backend = Both()
    double = doubling(backend, namespace)
    seen: list[int] = []

    async def main(x: int) -> None:
        seen.append(await double(x))

    threads = [threading.Thread(target=lambda x=x: asyncio.run(main(x))) for x in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert sorted(seen) == [0, 2, 4]
    assert len(backend.loops) == 3
    assert backend.threads == set(threads)
    assert backend.named("") == set()


def test_one_loop_after_another(namespace: str) -> None:
    backend = Both()
    double = doubling(backend, namespace)
    for _ in range(3):
        double._core._reset_backend()
        assert asyncio.run(double(4)) == 8
    assert len(backend.loops) == 3
    assert backend.calls["set_async"] == 2, "the generation and the entry"
    assert backend.named("") == set()


def test_a_coroutine_that_hangs_costs_the_budget_and_is_cancelled(namespace: str) -> None:
    cancelled: list[str] = []

    class Hanging(Both):
        async def get_async(self, key: str) -> bytes | None:
            try:
                await asyncio.sleep(LIMIT)
            except asyncio.CancelledError:
                cancelled.append(key)
                raise
            return None

    double = doubling(Hanging(), namespace)

    async def main() -> float:
        started = time.perf_counter()
        assert await double(4) == 8
        took = time.perf_counter() - started
        assert len(asyncio.all_tasks()) == 1, "the hung task is gone"
        return took

    assert asyncio.run(main()) < BUDGET + SLACK
    assert cancelled


@pytest.mark.parametrize("error", [ConnectionError("nobody there"), ValueError("a defect"), asyncio.CancelledError()])
def test_what_a_coroutine_raises_is_a_failed_operation(
    namespace: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Raising(Both):
        async def get_async(self, key: str) -> bytes | None:
            await self._note("get_async")
            raise error

    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    backend = Raising()
    breaker = CircuitBreakerConfig(failure_threshold=3, success_threshold=2, recovery_timeout=30.0)
    double = doubling(backend, namespace, circuit_breaker=breaker)

    async def main() -> None:
        for x in range(6):
            assert await double(x) == 2 * x

    asyncio.run(main())
    assert double.get_health_status()["circuit_breaker"]["state"] == "OPEN"
    assert backend.calls["get_async"] == 3
    assert unraisable == []


def test_a_method_that_fails_before_it_awaits_is_a_failed_operation(namespace: str) -> None:
    class Defective(Both):
        def get_async(self, key: str) -> Any:  # type: ignore[override]
            self.calls["get_async"] += 1
            if self.calls["get_async"] == 1:
                raise OSError("no socket")
            return "not awaitable"

    backend = Defective()
    double = doubling(backend, namespace)

    async def main() -> None:
        assert [await double(x) for x in range(3)] == [0, 2, 4]

    asyncio.run(main())
    assert backend.calls["get_async"] >= 3


def test_a_caller_that_gives_up_leaves_nothing_running(namespace: str) -> None:
    class Slow(Both):
        began: asyncio.Event

        async def get_async(self, key: str) -> bytes | None:
            self.began.set()
            await asyncio.sleep(LIMIT)
            return None

    backend = Slow()
    double = doubling(backend, namespace)

    async def main() -> None:
        backend.began = asyncio.Event()
        call = asyncio.ensure_future(double(4))
        await backend.began.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    started = time.perf_counter()
    asyncio.run(main())
    assert time.perf_counter() - started < BUDGET + SLACK


def test_the_call_of_a_loop_that_stopped_falls_back_to_the_method(namespace: str) -> None:
    """A write that is under way when its caller's loop ends is not lost."""

    class Leaving(Both):
        async def set_async(self, key: str, value: bytes, ttl: int | None = None) -> None:
            await self._note("set_async")
            if self.calls["set_async"] == 1:
                loop.call_soon(loop.stop)  # the loop ends with this write under way
                await asyncio.sleep(LIMIT)
            self.entries[key] = value

    backend = Leaving()
    stored = threading.Event()
    keep = backend.set

    def set_(key: str, value: bytes, ttl: int | None = None) -> None:
        keep(key, value, ttl)
        stored.set()

    backend.set = set_  # type: ignore[method-assign]
    double = doubling(backend, namespace)
    loop = asyncio.new_event_loop()
    call = loop.create_task(double(4))
    loop.run_forever()
    assert not call.done()
    assert stored.wait(LIMIT)
    assert loop.run_until_complete(call) == 8
    loop.close()
