"""What callers get: the function's own object first, then values that are theirs to change, equal in both layers."""

from __future__ import annotations

import copy
import enum
import logging
import math
from collections import OrderedDict
from datetime import date, datetime, time, timezone
from typing import Any, NamedTuple

import pytest

import cachekit
from cachekit import cache
from cachekit.backends import RedisBackend
from tests.integration.conftest import Either
from tests.integration.support import Runs
from tests.support.redis_servers import RedisServer


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


NESTED = {
    "rows": [{"id": i, "tags": ["a", "b"], "score": i / 3, "blob": bytes(range(8))} for i in range(20)],
    "none": None,
    "flags": [True, False],
    "text": "naïve – 漢字 🎉",
    "numbers": [0, -1, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -0.0, 1e308, 5e-324, math.inf],
}

PLAIN: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63,
    1.5,
    "",
    "text",
    b"",
    b"\x00\xff" * 1000,
    [],
    {},
    [1, [2, [3]]],
    {"a": {"b": {"c": [None]}}},
    NESTED,
    datetime(2024, 2, 29, 12, 30, tzinfo=timezone.utc),
    date(2024, 2, 29),
    time(12, 30, 1, 5),
    "x" * 100_000,
    [list(range(100)) for _ in range(100)],
]

# What the store's format changes, and into what.
CHANGED: list[tuple[Any, Any]] = [
    ((1, 2), [1, 2]),
    ({"t": (1, (2,))}, {"t": [1, [2]]}),
    (OrderedDict(a=1), {"a": 1}),
    (bytearray(b"x"), b"x"),
]


def another_process(either: Either, function: Any) -> None:
    """Empties L1 as a process that has just started would find it."""
    function._core._reset_backend()


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:20])
def test_every_plain_value_comes_back_from_every_layer(either: Either, layers: dict[str, Any], value: Any) -> None:
    runs = Runs()

    def answer(x: int) -> Any:
        runs()
        return copy.deepcopy(value)

    function = either.cached(answer, **layers)
    first, second = either.call(function, 1), either.call(function, 1)
    if layers["backend"] is not None:
        another_process(either, function)
    third = either.call(function, 1)
    for came in (first, second, third):
        assert came == value
        assert type(came) is type(value)
    assert runs.count == 1
    assert function.cache_info().hits == 2


@pytest.mark.parametrize(("value", "stored"), CHANGED, ids=lambda value: repr(value)[:20])
def test_the_two_layers_hand_out_the_same(
    either: Either, backend: RedisBackend, namespace: str, value: Any, stored: Any
) -> None:
    """The first caller gets what the function returned; every hit what the stored bytes mean."""
    runs = Runs()

    def answer(x: int) -> Any:
        runs()
        return value

    function = either.cached(answer, backend=backend, namespace=namespace)
    assert either.call(function, 1) is value
    from_l1 = either.call(function, 1)
    another_process(either, function)
    from_l2 = either.call(function, 1)
    from_l1_again = either.call(function, 1)
    for came in (from_l1, from_l2, from_l1_again):
        assert came == stored
        assert type(came) is type(stored)
    info = function.cache_info()
    assert (runs.count, info.l1_hits, info.l2_hits) == (1, 2, 1)


@pytest.mark.parametrize(
    "value", [value for value, _ in CHANGED] + [Point(1, 2), {1, 2}, frozenset({3}), {1: 2}, 2**100, Colour.RED]
)
def test_in_the_process_alone_types_are_kept(either: Either, namespace: str, value: Any) -> None:
    runs = Runs()

    def answer(x: int) -> Any:
        runs()
        return value

    function = either.cached(answer, backend=None, namespace=namespace)
    for _ in range(3):
        came = either.call(function, 1)
        assert came == value
        assert type(came) is type(value)
    assert runs.count == 1


def test_none_is_cached(either: Either, layers: dict[str, Any]) -> None:
    runs = Runs()
    function = either.cached(lambda x: runs() and None, **layers)
    assert [either.call(function, 1) for _ in range(3)] == [None] * 3
    assert runs.count == 1
    assert function.cache_info().hits == 2


def test_callers_cannot_change_what_is_cached(either: Either, layers: dict[str, Any]) -> None:
    def answer(x: int) -> Any:
        return copy.deepcopy(NESTED)

    def spoil(value: Any) -> None:
        value["rows"][0]["tags"].append("spoilt")
        value["rows"].clear()
        value["flags"][0] = "spoilt"
        value["new"] = value
        del value["text"]

    function = either.cached(answer, **layers)
    for _ in range(4):
        came = either.call(function, 1)
        assert came == NESTED
        spoil(came)
    if layers["backend"] is not None:
        another_process(either, function)
        for _ in range(3):
            came = either.call(function, 1)
            assert came == NESTED
            spoil(came)
    assert function.cache_info().misses == 1


