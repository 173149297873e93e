"""Who a function is: kinds that are refused, names and what they ask for, code under one name."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any

import pytest

from cachekit import ConfigurationError, cache
from cachekit.identity import _words, intent, is_async, local_reason, redefines


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("get_user", "secure"),
        ("getUserProfile", "secure"),
        ("HTTPSession", "secure"),
        ("fetch_payment_card", "secure"),
        ("SSN", "secure"),
        ("loadPII", "secure"),
        ("get_price", "fast"),
        ("computeTotal", "fast"),
        ("calc", "fast"),
        ("expensive", "balanced"),
        ("username", "balanced"),
        ("budget", "balanced"),
        ("authorise", "balanced"),
        ("tokenize", "balanced"),
        ("<lambda>", "balanced"),
        ("_", "balanced"),
    ],
)
def test_intent_goes_by_whole_words(name: str, asked: str) -> None:
    assert intent(name) == asked


def test_the_words_of_every_short_name() -> None:
    for length in range(7):
        for name in map("".join, product("aBé_1", repeat=length)):
            words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
            assert _words(name) == {word.lower() for word in words}, name


def test_the_choice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "cachekit")

    @cache(backend=None)
    def get_token() -> None: ...

    assert "get_token: secure by its name" in caplog.text
    assert get_token.get_health_status()["preset"] == "secure"

    @cache.production(backend=None)
    def get_password() -> None: ...

    assert "get_password" not in caplog.text
    assert get_password.get_health_status()["preset"] == "production"


def test_a_fast_name_reduces_bookkeeping() -> None:
    @cache(backend=None)
    def compute() -> None: ...

    @cache(backend=None)
    def other() -> None: ...

    assert not compute.get_health_status()["features_enabled"]["structured_logging"]
    assert other.get_health_status()["features_enabled"]["structured_logging"]


def test_generators_are_refused_with_the_remedy() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def events() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match=r"numbers is a generator.*list"):
        cache(numbers)
    with pytest.raises(ConfigurationError, match=r"events is an async generator.*list"):
        cache.production(events)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="ttl=300"):
        cache(300)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="under @property"):
        cache(property(lambda self: 1))  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not classes"):
        cache(int)
    with pytest.raises(TypeError, match="no name"):
        cache(functools.partial(int, base=2))


def test_async_is_seen() -> None:
    async def f() -> None: ...

    class Callable:
        async def __call__(self) -> None: ...

    assert is_async(f)
    assert is_async(Callable())
    assert is_async(cache(backend=None)(f))
    assert not is_async(lambda: None)
    assert not is_async(math.sqrt)


def test_what_may_not_be_shared_by_name() -> None:
    variable = 1

    def closes() -> int:
        return variable

    def plain(x: int) -> int:
        return x

    def recursive(n: int) -> int:
        return n and recursive(n - 1)

    class Sub(dict):  # type: ignore[type-arg]
        def method(self) -> Any:
            return super().keys()

    assert "lambda" in (local_reason(lambda: 1) or "")
    assert "variable" in (local_reason(closes) or "")
    assert "bound method" in (local_reason([].append) or "")
    assert local_reason(plain) is None
    assert local_reason(Sub.method) is None
    assert local_reason(math.sqrt) is None

    def outer() -> Any:
        def again(n: int) -> int:
            return n and again(n - 1)

        return again

    assert "again" in (local_reason(outer()) or "")  # by now the cell holds something else than the decorated
    source = "def outer(reason):\n    @reason\n    def again(n):\n        return n and again(n - 1)\n    return again\n"
    scope: dict[str, Any] = {}
    exec(source, scope)
    assert scope["outer"](local_reason) is None


def test_redefinitions_are_seen_by_code_and_defaults() -> None:
    def define(source: str) -> Any:
        scope: dict[str, Any] = {"__name__": "somewhere"}
        exec(source, scope)
        return scope["f"]

    one = define("def f(x): return x")
    assert not redefines(one, "somewhere", "f")
    assert not redefines(one, "somewhere", "f")
    assert not redefines(define("def f(x): return x"), "somewhere", "f")
    other = define("def f(x): return x + 1")
    assert redefines(other, "somewhere", "f")
    again = define("def f(x, y=1): return x")
    assert redefines(again, "somewhere", "f")
    default = define("def f(x, y=2): return x")
    assert redefines(default, "somewhere", "f")
    assert not redefines(define("def f(x): return x"), "elsewhere", "f")


def test_a_redefinition_is_warned_about_and_starts_empty(caplog: pytest.LogCaptureFixture) -> None:
    def define(source: str) -> Any:
        scope: dict[str, Any] = {"__name__": "tests.redefined", "cache": cache}
        exec(source, scope)
        return scope["f"]

    first = define("@cache(backend=None)\ndef f(x): return x")
    assert first(1) == 1
    assert caplog.text == ""
    second = define("@cache(backend=None)\ndef f(x): return -x")
    assert second(1) == -1
    assert "version=" in caplog.text
