"""NumPy, pandas and pydantic arguments: by content, in the protocol's form where it has one."""

from __future__ import annotations

import hashlib
import itertools
import sys
from datetime import datetime, timedelta
from typing import Any, Optional

import msgpack
import numpy as np
import pandas as pd
import pydantic
import pytest

from tests.unit.codec import reference
from tests.unit.codec.hooks import content, extension, key, scope


def distinct(*arguments: Any) -> None:
    for a, b in itertools.combinations(arguments, 2):
        assert key(a) != key(b), (a, b)
    for argument in arguments:
        assert key(argument) == key(argument)
        assert scope(argument) == "shared"


# --- arrays in the protocol's form ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<i4", "<i8", "<f4", "<f8", ">i4", ">i8", ">f4", ">f8"])
@pytest.mark.parametrize("length", [0, 1, 7, 12_500])
def test_the_protocols_arrays(dtype: str, length: int) -> None:
    array = np.arange(length).astype(dtype)
    assert key(array) == reference.auto_key(array)
    assert key({"a": [array]}, k=array) == reference.auto_key({"a": [array]}, k=array)


def test_the_memory_layout_does_not_matter() -> None:
    wide = np.arange(12)
    assert key(wide[::2]) == reference.auto_key(np.arange(0, 12, 2))
    assert key(wide[::-1]) == reference.auto_key(np.arange(11, -1, -1))
    square = np.arange(9).reshape(3, 3)
    assert key(square.T) == key(np.ascontiguousarray(square.T)) != key(square)
    assert key(np.asfortranarray(square)) == key(square)


def test_the_sign_of_a_zero_in_an_array_is_kept() -> None:
    assert key(np.array([-0.0])) == reference.auto_key(np.array([-0.0])) != key(np.array([0.0]))


def test_arrays_beyond_the_protocols_sizes_are_extensions() -> None:
    assert extension(np.zeros(12_501))[0] == 16
    fifty = [np.zeros(12_500) for _ in range(50)]
    assert key(*fifty) == reference.auto_key(*fifty)
    more = msgpack.unpackb(key(*fifty, np.zeros(12_500), np.zeros(3)))[0]
    assert [type(part) for part in more] == [list] * 50 + [msgpack.ExtType] * 2
    assert key(*fifty, np.zeros(12_500)) == key(*fifty, np.zeros(12_500))


# --- other arrays and scalars ---------------------------------------------------------------------------------------


def test_the_documented_form_of_an_array() -> None:
    array = np.arange(6, dtype="<u2").reshape(2, 3)
    digest = hashlib.blake2b(array.tobytes(), digest_size=32).digest()
    assert extension(array) == (16, b"\xa3<u2" + b"\x92\x02\x03" + b"\xc4\x20" + digest)
    objects = np.array(["a", None], dtype=object)
    assert extension(objects) == (16, b"\xa2|O" + b"\x91\x02" + b"\x92\xa1a\xc0")


def test_the_documented_form_of_a_scalar() -> None:
    assert extension(np.int16(5)) == (15, b"\xa3<i2" + b"\x05\x00")
    assert extension(np.float64(1.0)) == (15, b"\xa3<f8" + bytes(6) + b"\xf0\x3f")


def test_arrays_and_scalars_are_told_apart() -> None:
    structure = np.dtype([("x", "<i4"), ("y", "<f4")])
    distinct(
        1,
        1.0,
        True,
        np.int64(1),
        np.int32(1),
        np.float64(1),
        np.bool_(True),
        np.str_("1"),
        np.bytes_(b"1"),
        np.datetime64(1, "s"),
        np.datetime64(1, "ns"),
        np.timedelta64(1, "s"),
        np.complex128(1),
        np.array(1),
        np.array([1]),
        np.array([[1]]),
        np.zeros((2, 3)),
        np.zeros((3, 2)),
        np.zeros(6),
        np.zeros(6, dtype=bool),
        np.zeros(6, dtype="u1"),
        np.zeros((0, 3)),
        np.zeros((3, 0)),
        np.zeros(2, dtype=structure),
        np.zeros(2, dtype=[("x", "<i4"), ("z", "<f4")]),
        np.zeros(1, dtype=structure)[0],
        np.array(["a", "b"]),
        np.array(["a", "c"]),
        np.array([b"a"]),
        np.array([1, 2], dtype="M8[s]"),
        np.array([1, 2], dtype="m8[s]"),
        np.array([1, "a", None], dtype=object),
        np.array([1, ("a",), None], dtype=object),
        [1],
    )


