"""How long entries live in both layers, and how they are refreshed before they end. Redis's clock is the real one;
L1's is pushed ahead."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import cachekit
from cachekit import _background, _drive
from cachekit.backends import RedisBackend
from cachekit.config.nested import L1CacheConfig
from tests.integration.kinds import NO_SWR, Gate, Kind, ended
from tests.integration.support import Runs, program, until
from tests.support.redis_servers import RedisServer

Advance = Callable[[float], None]
YEAR = 365 * 86400.0
SWR = L1CacheConfig(swr_enabled=True, swr_threshold_ratio=0.5)
# Thresholds vary by a tenth, so that entries stored together are not refreshed together. On a busy machine some of the
# time up to them is the test's own.
BEFORE, PAST = 40.0, 56.0


@pytest.fixture
def numbered(runs: Runs) -> Callable[[Any], dict[str, Any]]:
    """The body of a function: which run it was."""
    return lambda x: {"x": x, "run": runs()}


def life(server: RedisServer, function: Any, *args: Any) -> float:
    """The seconds that Redis gives the call's entry; -1 is for ever, -2 that there is none."""
    with server.client() as client:
        left = client.number("PTTL", function.key_for(*args))
    return left / 1000 if left >= 0 else float(left)


def shorten(server: RedisServer, function: Any, *args: Any, seconds: float) -> None:
    with server.client() as client:
        assert client.call("PEXPIRE", function.key_for(*args), int(seconds * 1000)) == 1


# --- the length ----------------------------------------------------------------------------------------------------

FORMS = [
    (90, 90.0),
    (90.0, 90.0),
    (7.5, 7.5),
    (timedelta(minutes=1, seconds=30), 90.0),
    ("90s", 90.0),
    ("1m30s", 90.0),
    ("1h", 3600.0),
    ("7500ms", 7.5),
]


@pytest.mark.parametrize(("written", "seconds"), FORMS, ids=lambda value: str(value))
async def test_every_form_is_what_redis_gets(
    kind: Kind, redis_server: RedisServer, shared: dict[str, Any], numbered: Any, written: Any, seconds: float
) -> None:
    function = kind.cached(numbered, ttl=written, **shared)
    await ended(function(1))
    assert seconds - min(seconds / 2, 5) < life(redis_server, function, 1) <= seconds


@pytest.mark.parametrize(("written", "seconds"), FORMS, ids=lambda value: str(value))
async def test_every_form_is_how_long_l1_keeps(
    kind: Kind, namespace: str, numbered: Any, advance: Advance, written: Any, seconds: float
) -> None:
    function = kind.cached(numbered, ttl=written, backend=None, namespace=namespace, l1=NO_SWR)
    await ended(function(1))
    advance(seconds * 0.6)
    assert (await ended(function(1)))["run"] == 1
    advance(seconds * 0.41)
    assert (await ended(function(1)))["run"] == 2


