"""Cached functions among partials, tasks, contexts and event loops, and the coroutines that they return."""

# The checker reads this file as Python 3.9's; what came later is guarded where it is used.
# pyright: reportAttributeAccessIssue=false, reportUndefinedVariable=false

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import sys
import warnings
from typing import Any

import pytest

from cachekit import cache
from tests.integration.kinds import Gate, Kind, ended
from tests.integration.support import Runs


async def test_partials(kind: Kind, layers: dict[str, Any], runs: Runs) -> None:
    function = kind.cached(lambda x: runs(), **layers)
    partial = functools.partial(function, factor=3)
    assert [await ended(partial(1)) for _ in range(2)] == [1, 1]
    assert await ended(function(1, factor=3)) == 1
    assert await ended(functools.partial(function, 1, factor=3)()) == 1
    assert inspect.signature(partial).parameters["x"].name == "x"
    # Before 3.12 a marked wrapper of a coroutine function was not always seen as one.
    assert asyncio.iscoroutinefunction(partial.func) is kind.is_async


async def test_wrapped_by_another_decorator(kind: Kind, layers: dict[str, Any], runs: Runs) -> None:
    function = kind.cached(lambda x: runs(), **layers)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    assert [await ended(wrapper(1)) for _ in range(2)] == [1, 1]
    assert wrapper.__wrapped__ is function
    assert list(inspect.signature(wrapper).parameters) == ["x", "factor"]


async def test_gather_and_tasks(layers: dict[str, Any], runs: Runs) -> None:
    function = Kind("async").cached(lambda x: runs(), **layers)
    for _ in range(2):  # misses, then hits
        assert await asyncio.gather(*(function(1) for _ in range(10))) == [1] * 10
        tasks = [asyncio.create_task(function(1)) for _ in range(3)]
        assert await asyncio.gather(*tasks) == [1] * 3
        done, pending = await asyncio.wait([asyncio.ensure_future(function(1)) for _ in range(3)])
        assert [task.result() for task in done] == [1] * 3
        assert not pending
        assert [await next_ for next_ in asyncio.as_completed([function(1), function(1)])] == [1, 1]
        assert await asyncio.wait_for(function(1), 5) == 1
        assert await asyncio.shield(function(1)) == 1
    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(function(1), loop).result(10)) == 1
    assert runs.count == 1


async def test_wait_for_gives_up_alone(layers: dict[str, Any], runs: Runs) -> None:
    gate = Gate()
    function = Kind("async").cached(lambda x: runs(), gate, **layers)
    first = asyncio.ensure_future(function(1))
    await gate.reached()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(first, 0.01)
    gate.open()
    assert await asyncio.wait_for(function(1), 10) == 2
    assert await asyncio.wait_for(function(1), 10) == 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout and TaskGroup came with 3.11")
async def test_timeout_and_task_groups(layers: dict[str, Any], runs: Runs) -> None:
    gate = Gate()
    function = Kind("async").cached(lambda x: runs(), gate, **layers)

    async def expire(limit: Any) -> None:
        await gate.reached()
        limit.reschedule(asyncio.get_running_loop().time())

    limit = asyncio.timeout(None)
    expiring = asyncio.ensure_future(expire(limit))
    with pytest.raises(TimeoutError):
        async with limit:
            await function(1)
    await expiring
    gate.open()
    async with asyncio.timeout(10):
        assert await function(1) == 2
        assert await function(1) == 2
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(function(x)) for x in (1, 1, 2, 2)]
    assert [task.result() for task in tasks] == [2, 2, 3, 3]

    @cache(**layers)
    async def fails(x: int) -> int:
        raise LookupError(x)

    with pytest.raises(ExceptionGroup) as raised:  # noqa: F821 - a builtin since 3.11
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(1))
    assert isinstance(raised.value.exceptions[0], LookupError)


async def warm(function: Any, is_hit: bool) -> None:
    if is_hit:
        await function(1)


