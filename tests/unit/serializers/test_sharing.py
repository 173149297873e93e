"""Tables whose values share what is stored once: read where what they take is bounded, refused elsewhere."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xxhash

from cachekit import cache
from cachekit.serializers import ArrowSerializer, SerializationError, _sharing

HAS_VIEWS = hasattr(pa, "ListViewArray") and hasattr(pa, "string_view")
needs_views = pytest.mark.skipif(not HAS_VIEWS, reason="a pyarrow without views")

# A text that stands often, and how often: 400 MB from 20 kB of text.
TEXT, TIMES = "y" * 20_000, 20_000


def numbers(count: int, each: int, dtype: str = "i4") -> Any:
    return pa.array(np.full(count, each, dtype))


def views(text: str, times: int) -> Any:
    """A column of views that all show one text, which `pa.array` would store for each."""
    one = pa.array([text], pa.string_view())
    _, head, data = one.buffers()
    return pa.Array.from_buffers(pa.string_view(), times, [None, pa.py_buffer(head.to_pybytes() * times), data])


def list_views(child: Any, times: int) -> Any:
    return pa.ListViewArray.from_arrays(numbers(times, 0), numbers(times, len(child)), child)


def categories(text: str, times: int) -> Any:
    return pa.DictionaryArray.from_arrays(numbers(times, 0), pa.array([text]))


def lists(child: Any, times: int = 1) -> Any:
    ends = np.linspace(0, len(child), times + 1).astype("i4")
    return pa.ListArray.from_arrays(pa.array(ends), child)


def runs(text: str, times: int) -> Any:
    return pa.RunEndEncodedArray.from_arrays(pa.array([times], pa.int32()), pa.array([text]))


def dense(text: str, times: int) -> Any:
    return pa.UnionArray.from_dense(numbers(times, 0, "i1"), numbers(times, 0), [pa.array([text])])


SHARING: dict[str, Any] = {
    "list of dictionaries": lambda: lists(categories(TEXT, TIMES)),
    "struct of dictionaries": lambda: pa.StructArray.from_arrays([categories(TEXT, TIMES)], ["of"]),
    "dictionary of bytes": lambda: pa.DictionaryArray.from_arrays(numbers(TIMES, 0), pa.array([TEXT.encode()])),
    "dense union": lambda: dense(TEXT, TIMES),
}
if HAS_VIEWS:
    SHARING["views"] = lambda: views(TEXT, TIMES)
    SHARING["list of views"] = lambda: lists(views(TEXT, TIMES))
    SHARING["list views"] = lambda: list_views(pa.array(np.arange(5_000)), 10_000)
    SHARING["list views of nulls"] = lambda: list_views(pa.nulls(50_000), 10_000)
    # What overflows 64 bits.
    SHARING["nested list views"] = lambda: list_views(list_views(list_views(numbers(9**7, 0), 9**6), 9**6), 9**6)
if hasattr(pa, "RunEndEncodedArray"):
    SHARING["runs"] = lambda: runs(TEXT, TIMES)
    SHARING["list of runs"] = lambda: lists(runs(TEXT, TIMES))


def payload(table: Any) -> bytes:
    """What somebody else may have written."""
    with pa.BufferOutputStream() as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    body = out.getvalue().to_pybytes()
    return xxhash.xxh3_64_digest(body) + body


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("into", ["pandas", "polars", "arrow"])
def test_what_takes_too_much_is_not_read(name: str, into: Any) -> None:
    entry = payload(pa.table({"a": SHARING[name]()}))
    with pytest.raises(SerializationError, match="as they share what is stored once"):
        ArrowSerializer(return_format=into).deserialize(entry)


# pyarrow stores the text of a dense union once for each batch, of which it makes many.
@pytest.mark.parametrize("name", sorted(SHARING.keys() - {"dense union"}))
def test_what_would_not_be_read_is_not_written(name: str) -> None:
    table = pa.table({"a": SHARING[name]()})
    with pytest.raises(TypeError, match=r"^result is of type pyarrow\.lib\.Table, which would not be read back"):
        ArrowSerializer(compression="none").serialize(table)
    out = io.BytesIO()
    with pytest.raises(TypeError, match="return it in parts"):
        ArrowSerializer(compression="none").serialize_to_sink(table, out)
    assert not out.getvalue()


def test_a_function_returns_it_all_the_same() -> None:
    table = pa.table({"a": SHARING["list of dictionaries"]()})
    calls = []

    @cache(serializer="arrow", backend=None, namespace="sharing", encryption=True, master_key="ab" * 32)
    def give() -> Any:
        calls.append(1)
        return table

    assert give() is table
    assert give() is table
    assert len(calls) == 2


BENIGN: dict[str, Any] = {
    "list of dictionaries": lambda: lists(pa.array(["x", None, "z" * 50] * 100).dictionary_encode(), 100),
    "struct of dictionaries": lambda: pa.StructArray.from_arrays([categories("x" * 99, 100)], ["of"]),
    "dictionary of bytes": lambda: pa.array([b"a", None, b"b"] * 9).dictionary_encode(),
    "dictionary without values": lambda: pa.DictionaryArray.from_arrays(
        pa.array([None, None], pa.int8()), pa.array([], pa.binary())
    ),
    "dense union": lambda: dense("x", 10),
    "sparse union": lambda: pa.UnionArray.from_sparse(numbers(2, 0, "i1"), [pa.array([1, 2])]),
    "map of dictionaries": lambda: pa.MapArray.from_arrays(
        pa.array([0, 2]), pa.array(["a", "b"]), categories("text", 2)
    ),
    "fixed lists of dictionaries": lambda: pa.FixedSizeListArray.from_arrays(categories("text", 6), 3),
}
if HAS_VIEWS:
    BENIGN["views"] = lambda: pa.array(["short", None, "x" * 100] * 50, pa.string_view())
    BENIGN["views of nothing"] = lambda: pa.array([], pa.string_view())
    BENIGN["list views"] = lambda: pa.array([[1, 2], None, []] * 50, pa.list_view(pa.int64()))
    BENIGN["large list views"] = lambda: pa.array([["a"], ["bb", None]], pa.large_list_view(pa.string_view()))
    BENIGN["shared views"] = lambda: views("x" * 1000, 1000)
if hasattr(pa, "RunEndEncodedArray"):
    BENIGN["runs"] = lambda: runs("x" * 99, 1000)
    BENIGN["list of runs"] = lambda: lists(runs("x", 100), 10)


@pytest.mark.parametrize("name", BENIGN)
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_others_of_these_types_come_back(name: str, compression: Any) -> None:
    serializer = ArrowSerializer(compression=compression)
    for column in (BENIGN[name](), BENIGN[name]()[1:]):
        table = pa.table({"a": column})
        assert serializer.deserialize(*serializer.serialize(table)).to_pylist() == table.to_pylist()


@pytest.mark.parametrize("name", BENIGN)
def test_the_weight_is_that_of_what_comes_out(name: str) -> None:
    for column in (BENIGN[name](), BENIGN[name]()[1:], BENIGN[name]()[2:2]):
        plain = len(repr(column.to_pylist()))
        weight = _sharing.expanded(pa.table({"a": column}))
        assert plain / 8 - 2 <= weight <= 20 * plain + 20, (weight, plain)


@needs_views
@pytest.mark.parametrize("view", [[-1, 0, 0, 0], [13, 0, 1, 0], [13, 0, -1, 0], [13, 0, 0, -1], [13, 0, 0, 8]])
def test_views_of_missing_texts_show_something(view: list[int]) -> None:
    """pyarrow would follow them."""
    views = pa.py_buffer(np.array([[1, 120, 0, 0], view], "<i4").tobytes())
    column = pa.Array.from_buffers(pa.string_view(), 2, [pa.py_buffer(b"\x01"), views, pa.py_buffer(b"x" * 20)])
    with pytest.raises(SerializationError, match="views of text that is not there"):
        ArrowSerializer().deserialize(payload(pa.table({"a": column})))


def test_categories_of_a_long_column_are_counted_once() -> None:
    column = categories("a category of some length" * 40, 1_000_000)
    assert _sharing.expanded(pa.table({"a": column})) == 0
    serializer = ArrowSerializer()
    back = serializer.deserialize(*serializer.serialize(pa.table({"a": column})))
    assert back["a"].type == column.type


@pytest.mark.parametrize(
    "metadata", [{"cachekit": "columns:l"}, {"cachekit.frame": '{"objects": {"0": "None"}}'}], ids=["columns", "frame"]
)
def test_no_objects_are_made_of_categories(metadata: dict[str, str]) -> None:
    table = pa.table({"a": categories("text", 5)}).replace_schema_metadata(metadata)
    with pytest.raises(SerializationError, match="Python objects stored as dictionary"):
        ArrowSerializer().deserialize(payload(table))


def test_polars_frames_come_back() -> None:
    frame = pl.DataFrame(
        {
            "text": ["x" * 50, None] * 50,
            "texts": [["abc", "d"], []] * 50,
            "category": pl.Series(["a", "b"] * 50, dtype=pl.Categorical),
            "categories": pl.Series([["a"], ["b", "a"]] * 50, dtype=pl.List(pl.Categorical)),
            "enum": pl.Series(["a", "b"] * 50, dtype=pl.Enum(["a", "b"])),
            "record": [{"key": "value"}] * 100,
        }
    )
    serializer = ArrowSerializer()
    assert serializer.deserialize(*serializer.serialize(frame)).equals(frame)


ALTERING = """
import random
import numpy as np, pyarrow as pa
from tests.unit.serializers.test_sharing import BENIGN, payload, xxhash
from cachekit.serializers import ArrowSerializer, SerializationError

chance, refused, read = random.Random(7), 0, 0
for name, make in BENIGN.items():
    body = payload(pa.table({"a": make()}))[8:]
    for _ in range(60):
        altered = bytearray(body)
        for place in chance.sample(range(len(body)), chance.choice([1, 1, 2])):
            altered[place] = chance.choice([0xFF, 0x7F, 0x80, altered[place] ^ 1 << chance.randrange(8)])
        try:
            back = ArrowSerializer().deserialize(xxhash.xxh3_64_digest(bytes(altered)) + bytes(altered))
            back.to_dict()
            read += 1
        except (SerializationError, UnicodeDecodeError):
            refused += 1
assert refused > 20 and read > 20, (refused, read)
"""


def test_altered_ones_end_no_process() -> None:
    program = [sys.executable, "-c", textwrap.dedent(ALTERING)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, (done.returncode, done.stderr)
