"""The bytes of arguments: the protocol's for what it takes, in whichever way a call is written."""

from __future__ import annotations

import collections
import decimal
import enum
import hashlib
import json
import pathlib
import sys
import typing
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.codec import reference
from tests.unit.codec.hooks import encode_args, key, scope
from tests.unit.codec.strategies import json_values, plain, text

# The argument hashes of the public key vectors: name, positional and keyword arguments, Blake2b-256.
VECTORS = json.loads((pathlib.Path(__file__).parent / "vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_public_vectors(vector: dict[str, Any]) -> None:
    encoded = key(*vector["args"], **vector["kwargs"])
    assert hashlib.blake2b(encoded, digest_size=32).hexdigest() == vector["hash"]


class Color(enum.Enum):
    RED = "r"
    PAIR = (1, 2)
    WHEN = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Level(enum.IntEnum):
    LOW = 3


class Name(str, enum.Enum):
    X = "x"


class Point(typing.NamedTuple):
    x: int
    y: int


class Rows(list):  # type: ignore[type-arg]
    pass


class Record(dict):  # type: ignore[type-arg]
    pass


class Stamp(datetime):
    pass


# Seen in stores: the first digits of the hash that the published package 0.24.1 gives for one argument.
DEPLOYED: list[tuple[Any, str]] = [
    ({"b": 1, "a": 2}, "b1d780c4"),
    ({2: 1, 1: 2}, "f7d9775b"),
    ({b"b": 1, b"a": 2}, "411a15d4"),
    ({None: 1}, "6dedf9b3"),
    ({True: 1}, "c75d9cc3"),
    ({1.5: 1, -2.0: 2}, "b36fd80f"),
    ({-0.0: 1}, "60bfcc4d"),
    ({1: 1, 0.5: 2}, "e96b31f1"),
    (-0.0, "57e58157"),
    (float("nan"), "a77ae183"),
    (-float("nan"), "646dc5e8"),
    (1.0, "556cdfeb"),
    (pathlib.PurePosixPath("/a/b"), "3c003250"),
    (pathlib.PureWindowsPath("a\\b"), "a9ea1526"),
    (decimal.Decimal("1.10"), "cf6646df"),
    (Level.LOW, "5bad9241"),
    (Name.X, "f6828635"),
    (Point(1, 2), "352981e4"),
    (Color.PAIR, "352981e4"),
    (datetime(2020, 1, 1, 1, 2, 3, 4, tzinfo=timezone.utc), "69fab246"),
    (Stamp(2020, 1, 1, 1, 2, 3, 4, tzinfo=timezone.utc), "69fab246"),
    (Rows([1]), "82f5023b"),
    (Record(a=1), "b8bff694"),
    (collections.OrderedDict(b=1, a=2), "b1d780c4"),
    (collections.defaultdict(int, b=1), "ee1eefa1"),
    (2**64 - 1, "d3dbd84c"),
    (-(2**63), "24591267"),
]


@pytest.mark.parametrize(("argument", "digits"), DEPLOYED)
def test_keys_of_the_published_package(argument: Any, digits: str) -> None:
    found = hashlib.blake2b(key(argument), digest_size=32).hexdigest()[:8]
    assert found == digits
    assert key(argument) == reference.auto_key(argument)
    assert scope(argument) == "shared"


keyword_names = st.one_of(st.text("abc", min_size=1, max_size=3), text.filter(bool))
protocol_values = st.recursive(
    st.one_of(
        plain,
        st.uuids(),
        st.decimals(),
        st.sampled_from([*Color, *Level, *Name]),
        st.datetimes(timezones=st.just(timezone.utc)),
        st.builds(pathlib.PurePosixPath, st.text("ab/.", max_size=8)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.lists(inner, max_size=5).map(Rows),
        st.dictionaries(text, inner, max_size=5),
        st.dictionaries(st.binary(max_size=5), inner, max_size=5),
        st.dictionaries(st.integers(-300, 300) | st.floats(allow_nan=False) | st.booleans(), inner, max_size=5),
    ),
    max_leaves=25,
)


@given(st.lists(protocol_values, max_size=20), st.dictionaries(keyword_names, protocol_values, max_size=12))
@example([1] * 15, {})
@example([1] * 16, {})
@example([1] * 300, {})
@example([], {f"k{i}": i for i in range(20)})
@example([], {"é": 1, "z": 2, "日": 3, "😀": 4, "a": 5})
def test_the_protocols_bytes(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert key(*args, **kwargs) == reference.auto_key(*args, **kwargs)
    assert scope(*args, **kwargs) == "shared"


@given(json_values)
def test_the_order_of_a_dict_does_not_matter(value: Any) -> None:
    def reversed_within(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: reversed_within(value[name]) for name in reversed(list(value))}
        return [reversed_within(item) for item in value] if isinstance(value, (list, tuple)) else value

    assert key(value) == key(reversed_within(value))


@pytest.mark.parametrize("length", [0, 1, 31, 32, 240, 250, 255, 256, 257, 1000, 65535, 65536])
def test_keys_longer_than_the_buffer_on_the_stack(length: int) -> None:
    for argument in ("x" * length, "é" * length, b"x" * length, [1] * length):
        assert key(7, argument, 8, k=argument) == reference.auto_key(7, argument, 8, k=argument)


def test_every_length_around_the_end_of_the_buffer() -> None:
    for length in range(230, 280):
        assert key("x" * length, 1, 2.5, "y") == reference.auto_key("x" * length, 1, 2.5, "y")


def test_equal_strings_of_every_inner_form() -> None:
    cached = "Straße"
    with pytest.raises(ValueError):
        datetime.fromisoformat(cached)
    assert key(cached) == key("".join(["Stra", "ße"])) == reference.auto_key("Straße")


def test_keyword_names_that_are_not_interned() -> None:
    kwargs = {"".join(["val", "ue"]): 1, "".join(["val", "uf"]): 2}
    assert key(**kwargs) == key(value=1, valuf=2)


# --- what is left out -----------------------------------------------------------------------------------------------


def left_out(args: tuple[Any, ...], kwargs: dict[str, Any], ignore: list[str]) -> bytes:
    """Of ``def f(a, b, /, c, d, *rest, e, **more)``."""
    encoded: bytes = encode_args(
        args,
        kwargs,
        ignore=ignore,
        positional=["a", "b", "c", "d"],
        positional_only=2,
        keyword_only=["e"],
        var_positional="rest",
        var_keyword="more",
    )[0]
    return encoded


@pytest.mark.parametrize(
    ("args", "kwargs", "ignore", "remaining"),
    [
        ((1, 2, 3, 4), {}, ["b"], ((1, 3, 4), {})),
        ((1, 2, 3, 4), {}, ["a", "d"], ((2, 3), {})),
        ((1, 2), {"d": 4, "c": 3}, ["d"], ((1, 2), {"c": 3})),
        ((1, 2, 3, 4, 5, 6), {"e": 7}, ["rest"], ((1, 2, 3, 4), {"e": 7})),
        ((1, 2, 3, 4, 5, 6), {}, ["c"], ((1, 2, 4, 5, 6), {})),
        ((1, 2), {"e": 5}, ["e"], ((1, 2), {})),
        ((1, 2), {"e": 5, "x": 6, "c": 3}, ["more"], ((1, 2), {"e": 5, "c": 3})),
        ((1, 2), {"é": 5, "日": 6}, ["more"], ((1, 2), {})),
        ((1, 2), {"rest": 5}, ["rest"], ((1, 2), {"rest": 5})),
        ((1, 2), {"a": 5}, ["a"], ((2,), {"a": 5})),
        ((object(), 2), {"c": object()}, ["a", "c"], ((2,), {})),
        ((1, 2), {"c": 3}, ["nothing"], ((1, 2), {"c": 3})),
    ],
    ids=lambda part: None,
)
def test_ignored_parameters(args: Any, kwargs: Any, ignore: list[str], remaining: Any) -> None:
    assert left_out(args, kwargs, ignore) == reference.auto_key(*remaining[0], **remaining[1])


def test_an_ignored_keyword_that_is_not_interned() -> None:
    assert left_out((1, 2), {"".join(["", "e"]): object()}, ["e"]) == reference.auto_key(1, 2)


# --- what cannot be part of a key -----------------------------------------------------------------------------------


class Opaque:
    pass


def refusal(*args: Any, **options: Any) -> Any:
    with pytest.raises(TypeError) as caught:
        encode_args(args, options.pop("kwargs", None), **options)
    assert str(caught.value).startswith(caught.value.path)  # type: ignore[attr-defined]
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_refusal_names_argument_place_type_and_remedies() -> None:
    error = refusal(1, {"db": [Opaque()]}, positional=["number", "settings"])
    assert error.argument == "settings"
    assert error.path == 'settings["db"][0]'
    assert error.type_name.endswith("Opaque")
    for remedy in ("__cache_key__", "ignore=", "key="):
        assert remedy in error.remedy


def test_refusals_name_every_kind_of_argument() -> None:
    assert refusal(1, Opaque()).argument == "args[1]"
    assert refusal(1, Opaque(), positional=["a"], var_positional="rest").argument == "rest[0]"
    assert refusal(1, kwargs={"conn": Opaque()}).path == "conn"
    assert refusal({1, Opaque()}, positional=["a"]).path == "a{…}"
    assert "key" in refusal({Opaque(): 1}, positional=["a"]).path
    assert refusal(1, Opaque(), positional=["a", "b"], ignore=["a"]).argument == "b"


@pytest.mark.parametrize(
    "argument",
    [object(), Opaque(), Opaque, print, lambda: 0, range(3), iter([1]), (x for x in [1]), memoryview(b"a"), ..., sys],
    ids=lambda argument: type(argument).__name__,
)
def test_what_has_no_place_in_a_key(argument: Any) -> None:
    assert refusal(argument).argument == "args[0]"
    assert refusal([(argument,)]).path == "args[0][0][0]"


def test_depth_and_cycles() -> None:
    rows: list[Any] = []
    rows.append(rows)
    table: dict[Any, Any] = {}
    table["self"] = (table,)
    for argument in (rows, table):
        assert "contains itself" in refusal(argument).remedy
    deep: Any = 1
    for _ in range(512):
        deep = [deep]
    assert key(deep) == b"\x92\x91" + b"\x91" * 512 + b"\x01\x80"
    assert "deep" in refusal([deep]).remedy


class Meddling(tzinfo):
    def __init__(self, change: Any) -> None:
        self.change = change

    def utcoffset(self, moment: datetime | None) -> timedelta:
        self.change()
        return timedelta(0)


def test_arguments_that_change_while_they_are_read() -> None:
    rows: list[Any] = []
    rows.extend([[datetime(2026, 1, 1, tzinfo=Meddling(rows.clear))], *([] for _ in range(100))])
    assert "changed" in refusal(rows).remedy
    table: dict[str, Any] = {}
    table.update({"a": [datetime(2026, 1, 1, tzinfo=Meddling(table.clear))], **{f"k{i}": [i] for i in range(100)}})
    # Its entries were read before anything could change them.
    assert key(table).startswith(b"\x92\x91\xde\x00\x65\xa1a\x91")


class Key:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __cache_key__(self) -> Any:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


def test_errors_while_reading_have_a_cause_and_interrupts_pass() -> None:
    cause = ValueError("x")
    error = refusal([Key(cause)])
    assert error.__cause__ is cause
    assert error.path == "args[0][0]"
    assert "__cache_key__() raised ValueError" in str(error)
    with pytest.raises(KeyboardInterrupt):
        encode_args((Key(KeyboardInterrupt()),))
    assert refusal(Key(Opaque())).path == "args[0].__cache_key__()"


def test_the_text_of_a_value_is_not_in_a_refusal() -> None:
    class Secret:
        def __repr__(self) -> str:
            return "hunter2"

        __str__ = __repr__

    assert "hunter2" not in str(refusal({"a": Secret()}))
    assert "hunter2" not in str(refusal({Secret(): Opaque()}))
