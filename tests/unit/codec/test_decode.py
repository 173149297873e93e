"""MessagePack to values: every form that readers accept, and input that means harm."""

from __future__ import annotations

import struct
import tracemalloc
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.codec import reference
from tests.unit.codec.hooks import decode_value, encode_value
from tests.unit.codec.strategies import json_values, std_values

NESTED = {"rows": [{"id": i, "name": f"n{i}", "tags": ["a", "b"], "at": None} for i in range(20)]}


@given(json_values)
def test_it_reads_what_others_write(value: Any) -> None:
    encoded = msgpack.packb(value)
    assert reference.same(decode_value(encoded), msgpack.unpackb(encoded, strict_map_key=True))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    try:
        value = decode_value(data)
    except ValueError:
        return
    assert reference.same(decode_value(encode_value(value)), value)


@given(std_values, st.data())
def test_a_changed_byte_is_a_value_or_an_error(value: Any, data: st.DataObject) -> None:
    encoded = bytearray(encode_value(value))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] = data.draw(st.integers(0, 255))
    try:
        decode_value(bytes(encoded))
    except ValueError:
        pass


def test_every_prefix_is_an_error() -> None:
    encoded = encode_value([NESTED, datetime(2026, 1, 1), b"x" * 300, "日" * 20])
    for end in range(len(encoded)):
        with pytest.raises(ValueError):
            decode_value(encoded[:end])