@pytest.fixture(params=[False, True], ids=["miss", "hit"])
def is_hit(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_never_awaited_is_said(layers: dict[str, Any], runs: Runs) -> None:
    """Where the function would have run: a forgotten await is then a bug. The warning names the function."""
    function = Kind("async").cached(lambda x: runs(), **layers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(1)
        gc.collect()
    assert len(caught) == 1, [str(warning.message) for warning in caught]
    assert caught[0].category is RuntimeWarning
    assert "was never awaited" in str(caught[0].message)
    assert runs.count == 0


async def test_awaiting_twice_is_refused(layers: dict[str, Any], runs: Runs, is_hit: bool) -> None:
    function = Kind("async").cached(lambda x: runs(), **layers)
    await warm(function, is_hit)
    coroutine = function(1)
    assert await coroutine == 1
    with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
        await coroutine


async def test_it_is_a_coroutine(layers: dict[str, Any], runs: Runs, is_hit: bool) -> None:
    from collections.abc import Coroutine

    function = Kind("async").cached(lambda x: runs(), **layers)
    await warm(function, is_hit)
    coroutine = function(1)
    assert isinstance(coroutine, Coroutine)
    assert inspect.isawaitable(coroutine)
    assert asyncio.iscoroutine(coroutine)
    coroutine.close()
    coroutine.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
        await coroutine


async def test_throwing_into_one_that_has_not_begun(layers: dict[str, Any], runs: Runs, is_hit: bool) -> None:
    function = Kind("async").cached(lambda x: runs(), **layers)
    await warm(function, is_hit)
    coroutine = function(1)
    with pytest.raises(LookupError, match="thrown"):
        coroutine.throw(LookupError("thrown"))
    with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
        await coroutine
    assert await function(1) == 1


async def test_throwing_into_one_that_runs(namespace: str, runs: Runs) -> None:
    """The function sees it where it waits, as without the cache; the next caller leads."""
    seen: list[BaseException] = []

    @cache(backend=None, namespace=namespace)
    async def function(x: int) -> int:
        if runs() == 1:
            try:
                await asyncio.sleep(60)
            except LookupError as error:
                seen.append(error)
                raise
        return runs.count

    coroutine = function(1)
    coroutine.send(None)
    with pytest.raises(LookupError, match="thrown"):
        coroutine.throw(LookupError("thrown"))
    assert len(seen) == 1
    assert await asyncio.wait_for(function(1), 10) == 2

    closed = function(2)
    other = function(3)
    runs_before = runs.count
    assert await other == runs_before + 1
    closed.close()
    assert await asyncio.wait_for(function(2), 10) == runs_before + 2


user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


async def test_context_variables_reach_the_function_and_come_back(kind: Kind, layers: dict[str, Any]) -> None:
    def body(x: int) -> str:
        before = user.get()
        user.set(f"set by {x}")
        return before

    function = kind.cached(body, **layers)
    token = user.set("caller")
    try:
        assert await ended(function(1)) == "caller"
        assert user.get() == ("set by 1" if not kind.is_async else user.get())
        user.set("another")
        assert await ended(function(1)) == "caller", "a hit"
        assert user.get() == "another"
    finally:
        user.reset(token)


async def test_each_task_has_its_own_context(layers: dict[str, Any]) -> None:
    function = Kind("async").cached(lambda x: user.get(), **layers)

    async def as_user(x: int) -> str:
        user.set(f"user {x}")
        return await function(x)

    found = await asyncio.gather(*(as_user(x) for x in range(5)))
    assert found == [f"user {x}" for x in range(5)]
    assert user.get() == "nobody"


async def _work(function: Any, x: int) -> list[Any]:
    return list(await asyncio.gather(*(function(x) for _ in range(20)), *(function(x + 1) for _ in range(20))))


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is for POSIX")
def test_uvloop(layers: dict[str, Any], runs: Runs) -> None:
    import uvloop

    function = Kind("async").cached(lambda x: runs(), **layers)
    for round_ in range(3):
        loop = uvloop.new_event_loop()
        try:
            found = loop.run_until_complete(_work(function, 1))
            assert found == [found[0]] * 20 + [found[-1]] * 20
            loop.run_until_complete(function.ainvalidate_cache(1))
        finally:
            loop.close()
        assert runs.count == 2 + round_
    assert function.peek(1) is None
