"""AutoSerializer: what goes in comes out, of the same types; what cannot is refused with its place."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import typing
import uuid
from typing import Any

import msgpack
import numpy as np
import pandas as pd
import polars as pl
import pydantic
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from cachekit.serializers import ArrowSerializer, AutoSerializer, DefaultSerializer, SerializationError


class Color(enum.Enum):
    RED = "r"


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: Any = None


@dataclasses.dataclass
class Slotted:
    __slots__ = ("name",)
    name: str


class Order(pydantic.BaseModel):
    id: int
    lines: list[str] = []
    _note: str = pydantic.PrivateAttr("")


class Pair(typing.NamedTuple):
    a: int
    b: str


TYPES: list[type[Any]] = [Color, Point, Slotted, Order, Pair]


def same(one: Any, other: Any) -> bool:
    """Equal, of the same types all through."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
        return one.attrs == other.attrs
    if isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other)
        return one.attrs == other.attrs
    if isinstance(one, dict):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one.items(), other.items()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (set, frozenset)):
        return one == other and {type(item) for item in one} == {type(item) for item in other}
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return one == other or (one != one and other != other)


def there_and_back(value: Any, **options: Any) -> Any:
    serializer = AutoSerializer(types=TYPES, **options)
    payload, metadata = serializer.serialize(value)
    return serializer.deserialize(payload, metadata)


SCALARS = [
    None,
    True,
    -0.0,
    "é",
    b"x",
    uuid.UUID(int=5),
    decimal.Decimal("1.50"),
    decimal.Decimal("NaN"),
    dt.timedelta(-1, 2, -3),
    complex(1, -0.0),
    2**64,
    -(2**200),
    -(2**63) - 1,
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc),
    dt.date(2020, 1, 1),
    dt.time(1, 2, 3, 4),
    Color.RED,
    Point(1, (2, {3})),
    Slotted("s"),
    Pair(1, "x"),
    np.float64(1.5),
    np.int32(3),
    np.datetime64("2020-01-01"),
    np.bytes_(b"a\0b\0"),
    np.bytes_(b"\0\0"),
    np.str_("é\0"),
    np.str_("\0"),
    np.void(b"a\0"),
]
CONTAINERS = [
    (),
    (1, (2, [3])),
    set(),
    {1, "a", (1, 2)},
    frozenset([frozenset([1])]),
    {1: 2, (1, 2): 3, None: 4, 1.5: 5, b"k": 6},
    {"a": (1, {2}), "__x__": True, "__set__": False},
    [{"deep": ({"er": {uuid.UUID(int=1)}},)}],
]
ARRAYS = [
    np.arange(3),
    np.arange(6).reshape(2, 3).T,
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(10, dtype="f4")[::-3],
    np.array(5),
    np.zeros((0, 3)),
    np.array(["a", "bcd"]),
    np.array([b"x", b"yz"]),
    np.array([1, 2], dtype=">i4"),
    np.array([True, False]),
    np.array([1 + 1j]),
    np.zeros(2, dtype="f2"),
    np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
    np.array([5], dtype="m8[ns]"),
    np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8", (2,))]),
]
TABLES = [
    pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
    pd.DataFrame({"a": [1.5]}, index=pd.date_range("2020", periods=1, tz="Europe/Paris")),
    pd.DataFrame(
        {"c": pd.Categorical(["u", "v"])}, index=pd.MultiIndex.from_tuples([(1, 2), (3, 4)], names=["x", "y"])
    ),
    pd.Series([1, 2], name="n"),
    pd.Series(["a", "b"]),
    pd.Series(["a", None], index=[3, 4]),
    pd.Series([1.5, 2.5], index=pd.date_range("2020", periods=2)),
    pd.Series(["a", "b"], dtype="category"),
    pd.Series(pd.date_range("2020", periods=2, tz="UTC"), name=3),
]


