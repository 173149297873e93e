"""Trouble with Redis as tasks see it: right answers, on time, and an event loop that comes round."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from cachekit import cache
from tests.integration import troubles
from tests.integration.support import LIMIT, loop_lag
from tests.integration.test_outages import BREAKER, BUDGET, RECOVERY, SLACK, backend_at, state, warnings
from tests.integration.troubles import Trouble
from tests.support.process import free_port
from tests.support.redis_servers import RedisServer

LAG = 0.2  # far below a socket's timeout, far above what a busy machine costs


@pytest.fixture(params=troubles.ALL, ids=lambda kind: kind.__name__)
def trouble(request: pytest.FixtureRequest, redis_factory: Callable[..., RedisServer]) -> Iterator[Trouble]:
    made = request.param(redis_factory)
    yield made
    made.close()


@pytest.fixture
def options(trouble: Trouble, namespace: str) -> dict[str, Any]:
    return {"backend": backend_at(trouble.url), "namespace": namespace, "circuit_breaker": BREAKER}


@pytest.fixture(autouse=True)
def listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cachekit")


async def timed(call: Awaitable[Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = await asyncio.wait_for(call, LIMIT)
    return result, time.perf_counter() - started


async def aside(work: Callable[[], Any]) -> Any:
    """Does blocking work of the test's own without holding up the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def test_an_outage_from_begin_to_end(
    trouble: Trouble, options: dict[str, Any], advance: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    @cache(**options)
    async def double(x: int) -> dict[str, int]:
        return {"double": 2 * x}

    assert await double(0) == {"double": 0}
    assert trouble.server.keys(double.key_for(0)) != []

    trouble.begin()
    with loop_lag() as lag:
        for x in range(1, 9):
            result, took = await timed(double(x))
            assert result == {"double": 2 * x}
            assert took < BUDGET + SLACK
        down = [text for text in warnings(caplog) if "unavailable" in text]
        assert len(down) == 1, warnings(caplog)
        assert [text for text in warnings(caplog) if "is back after" in text] == []
        if trouble.counted and not trouble.writes_only:
            assert state(double) == "OPEN"
        if not trouble.writes_only:
            took_by_call = [(await timed(double(x)))[1] for x in range(100, 200)]
            assert statistics.median(took_by_call) < 0.01
        assert await double(0) == {"double": 0}
    assert lag.worst < LAG

    trouble.end()
    advance(RECOVERY + 1)
    deadline = time.monotonic() + LIMIT
    while True:
        await double.cache_clear()
        result, took = await timed(double(1000))
        assert result == {"double": 2000}
        assert took < BUDGET + SLACK
        if state(double) == "CLOSED" and trouble.server.keys(double.key_for(1000)) != []:
            break
        assert time.monotonic() < deadline, "Redis is not used again"
        await asyncio.sleep(0.01)
    assert len([text for text in warnings(caplog) if "unavailable" in text]) == 1, warnings(caplog)
    assert [text for text in warnings(caplog) if "is back after" in text] != []


async def test_under_load(trouble: Trouble, options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    @cache(**options)
    async def double(x: int) -> int:
        return 2 * x

    await double(0)
    over = asyncio.Event()
    worst: list[float] = []

    async def work(first: int) -> None:
        x = first
        while not over.is_set():
            x += 32
            result, took = await timed(double(x))
            assert result == 2 * x
            worst.append(took)
            await asyncio.sleep(0)

    async def direct() -> None:
        try:
            await asyncio.sleep(0.2)
            await aside(trouble.begin)
            await asyncio.sleep(0.8)
            await aside(trouble.end)
            await asyncio.sleep(0.2)
        finally:
            over.set()

    with loop_lag() as lag:
        await asyncio.wait_for(asyncio.gather(direct(), *(work(index) for index in range(32))), LIMIT)
    assert max(worst) < BUDGET + SLACK
    assert lag.worst < LAG + 0.3  # 32 tasks share the loop with the watch
    assert len([text for text in warnings(caplog) if "unavailable" in text]) <= 1, warnings(caplog)


async def test_a_redis_that_was_never_there(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    @cache(backend=backend_at(f"redis://127.0.0.1:{free_port()}/0"), namespace=namespace, circuit_breaker=BREAKER)
    async def double(x: int) -> int:
        return 2 * x

    assert await asyncio.gather(*(double(x) for x in range(50))) == [2 * x for x in range(50)]
    assert len(warnings(caplog)) == 1, warnings(caplog)
    before = double.cache_info().hits
    assert [await double(x) for x in range(50)] == [2 * x for x in range(50)]
    assert double.cache_info().hits == before + 50


async def test_a_host_that_does_not_exist(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    @cache(backend=backend_at("redis://no-such-host.invalid:6379/0"), namespace=namespace)
    async def double(x: int) -> int:
        return 2 * x

    with loop_lag() as lag:
        for x in range(3):
            result, took = await timed(double(x))
            assert result == 2 * x
            assert took < BUDGET + SLACK
    assert lag.worst < LAG
    assert len(warnings(caplog)) == 1, warnings(caplog)


async def test_invalidating_during_an_outage(
    redis_factory: Callable[..., RedisServer], namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis_factory()

    @cache(backend=backend_at(server.url), namespace=namespace, circuit_breaker=BREAKER)
    async def answer(x: int) -> object:
        return {"x": x}

    await answer(1)
    server.freeze()
    try:
        with loop_lag() as lag:
            for _ in range(10):
                _, took = await timed(answer.ainvalidate_cache(1))
                assert took < BUDGET + SLACK
            _, took = await timed(answer.cache_clear())
            assert took < BUDGET + SLACK
        assert lag.worst < LAG
        assert answer.cache_info().currsize == 0
        told = [text for text in warnings(caplog) if "could not be told" in text]
        assert len(told) == 1, warnings(caplog)
    finally:
        server.thaw()


async def test_check_health_during_an_outage(redis_factory: Callable[..., RedisServer], namespace: str) -> None:
    server = redis_factory()

    @cache(backend=backend_at(server.url), namespace=namespace)
    async def answer(x: int) -> int:
        return x

    assert (await answer.check_health())["status"] == "healthy"
    server.freeze()
    try:
        with loop_lag() as lag:
            report, took = await timed(answer.check_health())
        assert report["status"] == "unhealthy"
        assert took < BUDGET + SLACK
        assert lag.worst < LAG
    finally:
        server.thaw()
    assert (await answer.check_health())["status"] == "healthy"


async def test_tasks_cancelled_while_redis_is_frozen(redis_factory: Callable[..., RedisServer], namespace: str) -> None:
    """A caller's own deadline, shorter than the budget, is kept; the connections stay usable."""
    server = redis_factory()

    @cache(backend=backend_at(server.url), namespace=namespace, circuit_breaker=False)
    async def answer(x: int) -> int:
        return x

    await answer(0)
    server.freeze()
    try:
        for x in range(1, 6):
            started = time.perf_counter()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(answer(x), 0.02)
            assert time.perf_counter() - started < SLACK
    finally:
        server.thaw()
    # Late replies belong to those who have gone: nobody gets another's value.
    for x in range(1, 30):
        assert await asyncio.wait_for(answer(x), LIMIT) == x
    answer.cache_info()
    keys = server.keys(f"*{namespace}*:args:*")
    assert answer.key_for(29) in keys
