"""JSON and tables: what they hold, what they refuse, and the bytes around them."""

from __future__ import annotations

import datetime as dt
import io
import json
import pickle
import uuid
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from cachekit import ConfigurationError, cache, reset_settings
from cachekit.serializers import (
    SERIALIZER_REGISTRY,
    ArrowSerializer,
    MissingLibraryError,
    OrjsonSerializer,
    SerializerProtocol,
    benchmark_serializers,
    get_available_serializers,
    get_serializer,
    get_serializer_info,
)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
@settings(max_examples=200, deadline=None)
def test_json_comes_back_equal_and_is_json(value: Any) -> None:
    payload, metadata = OrjsonSerializer().serialize(value)
    assert payload[:8] == xxhash.xxh3_64(payload[8:]).digest()
    assert json.loads(payload[8:]) == value
    assert OrjsonSerializer().deserialize(payload, metadata) == value
    bare, _ = OrjsonSerializer(enable_integrity_checking=False).serialize(value)
    assert bare == payload[8:]


def test_keys_are_sorted_unless_the_option_says_otherwise() -> None:
    assert OrjsonSerializer().serialize({"b": 1, "a": 2})[0][8:] == b'{"a":2,"b":1}'
    assert OrjsonSerializer(option=0).serialize({"b": 1, "a": 2})[0][8:] == b'{"b":1,"a":2}'


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [1.0, float("nan")]}, r'result\["a"\]\[1\].*not finite'),
        (float("inf"), "not finite"),
        ([dt.datetime(2020, 1, 1)], r"result\[0\].*isoformat"),
        ({"id": uuid.UUID(int=1)}, r'result\["id"\].*str\('),
        ({1: 2}, r"result key \[1\]"),
        (2**64, "beyond 64 bits"),
        ({1, 2}, "set"),
        (b"x", "bytes"),
    ],
)
def test_what_json_would_alter_is_refused(value: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        OrjsonSerializer().serialize(value)


ZONED = pd.date_range("2020", periods=5, tz="Europe/Paris")
FRAMES = {
    "plain": pd.DataFrame({"a": range(5), "b": [0.5] * 5, "c": list("abcde")}),
    "index": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "x"), (2, "y")], names=["i", "j"])),
    "category": pd.DataFrame({"c": pd.Categorical(["u", "v", "u"], categories=["v", "u", "w"], ordered=True)}),
    "zones": pd.DataFrame({"t": ZONED}, index=ZONED),
    "nullable": pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": pd.array([True, None], dtype="boolean")}),
    "numbers as names": pd.DataFrame({1: [1], 2: [2]}),
    "empty": pd.DataFrame({"a": []}),
}


@pytest.mark.parametrize("compression", ["zstd", "lz4", "none"])
@pytest.mark.parametrize("name", FRAMES)
def test_frames_come_back_with_all_that_is_theirs(name: str, compression: Any) -> None:
    frame = FRAMES[name].copy()
    frame.attrs = {"source": "a test"}
    serializer = ArrowSerializer(compression=compression)
    payload, metadata = serializer.serialize(frame)
    back = serializer.deserialize(payload, metadata)
    pd.testing.assert_frame_equal(back, frame)
    assert back.attrs == frame.attrs
    assert metadata == serializer.serialization_metadata()
    assert payload[:8] == xxhash.xxh3_64(payload[8:]).digest()
    # What another reads of it.
    pd.testing.assert_frame_equal(pa.ipc.open_file(payload[8:]).read_pandas(), frame, check_freq=False)


TABLES: list[Any] = [
    pl.DataFrame({"a": [1, 2], "b": ["x", None], "c": [[1], [2, 3]], "d": [{"k": 1}, {"k": 2}]}),
    pl.DataFrame({"column_1": [1], "": ["x"], "c": [None]}),
    pa.table({"a": [1, 2], "m": [{"x": [1]}, None]}).replace_schema_metadata({"own": "metadata"}),
    {"a": [1, 2], "b": ["x", None]},
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: type(table).__name__)
def test_tables_come_back_as_what_they_were(table: Any) -> None:
    payload, metadata = ArrowSerializer().serialize(table)
    back = ArrowSerializer().deserialize(payload, metadata)
    assert type(back) is type(table)
    assert back.equals(table) if hasattr(table, "equals") else back == table
    if isinstance(table, pa.Table):
        assert back.schema.equals(table.schema, check_metadata=True)


def test_columns_of_arrays_come_back_as_arrays_of_their_own() -> None:
    back = ArrowSerializer().deserialize(ArrowSerializer().serialize({"a": np.arange(3, dtype="f4")})[0])
    assert back["a"].dtype == "f4"
    back["a"][0] = 7


@pytest.mark.parametrize(("name", "kind"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame), ("arrow", pa.Table)])
def test_the_format_that_hits_have(name: Any, kind: type[Any]) -> None:
    for table in [FRAMES["plain"], *TABLES]:
        payload, metadata = ArrowSerializer().serialize(table)
        assert isinstance(ArrowSerializer(return_format=name).deserialize(payload, metadata), kind)


def test_a_changed_frame_changes_no_other() -> None:
    serializer = ArrowSerializer(compression="none")
    payload, _ = serializer.serialize(pd.DataFrame({"a": [1, 2, 3]}))
    one, other = serializer.deserialize(payload), serializer.deserialize(payload)
    one.iloc[0, 0] = 99
    one.loc[1, "a"] = 98
    assert list(one["a"]) == [99, 98, 3]
    assert list(other["a"]) == list(serializer.deserialize(payload)["a"]) == [1, 2, 3]