@pytest.mark.parametrize("integrity", [True, False])
@pytest.mark.parametrize("value", SCALARS + CONTAINERS + ARRAYS + TABLES, ids=lambda value: f"{value!r}"[:40])
def test_everything_comes_back_as_it_was(value: Any, integrity: bool) -> None:
    for one in (value, [value, {"within": value}]):
        back = there_and_back(one, enable_integrity_checking=integrity)
        assert same(back, one), (one, back)


def test_a_pydantic_model_keeps_its_state_and_runs_no_validator() -> None:
    order = Order(id=1, lines=["x"])
    order._note = "kept"
    back = there_and_back(order)
    assert type(back) is Order
    assert (back, back._note, back.model_fields_set) == (order, "kept", {"id", "lines"})


@pytest.mark.parametrize("array", ARRAYS, ids=lambda value: str(value.dtype))
def test_arrays_come_back_to_be_written_to(array: Any) -> None:
    back = there_and_back(array)
    assert back.flags.writeable
    assert back.flags.owndata


class Other:
    pass


@dataclasses.dataclass
class Unregistered:
    x: int


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [1, 2, 3, Other()]}, r'result\["a"\]\[3\] is of type .*Other, which serializer="auto" does not store'),
        ([Unregistered(1)], r"result\[0\] .*AutoSerializer\(types=\[Unregistered\]\)"),
        (Point(1, Other()), r"result\.y is of type"),
        (np.array([object()]), "elements are Python objects"),
        (np.zeros(2, "V0"), "elements have no size"),
        ([np.zeros(2, "V0")], r"result\[0\].*elements have no size"),
        (np.zeros(2, np.dtype("f8", metadata={"unit": "m"})), "type has metadata"),
        (np.zeros(2, [("a", np.dtype("f8", metadata={"unit": "m"}), 2)]), "type has metadata"),
        ([np.void(b"")], r"result\[0\].*no text for its type"),
        ({"x": np.ma.array([1])}, r'result\["x"\].*numpy.asarray'),
        ({"__uuid__": True, "value": "x"}, "__uuid__.*rename the key"),
        ({"a": {"__tuple__": 1}}, r'result\["a"\].*__tuple__'),
        ({Other(): 1}, r"result key \[<.*Other>\]"),
        (collections.deque(), "deque"),
        (pd.DataFrame({"a": [{1}]}), "column 'a' holds a set that Arrow gives back as list"),
        (pd.DataFrame({"a": [{"k": 1}, {"l": 1}]}), "holds a dict that Arrow gives back as another dict"),
        (pd.DataFrame({"a": [Other()]}), "which Arrow cannot hold"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place_and_the_remedy(value: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        AutoSerializer(types=[Point]).serialize(value)


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Marked(Pair):
    """A named tuple with attributes beside its fields."""


class Noted:
    __slots__ = ("__secret", "note")

    def hide(self) -> None:
        self.__secret = 1


@dataclasses.dataclass
class Entry(Noted):
    __slots__ = ("x",)
    x: int


@dataclasses.dataclass
class Row(list[int]):
    name: str = ""


def test_what_an_instance_has_beside_its_state_is_not_lost() -> None:
    serializer = AutoSerializer(types=[Access, Marked])
    assert same(
        serializer.deserialize(*serializer.serialize([Access.READ, Marked(1, "b")])), [Access.READ, Marked(1, "b")]
    )
    with pytest.raises(TypeError, match="a combination of flags"):
        serializer.serialize(Access.READ | Access.WRITE)
    marked = Marked(1, "b")
    marked.note = "n"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match="beside its fields"):
        serializer.serialize(marked)
    with pytest.raises(TypeError, match="derives from list"):
        AutoSerializer(types=[Row])


def test_what_a_base_keeps_in_slots_is_not_lost() -> None:
    serializer = AutoSerializer(types=[Entry])
    assert serializer.deserialize(*serializer.serialize(Entry(1))) == Entry(1)
    noted, hiding = Entry(1), Entry(1)
    noted.note = "n"
    hiding.hide()
    for entry, name in ((noted, "note"), (hiding, "_Noted__secret")):
        with pytest.raises(TypeError, match=f"an attribute {name} that is not a field"):
            serializer.serialize(entry)


def test_a_foreign_timedelta_is_one_that_python_could_make() -> None:
    document = msgpack.packb({msgpack.ExtType(0x43, b"\x02"): [0, 90_000, 2_000_000]}) or b""
    back = AutoSerializer(enable_integrity_checking=False).deserialize(document)
    assert (back.days, back.seconds, back.microseconds) == (1, 3602, 0)


def test_only_registered_classes_are_made() -> None:
    payload, metadata = AutoSerializer(types=[Point]).serialize([Point(1)])
    with pytest.raises(SerializationError, match="Point, which is not registered"):
        AutoSerializer().deserialize(payload, metadata)


def test_an_instance_of_another_time_with_other_fields_is_refused() -> None:
    before = dataclasses.make_dataclass("Row", ["a"])
    after = dataclasses.make_dataclass("Row", ["a", "b"])
    payload, metadata = AutoSerializer(types=[before]).serialize(before(1))
    with pytest.raises(SerializationError, match="other fields"):
        AutoSerializer(types=[after]).deserialize(payload, metadata)


@pytest.mark.parametrize("wrong", [Other, int, 5])
def test_types_are_of_known_kinds(wrong: Any) -> None:
    with pytest.raises(TypeError, match="types=:"):
        AutoSerializer(types=[wrong])


def test_the_default_serializer_of_the_guide_is_auto() -> None:
    assert DefaultSerializer is AutoSerializer


# ---- against an independent implementation of the protocol's forms


def published(value: Any) -> Any:
    """The value with the protocol's maps in place of what MessagePack has no type for."""
    if type(value) is tuple:
        return {"__tuple__": True, "value": [published(item) for item in value]}
    if type(value) in (set, frozenset):
        return {"__set__": True, "value": [published(item) for item in value], "frozen": type(value) is frozenset}
    if type(value) is uuid.UUID:
        return {"__uuid__": True, "value": str(value)}
    if type(value) is np.ndarray:
        return {"__ndarray__": True, "data": value.tobytes(), "shape": list(value.shape), "dtype": str(value.dtype)}
    if type(value) is dt.datetime:
        return {"__datetime__": True, "value": value.isoformat()}
    if type(value) is dict:
        return {key: published(item) for key, item in value.items()}
    if type(value) is list:
        return [published(item) for item in value]
    return value


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=5)
    | st.uuids()
    | st.datetimes().map(lambda moment: moment.replace(fold=0)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5).filter(lambda key: not key.startswith("__")), inner, max_size=4)
        | st.frozensets(st.integers(0, 9) | st.text(max_size=3), max_size=3)
    ),
    max_leaves=20,
)


