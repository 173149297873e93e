"""Whatever is wrong with Redis, callers get right answers, on time, without an exception, and one warning."""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from cachekit.backends.redis import RedisBackendConfig
from cachekit.config.nested import CircuitBreakerConfig
from tests.integration import troubles
from tests.integration.support import together, wait_until
from tests.integration.troubles import Trouble
from tests.support.process import free_port
from tests.support.redis_servers import RedisServer

BUDGET = 0.25
SLACK = 1.0  # for a busy machine
RECOVERY = 5.0
BREAKER = CircuitBreakerConfig(failure_threshold=3, success_threshold=2, recovery_timeout=RECOVERY)


def backend_at(url: str) -> RedisBackend:
    return RedisBackend(RedisBackendConfig(redis_url=url, socket_timeout=BUDGET, socket_connect_timeout=BUDGET))


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


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def state(function: Any) -> str:
    return str(function.get_health_status()["circuit_breaker"]["state"])


def test_an_outage_from_begin_to_end(
    trouble: Trouble, options: dict[str, Any], advance: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    @cache(**options)
    def double(x: int) -> dict[str, int]:
        return {"double": 2 * x}

    assert double(0) == {"double": 0}
    assert trouble.server.keys(double.key_for(0)) != []

    trouble.begin()
    for x in range(1, 9):
        result, took = timed(lambda x=x: double(x))
        assert result == {"double": 2 * x}
        assert took < BUDGET + SLACK
    down = [text for text in warnings(caplog) if "unavailable" in text]
    assert len(down) == 1, warnings(caplog)
    assert [text for text in warnings(caplog) if "is back after" in text] == []
    if trouble.counted and not trouble.writes_only:
        assert state(double) == "OPEN"
    if not trouble.writes_only:
        # Refused by the breaker, or by the pause after a refused login: nothing is asked, nothing is waited for.
        took_by_call = [timed(lambda x=x: double(x))[1] for x in range(100, 200)]
        assert statistics.median(took_by_call) < 0.005
    assert double(0) == {"double": 0}  # what is in this process is served on

    trouble.end()
    advance(RECOVERY + 1)

    def is_back() -> bool:
        double.cache_clear()
        result, took = timed(lambda: double(1000))
        assert result == {"double": 2000}
        assert took < BUDGET + SLACK
        return state(double) == "CLOSED" and trouble.server.keys(double.key_for(1000)) != []

    wait_until("Redis is used again", is_back)
    assert len([text for text in warnings(caplog) if "unavailable" in text]) == 1, warnings(caplog)
    assert [text for text in warnings(caplog) if "is back after" in text] != []


def test_under_load(trouble: Trouble, options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Trouble begins and ends while eight threads call: every answer right, none later than the budget allows."""

    @cache(**options)
    def double(x: int) -> int:
        return 2 * x

    double(0)
    over = threading.Event()
    worst = [0.0] * 8
    calls = [0] * 8

    def work(index: int) -> None:
        x = index
        while not over.is_set():
            x += 8
            result, took = timed(lambda x=x: double(x))
            assert result == 2 * x
            worst[index] = max(worst[index], took)
            calls[index] += 1

    def direct(index: int) -> None:
        if index < 8:
            return work(index)
        try:
            time.sleep(0.2)
            trouble.begin()
            time.sleep(0.8)
            trouble.end()
            time.sleep(0.2)
        finally:
            over.set()
        return None

    assert together(9, direct) == [None] * 9
    assert min(calls) > 1
    assert max(worst) < BUDGET + SLACK
    assert len([text for text in warnings(caplog) if "unavailable" in text]) <= 1, warnings(caplog)


def test_a_redis_that_was_never_there(
    namespace: str, advance: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    @cache(backend=backend_at(f"redis://127.0.0.1:{free_port()}/0"), namespace=namespace, circuit_breaker=BREAKER)
    def double(x: int) -> int:
        return 2 * x

    assert [double(x) for x in range(20)] == [2 * x for x in range(20)]
    assert len(warnings(caplog)) == 1, warnings(caplog)
    assert double.cache_info().misses == 20
    before = double.cache_info().hits
    assert [double(x) for x in range(20)] == [2 * x for x in range(20)]
    assert double.cache_info().hits == before + 20


def test_zero_config_with_a_redis_that_is_not_there(
    namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import cachekit

    monkeypatch.setenv("CACHEKIT_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    cachekit.reset_settings()

    @cache(namespace=namespace)
    def double(x: int) -> int:
        return 2 * x

    assert [double(x) for x in range(20)] == [2 * x for x in range(20)]
    assert len(warnings(caplog)) == 1, warnings(caplog)


def test_a_host_that_does_not_exist(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    @cache(backend=backend_at("redis://no-such-host.invalid:6379/0"), namespace=namespace)
    def double(x: int) -> int:
        return 2 * x

    for x in range(3):
        result, took = timed(lambda x=x: double(x))
        assert result == 2 * x
        assert took < BUDGET + SLACK
    assert len(warnings(caplog)) == 1, warnings(caplog)


def test_no_password_in_any_log(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    @cache(backend=backend_at(f"redis://user:hunter2@127.0.0.1:{free_port()}/0"), namespace=namespace)
    def double(x: int) -> int:
        return 2 * x

    assert double(1) == 2
    assert "hunter2" not in caplog.text


def test_the_functions_exceptions_are_not_the_breakers(redis_server: RedisServer, namespace: str) -> None:
    @cache(backend=RedisBackend(redis_server.url), namespace=namespace, circuit_breaker=BREAKER)
    def fails(x: int) -> int:
        raise ConnectionError("the function's own")

    for x in range(10):
        with pytest.raises(ConnectionError, match="the function's own"):
            fails(x)
    assert state(fails) == "CLOSED"


def test_invalidating_during_an_outage(
    redis_factory: Callable[..., RedisServer],
    namespace: str,
    advance: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It works in this process, never raises, and says once that the store was not told."""
    server = redis_factory()

    @cache(backend=backend_at(server.url), namespace=namespace, circuit_breaker=BREAKER)
    def answer(x: int) -> object:
        return {"x": x}

    def untold() -> list[str]:
        return [text for text in warnings(caplog) if "could not be told" in text]

    answer(1)
    server.freeze()
    try:
        for _ in range(10):
            _, took = timed(lambda: answer.invalidate_cache(1))
            assert took < BUDGET + SLACK
        _, took = timed(answer.cache_clear)
        assert took < BUDGET + SLACK
        assert answer.cache_info().currsize == 0
        assert len(untold()) == 1, warnings(caplog)
    finally:
        server.thaw()
    advance(RECOVERY + 1)
    answer.invalidate_cache(1)
    server.kill()
    answer.invalidate_cache(1)
    assert len(untold()) == 2, "another outage is another warning"
