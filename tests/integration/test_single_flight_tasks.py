"""Many tasks, one cold key, on one event loop and on several: the function runs once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from tests.integration.support import LIMIT, Callers, Runs, loop_lag, outcomes, until

CALLERS = 200


async def test_two_hundred_tasks_run_it_once(layers: dict[str, Any]) -> None:
    runs = Runs()
    gate = asyncio.Event()

    @cache(**layers)
    async def answer(x: int) -> dict[str, int]:
        await gate.wait()
        return {"run": runs(), "x": x}

    tasks = [asyncio.create_task(answer(7)) for _ in range(CALLERS)]
    await asyncio.sleep(0.05)
    gate.set()
    assert await outcomes(*tasks) == [{"run": 1, "x": 7}] * CALLERS
    info = answer.cache_info()
    assert (info.misses, info.hits) == (1, CALLERS - 1)


async def test_keys_do_not_wait_for_each_other(layers: dict[str, Any]) -> None:
    inside = Runs()

    @cache(**layers)
    async def answer(x: int) -> int:
        inside()
        await until("all keys are being computed", lambda: inside.count == 10)
        return x * x

    assert await outcomes(*(answer(i % 10) for i in range(50))) == [(i % 10) ** 2 for i in range(50)]
    assert inside.count == 10


async def test_an_exception_reaches_every_waiter_and_is_not_cached(layers: dict[str, Any]) -> None:
    runs = Runs()
    gate = asyncio.Event()

    @cache(**layers)
    async def fails(x: int) -> int:
        number = runs()
        await gate.wait()
        raise ValueError(f"run {number}")

    tasks = [asyncio.create_task(fails(1)) for _ in range(50)]
    await until("one of them runs", lambda: runs.count == 1)
    gate.set()
    came = await outcomes(*tasks)
    assert [str(error) for error in came] == ["run 1"] * 50
    with pytest.raises(ValueError, match="run 2"):
        await fails(1)
    info = fails.cache_info()
    assert (info.misses, info.currsize or 0) == (runs.count, 0)


async def test_only_the_cancelled_leader_sees_the_cancellation(layers: dict[str, Any]) -> None:
    runs = Runs()
    gate = asyncio.Event()

    @cache(**layers)
    async def answer(x: int) -> int:
        number = runs()
        if number == 1:
            await asyncio.sleep(LIMIT)
        await gate.wait()
        return number

    tasks = [asyncio.create_task(answer(1)) for _ in range(10)]
    await until("one of them runs", lambda: runs.count == 1)
    tasks[0].cancel()  # the first to start leads
    await until("another one runs", lambda: runs.count == 2)
    gate.set()
    came = await outcomes(*tasks)
    assert isinstance(came[0], asyncio.CancelledError)
    assert came[1:] == [2] * 9
    assert runs.count == 2


async def test_a_cancelled_joiner_disturbs_nobody(layers: dict[str, Any]) -> None:
    runs = Runs()
    gate = asyncio.Event()

    @cache(**layers)
    async def answer(x: int) -> int:
        number = runs()
        await gate.wait()
        return number

    tasks = [asyncio.create_task(answer(1)) for _ in range(10)]
    await until("one of them runs", lambda: runs.count == 1)
    for task in tasks[1:6]:
        task.cancel()
    await asyncio.sleep(0)
    gate.set()
    came = await outcomes(*tasks)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in came] == [False] + [True] * 5 + [False] * 4
    assert {outcome for outcome in came if isinstance(outcome, int)} == {1}
    assert runs.count == 1


async def test_cancelled_at_every_step_the_key_is_never_stuck(backend: RedisBackend, namespace: str) -> None:
    """A leader may be cancelled while it reads, locks, runs, or writes; the next caller always gets a value."""

    @cache(backend=backend, namespace=namespace)
    async def answer(x: int) -> int:
        await asyncio.sleep(0)
        return x

    for step in range(60):
        task = asyncio.create_task(answer(step))
        for _ in range(step % 20):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        started = time.monotonic()
        assert await asyncio.wait_for(answer(step), LIMIT) == step
        assert time.monotonic() - started < 2, f"cancelled after {step % 20} turns: a lock was left behind"


async def test_a_timeout_around_the_leader_concerns_it_alone(layers: dict[str, Any]) -> None:
    runs = Runs()
    gate = asyncio.Event()

    @cache(**layers)
    async def answer(x: int) -> int:
        number = runs()
        if number == 1:
            await asyncio.sleep(LIMIT)
        await gate.wait()
        return number

    leader = asyncio.create_task(asyncio.wait_for(answer(1), 0.2))
    await until("it runs", lambda: runs.count == 1)
    joiner = asyncio.create_task(answer(1))
    with pytest.raises(asyncio.TimeoutError):
        await leader
    gate.set()
    assert await asyncio.wait_for(joiner, LIMIT) == 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_leader_alone_is_not_delivered_to_joiners(
    layers: dict[str, Any], kind: type[BaseException]
) -> None:
    """asyncio ends a loop whose task raises SystemExit; joiners on another loop go on."""
    runs = Runs()
    joined = threading.Event()

    @cache(**layers)
    async def answer(x: int) -> int:
        number = runs()
        if number == 1:
            await until("the other has joined", joined.is_set)
            raise kind()
        return number

    async def join() -> int:
        task = asyncio.create_task(answer(1))
        await asyncio.sleep(0.2)
        joined.set()
        return await asyncio.wait_for(task, LIMIT)

    def call(index: int) -> Any:
        if index == 0:
            return asyncio.run(answer(1))
        runs.wait(1)
        return asyncio.run(join())

    came = Callers(2, call).start().join()
    assert type(came[0]) is kind
    assert came[1] == 2


async def test_a_result_that_cannot_be_stored_makes_each_joiner_run(layers: dict[str, Any]) -> None:
    runs = Runs()

    @cache(**layers)
    async def answer(x: int) -> Any:
        runs()
        await asyncio.sleep(0.05)
        return iter([1, 2, 3])

    came = await outcomes(*(answer(1) for _ in range(12)))
    assert [list(outcome) for outcome in came] == [[1, 2, 3]] * 12
    assert runs.count == 12


async def test_joiners_do_not_share_what_they_may_change(layers: dict[str, Any]) -> None:
    @cache(**layers)
    async def answer(x: int) -> dict[str, list[int]]:
        await asyncio.sleep(0.05)
        return {"items": [1]}

    async def change(index: int) -> dict[str, list[int]]:
        mine = await answer(1)
        mine["items"].append(index)
        return mine

    came = await outcomes(*(change(index) for index in range(10)))
    assert sorted(value["items"][1] for value in came) == list(range(10))
    assert all(len(value["items"]) == 2 for value in came)
    assert await answer(1) == {"items": [1]}


async def test_waiting_ends_with_lock_wait(namespace: str) -> None:
    runs = Runs()
    gate = asyncio.Event()

    @cache(backend=None, namespace=namespace, lock_wait=0.2)
    async def answer(x: int) -> int:
        number = runs()
        if number == 1:
            await gate.wait()
        return number

    leader = asyncio.create_task(answer(1))
    await until("it runs", lambda: runs.count == 1)
    started = time.monotonic()
    assert await answer(1) == 2
    assert 0.2 <= time.monotonic() - started < 5
    gate.set()
    assert await leader == 1


async def test_waiting_does_not_hold_up_the_loop(layers: dict[str, Any]) -> None:
    gate = asyncio.Event()

    @cache(**layers)
    async def answer(x: int) -> int:
        await gate.wait()
        return x

    with loop_lag() as lag:
        tasks = [asyncio.create_task(answer(1)) for _ in range(50)]
        await asyncio.sleep(0.3)
        gate.set()
        assert await outcomes(*tasks) == [1] * 50
    assert lag.worst < 0.25


def test_several_loops_and_their_tasks_run_it_once(layers: dict[str, Any]) -> None:
    """One coroutine function, eight event loops in threads of their own, 25 tasks on each."""
    runs = Runs()
    arrived = Runs()

    @cache(**layers)
    async def answer(x: int) -> dict[str, int]:
        await until("every loop has its tasks", lambda: arrived.count == 8)
        return {"run": runs(), "x": x}

    async def many() -> list[Any]:
        tasks = [asyncio.create_task(answer(3)) for _ in range(25)]
        arrived()
        return await outcomes(*tasks)

    came = Callers(8, lambda _: asyncio.run(many())).start().join()
    assert came == [[{"run": 1, "x": 3}] * 25] * 8


def test_a_loop_that_ends_leads_no_longer(layers: dict[str, Any]) -> None:
    """The leader's loop is closed with the leader in the middle: callers on other loops do not wait for it."""
    runs = Runs()
    joined = threading.Event()

    @cache(**layers)
    async def answer(x: int) -> int:
        number = runs()
        if number == 1:
            await asyncio.sleep(LIMIT)
        return number

    async def leave() -> None:
        task = asyncio.create_task(answer(1))
        await until("the other has joined", joined.is_set)
        assert not task.done()

    async def join() -> int:
        task = asyncio.create_task(answer(1))
        await asyncio.sleep(0.2)
        joined.set()
        return await asyncio.wait_for(task, LIMIT)

    def call(index: int) -> Any:
        if index == 0:
            return asyncio.run(leave())
        runs.wait(1)
        return asyncio.run(join())

    assert Callers(2, call).start().join() == [None, 2]


async def test_an_awaitable_that_is_closed_unawaited_is_no_leader(layers: dict[str, Any]) -> None:
    @cache(**layers)
    async def answer(x: int) -> int:
        return x

    unused = answer(1)
    unused.close()
    assert await asyncio.wait_for(answer(1), LIMIT) == 1