@given(values)
@settings(max_examples=200, deadline=None)
def test_the_bytes_are_those_of_the_protocol(value: Any) -> None:
    serializer = AutoSerializer(enable_integrity_checking=False)
    payload, metadata = serializer.serialize(value)
    assert payload == msgpack.packb(published(value))
    assert same(serializer.deserialize(payload, metadata), value)


@pytest.mark.parametrize("array", ARRAYS[:-1], ids=lambda value: str(value.dtype))
def test_an_array_alone_is_raw(array: Any) -> None:
    shape = b"".join(size.to_bytes(4, "little") for size in array.shape)
    dtype = str(array.dtype).encode()
    raw = b"NUMPY_RAW" + len(dtype).to_bytes(2, "little") + dtype + len(shape).to_bytes(2, "little") + shape
    raw += array.tobytes()
    payload, metadata = AutoSerializer().serialize(array)
    assert payload == xxhash.xxh3_64(raw).digest() + raw
    assert metadata.to_dict() == {
        "format": "msgpack",
        "encoding": "utf-8",
        "compressed": False,
        "original_type": "numpy",
    }
    assert same(AutoSerializer().deserialize(payload), array)


@pytest.mark.parametrize("value", [decimal.Decimal(1), {1: 2}, 2**70, np.int32(1), Point(1)], ids=repr)
def test_what_published_readers_do_not_know_they_refuse(value: Any) -> None:
    payload, _ = AutoSerializer(enable_integrity_checking=False, types=TYPES).serialize([value])
    with pytest.raises(ValueError, match="is not allowed for map key"):
        msgpack.unpackb(payload, strict_map_key=True)