def test_a_table_is_read_without_its_checksum_too() -> None:
    payload, _ = ArrowSerializer().serialize(FRAMES["plain"])
    pd.testing.assert_frame_equal(ArrowSerializer().deserialize(payload[8:]), FRAMES["plain"])


def test_large_tables_are_written_in_batches() -> None:
    table = pa.table({"a": np.arange(4_000_000)})
    payload, _ = ArrowSerializer(compression="none").serialize(table)
    reader = pa.ipc.open_file(pa.py_buffer(payload[8:]))
    assert reader.num_record_batches >= 4
    assert max(reader.get_batch(place).nbytes for place in range(reader.num_record_batches)) <= 8 << 20


@pytest.mark.parametrize("value", [[1], 5, {"a": 1}, {1: [1]}, {"a": np.zeros((2, 2))}, {"a": [1, "x"]}], ids=repr)
def test_what_is_no_table_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^result is of type"):
        ArrowSerializer().serialize(value)


@pytest.mark.parametrize("attrs", [{"at": (1, 2)}, {1: "one"}, {"on": dt.date(2020, 1, 1)}, {"n": np.float32(1)}])
def test_attrs_that_would_come_back_as_something_else_are_refused(attrs: dict[Any, Any]) -> None:
    frame = FRAMES["plain"].copy()
    frame.attrs = attrs
    with pytest.raises(TypeError, match="whose attrs JSON does not keep"):
        ArrowSerializer().serialize(frame)


class Pipe(io.RawIOBase):
    """A file that cannot seek, and takes a few bytes at a time."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.taken += bytes(data[:100])
        return min(len(data), 100)


def test_a_sink_gets_the_payload_and_stands_behind_it() -> None:
    serializer = ArrowSerializer()
    payload, metadata = serializer.serialize(FRAMES["plain"])
    out = io.BytesIO(b"before, and what is overwritten")
    out.seek(6)
    assert serializer.serialize_to_sink(FRAMES["plain"], out) == metadata
    assert out.getvalue() == b"before" + payload
    assert out.tell() == len(out.getvalue())
    pipe = Pipe()
    assert serializer.serialize_to_sink(FRAMES["plain"], pipe) == metadata  # pyright: ignore[reportArgumentType]
    assert pipe.taken == payload


@pytest.mark.parametrize("room", [0, 7, 8, 500, -1])
def test_a_sink_gets_nothing_past_the_limit(room: int) -> None:
    payload, _ = ArrowSerializer().serialize(FRAMES["plain"])
    room = len(payload) - 1 if room == -1 else room
    for out in (io.BytesIO(b"before"), Pipe()):
        out.seek(0, 2) if out.seekable() else None
        with pytest.raises(OverflowError, match=f"more than the {room} bytes"):
            ArrowSerializer().serialize_to_sink(FRAMES["plain"], out, max_bytes=room)  # pyright: ignore[reportArgumentType]
        assert (out.taken if isinstance(out, Pipe) else out.getvalue()[6:]) == b""
    whole = io.BytesIO()
    ArrowSerializer().serialize_to_sink(FRAMES["plain"], whole, max_bytes=len(payload))
    assert whole.getvalue() == payload


@pytest.mark.parametrize("make", [lambda: io.BytesIO(b"before"), Pipe])
def test_a_sink_gets_nothing_that_would_not_be_read(make: Any) -> None:
    bomb, out = pa.table({"a": np.zeros(9_000_000, dtype="i8")}), make()
    out.seek(0, 2) if out.seekable() else None
    with pytest.raises(TypeError, match=r'would not be read back.*compression="none"'):
        ArrowSerializer(compression="zstd").serialize_to_sink(bomb, out)
    assert (out.taken if isinstance(out, Pipe) else out.getvalue()[6:]) == b""


def test_a_sink_gets_no_more_than_half_a_gigabyte_compressed() -> None:
    # LZ4 never compresses to a thousandth.
    table, out = pa.table({"a": np.zeros(68_000_000, dtype="i8")}), io.BytesIO()
    with pytest.raises(TypeError, match="512 MiB"):
        ArrowSerializer(compression="lz4").serialize_to_sink(table, out)
    assert not out.getvalue()


def test_a_sink_is_left_alone_by_what_is_no_table() -> None:
    out = io.BytesIO()
    with pytest.raises(TypeError, match=r"^result is of type builtins\.list|^result is of type list"):
        ArrowSerializer().serialize_to_sink([1], out)
    assert not out.getvalue()


@pytest.mark.parametrize("wrong", [{"return_format": "excel"}, {"compression": "gzip"}])
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is expected"):
        ArrowSerializer(**wrong)


def test_serializers_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", "a" * 64)  # "encrypted" needs one
    reset_settings()
    assert (
        set(get_available_serializers()) == set(SERIALIZER_REGISTRY) >= {"std", "auto", "pythonic", "orjson", "arrow"}
    )
    for name, known in SERIALIZER_REGISTRY.items():
        serializer = get_serializer(name, enable_integrity_checking=False)
        assert type(serializer) is known
        assert isinstance(serializer, SerializerProtocol)
        assert get_serializer_info()[name]["available"]
    with pytest.raises(ValueError, match="did you mean 'orjson'"):
        get_serializer("orjsn")
    assert {"default", "auto", "orjson"} <= set(benchmark_serializers(repeat=2))


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "orjson", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name, make, extra in (("orjson", OrjsonSerializer, "json"), ("arrow", ArrowSerializer, "data")):
        with pytest.raises(MissingLibraryError, match=rf"cachekit\[{extra}\]") as caught:
            make()
        assert isinstance(caught.value, ImportError)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        with pytest.raises(ConfigurationError, match=rf"cachekit\[{extra}\]"):
            cache(serializer=name, backend=None)(lambda: 1)
    assert not get_serializer_info()["arrow"]["available"]