def test_a_memory_map_is_an_array(tmp_path: Any) -> None:
    path = tmp_path / "data"
    np.arange(10).tofile(path)
    mapped = np.memmap(path, dtype=np.int64, mode="r")
    assert key(mapped) == key(np.arange(10))


@pytest.mark.parametrize(
    "argument",
    [
        np.longdouble(1),
        np.zeros(2, dtype=np.longdouble),
        np.ma.masked_array([1, 2], [False, True]),
        np.array([object()]),
    ],
    ids=["long double", "array of long doubles", "masked array", "array of objects"],
)
def test_what_has_no_exact_content_is_refused(argument: Any) -> None:
    with pytest.raises(TypeError, match="args"):
        key(argument)


def test_the_place_in_an_array_of_objects_is_named() -> None:
    with pytest.raises(TypeError) as caught:
        key({"a": np.array([1, object()], dtype=object)})
    assert caught.value.path == 'args[0]["a"][1]'  # type: ignore[attr-defined]


# --- pandas ---------------------------------------------------------------------------------------------------------


def frame(**changes: Any) -> Any:
    columns: dict[str, Any] = {"n": [1, 2, 3], "x": [0.5, None, 1.5], "s": ["a", "b", None]}
    return pd.DataFrame({**columns, **changes})


def test_frames_of_equal_content_are_one() -> None:
    assert key(frame()) == key(frame())
    assert key(frame()) == key(frame().copy())
    assert key(frame()) == key(pd.concat([frame(), frame()]).iloc[:3])
    assert extension(frame())[0] == 18
    assert extension(frame()["n"])[0] == 17


def test_frames_and_series_are_told_apart() -> None:
    days = pd.date_range("2026-01-01", periods=3)
    distinct(
        frame(),
        frame(n=[1, 2, 4]),
        frame(n=[1.0, 2.0, 3.0]),
        frame(n=np.array([1, 2, 3], dtype="i4")),
        frame(s=["a", "b", "c"]),
        frame()[["n", "s", "x"]],
        frame().rename(columns={"n": "m"}),
        frame().iloc[:2],
        frame().iloc[::-1],
        frame().set_index("n"),
        frame().set_index(["n", "x"]),
        frame(extra=pd.Categorical(["a", "b", "a"])),
        frame(extra=pd.Categorical(["a", "b", "a"], ordered=True)),
        frame(extra=pd.Categorical(["a", "b", "a"], categories=["b", "a"])),
        frame(extra=days),
        frame(extra=days.tz_localize("UTC")),
        frame(extra=days.tz_localize("Europe/Berlin")),
        frame(extra=pd.array([1, None, 3], dtype="Int64")),
        frame(extra=pd.array([True, None, False], dtype="boolean")),
        frame(extra=pd.array(["a", None, "b"], dtype="string")),
        frame(extra=[timedelta(n) for n in range(3)]),
        frame(extra=[{"k": 1}, [2], (3,)]),
        pd.DataFrame(),
        pd.DataFrame(index=[1, 2]),
        pd.DataFrame(columns=["n"]),
        frame()["n"],
        frame()["n"].rename("m"),
        frame()["n"].rename(None),
        pd.Series([1, 2, 3], index=days, name="n"),
        pd.Series([1, 2, 3], index=pd.DatetimeIndex(list(days)), name="n"),
        pd.Series([1, 2, 3], index=pd.Index([0, 1, 2], name="i"), name="n"),
        [1, 2, 3],
    )