# ---- bytes of anybody

HOSTILE = {
    "an array of objects": {"__ndarray__": True, "data": b"\0" * 8, "shape": [1], "dtype": "O"},
    "an array larger than its data": {"__ndarray__": True, "data": b"\0" * 8, "shape": [2**40], "dtype": "i8"},
    "elements without a size": {"__ndarray__": True, "data": b"", "shape": [2**31, 2**31], "dtype": "S0"},
    "an unhashable element": {"__set__": True, "value": [[1]], "frozen": False},
    "no value": {"__tuple__": True},
    "not a list": {"__tuple__": True, "value": 5},
    "no UUID": {"__uuid__": True, "value": "zz"},
    "a kind from the future": {msgpack.ExtType(0x43, b"\xff"): 1},
    "a class": {msgpack.ExtType(0x43, b"\x0a"): ["os.system", {"x": 1}]},
    "no Decimal": {msgpack.ExtType(0x43, b"\x01"): "x"},
    "no list": {msgpack.ExtType(0x43, b"\x02"): 7},
    "an extension value": [msgpack.ExtType(5, b"")],
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_an_error(document: Any) -> None:
    serializer = AutoSerializer(enable_integrity_checking=False)
    with pytest.raises(SerializationError):
        serializer.deserialize(bytes(msgpack.packb(document) or b""))


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    for integrity in (True, False):
        try:
            AutoSerializer(enable_integrity_checking=integrity).deserialize(data)
        except SerializationError:
            pass


def test_nesting_ends_before_the_stack_does() -> None:
    deep: Any = ()
    for _ in range(600):
        deep = (deep,)
    with pytest.raises(TypeError, match="512"):
        AutoSerializer().serialize(deep)
    fits: Any = ()
    for _ in range(500):
        fits = (fits,)
    assert there_and_back(fits) == fits
    with pytest.raises(SerializationError):
        AutoSerializer(enable_integrity_checking=False).deserialize(b"\x91" * 100_000 + b"\xc0")


@pytest.mark.parametrize(
    ("base", "content", "remedy"),
    [
        (pd.DataFrame, {"a": [1]}, "return pandas.DataFrame("),
        (pd.Series, [1], "return pandas.Series("),
        (pl.DataFrame, {"a": [1]}, "return polars.DataFrame("),
        (uuid.UUID, "0" * 32, "return uuid.UUID("),
        (set, [1], "return set("),
    ],
)
def test_instances_of_subclasses_are_refused_with_advice_that_helps(base: Any, content: Any, remedy: str) -> None:
    refused = type("Sub", (base,), {})(content)
    serializers = [AutoSerializer(), ArrowSerializer()] if base.__name__ == "DataFrame" else [AutoSerializer()]
    for serializer in serializers:
        with pytest.raises(TypeError) as caught:
            serializer.serialize(refused)
        assert remedy in str(caught.value)
        assert "choose" not in str(caught.value)


def test_tables_of_other_kinds_are_sent_to_arrow_by_themselves() -> None:
    with pytest.raises(TypeError, match='return it by itself, with serializer="arrow"'):
        AutoSerializer().serialize([pl.DataFrame({"a": [1]})])