async def test_no_ttl_is_the_default_of_the_settings(
    kind: Kind,
    redis_server: RedisServer,
    shared: dict[str, Any],
    numbered: Any,
    advance: Advance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hour = kind.cached(numbered, l1=NO_SWR, **shared)
    await ended(hour(1))
    assert 3590 < life(redis_server, hour, 1) <= 3600

    monkeypatch.setenv("CACHEKIT_DEFAULT_TTL", "120")
    cachekit.reset_settings()
    short = kind.cached(numbered, l1=NO_SWR, **shared)
    await ended(short(2))
    assert 115 < life(redis_server, short, 2) <= 120


async def test_forever(
    kind: Kind, redis_server: RedisServer, shared: dict[str, Any], numbered: Any, advance: Advance
) -> None:
    function = kind.cached(numbered, ttl=cachekit.FOREVER, **shared)
    await ended(function(1))
    assert life(redis_server, function, 1) == -1
    advance(10 * YEAR)
    assert (await ended(function(1)))["run"] == 1
    assert function.cache_info().l1_hits == 1
    other = kind.cached(numbered, ttl=cachekit.FOREVER, **shared)
    for _ in range(2):
        assert (await ended(other(1)))["run"] == 1
        advance(10 * YEAR)
    assert other.cache_info()[2:4] == (1, 1)


async def test_a_fraction_of_a_second_ends(kind: Kind, shared: dict[str, Any], numbered: Any) -> None:
    """By the real clocks of both layers."""
    function = kind.cached(numbered, ttl=0.1, l1=NO_SWR, **shared)
    assert (await ended(function(1)))["run"] == 1
    await asyncio.sleep(0.12)
    assert (await ended(function(1)))["run"] == 2


# --- chosen by the result ------------------------------------------------------------------------------------------


async def test_a_ttl_function_sees_the_result(
    kind: Kind, redis_server: RedisServer, shared: dict[str, Any], advance: Advance
) -> None:
    def choose(result: Any) -> Any:
        return result["ttl"]

    function = kind.cached(lambda x: {"ttl": x}, ttl=choose, l1=NO_SWR, **shared)
    for x, seconds in ((20, 20.0), ("5m", 300.0), (7.5, 7.5), (None, 3600.0)):
        await ended(function(x))
        assert seconds * 0.5 < life(redis_server, function, x) <= seconds
    await ended(function(20))
    assert function.cache_info().l1_hits == 1
    advance(21)
    await ended(function("5m"))
    await ended(function(20))
    info = function.cache_info()
    assert (info.l1_hits, info.l2_hits, info.misses) == (2, 1, 4), "L1's was over, Redis's clock was not pushed"


async def test_a_ttl_function_may_say_forever(kind: Kind, redis_server: RedisServer, shared: dict[str, Any]) -> None:
    function = kind.cached(lambda x: x, ttl=lambda _: cachekit.FOREVER, **shared)
    await ended(function(1))
    assert life(redis_server, function, 1) == -1


@pytest.mark.parametrize(
    "answer", [0, -1, "soon", pytest.param(object(), id="object"), RuntimeError("no idea")], ids=repr
)
async def test_a_ttl_function_that_fails_costs_only_the_entry(
    kind: Kind, redis_server: RedisServer, shared: dict[str, Any], caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    def choose(result: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    runs = Runs()
    function = kind.cached(lambda x: runs(), ttl=choose, **shared)
    assert [await ended(function(1)) for _ in range(3)] == [1, 2, 3]
    assert redis_server.keys(function.key_for(1)) == []
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1, said
    assert "ttl= function failed" in said[0]


# --- L1 and the remaining life -------------------------------------------------------------------------------------


async def test_l1_never_outlives_the_shared_entry(
    kind: Kind, redis_server: RedisServer, shared: dict[str, Any], numbered: Any, advance: Advance
) -> None:
    writer = kind.cached(numbered, ttl=60, l1=NO_SWR, **shared)
    reader = kind.cached(numbered, ttl=60, l1=NO_SWR, **shared)
    await ended(writer(1))
    shorten(redis_server, writer, 1, seconds=20)
    assert (await ended(reader(1)))["run"] == 1
    advance(10)
    assert (await ended(reader(1)))["run"] == 1
    assert reader.cache_info()[2:4] == (1, 1)
    advance(11)
    with redis_server.client() as client:
        client.call("DEL", reader.key_for(1))
    assert (await ended(reader(1)))["run"] == 2, "served from L1 past the end that Redis had given"


async def test_l1_keeps_no_longer_than_its_own_ttl(
    kind: Kind, redis_server: RedisServer, shared: dict[str, Any], numbered: Any, advance: Advance
) -> None:
    """Somebody else stored the entry with a longer life, or without end."""
    writer = kind.cached(numbered, ttl=cachekit.FOREVER, **shared)
    reader = kind.cached(numbered, ttl=10, l1=NO_SWR, **shared)
    await ended(writer(1))
    for _ in range(2):
        await ended(reader(1))
    advance(10.1)
    await ended(reader(1))
    assert reader.cache_info()[2:4] == (1, 2)


# --- refresh_ttl_on_get --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l1", [True, False], ids=["l1", "redis-only"])
async def test_a_read_past_the_threshold_lengthens_the_life(
    kind: Kind, redis_server: RedisServer, shared: dict[str, Any], numbered: Any, l1: bool
) -> None:
    options = {**shared, "ttl": 100, "refresh_ttl_on_get": True, "ttl_refresh_threshold": 0.4}
    writer = kind.cached(numbered, l1=L1CacheConfig(enabled=l1, swr_enabled=False), **options)
    await ended(writer(1))

    def reader() -> Any:
        return kind.cached(numbered, l1=L1CacheConfig(enabled=l1, swr_enabled=False), **options)

    shorten(redis_server, writer, 1, seconds=50)
    assert (await ended(reader()(1)))["run"] == 1
    await asyncio.sleep(0.05)
    assert life(redis_server, writer, 1) <= 50, "not yet past the threshold"

    shorten(redis_server, writer, 1, seconds=30)
    assert (await ended(reader()(1)))["run"] == 1
    await until("the life is 100 s again", lambda: life(redis_server, writer, 1) > 95)


async def test_reads_leave_the_life_alone_unless_asked(
    kind: Kind, redis_server: RedisServer, shared: dict[str, Any], numbered: Any
) -> None:
    function = kind.cached(numbered, ttl=100, l1_enabled=False, **shared)
    await ended(function(1))
    shorten(redis_server, function, 1, seconds=5)
    await ended(function(1))
    await asyncio.sleep(0.05)
    assert life(redis_server, function, 1) <= 5


# --- refreshing within the TTL -------------------------------------------------------------------------------------


@pytest.fixture(params=["l1", "redis"])
def refreshing(request: pytest.FixtureRequest, namespace: str) -> dict[str, Any]:
    backend = None
    if request.param == "redis":
        backend = RedisBackend(request.getfixturevalue("redis_server").url)
    return {"backend": backend, "namespace": namespace, "ttl": 100, "l1": SWR}


def age(function: Any, seconds: float, advance: Advance, server: RedisServer | None) -> None:
    """Makes the entry of call 1 as old in both layers."""
    advance(seconds)
    if server is not None:
        shorten(server, function, 1, seconds=life(server, function, 1) - seconds)


@pytest.fixture
def server(refreshing: dict[str, Any], request: pytest.FixtureRequest) -> RedisServer | None:
    return None if refreshing["backend"] is None else request.getfixturevalue("redis_server")


async def refreshed(function: Any, run: int) -> None:
    """Until the entry of call 1 is of that run."""
    await until(f"the entry is of run {run}", lambda: (function.peek(1) or {}).get("run") == run)


async def test_a_hit_past_the_threshold_is_served_and_refreshed_once(
    kind: Kind,
    refreshing: dict[str, Any],
    server: RedisServer | None,
    numbered: Any,
    runs: Runs,
    advance: Advance,
) -> None:
    gate = Gate()
    gate.open()
    function = kind.cached(numbered, gate, **refreshing)
    assert (await ended(function(1)))["run"] == 1
    gate.close()

    age(function, BEFORE, advance, server)
    await ended(function(1))
    await asyncio.sleep(0.05)
    assert runs.count == 1, "refreshed before the threshold"

    age(function, PAST - BEFORE, advance, server)
    assert [(await ended(function(1)))["run"] for _ in range(20)] == [1] * 20
    await gate.reached(2)
    assert (await ended(function(1)))["run"] == 1, "served while the refresh runs"
    gate.open()
    await refreshed(function, 2)
    assert (await ended(function(1)))["run"] == 2
    assert runs.count == 2
    if server is not None:
        assert life(server, function, 1) > 95
    advance(PAST)  # what is left of the old entry's life has passed
    assert (await ended(function(1)))["run"] == 2


async def test_refreshes_are_not_misses(
    kind: Kind, refreshing: dict[str, Any], server: RedisServer | None, numbered: Any, advance: Advance
) -> None:
    function = kind.cached(numbered, **refreshing)
    await ended(function(1))
    age(function, PAST, advance, server)
    await ended(function(1))
    await refreshed(function, 2)
    info = function.cache_info()
    assert (info.hits, info.misses, info.l2_hits) == (1, 1, 0)


async def test_a_failing_refresh_leaves_the_entry_and_is_tried_again(
    kind: Kind,
    refreshing: dict[str, Any],
    server: RedisServer | None,
    runs: Runs,
    advance: Advance,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="cachekit")

    def body(x: int) -> dict[str, int]:
        run = runs()
        if run == 2:
            raise RuntimeError("the source is down")
        return {"run": run}

    def failures() -> int:
        return sum("the refresh failed" in record.getMessage() for record in caplog.records)

    function = kind.cached(body, **refreshing)
    await ended(function(1))
    age(function, PAST, advance, server)
    assert (await ended(function(1)))["run"] == 1
    await until("the refresh has failed", lambda: failures() == 1)
    assert function.peek(1) == {"run": 1}
    assert (await ended(function(1)))["run"] == 1
    await refreshed(function, 3)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("everything", [False, True], ids=["invalidate", "clear"])
async def test_a_refresh_does_not_bring_back_what_was_invalidated(
    kind: Kind,
    refreshing: dict[str, Any],
    server: RedisServer | None,
    numbered: Any,
    runs: Runs,
    advance: Advance,
    everything: bool,
) -> None:
    gate = Gate()
    gate.open()
    function = kind.cached(numbered, gate, **refreshing)
    await ended(function(1))
    gate.close()
    age(function, PAST, advance, server)
    await ended(function(1))
    await gate.reached(2)
    await ended(function.cache_clear() if everything else function.invalidate_cache(1))
    assert function.peek(1) is None
    gate.open()
    await until("the refresh has ended", lambda: not _background._running)
    assert function.peek(1) is None
    if server is not None:
        fresh = kind.cached(numbered, **refreshing)
        assert (await ended(fresh(1)))["run"] == 3
    assert (await ended(function(1)))["run"] == 3


async def test_a_refresh_that_comes_too_late_does_not_run(
    kind: Kind, refreshing: dict[str, Any], server: RedisServer | None, numbered: Any, runs: Runs, advance: Advance
) -> None:
    """Between the hit that asks for it and its start, the entry was invalidated."""
    function = kind.cached(numbered, **refreshing)
    await ended(function(1))
    await ended(function.invalidate_cache(1))
    if kind.is_async:
        await _drive.refresh(function._core._refresh_call((1,), {}))
    else:
        function._core._refresh((1,), {})
    assert runs.count == 1
    assert function.peek(1) is None


class Uncopyable:
    """Has a key, and cannot be copied."""

    def __cache_key__(self) -> str:
        return "one"

    def __deepcopy__(self, memo: object) -> Uncopyable:
        raise TypeError("cannot be copied")


async def test_arguments_that_cannot_be_copied_are_not_refreshed(
    kind: Kind, refreshing: dict[str, Any], runs: Runs, advance: Advance
) -> None:
    def key(x: object, factor: int = 1) -> str:
        return "one"

    function = kind.cached(lambda x: runs(), key=key, **refreshing)
    argument = Uncopyable()
    await ended(function(argument))
    advance(PAST)
    assert [await ended(function(argument)) for _ in range(3)] == [1, 1, 1]
    await asyncio.sleep(0.05)
    assert runs.count == 1
    advance(100 - PAST)
    assert await ended(function(argument)) == (2 if refreshing["backend"] is None else 1)


async def test_a_refresh_sees_the_arguments_of_the_hit(
    kind: Kind, refreshing: dict[str, Any], server: RedisServer | None, advance: Advance
) -> None:
    gate = Gate()
    seen: list[list[int]] = []

    def body(x: list[int]) -> int:
        seen.append(list(x))
        return len(seen)

    function = kind.cached(body, **refreshing)
    argument = [1]
    await ended(function(argument))
    advance(PAST)
    if server is not None:
        shorten(server, function, [1], seconds=40)
    await ended(function(argument))
    argument.append(2)
    await until("it was refreshed", lambda: len(seen) == 2)
    assert seen == [[1], [1]]
    gate.open()


async def test_an_entry_that_was_read_late_is_as_old_as_it_is(
    kind: Kind, redis_server: RedisServer, shared: dict[str, Any], numbered: Any, runs: Runs, advance: Advance
) -> None:
    """Ageing is counted from when it was stored, not from when this process read it."""
    writer = kind.cached(numbered, ttl=100, l1=SWR, **shared)
    await ended(writer(1))
    shorten(redis_server, writer, 1, seconds=60)
    reader = kind.cached(numbered, ttl=100, l1=SWR, **shared)
    await ended(reader(1))
    advance(PAST - 40)
    shorten(redis_server, writer, 1, seconds=100 - PAST)
    assert (await ended(reader(1)))["run"] == 1
    await refreshed(reader, 2)


async def test_no_refresh_where_it_is_off(kind: Kind, refreshing: dict[str, Any], runs: Runs, advance: Advance) -> None:
    function = kind.cached(lambda x: runs(), **{**refreshing, "l1": NO_SWR})
    await ended(function(1))
    advance(95)
    assert await ended(function(1)) == 1
    await asyncio.sleep(0.05)
    assert runs.count == 1


def test_one_refresh_in_two_processes(redis_server: RedisServer, namespace: str, tmp_path: Path, kind: Kind) -> None:
    """Both have served an entry past its threshold at once; the lock lets one of them refresh it."""
    file = tmp_path / "runs"
    children: list[subprocess.Popen[str]] = [
        program("refreshers", redis_server.url, namespace, str(file), kind.name) for _ in range(2)
    ]
    try:
        for child in children:  # one after the other: the first computes, the second reads
            assert tell(child, "call") == "1"
        with redis_server.client() as client:
            stored = redis_server.keys()
            (key,) = (name for name in stored if client.number("PTTL", name) > 0)
            client.call("PEXPIRE", key, 40_000)
        for child in children:
            assert tell(child, "age") == "aged"
        for child in children:
            write(child, "call")
        assert [read(child) for child in children] == ["1", "1"]
        for child in children:
            assert tell(child, "wait") == "2"
        assert file.read_text().count("\n") == 2
    finally:
        for child in children:
            child.kill()
            child.communicate()


def write(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdin is not None
    child.stdin.write(word + "\n")
    child.stdin.flush()


def read(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str], word: str) -> str:
    write(child, word)
    return read(child)
