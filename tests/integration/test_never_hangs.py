"""Calls within calls: whatever waits for whatever, nobody waits in a circle."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cachekit import cache
from tests.integration.support import LIMIT, Callers, Runs, outcomes, until

SOON = 10.0  # a caller that waits in a circle would come back after lock_wait, which is 30 s


# --- recursion ------------------------------------------------------------------------------------------------------


def test_a_function_that_calls_itself_for_other_arguments(layers: dict[str, Any]) -> None:
    runs = Runs()

    @cache(**layers)
    def fibonacci(n: int) -> int:
        runs()
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(60) == 1548008755920
    assert runs.count == 61


def test_a_deep_recursion_ends_where_python_says(namespace: str) -> None:
    @cache(backend=None, namespace=namespace)
    def depth(n: int) -> int:
        return 0 if n == 0 else 1 + depth(n - 1)

    assert depth(250) == 250
    with pytest.raises(RecursionError):
        depth(100_000)
    assert depth(300) == 300


def test_a_pools_thread_that_works_for_the_function_calls_it_again(namespace: str) -> None:
    """In the caller's context, as docs/locks.md says; nobody can see otherwise whose work it is."""
    runs = Runs()
    with ThreadPoolExecutor(1) as pool:

        @cache(backend=None, namespace=namespace)
        def answer(x: int) -> int:
            if runs() == 1:
                return pool.submit(contextvars.copy_context().run, answer, x).result() + 1
            return x

        started = time.monotonic()
        assert answer(5) == 6
        assert time.monotonic() - started < SOON


def test_a_recursion_goes_as_deep_as_with_lru_cache(namespace: str) -> None:
    def deepest(decorator: Any) -> int:
        reached = 0

        @decorator
        def depth(n: int) -> int:
            nonlocal reached
            reached = n
            return int(depth(n + 1))

        with pytest.raises(RecursionError):
            depth(0)
        return reached

    assert deepest(cache(backend=None, namespace=namespace)) >= deepest(functools.lru_cache(maxsize=None))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the stack pointer where Linux shows it")
def test_a_level_of_recursion_takes_little_stack(namespace: str) -> None:
    """A thousand levels, Python's limit, fit into the 8 MiB that a stack usually has, in a debug build too."""
    pointers: list[int] = []

    @cache(backend=None, namespace=namespace)
    def depth(n: int) -> int:
        pointers.append(int(Path("/proc/self/syscall").read_text().split()[-2], 16))
        return 0 if n == 0 else 1 + depth(n - 1)

    depth(20)
    assert 0 < pointers[10] - pointers[11] < 8000


async def test_a_coroutine_function_that_calls_itself_for_other_arguments(layers: dict[str, Any]) -> None:
    runs = Runs()

    @cache(**layers)
    async def fibonacci(n: int) -> int:
        runs()
        await asyncio.sleep(0)
        if n < 2:
            return n
        one, two = await asyncio.gather(fibonacci(n - 1), fibonacci(n - 2))
        return one + two

    assert await asyncio.wait_for(fibonacci(25), LIMIT) == 75025
    assert runs.count == 26


def test_a_function_that_calls_itself_for_the_same_arguments(layers: dict[str, Any]) -> None:
    inside: list[int] = []

    @cache(**layers)
    def answer(x: int) -> int:
        if len(inside) == 2:
            return x
        inside.append(x)
        return answer(x) + 1

    started = time.monotonic()
    assert answer(1) == 3
    assert time.monotonic() - started < SOON


async def test_a_coroutine_function_that_awaits_itself_for_the_same_arguments(layers: dict[str, Any]) -> None:
    inside: list[int] = []

    @cache(**layers)
    async def answer(x: int) -> int:
        if len(inside) == 2:
            return x
        inside.append(x)
        await asyncio.sleep(0)
        return await answer(x) + 1

    assert await asyncio.wait_for(answer(1), SOON) == 3