def test_the_function_may_go_on_with_its_own_object(either: Either, layers: dict[str, Any]) -> None:
    """What it returned and kept is its own: later changes are not in the cache."""
    kept: list[Any] = []

    def answer(x: int) -> Any:
        kept.append({"items": [1]})
        return kept[-1]

    function = either.cached(answer, **layers)
    assert either.call(function, 1) is kept[0]
    kept[0]["items"].append(2)
    assert either.call(function, 1) == {"items": [1]}


def test_shared_parts_within_a_value(either: Either, namespace: str) -> None:
    """In the process alone, one list in two places stays one list in two places, and nobody else's."""
    part = [1]
    function = either.cached(lambda x: {"a": part, "b": part}, backend=None, namespace=namespace)
    either.call(function, 1)
    one, other = either.call(function, 1), either.call(function, 1)
    assert one["a"] is one["b"]
    one["a"].append(2)
    assert other == {"a": [1], "b": [1]}
    assert part == [1]


def test_a_value_that_contains_itself(either: Either, layers: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    def answer(x: int) -> Any:
        value: list[Any] = [1]
        value.append(value)
        return value

    function = either.cached(answer, **layers)
    for _ in range(3):
        came = either.call(function, 1)
        assert came[0] == 1
        assert came[1] is came


def test_what_cannot_be_encoded_is_returned_and_said_once(
    either: Either, backend: RedisBackend, namespace: str, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    runs = Runs()

    def answer(x: int) -> Any:
        return {"rows": [{"id": 1}, {"id": runs(), "what": object()}]}

    function = either.cached(answer, backend=backend, namespace=namespace)
    for number in range(1, 6):
        assert either.call(function, 1)["rows"][1]["id"] == number
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert '["rows"][1]["what"]' in said[0].getMessage()
    assert "object" in said[0].getMessage()
    assert redis_server.keys(function.key_for(1)) == []


@pytest.mark.parametrize("value", [{1: "int key"}, {"a": {2.5: 1}}, {"__datetime__": True, "value": "2024-01-01"}])
def test_what_would_come_back_different_is_not_stored(
    either: Either, backend: RedisBackend, namespace: str, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    function = either.cached(lambda x: copy.deepcopy(value), backend=backend, namespace=namespace)
    for _ in range(3):
        assert either.call(function, 1) == value
    assert function.cache_info().hits == 0
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_a_large_result_is_returned_and_said_once(
    either: Either,
    backend: RedisBackend,
    namespace: str,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import random

    monkeypatch.setenv("CACHEKIT_MAX_VALUE_SIZE", "10000")
    cachekit.reset_settings()
    noise = random.Random(1).randbytes(20_000)
    function = either.cached(lambda size: noise[:size], backend=backend, namespace=namespace)
    for _ in range(3):
        assert either.call(function, 20_000) == noise
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "10000" in said[0]
    assert redis_server.keys(function.key_for(20_000)) == []
    assert either.call(function, 5_000) == either.call(function, 5_000)
    assert function.cache_info().hits == 1


def test_without_integrity_checking(
    either: Either, backend: RedisBackend, namespace: str, redis_server: RedisServer
) -> None:
    runs = Runs()

    def answer(x: int) -> Any:
        runs()
        return copy.deepcopy(NESTED)

    function = either.cached(answer, backend=backend, namespace=namespace, integrity_checking=False)
    assert either.call(function, 1) == NESTED
    assert function.key_for(1).endswith(":0s")
    another_process(either, function)
    assert either.call(function, 1) == NESTED
    assert runs.count == 1


def test_safe_mode(either: Either, backend: RedisBackend, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    runs = Runs()

    def answer(kind: str) -> Any:
        runs()
        return [1, 2] if kind == "list" else (1, 2)

    function = either.cached(answer, backend=backend, namespace=namespace, safe_mode=True)
    assert [either.call(function, "list") for _ in range(2)] == [[1, 2]] * 2
    assert runs.count == 1
    assert caplog.records == []
    assert [either.call(function, "tuple") for _ in range(3)] == [(1, 2)] * 3
    assert runs.count == 4
    assert len(caplog.records) == 1


def test_a_result_of_another_type_per_argument(either: Either, layers: dict[str, Any]) -> None:
    """1, 1.0 and True are equal in Python and are other calls."""
    function = either.cached(lambda x: repr(x), **layers)
    for argument in (1, 1.0, True, "1", b"1", None, "None"):
        assert either.call(function, argument) == repr(argument)
        assert either.call(function, argument) == repr(argument)


def test_encrypted_secrets_are_not_stored_in_plain(
    backend: RedisBackend, namespace: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a master key, functions with security words in their names encrypt."""
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", "a" * 64)
    cachekit.reset_settings()

    @cache(backend=backend, namespace=namespace)
    def load_password(x: int) -> str:
        return "the secret"

    assert load_password(1) == load_password(1) == "the secret"
    assert load_password.cache_info().hits == 1
    with redis_server.client() as client:
        stored: list[Any] = [client.call("GET", key) for key in redis_server.keys()]
    assert len(stored) == 2
    assert not any(b"the secret" in value for value in stored)
    assert sum(b'"encrypted": true' in value for value in stored) == 1