def test_columns_of_one_name() -> None:
    double = pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])
    assert key(double) != key(pd.DataFrame([[1, 2], [3, 5]], columns=["a", "a"]))


def test_attributes_of_a_frame_count() -> None:
    noted = frame()
    noted.attrs["unit"] = "m"
    assert key(noted) != key(frame())


def test_moments_of_pandas() -> None:
    stamp: Any = pd.Timestamp("2026-01-01")
    delta: Any = pd.Timedelta(1, "D")
    distinct(
        stamp,
        stamp + pd.Timedelta(1, "ns"),
        stamp.tz_localize("UTC"),
        stamp.to_pydatetime(),
        delta,
        delta + pd.Timedelta(1, "ns"),
        delta.to_pytimedelta(),
        pd.NA,
        pd.NaT,
        None,
    )
    assert key(stamp.tz_localize("UTC")) == reference.auto_key(stamp.tz_localize("UTC"))


def test_the_place_in_a_frame_is_named() -> None:
    with pytest.raises(TypeError) as caught:
        key(frame(extra=[object(), 1, 2]))
    assert caught.value.path == "args[0].iloc[:, 3][0]"  # type: ignore[attr-defined]


class Special(pd.DataFrame):
    pass


def test_a_subclass_of_a_frame_is_refused() -> None:
    with pytest.raises(TypeError, match="__cache_key__"):
        key(Special({"a": [1]}))


# --- pydantic -------------------------------------------------------------------------------------------------------


class User(pydantic.BaseModel):
    name: str
    age: Optional[int] = None  # noqa: UP045 (evaluated by pydantic, on Python 3.9 too)
    _secret: int = pydantic.PrivateAttr(default=0)


class Other(User):
    pass


class Open(pydantic.BaseModel, extra="allow"):
    name: str


class Names(pydantic.RootModel[list[str]]):
    pass


class Nested(pydantic.BaseModel):
    users: list[User]
    at: datetime


def private(user: User, value: int) -> User:
    user._secret = value
    return user


def test_models_are_told_apart() -> None:
    distinct(
        User(name="a"),
        User(name="b"),
        User(name="a", age=1),
        User(name="a", age=None),  # set, which `model_dump(exclude_unset=True)` shows
        Other(name="a"),
        private(User(name="a"), 1),
        Open(name="a"),
        Open(name="a", more=1),  # type: ignore[call-arg]
        Names(["a"]),
        Names(["b"]),
        Nested(users=[User(name="a")], at=datetime(2026, 1, 1)),
        Nested(users=[User(name="b")], at=datetime(2026, 1, 1)),
        {"name": "a"},
    )
    assert key(User(name="a", age=1)) == key(User(age=1, name="a"))
    assert extension(User(name="a"))[0] == 14


def test_the_place_in_a_model_is_named() -> None:
    class Loose(pydantic.BaseModel):
        thing: Any

    with pytest.raises(TypeError) as caught:
        key([Loose(thing=[object()])])
    assert caught.value.path == "args[0][0].thing[0]"  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="pydantic 1 ends with Python 3.13")
def test_models_of_pydantic_1() -> None:
    from pydantic import v1

    class Old(v1.BaseModel):
        name: str
        age: Optional[int] = None  # noqa: UP045 (evaluated by pydantic, on Python 3.9 too)
        _secret: int = v1.PrivateAttr(0)

    first, second = Old(name="a"), Old(name="a")
    assert key(first) == key(second)
    second._secret = 5
    assert len({key(first), key(second), key(Old(name="b")), key(Old(name="a", age=None))}) == 4


def test_content_is_one_value() -> None:
    for argument in (np.zeros((2, 2)), frame(), User(name="a")):
        msgpack.unpackb(content(argument))