async def test_it_awaits_itself_in_a_task_of_its_own(layers: dict[str, Any]) -> None:
    inside: list[int] = []

    @cache(**layers)
    async def answer(x: int) -> int:
        if inside:
            return x
        inside.append(x)
        return sum(await asyncio.gather(answer(x), answer(x)))

    assert await asyncio.wait_for(answer(1), SOON) == 2


def test_two_functions_that_call_each_other(layers: dict[str, Any]) -> None:
    turns = Runs()

    @cache(**layers)
    def ping(x: int) -> int:
        return x if turns() > 4 else pong(x) + 1

    @cache(**layers)
    def pong(x: int) -> int:
        return x if turns() > 4 else ping(x) + 1

    started = time.monotonic()
    assert ping(0) == 4
    assert time.monotonic() - started < SOON


async def test_two_coroutine_functions_that_await_each_other(layers: dict[str, Any]) -> None:
    turns = Runs()

    @cache(**layers)
    async def ping(x: int) -> int:
        await asyncio.sleep(0)
        return x if turns() > 4 else await pong(x) + 1

    @cache(**layers)
    async def pong(x: int) -> int:
        await asyncio.sleep(0)
        return x if turns() > 4 else await ping(x) + 1

    assert await asyncio.wait_for(ping(0), SOON) == 4


def test_two_threads_that_wait_for_each_others_functions(layers: dict[str, Any]) -> None:
    """Thread A runs `one` and calls `two`, which thread B runs; `two` calls `one`."""
    both = threading.Barrier(2)
    turns = {"one": Runs(), "two": Runs()}

    @cache(**layers)
    def one(x: int) -> str:
        if turns["one"]() == 1:
            both.wait(LIMIT)
            return "one, " + two(x)
        return "one again"

    @cache(**layers)
    def two(x: int) -> str:
        if turns["two"]() == 1:
            both.wait(LIMIT)
            time.sleep(0.2)  # the other thread waits by now
            return "two, " + one(x)
        return "two again"

    started = time.monotonic()
    came = Callers(2, lambda index: (one, two)[index](1)).start().join()
    assert time.monotonic() - started < SOON
    assert came == ["one, two, one again", "two, one again"]


async def test_two_tasks_that_wait_for_each_others_functions(layers: dict[str, Any]) -> None:
    turns = {"one": Runs(), "two": Runs()}

    def both() -> bool:
        return turns["one"].count > 0 and turns["two"].count > 0

    @cache(**layers)
    async def one(x: int) -> str:
        if turns["one"]() == 1:
            await until("both run", both)
            return "one, " + await two(x)
        return "one again"

    @cache(**layers)
    async def two(x: int) -> str:
        if turns["two"]() == 1:
            await until("both run", both)
            await asyncio.sleep(0.1)  # the other task waits by now
            return "two, " + await one(x)
        return "two again"

    assert await outcomes(one(1), two(1), limit=SOON) == ["one, two, one again", "two, one again"]


# --- threads and event loops ----------------------------------------------------------------------------------------


async def test_a_blocking_call_on_the_loop_whose_own_task_leads(layers: dict[str, Any]) -> None:
    """A task of this loop leads; a thread waits for it; then this loop's own thread would wait for that thread."""
    waits = threading.Event()
    leads, runs = Runs(), Runs()

    @cache(**layers)
    async def slow(x: int) -> str:
        leads()
        await until("the thread is in its function", waits.is_set)
        return f"slow {x}"

    @cache(**layers)
    def through(x: int) -> str:
        if runs() > 1:
            return "directly"
        waits.set()
        return "through " + asyncio.run(slow(x))

    task = asyncio.create_task(slow(1))
    await until("it leads", lambda: leads.count == 1)
    thread = asyncio.create_task(asyncio.to_thread(through, 1))
    await until("the thread is in its function", waits.is_set)
    started = time.monotonic()
    # The loop does not come round, as with careless code, until this call is back.
    assert through(1) in ("directly", "through slow 1")
    assert time.monotonic() - started < SOON
    assert await asyncio.wait_for(task, SOON) == "slow 1"
    assert await asyncio.wait_for(thread, SOON) == "through slow 1"


