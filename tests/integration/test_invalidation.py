"""What was forgotten stays forgotten: in both layers, for other processes, and whatever runs meanwhile."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from tests.integration.conftest import Either
from tests.integration.support import LIMIT, Callers, Runs, together, wait_until
from tests.support.redis_servers import RedisServer


class Source:
    """What a cached function reads: a version that tests change."""

    def __init__(self) -> None:
        self.version = 1
        self.runs = Runs()

    def answer(self, x: int, factor: int = 1) -> dict[str, int]:
        self.runs()
        return {"version": self.version, "x": x * factor}


@pytest.fixture
def source() -> Source:
    return Source()


def entries(server: RedisServer) -> list[str]:
    return [key for key in server.keys("*") if ":args:" in key]


# --- one call -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["invalidate_cache", "ainvalidate_cache"])
def test_a_call_is_forgotten_in_every_layer(
    either: Either, layers: dict[str, Any], source: Source, way: str, request: pytest.FixtureRequest
) -> None:
    function = either.cached(source.answer, **layers)
    for x in (1, 2):
        either.call(function, x)
    source.version = 2
    forget = getattr(function, way)
    if way == "ainvalidate_cache" and not either.is_async:
        asyncio.run(forget(1))
    else:
        either.call(forget, 1)
    assert either.call(function, 1)["version"] == 2
    assert either.call(function, 2)["version"] == 1
    if layers["backend"] is not None:
        assert len(entries(request.getfixturevalue("redis_server"))) == 2


def test_every_spelling_of_the_call_is_forgotten(either: Either, layers: dict[str, Any], source: Source) -> None:
    function = either.cached(source.answer, **layers)

    def spell() -> list[int]:
        return [
            either.call(function, 1)["version"],
            either.call(function, x=1)["version"],
            either.call(function, 1, 1)["version"],
            either.call(function, 1, factor=1)["version"],
            either.call(function, factor=1, x=1)["version"],
        ]

    assert spell() == [1] * 5
    source.version = 2
    either.call(function.invalidate_cache, 1)
    assert spell() == [2] * 5
    source.version = 3
    either.call(function.invalidate_cache, factor=1, x=1)
    assert spell() == [3] * 5


def test_another_process_reads_it_no_longer(
    either: Either, backend: RedisBackend, namespace: str, source: Source
) -> None:
    """Two objects of one function stand for two processes: each has an L1 of its own."""
    here = either.cached(source.answer, backend=backend, namespace=namespace)
    there = either.cached(source.answer, backend=backend, namespace=namespace, l1_enabled=False)
    either.call(here, 1)
    assert either.call(there, 1)["version"] == 1
    assert source.runs.count == 1
    source.version = 2
    either.call(here.invalidate_cache, 1)
    assert either.call(there, 1)["version"] == 2


def test_with_a_key_function(either: Either, layers: dict[str, Any], source: Source) -> None:
    function = either.cached(source.answer, key=lambda x, factor=1: f"{x * factor}", **layers)
    assert either.call(function, 6) is not None
    assert either.call(function, 3, 2)["version"] == 1
    assert source.runs.count == 1
    source.version = 2
    either.call(function.invalidate_cache, 2, 3)
    assert either.call(function, 6)["version"] == 2


def test_with_ignored_parameters(either: Either, layers: dict[str, Any], source: Source) -> None:
    function = either.cached(source.answer, ignore=("factor",), **layers)
    either.call(function, 1, factor=7)
    source.version = 2
    either.call(function.invalidate_cache, 1, factor=9)
    assert either.call(function, 1, factor=7)["version"] == 2


def test_what_was_never_cached(either: Either, layers: dict[str, Any], source: Source) -> None:
    function = either.cached(source.answer, **layers)
    either.call(function.invalidate_cache, 99)
    either.call(function.cache_clear)
    assert either.call(function, 99)["version"] == 1


def test_a_call_that_does_not_fit(either: Either, layers: dict[str, Any], source: Source) -> None:
    function = either.cached(source.answer, **layers)
    with pytest.raises(TypeError):
        either.call(function.invalidate_cache, 1, 2, 3)


def test_methods(either: Either, backend: RedisBackend, namespace: str, source: Source) -> None:
    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        def __cache_key__(self) -> str:
            return self.name

        def price(self, item: int) -> int:
            source.runs()
            return source.version

    Shop.price = either.cached(Shop.price, backend=backend, namespace=namespace)  # type: ignore[method-assign]
    one, other = Shop("one"), Shop("other")
    assert [either.call(shop.price, 1) for shop in (one, other, Shop("one"))] == [1, 1, 1]
    assert source.runs.count == 2
    source.version = 2
    either.call(one.price.invalidate_cache, 1)  # type: ignore[attr-defined]
    assert [either.call(shop.price, 1) for shop in (one, other)] == [2, 1]
    either.call(one.price.invalidate_cache)  # type: ignore[attr-defined]
    assert [either.call(shop.price, 1) for shop in (one, other)] == [2, 2]


# --- everything -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["cache_clear", "invalidate_cache"])
def test_everything_is_forgotten(either: Either, layers: dict[str, Any], source: Source, way: str) -> None:
    function = either.cached(source.answer, **layers)
    other = either.cached(lambda x: source.version, **layers)
    for x in range(5):
        either.call(function, x)
    either.call(other, 1)
    source.version = 2
    either.call(getattr(function, way))
    assert [either.call(function, x)["version"] for x in range(5)] == [2] * 5
    assert either.call(other, 1) == 1


def test_clearing_costs_the_same_however_many_entries(
    either: Either, backend: RedisBackend, namespace: str, source: Source, redis_server: RedisServer
) -> None:
    function = either.cached(source.answer, backend=backend, namespace=namespace)
    for x in range(50):
        either.call(function, x)
    with redis_server.client() as client:
        before = client.number("DBSIZE")
        stats = client.text("INFO", "stats")
    either.call(function.cache_clear)
    with redis_server.client() as client:
        assert client.number("DBSIZE") == before, "entries are not looked for, they count no longer"
        after = client.text("INFO", "stats")

    def commands(info: str) -> int:
        return int(info.split("total_commands_processed:")[1].split()[0])

    assert commands(after) - commands(stats) < 8


def test_another_processs_reads_see_the_clear(
    either: Either, backend: RedisBackend, namespace: str, source: Source
) -> None:
    here = either.cached(source.answer, backend=backend, namespace=namespace)
    there = either.cached(source.answer, backend=backend, namespace=namespace, l1_enabled=False)
    either.call(here, 1)
    assert either.call(there, 1)["version"] == 1
    source.version = 2
    either.call(there.cache_clear)
    here._core._reset_backend()  # its L1 is its own, and lives out its time
    assert either.call(here, 1)["version"] == 2
    assert either.call(there, 1)["version"] == 2
    assert source.runs.count == 2


def test_a_lost_generation_item_brings_nothing_back(
    either: Either, backend: RedisBackend, namespace: str, source: Source, redis_server: RedisServer
) -> None:
    function = either.cached(source.answer, backend=backend, namespace=namespace)
    either.call(function, 1)
    (item,) = set(redis_server.keys("*")) - set(entries(redis_server))
    with redis_server.client() as client:
        old = client.call("GET", function.key_for(1))
    assert isinstance(old, bytes)
    source.version = 2
    either.call(function.cache_clear)
    for lost in (True, False, True):
        with redis_server.client() as client:
            client.call("SET", function.key_for(1), old)
            if lost:
                client.call("DEL", item)
        function._core._reset_backend()
        assert either.call(function, 1)["version"] == 2


def test_another_implementations_entries_count_until_the_first_clear(
    either: Either, backend: RedisBackend, namespace: str, source: Source, redis_server: RedisServer
) -> None:
    """They name no generation."""
    function = either.cached(source.answer, backend=backend, namespace=namespace, l1_enabled=False)
    either.call(function, 1)
    with redis_server.client() as client:
        theirs = as_others_write_it(client.call("GET", function.key_for(1)))
        client.call("SET", function.key_for(1), theirs)
    source.version = 2
    assert either.call(function, 1)["version"] == 1
    either.call(function.cache_clear)
    assert either.call(function, 1)["version"] == 2
    with redis_server.client() as client:
        client.call("SET", function.key_for(1), theirs)
    assert either.call(function, 1)["version"] == 2


@pytest.mark.parametrize("replaced_by_another", [False, True])
def test_a_lost_generation_item_does_not_bring_back_another_implementations_entries(
    either: Either,
    backend: RedisBackend,
    namespace: str,
    source: Source,
    redis_server: RedisServer,
    replaced_by_another: bool,
) -> None:
    """Whoever has seen the clear remembers it, and puts the item right for everybody."""
    function = either.cached(source.answer, backend=backend, namespace=namespace, l1_enabled=False)
    stranger = either.cached(source.answer, backend=backend, namespace=namespace, l1_enabled=False)
    either.call(function, 1)
    (item,) = set(redis_server.keys("*")) - set(entries(redis_server))
    with redis_server.client() as client:
        theirs = as_others_write_it(client.call("GET", function.key_for(1)))
    either.call(function.cache_clear)
    source.version = 2
    with redis_server.client() as client:
        client.call("DEL", item)
        if replaced_by_another:
            assert either.call(stranger, 2)["version"] == 2  # as a process that knows nothing of the clear
            assert client.text("GET", item).startswith("v:")
        client.call("SET", function.key_for(1), theirs)
        assert either.call(function, 1)["version"] == 2
        assert client.text("GET", item).startswith("c:")
        client.call("SET", function.key_for(1), theirs)
    assert either.call(stranger, 1)["version"] == 2
    if replaced_by_another:
        source.version = 3
        assert either.call(stranger, 2)["version"] == 2, "what was stored since still counts"


def as_others_write_it(ours: Any) -> bytes:
    """The entry without what only our frames say."""
    import json

    assert isinstance(ours, bytes)
    length = int.from_bytes(ours[3:7], "big")
    header = json.loads(ours[7 : 7 + length])
    del header["x"]
    text = json.dumps(header).encode()
    return ours[:3] + len(text).to_bytes(4, "big") + text + ours[7 + length :]


# --- while the function runs ----------------------------------------------------------------------------------------


class Running:
    """A call whose function has read its source and not returned yet."""

    def __init__(self, either: Either, layers: dict[str, Any], source: Source) -> None:
        self.source = source
        self.inside, self.release = threading.Event(), threading.Event()

        def answer(x: int) -> int:
            version = source.version
            if source.runs() == 1:
                self.inside.set()
                self.release.wait(LIMIT)
            return version

        self.answer = answer
        self.function = either.cached(answer, **layers)
        call = self.function if not either.is_async else lambda x: asyncio.run(awaited(self.function, x))
        self.callers = Callers(4, lambda _: call(1)).start()
        assert self.inside.wait(LIMIT)


async def awaited(function: Any, x: int) -> Any:
    return await function(x)


@pytest.mark.parametrize("way", ["invalidate_cache", "cache_clear", "ainvalidate_cache"])
def test_a_running_fill_is_kept_out(either: Either, layers: dict[str, Any], source: Source, way: str) -> None:
    running = Running(either, layers, source)
    function = running.function
    source.version = 2
    arguments = () if way == "cache_clear" else (1,)
    if way == "ainvalidate_cache" and not either.is_async:
        asyncio.run(function.ainvalidate_cache(1))
    else:
        either.call(getattr(function, way), *arguments)
    # Whoever comes now does not join what has read the old version.
    assert either.call(function, 1) == 2
    running.release.set()
    assert set(running.callers.join()) <= {1, 2}
    assert 1 in running.callers.outcomes
    assert either.call(function, 1) == 2
    runs = source.runs.count
    function._core._reset_backend()
    assert either.call(function, 1) == 2
    assert source.runs.count == runs + (layers["backend"] is None)


def test_a_running_fill_is_kept_out_where_nobody_asks_meanwhile(
    either: Either, layers: dict[str, Any], source: Source
) -> None:
    running = Running(either, layers, source)
    function = running.function
    source.version = 2
    either.call(function.invalidate_cache, 1)
    running.release.set()
    assert running.callers.join().count(1) >= 1
    assert either.call(function, 1) == 2


def test_a_fill_of_another_process_is_kept_out(
    either: Either, backend: RedisBackend, namespace: str, source: Source
) -> None:
    """Two objects of one function stand for two processes: what the other computes now is of yesterday."""
    there = Running(either, {"backend": backend, "namespace": namespace, "l1_enabled": False}, source)
    here = either.cached(there.answer, backend=backend, namespace=namespace)
    assert here.key_for(1) == there.function.key_for(1)
    source.version = 2
    either.call(here.invalidate_cache, 1)
    there.release.set()
    assert set(there.callers.join()) <= {1, 2}
    assert either.call(here, 1) == 2
    assert either.call(there.function, 1) == 2


def test_nobody_waits_for_what_was_invalidated_elsewhere(
    either: Either, backend: RedisBackend, namespace: str, source: Source
) -> None:
    """A caller that waits for another process's fill goes on when that fill is invalidated."""
    there = Running(either, {"backend": backend, "namespace": namespace, "l1_enabled": False}, source)
    here = either.cached(there.answer, backend=backend, namespace=namespace)
    call = here if not either.is_async else lambda x: asyncio.run(awaited(here, x))
    waiting = Callers(2, lambda _: call(1)).start()
    waiting.arrived.wait(2)
    source.version = 2
    either.call(here.invalidate_cache, 1)
    assert waiting.join() == [2, 2]
    there.release.set()
    there.callers.join()


