"""Values of the std serializer to MessagePack: the bytes, and what is refused with which words."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import sys
import threading
import typing
import uuid
from datetime import datetime, time, timedelta, timezone, tzinfo
from typing import Any

import pytest
from hypothesis import given

from tests.unit.codec import reference
from tests.unit.codec.hooks import decode_value, encode_value
from tests.unit.codec.strategies import std_values


@given(std_values)
def test_the_bytes_are_the_protocols(value: Any) -> None:
    assert encode_value(value) == reference.packed(reference.std_map(value))


@given(std_values)
def test_what_comes_back(value: Any) -> None:
    assert reference.same(decode_value(encode_value(value)), reference.std_image(value))


WIDTHS = [0, 1, 5, 15, 16, 31, 32, 255, 256, 65535, 65536]


@pytest.mark.parametrize("length", WIDTHS)
@pytest.mark.parametrize(
    "make",
    [
        lambda n: "x" * n,
        lambda n: "é" * n,
        lambda n: "日" * n,
        lambda n: "😀" * n,
        lambda n: b"x" * n,
        lambda n: bytearray(n),
        lambda n: [None] * n,
        lambda n: tuple(range(n)),
        lambda n: {str(i): i for i in range(n)},
    ],
    ids=["ascii", "latin", "bmp", "astral", "bytes", "bytearray", "list", "tuple", "dict"],
)
def test_every_width_of_a_header(make: Any, length: int) -> None:
    value = make(length)
    encoded = encode_value(value)
    assert encoded == reference.packed(reference.std_map(value))
    assert decode_value(encoded) == reference.std_image(value)


@pytest.mark.parametrize("power", [0, 5, 7, 8, 15, 16, 29, 30, 31, 32, 59, 60, 61, 62, 63, 64])
def test_integers_around_every_width(power: int) -> None:
    for value in (2**power - 1, 2**power, 2**power + 1, -(2**power) + 1, -(2**power), -(2**power) - 1):
        if -(2**63) <= value < 2**64:
            assert encode_value(value) == reference.packed(value)
            assert decode_value(encode_value(value)) == value
        else:
            with pytest.raises(TypeError, match="64 bits"):
                encode_value(value)


def test_a_string_with_cached_utf8_encodes_alike() -> None:
    text = "Straße"
    before = encode_value(text)
    # Python's C interface caches the UTF-8 within the string; `fromisoformat` asks for it.
    with pytest.raises(ValueError):
        datetime.fromisoformat(text)
    assert encode_value(text) == before == reference.packed(text)


# --- what is refused, where, and what to do -------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    pass


class Number(int):
    pass


class Real(float):
    pass


class Point(typing.NamedTuple):
    x: int


class Rows(list):  # type: ignore[type-arg]
    pass


class Record(dict):  # type: ignore[type-arg]
    pass


class Stamp(datetime):
    pass


@dataclasses.dataclass
class Order:
    number: int


REFUSED: list[tuple[Any, str]] = [
    ({1}, 'serializer="auto"'),
    (frozenset([1]), 'serializer="auto"'),
    (uuid.UUID(int=1), 'serializer="auto"'),
    (decimal.Decimal(1), "str(…)"),
    (Color.RED, ".value"),
    (Level.LOW, ".value"),
    (Text("a"), "str(…)"),
    (Number(1), "int(…)"),
    (Real(1), "float(…)"),
    (Point(1), "_asdict()"),
    (Rows([1]), "list(…)"),
    (Record(a=1), "dict(…)"),
    (collections.defaultdict(int, a=1), "dict(…)"),
    (collections.Counter("a"), "dict(…)"),
    (timedelta(1), ".total_seconds()"),
    (1j, ".real"),
    (Order(1), "dataclasses.asdict"),
    (iter([1]), "a list or dict"),
    (object(), "backend=None"),
    (2**64, "64 bits"),
    (-(2**63) - 1, "64 bits"),
    ("\ud800", "surrogate"),
    ("日\udfff", "surrogate"),
    ("😀\udfff", "surrogate"),
    (Stamp(2026, 1, 1), "std"),
    (datetime(2026, 10, 25, 2, 30, fold=1), "fold=1"),
    (time(2, 30, fold=1), "fold=1"),
]


@pytest.mark.parametrize(("value", "remedy"), REFUSED, ids=lambda v: type(v).__name__ if not isinstance(v, str) else "")
def test_refusals_name_the_place_the_type_and_the_remedy(value: Any, remedy: str) -> None:
    with pytest.raises(TypeError) as caught:
        encode_value({"a": [0, (1, {"b": value})]})
    error: Any = caught.value
    assert error.path == 'result["a"][1][1]["b"]'
    assert error.type_name.split(".")[-1] == type(value).__name__
    assert remedy in error.remedy
    assert error.path in str(error)
    assert error.type_name in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(("key", "remedy"), [(1, "auto"), (None, "auto"), ((1, 2), "auto"), (Text("a"), "str(…)")])
def test_keys_other_than_text_and_bytes_are_refused(key: Any, remedy: str) -> None:
    with pytest.raises(TypeError) as caught:
        encode_value([{key: 1}])
    error: Any = caught.value
    assert error.path.startswith("result[0] key ")
    assert remedy in error.remedy


def test_a_long_key_is_shortened_in_the_path() -> None:
    with pytest.raises(TypeError) as caught:
        encode_value({"k" * 500: {1}})
    assert len(caught.value.path) < 60  # type: ignore[attr-defined]


def test_an_ordered_dict_is_stored_as_a_dict_in_its_order() -> None:
    ordered = collections.OrderedDict(a=1, b=2, c=3)
    ordered.move_to_end("a")
    assert decode_value(encode_value(ordered)) == {"b": 2, "c": 3, "a": 1}
    assert list(decode_value(encode_value([ordered]))[0]) == ["b", "c", "a"]


@pytest.mark.parametrize("name", ["__datetime__", "__date__", "__time__"])
@pytest.mark.parametrize("mark", [True, 1, "x", [0], {"a": 1}, -1.5, float("nan")])
def test_a_dict_that_reads_as_a_moment_is_refused(name: str, mark: Any) -> None:
    with pytest.raises(TypeError, match="rename the key"):
        encode_value([{"a": 1, name: mark, "value": "2026-01-01"}])


@pytest.mark.parametrize("name", ["__datetime__", "__date__", "__time__"])
@pytest.mark.parametrize("mark", [False, 0, "", [], {}, None, 0.0, b""])
def test_a_dict_whose_mark_is_false_is_a_dict(name: str, mark: Any) -> None:
    value = {name: mark, "value": "2026-01-01"}
    assert decode_value(encode_value(value)) == value


@pytest.mark.parametrize("name", [b"__date__", "__set__", "__dates__", "__DATE__", "_date__"])
def test_other_names_mark_nothing(name: Any) -> None:
    value = {name: True, "value": "2026-01-01"}
    assert decode_value(encode_value(value)) == value


# --- zones ----------------------------------------------------------------------------------------------------------


class Shifting(tzinfo):
    """A zone that gives no offset for a time of day alone, as those with summer time."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else timedelta(hours=2)

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return "X"


