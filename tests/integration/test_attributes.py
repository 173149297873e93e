"""What a cached function has beside its call: refresh, set, prefetch, get_many, soft invalidation."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cachekit import L1CacheConfig, cache
from cachekit.backends import RedisBackend
from tests.integration.conftest import Either
from tests.integration.support import LIMIT, Callers, Runs, until, wait_until


class Source:
    """A function whose result tells which run it is of."""

    def __init__(self) -> None:
        self.runs = Runs()
        self.error: Exception | None = None

    def answer(self, x: int) -> dict[str, int]:
        run = self.runs()
        if self.error is not None:
            raise self.error
        return {"run": run, "x": x}


@pytest.fixture
def source() -> Source:
    return Source()


def other_process(function: Any) -> None:
    """Makes the function see what another process would: an L1 without anything, and what is stored."""
    function._core._reset_backend()


# --- refresh --------------------------------------------------------------------------------------------------------


def test_a_refresh_runs_the_function_and_replaces_what_is_cached(
    either: Either, layers: dict[str, Any], source: Source
) -> None:
    function = either.cached(source.answer, **layers)
    assert either.call(function, 1)["run"] == 1
    before = function.cache_info()
    assert either.call(function.refresh, 1) == {"run": 2, "x": 1}
    assert either.call(function, 1)["run"] == 2
    if layers["backend"] is not None:
        other_process(function)
        assert either.call(function, 1)["run"] == 2
    assert function.cache_info().misses == before.misses, "nobody called and missed"
    assert source.runs.count == 2


def test_a_refresh_of_what_is_not_cached_caches_it(either: Either, layers: dict[str, Any], source: Source) -> None:
    function = either.cached(source.answer, **layers)
    assert either.call(function.refresh, 1)["run"] == 1
    assert either.call(function, 1)["run"] == 1


def test_a_refresh_that_fails_leaves_what_is_cached(either: Either, layers: dict[str, Any], source: Source) -> None:
    function = either.cached(source.answer, **layers)
    either.call(function, 1)
    source.error = ValueError("not today")
    with pytest.raises(ValueError, match="not today"):
        either.call(function.refresh, 1)
    assert either.call(function, 1)["run"] == 1


def test_what_was_being_computed_does_not_replace_a_refresh(layers: dict[str, Any]) -> None:
    inside, release, runs = threading.Event(), threading.Event(), Runs()

    @cache(**layers)
    def answer(x: int) -> int:
        run = runs()
        if run == 1:
            inside.set()
            release.wait(LIMIT)
        return run

    old = Callers(1, lambda _: answer(1)).start()
    assert inside.wait(LIMIT)
    assert answer.refresh(1) == 2
    release.set()
    assert old.join() == [1], "its own caller gets what it computed"
    assert answer(1) == 2
    other_process(answer)
    if layers["backend"] is not None:
        assert answer(1) == 2


# --- set ------------------------------------------------------------------------------------------------------------


def test_a_set_value_is_a_hit_in_every_layer(either: Either, layers: dict[str, Any], source: Source) -> None:
    function = either.cached(source.answer, **layers)
    either.call(function, 1)
    either.call(function.set, {"run": 100, "x": 1}, 1)
    either.call(function.set, {"run": 200, "x": 2}, 2)
    for _ in range(2):
        assert [either.call(function, x)["run"] for x in (1, 2)] == [100, 200]
        if layers["backend"] is not None:
            other_process(function)
    assert source.runs.count == 1


def test_a_set_value_wins_against_another_process(
    either: Either, backend: RedisBackend, namespace: str, source: Source
) -> None:
    """The other one holds the lock when the value is set, and stores nothing then."""
    inside, release = threading.Event(), threading.Event()

    def slow(x: int) -> dict[str, int]:
        inside.set()
        release.wait(LIMIT)
        return source.answer(x)

    theirs = either.cached(slow, backend=backend, namespace=namespace, key=lambda x: f"k{x}")
    ours = either.cached(source.answer, backend=backend, namespace=namespace, key=lambda x: f"k{x}")
    call = theirs if not either.is_async else lambda x: asyncio.run(awaited(theirs, x))
    caller = Callers(1, lambda _: call(1)).start()
    assert inside.wait(LIMIT)
    either.call(ours.set, {"run": 100, "x": 1}, 1)
    release.set()
    caller.join()
    for function in (ours, theirs):
        other_process(function)
        assert either.call(function, 1)["run"] == 100


async def awaited(function: Any, x: int) -> Any:
    return await function(x)


def test_a_value_cannot_be_set_for_a_call_without_a_key(either: Either) -> None:
    function = either.cached(lambda x: x, backend=None)
    with pytest.raises(TypeError, match="no key"):
        either.call(function.set, 1, threading.Lock())


# --- prefetch and get_many ------------------------------------------------------------------------------------------


def test_a_prefetched_result_is_there(layers: dict[str, Any], source: Source) -> None:
    function = cache(key=lambda x: f"prefetched:{x}", **layers)(source.answer)
    assert function.prefetch(1)
    wait_until("it ran", lambda: source.runs.count == 1)
    assert function(1)["run"] == 1
    if layers.get("l1_enabled", True):
        assert function.prefetch(1)
    assert source.runs.count == 1


async def test_a_prefetched_coroutines_result_is_there(namespace: str, source: Source) -> None:
    @cache(backend=None, namespace=namespace)
    async def answer(x: int) -> dict[str, int]:
        await asyncio.sleep(0)
        return source.answer(x)

    assert answer.prefetch(1)
    await until("it is cached", lambda: answer.peek(1) is not None)
    assert (await answer(1))["run"] == 1


def test_a_coroutine_function_is_prefetched_in_a_loop_only(namespace: str) -> None:
    @cache(backend=None, namespace=namespace)
    async def answer(x: int) -> int:
        return x

    with pytest.raises(RuntimeError, match="no running event loop"):
        answer.prefetch(1)


def test_a_prefetch_that_fails_is_nobodys_exception(namespace: str, source: Source) -> None:
    source.error = ValueError("not today")
    function = cache(backend=None, namespace=namespace, key=str)(source.answer)
    assert function.prefetch(1)
    wait_until("it ran", lambda: source.runs.count == 1)
    source.error = None
    wait_until("it was forgotten", lambda: function(1)["run"] == 2)


def test_many_calls_at_once(either: Either, layers: dict[str, Any], source: Source) -> None:
    function = either.cached(source.answer, **layers)
    either.call(function, 2)
    results = either.call(function.get_many, [3, 2, (1,), 3])
    assert [result["x"] for result in results] == [3, 2, 1, 3]
    assert results[1]["run"] == 1
    assert source.runs.count == 3
    assert either.call(function.get_many, []) == []


def test_the_first_exception_of_many_calls_is_raised(either: Either, namespace: str, source: Source) -> None:
    function = either.cached(source.answer, backend=None, namespace=namespace)
    source.error = ValueError("not today")
    with pytest.raises(ValueError, match="not today"):
        either.call(function.get_many, [1, 2])


def test_methods_have_them_too(namespace: str) -> None:
    class Prices:
        def __init__(self) -> None:
            self.runs = Runs()

        def __cache_key__(self) -> str:
            return "prices"

        @cache(backend=None, namespace=namespace)
        def price(self, article: str, pieces: int = 1) -> int:
            return self.runs() * pieces

    prices = Prices()
    assert prices.price("tea") == 1
    assert prices.price.refresh("tea") == 2
    prices.price.set(7, "tea")
    assert prices.price.get_many(["tea", ("tea", 10)]) == [7, 30]
    assert prices.price.prefetch("coffee")
    wait_until("it is cached", lambda: prices.price.peek("coffee") == 4)


# --- soft invalidation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("everything", [False, True])
def test_what_is_softly_invalidated_is_served_until_it_is_refreshed(
    either: Either, layers: dict[str, Any], source: Source, everything: bool
) -> None:
    function = either.cached(source.answer, **layers)
    either.call(function, 1)
    either.call(function.invalidate_cache, *(() if everything else (1,)), soft=True)
    assert source.runs.count == 1, "nobody has asked for it yet"
    in_l1 = layers.get("l1_enabled", True)
    assert either.call(function, 1)["run"] == (1 if in_l1 else 2), "without L1 there is nothing to serve on"

    def refreshed() -> bool:
        either.settle()
        return bool(either.call(function, 1)["run"] == 2)

    wait_until("it is refreshed", refreshed)
    assert source.runs.count == 2
    if layers["backend"] is not None:
        other_process(function)
        assert either.call(function, 1)["run"] == 2


def test_another_process_does_not_see_what_is_softly_invalidated(
    either: Either, backend: RedisBackend, namespace: str, source: Source
) -> None:
    here = either.cached(source.answer, backend=backend, namespace=namespace)
    there = either.cached(source.answer, backend=backend, namespace=namespace)
    either.call(here, 1)
    either.call(here.invalidate_cache, 1, soft=True)
    assert either.call(there, 1)["run"] == 2


def test_without_refreshes_it_is_simply_forgotten(either: Either, namespace: str, source: Source) -> None:
    no_refresh = L1CacheConfig(swr_enabled=False)
    function = either.cached(source.answer, backend=None, namespace=namespace, l1=no_refresh)
    either.call(function, 1)
    either.call(function.invalidate_cache, 1, soft=True)
    assert either.call(function, 1)["run"] == 2


def test_a_parameter_called_soft_is_the_functions(namespace: str) -> None:
    runs = Runs()

    @cache(backend=None, namespace=namespace)
    def boil(eggs: int, soft: bool = False) -> int:
        return runs()

    assert [boil(1, soft=True), boil(1)] == [1, 2]
    boil.invalidate_cache(1, soft=True)
    assert boil(1) == 2
    assert boil(1, soft=True) == 3
