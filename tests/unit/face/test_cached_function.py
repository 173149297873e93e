"""The decorated object: a function to those who ask, and its attributes."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import pickle
import sys
import typing
import weakref
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

import cachekit
from cachekit import CacheInfo, ConfigurationError, DecoratorConfig, cache

calls: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    calls.clear()


@cache(backend=None)
def module_level(number: int, text: str = "a", *, flag: bool = False) -> list[Any]:
    """What it does."""
    calls.append((number, text, flag))
    return [number, text, flag]


@cache(backend=None)
async def coroutine_level(number: int, text: str = "a") -> list[Any]:
    calls.append((number, text))
    return [number, text]


@pytest.fixture(autouse=True)
def emptied(fresh: None) -> None:
    module_level.cache_clear()
    coroutine_level.cache_clear()


class TestIsAFunction:
    def test_metadata(self) -> None:
        assert module_level.__name__ == module_level.__qualname__ == "module_level"
        assert module_level.__module__ == __name__
        assert module_level.__doc__ == "What it does."
        assert module_level.__wrapped__(1) == [1, "a", False]
        assert str(inspect.signature(module_level)).startswith("(number: 'int', text: 'str' = 'a', *, flag")
        assert typing.get_type_hints(module_level)["number"] is int
        assert inspect.unwrap(module_level) is module_level.__wrapped__
        assert "module_level" in repr(module_level)

    def test_inspect_takes_it_for_a_function(self) -> None:
        assert inspect.isfunction(module_level)
        assert inspect.iscoroutinefunction(coroutine_level)
        assert not inspect.iscoroutinefunction(module_level)
        assert inspect.getfullargspec(module_level) == inspect.getfullargspec(module_level.__wrapped__)
        assert inspect.getsource(module_level) == inspect.getsource(module_level.__wrapped__)

    def test_asyncio_sees_a_coroutine_function(self) -> None:
        if sys.version_info >= (3, 14):  # deprecated there in favour of inspect's
            return
        assert asyncio.iscoroutinefunction(coroutine_level)
        assert not asyncio.iscoroutinefunction(module_level)

    def test_a_mock_in_its_place_has_its_signature(self) -> None:
        double = mock.create_autospec(module_level, return_value=5)
        assert double(1) == 5
        with pytest.raises(TypeError):
            double(1, unknown=2)

    def test_pickles_by_reference(self) -> None:
        assert pickle.loads(pickle.dumps(module_level)) is module_level
        assert pickle.loads(pickle.dumps(coroutine_level)) is coroutine_level

    def test_takes_attributes_and_weak_references(self) -> None:
        def f() -> None: ...

        f.mark = 5  # type: ignore[attr-defined]
        cached: Any = cache(backend=None)(f)
        assert cached.mark == 5
        cached.other = 6
        assert cached.other == 6
        gone = weakref.ref(cached)
        del cached
        gc.collect()
        assert gone() is None

    def test_can_be_wrapped_again(self) -> None:
        @functools.wraps(module_level)
        def outer(*args: Any, **kwargs: Any) -> Any:
            return module_level(*args, **kwargs)

        assert outer(1) == outer(1) == [1, "a", False]
        assert len(calls) == 1
        twice = cache(backend=None)(module_level)
        assert twice(1) == [1, "a", False]
        assert twice.__wrapped__ is module_level
        assert len(calls) == 1

    def test_forms_of_decoration(self) -> None:
        def f(x: int) -> int:
            calls.append(x)
            return x

        for decorated in (
            cache(f, backend=None),
            cache(backend=None)(f),
            cache.production(f, backend=None),
            cache.minimal(backend=None, ttl=5)(f),
            cache(config=DecoratorConfig.dev(backend=None))(f),
        ):
            calls.clear()
            assert (decorated(1), decorated(1), calls) == (1, 1, [1])
        assert repr(cache) == "<cachekit.cache>"
        assert repr(cache.dev) == "<cachekit.cache.dev>"


class TestCalls:
    def test_hits_and_statistics(self) -> None:
        for _ in range(3):
            assert module_level(1) == [1, "a", False]
        info = module_level.cache_info()
        assert isinstance(info, CacheInfo)
        assert (info.hits, info.misses, info.l1_hits, info.l2_hits) == (2, 1, 2, 0)
        assert info.last_operation_at is not None

    def test_what_callers_do_to_a_value_stays_theirs(self) -> None:
        module_level(1).append("mine")
        module_level(1).append("mine")
        assert module_level(1) == [1, "a", False]

    def test_spellings_are_entries_of_their_own(self) -> None:
        module_level(1)
        module_level(number=1)
        module_level(1, "a")
        assert len(calls) == 3

    def test_normalize_calls(self) -> None:
        f = cache(backend=None, normalize_calls=True)(module_level.__wrapped__)
        f(1)
        f(number=1)
        f(1, "a")
        f(1, text="a", flag=False)
        assert len(calls) == 1
        f(1, flag=True)
        assert len(calls) == 2
        f.invalidate_cache(1)
        f(number=1)
        assert len(calls) == 3
        with pytest.raises(TypeError, match="unexpected keyword"):
            f(1, nonsense=3)  # type: ignore[call-arg]

    def test_ignore(self) -> None:
        def f(x: int, connection: Any = None) -> int:
            calls.append(x)
            return x

        cached = cache(backend=None, ignore=["connection"])(f)
        cached(1, object())
        cached(1, connection=object())
        cached(1)
        assert len(calls) < 3
        calls.clear()
        cached(2, object())
        cached(2, object())
        assert calls == [2]
        with pytest.raises(ConfigurationError, match="no parameter 'conn'"):
            cache(backend=None, ignore="conn")(f)

    def test_key(self) -> None:
        def f(x: dict[str, int]) -> int:
            calls.append(x)
            return x["a"]

        cached = cache(backend=None, namespace="keyed", key=lambda x: str(x["a"]))(f)
        assert (cached({"a": 1}), cached({"a": 1, "b": 2}), cached(x={"a": 1})) == (1, 1, 1)
        assert len(calls) == 1
        assert cached.key_for({"a": 1}) == "keyed:1"
        cached.invalidate_cache({"a": 1})
        cached({"a": 1})
        assert len(calls) == 2

    @pytest.mark.parametrize(("made", "said"), [(5, "'int'>, not a str"), ("\ud800", "lone surrogates")])
    def test_what_is_no_key(self, made: Any, said: str, caplog: pytest.LogCaptureFixture) -> None:
        cached = cache(backend=None, namespace="keyed", key=lambda: made)(lambda: calls.append(1))
        cached()
        cached()
        assert len(calls) == 2
        assert caplog.text.count(said) == 1

    def test_ttl_of_the_result(self) -> None:
        chosen: list[Any] = ["1h", cachekit.FOREVER, timedelta(seconds=5), None, 3]

        def f(x: int) -> int:
            calls.append(x)
            return x

        cached = cache(backend=None, ttl=lambda result: chosen[result])(f)
        for number in range(len(chosen)):
            assert cached(number) == cached(number) == number
        assert len(calls) == len(chosen)

    def test_a_ttl_that_cannot_be_used_costs_the_caller_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        cached = cache(backend=None, ttl=lambda result: -1)(module_level.__wrapped__)
        assert cached(1) == cached(1) == [1, "a", False]
        assert len(calls) == 2
        assert caplog.text.count("ttl=-1") == 1

    def test_bypass(self) -> None:
        module_level(1)
        module_level(1, _bypass_cache=True)  # type: ignore[call-arg]
        assert len(calls) == 2

    def test_without_l1_and_backend_it_just_runs(self) -> None:
        cached = cache(backend=None, l1_enabled=False)(module_level.__wrapped__)
        cached(1)
        cached(1)
        assert len(calls) == 2

    def test_exceptions_are_not_cached(self) -> None:
        def f() -> None:
            calls.append(1)
            raise KeyError("mine")

        cached = cache(backend=None)(f)
        for _ in range(2):
            with pytest.raises(KeyError, match="mine"):
                cached()
        assert len(calls) == 2

    async def test_coroutine_functions(self) -> None:
        assert await coroutine_level(1) == await coroutine_level(1) == [1, "a"]
        assert len(calls) == 1
        assert coroutine_level.cache_info().hits == 1

    async def test_a_sync_function_that_returns_an_awaitable_is_not_cached(self) -> None:
        async def inner() -> int:
            return 5

        def f() -> Any:
            return inner()

        cached = cache(backend=None)(f)
        assert await cached() == 5
        assert await cached() == 5

    def test_what_can_be_used_up_once_only_is_not_cached(self, caplog: pytest.LogCaptureFixture) -> None:
        cached = cache(backend=None)(lambda: iter([1, 2]))
        assert [list(cached()), list(cached())] == [[1, 2], [1, 2]]
        assert "once only" in caplog.text


class TestInvalidation:
    @pytest.mark.parametrize(
        ("args", "kwargs"), [((1,), {}), ((), {"number": 1}), ((1, "a"), {}), ((1,), {"text": "a", "flag": False})]
    )
    def test_every_spelling_is_covered(self, args: Any, kwargs: Any) -> None:
        module_level(1)
        module_level(number=1)
        module_level(1, "a")
        module_level(2)
        calls.clear()
        module_level.invalidate_cache(*args, **kwargs)
        module_level(1)
        module_level(number=1)
        module_level(1, "a")
        module_level(2)
        assert len(calls) == 3

    def test_without_arguments_everything_goes(self) -> None:
        module_level(1)
        module_level(2)
        hits = module_level.cache_info().misses
        module_level.invalidate_cache()
        module_level(1)
        module_level(2)
        assert len(calls) == 4
        assert hits == 2

    def test_a_function_without_parameters(self) -> None:
        def f() -> int:
            calls.append(1)
            return 1

        cached = cache(backend=None)(f)
        cached()
        cached.invalidate_cache()
        cached()
        assert len(calls) == 2

    def test_too_many_spellings_clear_the_function(self) -> None:
        names = [f"p{number}" for number in range(12)]
        scope: dict[str, Any] = {"calls": calls}
        exec(f"def f({', '.join(f'{name}=0' for name in names)}): calls.append(1)", scope)
        cached = cache(backend=None)(scope["f"])
        cached(1)
        cached(p11=5)
        cached.invalidate_cache(p11=5)
        cached(1)
        cached(p11=5)
        assert len(calls) == 4

    def test_a_wrong_call_is_an_error(self) -> None:
        with pytest.raises(TypeError):
            module_level.invalidate_cache(1, 2, 3, 4)

    def test_cache_clear_forgets_entries_and_statistics(self) -> None:
        module_level(1)
        module_level(1)
        module_level.cache_clear()
        assert module_level.cache_info()[:4] == (0, 0, 0, 0)
        module_level(1)
        assert len(calls) == 2

    async def test_sync_functions_from_a_task(self) -> None:
        module_level(1)
        await module_level.ainvalidate_cache(1)
        module_level(1)
        await module_level.ainvalidate_cache()
        module_level(1)
        assert len(calls) == 3

    async def test_coroutine_functions(self) -> None:
        await coroutine_level(1)
        await coroutine_level.invalidate_cache(number=1)
        await coroutine_level(1)
        await coroutine_level.ainvalidate_cache(1)
        await coroutine_level(1)
        await coroutine_level.invalidate_cache()
        await coroutine_level(1)
        await coroutine_level.cache_clear()
        await coroutine_level(1)
        assert len(calls) == 5

    async def test_not_awaiting_an_invalidation_does_it_nevertheless(self) -> None:
        await coroutine_level(1)
        coroutine_level.invalidate_cache(1)
        await coroutine_level(1)
        coroutine_level.cache_clear()
        await coroutine_level(1)
        assert len(calls) == 3

    def test_coroutine_functions_outside_a_loop(self) -> None:
        _in_a_loop_of_its_own(_call)
        coroutine_level.invalidate_cache(1)
        _in_a_loop_of_its_own(_call)
        coroutine_level.cache_clear()
        _in_a_loop_of_its_own(_call)
        assert len(calls) == 3

        async def wait() -> None:
            await done

        done = coroutine_level.cache_clear()
        _in_a_loop_of_its_own(wait)


async def _call() -> None:
    await coroutine_level(1)


def _in_a_loop_of_its_own(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = asyncio.new_event_loop()  # asyncio.run would also change what pytest-asyncio finds on 3.9
    try:
        loop.run_until_complete(function())
    finally:
        loop.close()


class TestLooking:
    def test_key_for(self) -> None:
        key = module_level.key_for(1)
        assert key.startswith("func:")
        assert "module_level:args:" in key
        assert key.endswith(":1s")
        assert key != module_level.key_for(2)

    def test_namespace_and_version_are_in_the_key(self) -> None:
        plain = module_level.__wrapped__
        assert cache(backend=None, namespace="n")(plain).key_for(1).startswith("ns:n:func:")
        assert cache(backend=None, namespace="n", version=2)(plain).key_for(1).startswith("ns:n:v2:func:")
        assert cache(backend=None, integrity_checking=False)(plain).key_for(1).endswith(":0s")

    def test_peek_does_not_run_the_function(self) -> None:
        assert module_level.peek(1) is None
        module_level(1)
        assert module_level.peek(1) == [1, "a", False]
        assert module_level.cache_info().hits == 0
        assert len(calls) == 1


def test_dev_opens_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    import logging

    logger = logging.getLogger("cachekit")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    cache.dev(backend=None)(module_level.__wrapped__)
    assert logger.level == logging.NOTSET
    monkeypatch.delenv("LOG_LEVEL")
    cache.dev(backend=None)(module_level.__wrapped__)
    assert logger.level == logging.DEBUG


@pytest.mark.parametrize("main", ["__main__", "__mp_main__"])
def test_main_with_a_backend_and_no_namespace_is_warned_about_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, main: str
) -> None:
    from cachekit import function
    from tests.unit.face.test_provider import Store

    monkeypatch.setattr(function, "_warned_main", False)
    scope: dict[str, Any] = {"__name__": main, "cache": cache, "store": Store()}
    exec("@cache(backend=store, namespace='n')\ndef named(): return 1\nnamed()", scope)
    exec("@cache(backend=None)\ndef local(): return 1\nlocal()", scope)
    assert "__main__" not in caplog.text
    for name in "fg":
        exec(f"@cache(backend=store)\ndef {name}(): return 1\n{name}()", scope)
    assert caplog.text.count("__main__") == 1
    assert "namespace=" in caplog.text


def test_closures_and_lambdas_stay_in_the_process(caplog: pytest.LogCaptureFixture) -> None:
    from tests.unit.face.test_provider import Store

    store = Store()

    def make(value: str, **options: Any) -> Any:
        @cache(backend=store, **options)
        def f(x: int) -> str:
            return value

        return f

    one, two = make("one"), make("two")
    assert [one(1), two(1), one(1), two(1)] == ["one", "two", "one", "two"]
    assert store.results() == []
    assert caplog.text.count("closes over value") == 2
    named = make("three", namespace="three")
    assert named(1) == "three"
    assert len(store.results()) == 1