def test_an_aware_datetime_comes_back_with_its_offset() -> None:
    value = datetime(2026, 7, 1, 12, tzinfo=Shifting())
    back = decode_value(encode_value(value))
    assert back == value
    assert back.tzinfo == timezone(timedelta(hours=2))


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(TypeError, match="no offset"):
        encode_value(time(12, tzinfo=Shifting()))


class Broken(tzinfo):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        raise self.error


def test_an_error_in_a_zone_is_a_refusal_with_the_cause() -> None:
    cause = ValueError("no such zone")
    with pytest.raises(TypeError, match="raised ValueError") as caught:
        encode_value([datetime(2026, 1, 1, tzinfo=Broken(cause))])
    assert caught.value.__cause__ is cause
    assert caught.value.path == "result[0]"  # type: ignore[attr-defined]


def test_an_interrupt_is_not_a_refusal() -> None:
    with pytest.raises(KeyboardInterrupt):
        encode_value([datetime(2026, 1, 1, tzinfo=Broken(KeyboardInterrupt()))])


# --- depth, cycles, and containers that change ----------------------------------------------------------------------


def nest(depth: int, make: Any) -> Any:
    value = make(None)
    for _ in range(depth - 1):
        value = make(value)
    return value


@pytest.mark.parametrize("make", [lambda v: [v], lambda v: {"k": v}, lambda v: (v,)], ids=["list", "dict", "tuple"])
def test_the_depth_is_bounded(make: Any) -> None:
    deepest = encode_value(nest(512, make))
    assert encode_value(decode_value(deepest)) == deepest
    with pytest.raises(TypeError, match="512"):
        encode_value(nest(513, make))


def test_a_value_within_itself_is_refused() -> None:
    rows: list[Any] = []
    rows.append(rows)
    table: dict[str, Any] = {}
    table["self"] = [table]
    for value in (rows, table):
        with pytest.raises(TypeError, match="contains itself"):
            encode_value(value)


class Meddling(Shifting):
    """A zone whose offset, asked for, changes the container that is being read."""

    def __init__(self, change: Any) -> None:
        self.change = change

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        self.change()
        return timedelta(0)


def test_a_list_that_shrinks_while_it_is_read() -> None:
    rows: list[Any] = []
    rows.extend([[datetime(2026, 1, 1, tzinfo=Meddling(rows.clear))], *([] for _ in range(100))])
    with pytest.raises(TypeError, match="changed"):
        encode_value(rows)


def test_a_list_that_grows_while_it_is_read() -> None:
    rows: list[Any] = []
    rows.append(datetime(2026, 1, 1, tzinfo=Meddling(lambda: rows.append(object()))))
    with pytest.raises(TypeError, match="changed"):
        encode_value(rows)


@pytest.mark.parametrize("change", ["clear", "grow", "replace"])
def test_a_dict_that_changes_while_it_is_read(change: str) -> None:
    table: dict[str, Any] = {}

    def meddle() -> None:
        if change == "clear":
            table.clear()
        elif change == "grow":
            table.update({f"new {i}": [i] for i in range(1000)})
        else:
            table.update({f"k{i}": [i, "other"] for i in range(50)})

    table["first"] = {"at": [datetime(2026, 1, 1, tzinfo=Meddling(meddle))]}
    table.update({f"k{i}": [str(i)] for i in range(50)})
    if change == "replace":
        assert decode_value(encode_value(table))["k7"] == [7, "other"]
    else:
        with pytest.raises(TypeError, match="changed"):
            encode_value(table)


def test_another_threads_changes_do_no_harm() -> None:
    shared: dict[str, Any] = {"rows": [], "map": {}}
    done = threading.Event()

    def change() -> None:
        count = 0
        while not done.is_set():
            count += 1
            shared["rows"].append([count])
            shared["map"][str(count % 97)] = {"n": count}
            if count % 50 == 0:
                shared["rows"].clear()
                shared["map"].clear()

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(3000):
            back = decode_value(encode_value(shared))
            assert set(back) == {"rows", "map"}
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