class Slow:
    """A backend that stores in this process, and stops where a test says."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.in_set, self.go_on = threading.Event(), threading.Event()
        self.stored: list[Any] = []
        self.slow = False

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        if not self.slow:
            self.values[key] = value
            return
        self.slow = False
        self.in_set.set()
        assert self.go_on.wait(LIMIT)
        self.values[key] = value
        self.stored.extend(call() for call in self.stored[:1])

    def delete(self, key: str) -> bool:
        return self.values.pop(key, None) is not None

    def exists(self, key: str) -> bool:
        return key in self.values

    def health_check(self) -> tuple[bool, dict[str, Any]]:
        return True, {}


@pytest.mark.parametrize("l1", [True, False])
def test_a_fill_that_is_being_stored_is_kept_out(either: Either, namespace: str, source: Source, l1: bool) -> None:
    """The store takes the old value after it was told to forget it: nobody is given that."""
    slow = Slow()
    function = either.cached(source.answer, backend=slow, namespace=namespace, l1_enabled=l1)

    def call() -> int:
        found = function(1) if not either.is_async else asyncio.run(awaited(function, 1))
        return int(found["version"])

    either.call(function, 2)  # settles the generation item
    slow.slow = True
    # What another caller is given between the store's taking the old value and the end of the fill.
    slow.stored.append(lambda: together(1, lambda _: call())[0])
    filling = Callers(1, lambda _: call()).start()
    assert slow.in_set.wait(LIMIT)
    source.version = 2
    either.call(function.invalidate_cache, 1)
    slow.go_on.set()
    assert filling.join() == [1]
    assert slow.stored[1:] == [2]
    assert call() == 2
    function._core._reset_backend()
    wait_until("the old value is gone from the store", lambda: call() == 2)


def test_what_is_read_after_an_invalidation_is_never_older(
    either: Either, layers: dict[str, Any], source: Source
) -> None:
    """Readers and a writer at full speed: whoever starts after an invalidation has returned sees its version."""
    told = 1
    over = threading.Event()
    function = either.cached(source.answer, **layers)

    def read() -> int:
        count = 0

        async def loop() -> int:
            count = 0
            while not over.is_set():
                least = told
                found = (await function(1))["version"]
                assert found >= least, (found, least)
                count += 1
                await asyncio.sleep(0)
            return count

        if either.is_async:
            return asyncio.run(loop())
        while not over.is_set():
            least = told
            found = function(1)["version"]
            assert found >= least, (found, least)
            count += 1
        return count

    def write() -> int:
        nonlocal told
        try:
            for version in range(2, 81):
                source.version = version
                if either.is_async:
                    asyncio.run(function.ainvalidate_cache(1))
                else:
                    function.invalidate_cache(1)
                told = version
                threading.Event().wait(0.001)
        finally:
            over.set()
        return 1

    came = together(5, lambda index: write() if index == 0 else read())
    assert all(isinstance(count, int) and count > 0 for count in came), came
    assert either.call(function, 1)["version"] == 80


@cache(backend=None)
def without_parameters() -> int:
    return counter()


counter = Runs()


def test_a_function_without_parameters() -> None:
    first = without_parameters()
    assert without_parameters() == first
    without_parameters.invalidate_cache()
    assert without_parameters() == first + 1