def test_bytes_after_the_value_are_an_error() -> None:
    for value in (1, [], {}, "a", NESTED):
        with pytest.raises(ValueError, match="end of the document"):
            decode_value(encode_value(value) + b"\xc0")


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\xca\x3f\xc0\x00\x00", 1.5),
        (b"\xd3\x00\x00\x00\x00\x00\x00\x00\x05", 5),
        (b"\xcf\x00\x00\x00\x00\x00\x00\x00\x05", 5),
        (b"\xdb\x00\x00\x00\x01x", "x"),
        (b"\xdd\x00\x00\x00\x01\xdf\x00\x00\x00\x01\xd9\x01k\xc6\x00\x00\x00\x01b", [{"k": b"b"}]),
        (b"\x82\xa1a\x01\xa1a\x02", {"a": 2}),
        (b"\x82\xa1a\x01\xc4\x01a\x02", {"a": 1, b"a": 2}),
    ],
    ids=["float32", "int64", "uint64", "str32", "long headers", "a key twice", "text and bytes keys"],
)
def test_forms_that_are_not_the_shortest(data: bytes, value: Any) -> None:
    assert reference.same(decode_value(data), value)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x81\x01\x02", "key of a map at byte 1"),
        (b"\x81\xc0\x02", "key of a map"),
        (b"\x81\x90\x02", "key of a map"),
        (b"\x81\xca\x3f\xc0\x00\x00\x02", "key of a map"),
        (b"\x91\xd6\xff\x00\x00\x00\x00", "extension value of type -1 at byte 1"),
        (b"\xd4\x05\x00", "extension value of type 5"),
        (b"\xc1", "reserved byte"),
        (b"\xa1\xff", "UTF-8"),
        (b"\xa3\xed\xa0\x80", "UTF-8"),
        (b"\x81\xa1\xff\x00", "UTF-8"),
        (b"", "ends inside"),
    ],
)
def test_what_the_std_serializer_never_writes(data: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        decode_value(data)


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1k"], ids=["array", "map"])
def test_the_depth_is_bounded(opening: bytes) -> None:
    decode_value(opening * 511 + b"\x90")
    with pytest.raises(ValueError, match="512"):
        decode_value(opening * 512 + b"\x90")
    with pytest.raises(ValueError, match="512"):
        decode_value(opening * 1_000_000 + b"\xc0")


@pytest.mark.parametrize("header", [0xDD, 0xDF], ids=["array", "map"])
def test_announced_lengths_reserve_no_more_than_the_input_could_fill(header: int) -> None:
    """Each of 500 containers announces as many elements as there are bytes after it."""
    size = 40_000
    hostile = bytearray()
    for _ in range(500):
        if header == 0xDF and hostile:
            hostile += b"\xa1k"
        rest = size - len(hostile) - 5
        hostile += struct.pack(">BI", header, rest if header == 0xDD else rest // 2)
    hostile += b"\xa1k" * ((size - len(hostile)) // 2)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):
            decode_value(bytes(hostile))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * size


def test_lengths_beyond_the_input_are_an_error() -> None:
    for data in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff\xa1a",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ):
        with pytest.raises(ValueError):
            decode_value(data)


def test_nested_short_containers_are_not_taken_for_long_ones() -> None:
    for depth in (2, 5, 100, 512):
        value: Any = []
        for _ in range(depth - 1):
            value = [value]
        assert decode_value(msgpack.packb(value)) == value


# --- dates and times ------------------------------------------------------------------------------------------------


def moment(name: str, text: Any, mark: Any = True) -> bytes:
    return reference.packed({name: mark, "value": text})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("__datetime__", "2026-01-31T01:02:03", datetime(2026, 1, 31, 1, 2, 3)),
        ("__datetime__", "2026-01-31T01:02:03.000004", datetime(2026, 1, 31, 1, 2, 3, 4)),
        ("__datetime__", "2026-01-31T01:02:03.120000", datetime(2026, 1, 31, 1, 2, 3, 120_000)),
        ("__datetime__", "2026-01-31T01:02:03+00:00", datetime(2026, 1, 31, 1, 2, 3, tzinfo=timezone.utc)),
        ("__datetime__", "2026-01-31T01:02:03Z", datetime(2026, 1, 31, 1, 2, 3, tzinfo=timezone.utc)),
        ("__datetime__", "2026-01-31T01:02:03.5Z", datetime(2026, 1, 31, 1, 2, 3, 500_000, tzinfo=timezone.utc)),
        (
            "__datetime__",
            "2026-01-31T01:02:03.000004-05:30",
            datetime(2026, 1, 31, 1, 2, 3, 4, tzinfo=timezone(-timedelta(hours=5, minutes=30))),
        ),
        (
            "__datetime__",
            "2026-01-31T01:02:03+05:30:15",
            datetime(2026, 1, 31, 1, 2, 3, tzinfo=timezone(timedelta(hours=5, minutes=30, seconds=15))),
        ),
        ("__datetime__", "2026-01-31 01:02:03", datetime(2026, 1, 31, 1, 2, 3)),
        ("__datetime__", "2026-01-31", datetime(2026, 1, 31)),
        ("__datetime__", "0001-01-01T00:00:00", datetime.min),
        ("__datetime__", "9999-12-31T23:59:59.999999", datetime.max),
        ("__date__", "2026-01-31", date(2026, 1, 31)),
        ("__time__", "01:02:03", time(1, 2, 3)),
        ("__time__", "01:02:03.000004", time(1, 2, 3, 4)),
        ("__time__", "01:02", time(1, 2)),
        ("__time__", "01:02:03+00:00", time(1, 2, 3, tzinfo=timezone.utc)),
    ],
)
def test_moments(name: str, text: str, value: Any) -> None:
    if text == "2026-01-31T01:02:03.5Z" and reference.PYTHON < (3, 11):
        with pytest.raises(ValueError):
            decode_value(moment(name, text))
        return
    assert reference.same(decode_value(moment(name, text)), value)


@pytest.mark.parametrize("mark", [True, 1, "yes", [0]])
def test_a_mark_counts_if_it_is_true(mark: Any) -> None:
    assert decode_value(moment("__date__", "2026-01-31", mark)) == date(2026, 1, 31)


@pytest.mark.parametrize("mark", [False, 0, "", None, []])
def test_a_mark_that_is_false_does_not(mark: Any) -> None:
    assert decode_value(moment("__date__", "2026-01-31", mark)) == {"__date__": mark, "value": "2026-01-31"}


@pytest.mark.parametrize(
    "data",
    [
        moment("__datetime__", "2026-13-01T00:00:00"),
        moment("__datetime__", "2026-02-30T00:00:00"),
        moment("__datetime__", "2026-01-01T25:00:00"),
        moment("__datetime__", "0000-01-01T00:00:00"),
        moment("__datetime__", "２０２６-01-01T00:00:00"),
        moment("__datetime__", ""),
        moment("__datetime__", "yesterday"),
        moment("__datetime__", b"2026-01-01T00:00:00"),
        moment("__datetime__", 5),
        moment("__date__", "2026-01-31T00:00:00"),
        moment("__time__", "24:00:01"),
        reference.packed({"__date__": True}),
        reference.packed({"__date__": True, b"value": "2026-01-01"}),
    ],
)
def test_a_mark_without_a_moment_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        decode_value(data)


def test_moments_inside_containers() -> None:
    value = {"a": [date(2026, 1, 1), {"b": time(1)}], "c": (datetime(2026, 1, 1),)}
    assert decode_value(encode_value(value)) == reference.std_image(value)


# --- keys are shared ------------------------------------------------------------------------------------------------


def test_equal_keys_are_one_string() -> None:
    value = decode_value(encode_value([{"identifier": 1}, {"identifier": 2}]))
    first, second = (next(iter(row)) for row in value)
    assert first is second


@given(st.lists(st.text("aeinmst", min_size=2, max_size=64), min_size=2, max_size=2, unique=True))
@example(["name", "tags"])
def test_any_two_keys_have_room_in_the_cache(keys: list[str]) -> None:
    row = dict.fromkeys(keys, 0)
    first, *others = decode_value(encode_value([row] * 3))
    for other in others:
        assert all(one is same for one, same in zip(first, other))


@given(st.lists(st.text(min_size=0, max_size=70), min_size=1, max_size=300, unique=True))
def test_keys_that_share_a_place_in_the_cache_stay_apart(keys: list[str]) -> None:
    keys = [key for key in keys if not any(0xD800 <= ord(c) < 0xE000 for c in key) and not key.startswith("__")]
    value = {key: place for place, key in enumerate(keys)}
    for _ in range(2):
        assert decode_value(encode_value(value)) == value