async def test_to_thread_within_the_function_and_back(layers: dict[str, Any]) -> None:
    """async → thread → async on another loop → thread, all of one key."""
    depth = Runs()

    @cache(**layers)
    async def outer(x: int) -> str:
        if depth() > 2:
            return "bottom"
        return "outer " + await asyncio.to_thread(inner, x)

    @cache(**layers)
    def inner(x: int) -> str:
        return "inner " + asyncio.run(outer(x))

    assert await asyncio.wait_for(outer(1), SOON) == "outer inner outer inner bottom"


async def test_many_threads_of_the_pool_wait_for_a_task_of_the_loop(layers: dict[str, Any]) -> None:
    """The default pool is full of callers that wait for a leader which needs the loop only."""
    gate = asyncio.Event()
    runs = Runs()

    @cache(**layers)
    async def answer(x: int) -> int:
        runs()
        await gate.wait()
        return x

    leader = asyncio.create_task(answer(1))
    await until("it runs", lambda: runs.count == 1)
    joiners = [asyncio.to_thread(asyncio.run, answer(1)) for _ in range(20)]
    tasks = [asyncio.create_task(joiner) for joiner in joiners]
    await asyncio.sleep(0.2)
    gate.set()
    assert await leader == 1
    assert await outcomes(*tasks) == [1] * 20
    assert runs.count == 1


def test_the_blocking_twin_of_a_coroutine_function_runs_on_its_loop(layers: dict[str, Any]) -> None:
    """A blocking call on the event loop's thread while an async leader with the same arguments is suspended."""
    runs = Runs()

    @cache(**layers)
    async def answer(x: int) -> int:
        runs()
        await asyncio.sleep(0.05)
        return x

    @cache(**layers)
    def blocking(x: int) -> int:
        runs()
        return x

    async def main() -> list[int]:
        task = asyncio.create_task(answer(1))
        await asyncio.sleep(0.01)
        return [blocking(1), await task]

    assert asyncio.run(asyncio.wait_for(main(), SOON)) == [1, 1]
    assert runs.count == 2


# --- greenlets ------------------------------------------------------------------------------------------------------


def test_a_greenlet_that_leads_and_is_switched_away_from(layers: dict[str, Any]) -> None:
    """As SQLAlchemy's asyncio does it: blocking code, suspended in the middle, on the caller's own thread."""
    import greenlet

    runs = Runs()
    main = greenlet.getcurrent()

    @cache(**layers)
    def answer(x: int) -> int:
        number = runs()
        if number == 1:
            main.switch("suspended")
        return number

    child = greenlet.greenlet(lambda: answer(1))
    assert child.switch() == "suspended"
    started = time.monotonic()
    assert answer(1) == 2
    assert time.monotonic() - started < SOON
    assert child.switch() == 1


def test_a_greenlet_that_is_thrown_away_while_it_leads(layers: dict[str, Any]) -> None:
    import greenlet

    runs = Runs()
    main = greenlet.getcurrent()

    @cache(**layers)
    def answer(x: int) -> int:
        number = runs()
        if number == 1:
            main.switch()
        return number

    child = greenlet.greenlet(lambda: answer(1))
    child.switch()
    del child  # GreenletExit is raised inside
    started = time.monotonic()
    assert answer(1) == 2
    assert time.monotonic() - started < SOON
    assert answer(1) == 2


def test_gevent(redis_url: str) -> None:
    """A monkey-patched process: a hundred greenlets on one thread, and threads of gevent's own pool."""
    from tests.integration.support import ended, program

    (printed,) = ended([program("under_gevent", redis_url)])
    assert printed.splitlines() == ["100 greenlets served", "20 pool threads served", "hit"]
