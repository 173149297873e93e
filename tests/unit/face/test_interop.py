"""Interop mode: keys and values, against an implementation of our own in Python."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import pathlib
import uuid
from collections import OrderedDict
from typing import Any, NamedTuple

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachekit import (
    ConfigurationError,
    DecoratorConfig,
    InteropError,
    decode_interop_value,
    encode_interop_value,
    generate_interop_key,
)
from cachekit.interop import ExtType, InteropDecodeError, canonical_args_bytes
from cachekit.serializers.interop import InteropSerializer
from tests.unit.face.interop_reference import canonical, key

UTC = dt.timezone.utc
pack: Any = msgpack.packb
OP: dict[str, Any] = {"interop": "op", "namespace": "n"}


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    pass


class Pair(NamedTuple):
    a: int
    b: int


INTS = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.tuples(st.integers(0, 63), st.integers(-2, 2), st.sampled_from([1, -1])).map(
        lambda at: max(-(2**63), min(2**64 - 1, at[2] * ((1 << at[0]) + at[1])))
    ),
)
AWARE = st.datetimes(
    min_value=dt.datetime(1, 1, 3), max_value=dt.datetime(9999, 12, 29), timezones=st.just(UTC)
) | st.datetimes(min_value=dt.datetime(1, 1, 3), max_value=dt.datetime(9999, 12, 29)).map(
    lambda at: at.replace(tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30, microseconds=1)))
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(
    st.none(), st.booleans(), INTS, st.floats(allow_nan=False, allow_infinity=False), TEXT, st.binary(max_size=40)
)
HASHABLE = st.recursive(
    SCALARS | AWARE | st.uuids() | st.decimals(allow_nan=False),
    lambda inner: st.frozensets(inner, max_size=6) | st.tuples(inner, inner),
    max_leaves=8,
)
ARGUMENTS = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4) | st.sets(HASHABLE, max_size=4)
    ),
    max_leaves=10,
)
VALUES = st.recursive(
    SCALARS
    | st.datetimes().map(lambda at: at.replace(fold=0))
    | st.dates()
    | st.times().map(lambda at: at.replace(fold=0)),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXT.filter(lambda k: k[:2] != "__"), inner),
    max_leaves=20,
)


class TestKeys:
    @given(args=st.lists(ARGUMENTS, max_size=3))
    @settings(max_examples=100, deadline=None)
    def test_they_are_those_of_another_implementation(self, args: list[Any]) -> None:
        assert canonical_args_bytes(args) == canonical(args)
        assert generate_interop_key("users", "get_user", args) == key("users", "get_user", args)

    def test_of_the_protocol(self) -> None:
        assert generate_interop_key("users", "get_user", [42]) == (
            "users:get_user:61598716255080080f6456eb065c2e51badfaa4320b0efe97469c29cffee8875"
        )
        assert canonical_args_bytes([]) == b"\x90"
        assert generate_interop_key("a" * 64, "b" * 64, ()).endswith(
            "8064bf5f945dba521b017bb3f32b31a293a6e16944838d171ea9e77fab085e8e"
        )

    @pytest.mark.parametrize(
        ("count", "heads"),
        [
            (15, (b"\xaf", b"\xc4\x0f", b"\x9f", b"\x8f")),
            (16, (b"\xb0", b"\xc4\x10", b"\xdc\x00\x10", b"\xde\x00\x10")),
            (31, (b"\xbf", b"\xc4\x1f", b"\xdc\x00\x1f", b"\xde\x00\x1f")),
            (32, (b"\xd9\x20", b"\xc4\x20", b"\xdc\x00\x20", b"\xde\x00\x20")),
            (255, (b"\xd9\xff", b"\xc4\xff", b"\xdc\x00\xff", b"\xde\x00\xff")),
            (256, (b"\xda\x01\x00", b"\xc5\x01\x00", b"\xdc\x01\x00", b"\xde\x01\x00")),
            (65535, (b"\xda\xff\xff", b"\xc5\xff\xff", b"\xdc\xff\xff", b"\xde\xff\xff")),
            (
                65536,
                (b"\xdb\x00\x01\x00\x00", b"\xc6\x00\x01\x00\x00", b"\xdd\x00\x01\x00\x00", b"\xdf\x00\x01\x00\x00"),
            ),
        ],
    )
    def test_every_width(self, count: int, heads: tuple[bytes, ...]) -> None:
        text, binary = "x" * count, b"x" * count
        items, members = [None] * count, {f"{n:06}": None for n in range(count)}
        for value, head in zip((text, binary, items, members), heads):
            assert canonical_args_bytes([value])[1:].startswith(head)
            assert encode_interop_value(value).startswith(head)
            assert decode_interop_value(encode_interop_value(value)) == value
        assert canonical_args_bytes([set(range(count))])[1:].startswith(heads[2])
        assert canonical_args_bytes(items).startswith(heads[2]), "the array of all arguments too"

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1.0, 1),
            (-0.0, 0),
            (2.0**63, 2**63),
            (Colour.RED, "red"),
            (Level.LOW, 1),
            (Text("a"), "a"),
            ((1, 2), [1, 2]),
            (Pair(1, 2), [1, 2]),
            (OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
            (bytearray(b"a"), b"a"),
            (frozenset([2, 1]), [1, 2]),
            (pathlib.PureWindowsPath("a\\b"), "a/b"),
            (decimal.Decimal("1.50"), "1.50"),
            (uuid.UUID("12345678-1234-1234-1234-123456789ABC"), "12345678-1234-1234-1234-123456789abc"),
            (dt.datetime(2020, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))), 1577836800),
            (dt.datetime(1970, 1, 1, microsecond=1, tzinfo=UTC), 1e-6),
            *(
                (dt.datetime(*date, tzinfo=UTC), days * 86_400)
                for date, days in {
                    (1970, 1, 1): 0,
                    (1969, 12, 31): -1,
                    (2000, 2, 29): 11_016,
                    (2000, 3, 1): 11_017,
                    (1900, 3, 1): -25_508,
                    (1, 1, 1): -719_162,
                    (9999, 12, 31): 2_932_896,
                }.items()
            ),
        ],
    )
    def test_equal_arguments(self, one: Any, other: Any) -> None:
        assert canonical_args_bytes([one]) == canonical_args_bytes([other])

    @pytest.mark.parametrize(
        ("argument", "place"),
        [
            (math.nan, "args[0] "),
            ([-math.inf], "args[0][0] "),
            ({"a": {"b": 2**64}}, 'args[0]["a"]["b"] '),
            (-(2**63) - 1, "args[0] "),
            ({1: 2}, "args[0] key [1] "),
            ({b"a": 2}, "args[0] key [b'a'] "),
            ({"\ud800": 1}, "args[0] key "),
            ("\ud800", "args[0] "),
            (dt.datetime(2020, 1, 1), "args[0] "),
            (dt.date(2020, 1, 1), "args[0] "),
            (dt.timedelta(1), "args[0] "),
            (1j, "args[0] "),
            ({object()}, "args[0]{…} "),
            (memoryview(b""), "args[0] "),
            (range(3), "args[0] "),
        ],
    )
    def test_arguments_outside_of_the_model(self, argument: Any, place: str) -> None:
        with pytest.raises(InteropError) as raised:
            generate_interop_key("n", "o", [argument])
        assert str(raised.value).startswith(place)
        assert raised.value.code == "E020"

    def test_depth_is_bounded(self) -> None:
        deep: Any = 1
        for _ in range(512):
            deep = [deep]
        canonical_args_bytes([deep])
        with pytest.raises(InteropError, match="512 deep"):
            canonical_args_bytes([[deep]])
        itself: list[Any] = []
        itself.append(itself)
        with pytest.raises(InteropError, match="512 deep"):
            canonical_args_bytes(itself)

    @pytest.mark.parametrize("name", ["", "A", "_a", "a:b", "a b", "a\n", "é", "a" * 65, "a..b", None, 1])
    def test_names(self, name: Any) -> None:
        with pytest.raises(InteropError, match="interop namespace"):
            generate_interop_key(name, "o", [])
        with pytest.raises(InteropError, match="interop operation"):
            generate_interop_key("n", name, [])

    def test_the_arguments_are_a_list(self) -> None:
        for args in ("abc", {"a": 1}, None, {1}):
            with pytest.raises(TypeError, match="a list or tuple"):
                generate_interop_key("n", "o", args)  # type: ignore[arg-type]

    def test_what_python_code_raises_is_the_cause(self) -> None:
        class Zone(dt.tzinfo):
            def utcoffset(self, _: Any) -> Any:
                raise KeyError("no such zone")

        with pytest.raises(InteropError, match=r"utcoffset\(\) raised KeyError") as raised:
            generate_interop_key("n", "o", [dt.datetime(2020, 1, 1, tzinfo=Zone())])
        assert isinstance(raised.value.__cause__, KeyError)


class TestValues:
    @given(value=VALUES)
    @settings(max_examples=100, deadline=None)
    def test_they_come_back(self, value: Any) -> None:
        stored = encode_interop_value(value)
        assert decode_interop_value(stored) == value
        msgpack.unpackb(stored)  # another implementation reads it
        assert encode_interop_value(decode_interop_value(stored)) == stored

    @pytest.mark.parametrize(
        ("value", "stored"),
        [
            (1.0, "cb3ff0000000000000"),
            (-0.0, "cb8000000000000000"),
            ((1, (2,)), "92019102"),
            (bytearray(b"a"), "c40161"),
            ({"b": 1, "a": {"d": 1, "c": 2}}, "82a16182a16302a16401a16201"),
            (dt.date(2020, 1, 31), "82a85f5f646174655f5fc3a576616c7565aa323032302d30312d3331"),
            (dt.time(1, 2, 3), "82a85f5f74696d655f5fc3a576616c7565a830313a30323a3033"),
        ],
    )
    def test_bytes(self, value: Any, stored: str) -> None:
        assert encode_interop_value(value).hex() == stored

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({"a": [1, {2}]}, 'result["a"][1] is of type set, which is not in the interop data model; return a list'),
            (math.nan, "NaN"),
            ({1: 2}, "result key [1] is of type int"),
            ({b"a": 1}, "result key [b'a'] is of type bytes"),
            (uuid.UUID(int=1), "return str(…) of it"),
            (decimal.Decimal(1), "return str(…) of it"),
            (Level.LOW, "return its .value"),
            (Text("a"), "return str(…) of it"),
            (dt.timedelta(1), "return its .total_seconds()"),
            (2**64, "return it as text"),
            ({"__date__": True, "value": "x"}, 'key "__date__"'),
            (object(), "is of type object"),
        ],
    )
    def test_outside_of_the_model(self, value: Any, message: str) -> None:
        with pytest.raises(InteropError) as raised:
            encode_interop_value(value)
        assert message in str(raised.value)

    @pytest.mark.parametrize(
        ("stored", "value"),
        [
            ("cf0000000000000001", 1),
            ("ca3fc00000", 1.5),
            ("c600000001ff", b"\xff"),
            ("810102", {1: 2}),
            ("81c002", {None: 2}),
            ("d40100", ExtType(1, b"\x00")),
            ("d6ff00000001", dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
            ("d7ff" + f"{(1_999_999 << 34) | 1:016x}", dt.datetime(1970, 1, 1, 0, 0, 1, 1999, tzinfo=UTC)),
            ("c70cff000003e8ffffffffffffffff", dt.datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC)),
            ("43", 67),
            ("82ac5f5f6461746574696d655f5fc2a576616c7565a0", {"__datetime__": False, "value": ""}),
            ("81ac5f5f6461746574696d655f5fc3", {"__datetime__": True}),
        ],
    )
    def test_any_encoding_is_read(self, stored: str, value: Any) -> None:
        back = decode_interop_value(bytes.fromhex(stored))
        assert back == value
        assert type(back) is type(value)

    def test_a_trailing_z(self) -> None:
        for text, value in [
            ("2020-01-01T00:00:00Z", dt.datetime(2020, 1, 1, tzinfo=UTC)),
            ("2020-01-01T00:00:00.123Z", dt.datetime(2020, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)),
        ]:
            stored: bytes = pack({"__datetime__": True, "value": text})
            assert decode_interop_value(stored) == value

    @pytest.mark.parametrize(
        "stored", [b"", b"\xc1", b"\x92\x01", b"\x01\x02", b"\xa1\xff", b'{"a":1}', b"\x81\x91\x01\x02"]
    )
    def test_what_is_no_document(self, stored: bytes) -> None:
        with pytest.raises(InteropDecodeError):
            decode_interop_value(stored)

    def test_a_frame_is_told_as_one(self) -> None:
        with pytest.raises(InteropDecodeError, match="a function without interop="):
            decode_interop_value(b"CK\x03\x00\x00\x00\x02{}")

    def test_buffers(self) -> None:
        for buffer in (bytearray(b"\x01"), memoryview(b"\x01")):
            assert decode_interop_value(buffer) == 1

    def test_the_serializer_by_name(self) -> None:
        named = DecoratorConfig(interop="op", namespace="n", serializer="interop")
        assert named.serializer == "default"
        with pytest.raises(ConfigurationError, match="names no operation"):
            DecoratorConfig(namespace="n", serializer="interop")

    def test_the_serializer(self) -> None:
        data, metadata = InteropSerializer().serialize({"a": 1})
        assert (data, metadata.compressed) == (b"\x81\xa1a\x01", False)
        assert InteropSerializer().deserialize(memoryview(data), metadata) == {"a": 1}
