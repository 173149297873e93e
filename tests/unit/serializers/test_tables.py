"""Tables that come back exactly, tables that are refused because they would not, and bytes of anybody."""

from __future__ import annotations

import datetime as dt
import enum
import io
import subprocess
import sys
import textwrap
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cachekit.serializers import ArrowSerializer, AutoSerializer, SerializationError
from cachekit.serializers._pandas import same
from cachekit.serializers._tables import has_objects

BIG = 2**53 + 1
PANDAS_3 = int(pd.__version__.partition(".")[0]) > 2
NAN = float("nan")


def objects(*cells: Any) -> pd.DataFrame:
    return pd.DataFrame({"plain": range(len(cells)), "a": pd.Series(list(cells), dtype=object)})


def uniquely(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_flags(allows_duplicate_labels=False)


DATES = pd.date_range("2024-03-25", periods=3)
MONDAYS = pd.offsets.CustomBusinessDay(weekmask="Mon Tue Wed")

EXACT: dict[str, pd.DataFrame] = {
    "ints and None": objects(BIG, None),
    "bools and None": objects(True, None),
    "texts and NaN": objects("a", NAN),
    "texts and NA": objects("a", pd.NA),
    "NaT alone": objects(pd.NaT, pd.NaT),
    "floats": objects(1.5, NAN),
    "bytes": objects(b"a", None),
    "dates": objects(dt.date(2024, 1, 1), None),
    "datetimes": objects(dt.datetime(2024, 1, 1)),
    "Decimals": objects(Decimal("1.10"), Decimal("1.00")),
    "UUIDs as text": objects(str(uuid.UUID(int=1))),
    "lists": objects([BIG, None], [], None),
    "lists of texts": objects(["a", None]),
    "dicts": objects({"a": None, "b": [1]}, {"a": BIG, "b": []}),
    "arrays": objects(np.array([1, 2]), np.array([3])),
    "nothing": objects(),
    "missing alone": objects(None, None),
    "rows without columns": pd.DataFrame(index=pd.RangeIndex(5)),
    "neither": pd.DataFrame(),
    "an index named by a number": pd.DataFrame({"a": [1]}, index=pd.Index([5], name=7)),
    "categories without rows": pd.DataFrame({"a": pd.Categorical([], categories=["x"])}),
    "categories of numbers": pd.DataFrame({"a": pd.Categorical([3, 1, None], ordered=True)}),
    "unique labels": uniquely(pd.DataFrame({"a": [1]})),
    "a frequency": pd.DataFrame({"a": range(3)}, index=DATES),
    "columns with a frequency": pd.DataFrame([[1, 2, 3]], columns=DATES),
    "an index of days": pd.DataFrame({"a": [1]}, index=[dt.date(2024, 1, 1)]),
    "levels": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])),
    "a pivot": pd.DataFrame({"k": [1, 2], "j": DATES[:2], "n": [3, 4]}).pivot_table(index="k", columns="j", values="n"),
    "levels of names": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "periods": pd.DataFrame({"a": pd.period_range("2024", periods=2, freq="M")}),
    "small numbers": pd.DataFrame({"a": np.array([1.5], "f2"), "b": np.array([1], "u1")}),
}


def assert_same(back: pd.DataFrame, frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(
        back, frame, check_index_type="equiv", check_exact=True, check_freq=True, check_flags=True
    )
    assert list(map(type, back.columns)) == list(map(type, frame.columns))
    assert getattr(back.columns, "freq", None) == getattr(frame.columns, "freq", None)
    for place, dtype in enumerate(frame.dtypes):
        if str(dtype) == "object":
            for one, other in zip(frame.iloc[:, place], back.iloc[:, place]):
                assert one is other or same(one, other), (one, other)


ALTERED: dict[str, tuple[pd.DataFrame, str]] = {
    "mixed numbers": (objects(1.5, 2), "column 'a' holds a int that Arrow gives back as float"),
    "bools and ints": (objects(True, 1), "column 'a' holds a|column a|Arrow cannot hold"),
    "mixed numbers in lists": (objects([1, 2.5]), "column 'a' holds a list that Arrow gives back as another list"),
    "dicts with other keys": (objects({"a": 1}, {"b": 1}), "column 'a' holds a dict"),
    "tuples": (objects((1, 2)), "column 'a' holds a tuple that Arrow gives back as list"),
    "tuples in lists": (objects([(1, 2)]), "column 'a' holds a list"),
    "sets": (objects({1}), "column 'a' holds a set"),
    "None and NaN": (objects("a", None, NAN), "column 'a' mixes None and nan"),
    "a Decimal that is none": (objects(Decimal("NaN")), "column 'a' holds a Decimal"),
    "Decimals of different digits": (objects(Decimal("1.10"), Decimal(1)), "column 'a' holds a Decimal"),
    "bytearrays": (objects(bytearray(b"x")), "column 'a' holds a bytearray"),
    "timestamps": (objects(pd.Timestamp("2024")), "column 'a' holds a Timestamp"),
    "numbers of NumPy": (objects(np.int64(1)), "column 'a' holds a int64"),
    "folds": (objects(dt.datetime(2024, 1, 1, fold=1)), "column 'a' holds a datetime"),
    "bools as names": (pd.DataFrame([[1, 2]], columns=[True, False]), "column names"),
    "names twice": (pd.DataFrame([[1, "x"]], columns=["a", "a"]), "Duplicate column names"),
    "mixed names": (pd.DataFrame({0: [1], "a": [2]}), "column names"),
    "categories as names": (pd.DataFrame([[1]], columns=pd.CategoricalIndex(["a"])), "does not give back|column names"),
    "categories with zones": (pd.DataFrame({"a": pd.Categorical(DATES.tz_localize("UTC"))}), "column 'a' of"),
    "intervals": (pd.DataFrame({"a": pd.cut([1, 2, 3], 2)}), "Arrow"),
    "lists of Arrow": (pd.DataFrame({"a": pd.Series([[1]], dtype=pd.ArrowDtype(pa.list_(pa.int64())))}), "Arrow"),
    "a week of its own": (
        pd.DataFrame({"a": range(3)}, index=pd.date_range("2024-03-25", periods=3, freq=MONDAYS)),
        "freq",
    ),
    "an offset": (
        pd.DataFrame({"a": range(3)}, index=pd.date_range("2024", periods=3, freq=pd.DateOffset(days=2))),
        "frequency",
    ),
    **{
        f"an index of {dtype}": (pd.DataFrame({"a": [1]}, index=pd.Index([True], dtype=dtype)), "index")
        for dtype in ("Int8", "boolean", "Float32", "int64[pyarrow]")
    },
    "an index of strings": (pd.DataFrame({"a": [1]}, index=pd.Index(["x"], dtype="string")), "index"),
}
# pandas 2 has other types for these, which Arrow gives back.
OF_PANDAS_3 = {
    "texts of Python": (pd.DataFrame({"a": pd.array(["x"], dtype="string[python]")}), "column 'a' of"),
    "names of strings": (pd.DataFrame([[1]], columns=pd.Index(["x"], dtype="string")), "column names"),
    "an index of objects": (pd.DataFrame({"a": [1]}, index=pd.Index(["a"], dtype=object)), "index"),
}
if PANDAS_3:
    ALTERED.update(OF_PANDAS_3)
    # Older pyarrow does not read these back, which is refused there.
    EXACT["levels of a range"] = pd.DataFrame(index=pd.MultiIndex.from_arrays([pd.RangeIndex(3), list("abc")]))
else:
    EXACT.update({name: frame for name, (frame, _) in OF_PANDAS_3.items()})
    ALTERED["texts of Arrow"] = (pd.DataFrame({"a": pd.array(["x"], dtype="string[pyarrow]")}), "column 'a' of")


@pytest.mark.parametrize("frame", EXACT.values(), ids=EXACT)
def test_frames_that_come_back_exactly(frame: pd.DataFrame) -> None:
    for serializer in (ArrowSerializer(), AutoSerializer()):
        assert_same(serializer.deserialize(*serializer.serialize(frame)), frame)
    auto = AutoSerializer()
    assert_same(auto.deserialize(*auto.serialize([frame]))[0], frame)


@pytest.mark.parametrize(("frame", "says"), ALTERED.values(), ids=ALTERED)
def test_frames_that_arrow_would_alter_are_refused(frame: pd.DataFrame, says: str) -> None:
    for serializer in (ArrowSerializer(), AutoSerializer()):
        with pytest.raises(TypeError, match=f"^result is of type .*{says}"):
            serializer.serialize(frame)
    with pytest.raises(TypeError, match=says):
        AutoSerializer().serialize([frame])


@pytest.mark.parametrize(
    "series",
    [
        pd.Series(["a", "b"], dtype=object),
        pd.Series(["a", None], dtype=object),
        pd.Series([BIG, None], dtype=object),
        pd.Series(["a", pd.NA], dtype=object),
        pd.Series(["a", None], dtype=pd.StringDtype("pyarrow" if PANDAS_3 else "python")),
        pd.Series([1], name=3),
        pd.Series([1], name="x").set_flags(allows_duplicate_labels=False),
    ],
    ids=repr,
)
def test_series_that_come_back_exactly(series: Any) -> None:
    auto = AutoSerializer()
    for back in (auto.deserialize(*auto.serialize(series)), auto.deserialize(*auto.serialize([series]))[0]):
        pd.testing.assert_series_equal(back, series, check_exact=True, check_flags=True)
        assert type(back.name) is type(series.name)
        assert all(map(same, back, series))


class Small(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    "column",
    [
        [{"x": 1}, {"y": 2}],
        [{1}],
        [(1, 2)],
        [1, 2.5],
        [[1], [2.5]],
        [Small.ONE],
        [np.int8(1)],
        [b"x", bytearray(b"y")],
        [Decimal("1.0"), Decimal("1.00")],
        [dt.datetime(2024, 1, 1, fold=1)],
        ["x", np.str_("y")],
        np.array([1], dtype=">i4"),
    ],
    ids=repr,
)
def test_columns_that_arrow_would_alter_are_refused(column: Any) -> None:
    with pytest.raises(TypeError, match=r"column 'a'|Arrow cannot hold"):
        ArrowSerializer().serialize({"a": column})


@pytest.mark.parametrize(
    "column",
    [[1, None], [1.5, NAN, None], [{"x": 1}, None], [[1, None], []], [dt.timedelta(1)], [dt.date(2024, 1, 1)], []],
    ids=repr,
)
def test_columns_that_come_back_exactly(column: list[Any]) -> None:
    back = ArrowSerializer().deserialize(*ArrowSerializer().serialize({"a": column}))
    assert same(back, {"a": column})


def categories(*texts: str) -> Any:
    return pa.array(texts).dictionary_encode()


JOINED = {
    "categories": pa.concat_tables([pa.table({"a": categories("x", "y")}), pa.table({"a": categories("z", "x")})]),
    "categories within lists": pa.table(
        {"a": pa.chunked_array([pa.ListArray.from_arrays([0, 1], categories(text)) for text in "xy"])}
    ),
}


@pytest.mark.parametrize("table", JOINED.values(), ids=JOINED)
def test_joined_tables_have_one_dictionary(table: Any) -> None:
    back = ArrowSerializer().deserialize(*ArrowSerializer().serialize(table))
    assert back.schema == table.schema
    assert back.to_pylist() == table.to_pylist()


def test_what_arrow_cannot_write_is_told_with_a_remedy() -> None:
    narrow = pa.dictionary(pa.int8(), pa.string())
    chunks = [categories(*(f"{letter}{number}" for number in range(100))).cast(narrow) for letter in "xy"]
    for table in (pa.table({"a": pa.chunked_array(chunks)}), pl.DataFrame({"a": pl.Series([1], dtype=pl.Int128)})):
        with pytest.raises(TypeError, match=r"which Arrow cannot hold \(.*; return columns"):
            ArrowSerializer().serialize(table)


def test_objects_of_polars_are_refused() -> None:
    frame = pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(TypeError, match="column 'a' holds Python objects"):
        ArrowSerializer().serialize(frame)
    # No version of polars keeps frames of these alive for long.
    assert has_objects(pl.List(pl.Struct({"x": pl.Object})))
    assert not has_objects(pl.Array(pl.Struct({"Object": pl.Int8}), 2))


@pytest.mark.parametrize("name", ["cachekit", "cachekit.freq", "cachekit.frame"])
def test_tables_with_our_marks_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"has '{name}'"):
        ArrowSerializer().serialize(pa.table({"a": [1]}).replace_schema_metadata({name: "polars"}))


# ---- bytes of anybody

ALTERING = """
import random, sys
import pandas as pd, pyarrow as pa, xxhash
from cachekit.serializers import ArrowSerializer, SerializationError

tables = [
    pd.DataFrame({"s": ["aa", "bbb", None, "dd"] * 5, "c": pd.Categorical(["x", "y"] * 10), "l": [[1, 2]] * 20}),
    pa.table({"s": ["aa", "bbb", None, "dd"] * 5, "d": pa.array(["x", "y"] * 10).dictionary_encode()}),
]
chance, refused = random.Random(7), 0
for table in tables:
    serializer = ArrowSerializer(compression="none")
    payload, metadata = serializer.serialize(table)
    for _ in range(200):
        body = bytearray(payload[8:])
        for place in chance.sample(range(len(body)), chance.choice([1, 1, 2])):
            body[place] = chance.choice([0xFF, 0x7F, 0x80, body[place] ^ 1 << chance.randrange(8)])
        try:
            back = serializer.deserialize(xxhash.xxh3_64_digest(bytes(body)) + bytes(body), metadata)
            back.values.tolist() if isinstance(back, pd.DataFrame) else back.to_pylist()
        except (SerializationError, UnicodeDecodeError):
            refused += 1
print(refused)
"""


def test_altered_tables_end_no_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ALTERING)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert 20 < int(done.stdout) < 400


def test_a_small_entry_takes_no_more_memory_than_a_thousand_times_its_size() -> None:
    import xxhash

    bomb = pa.table({"a": np.zeros(9_000_000, dtype="i8")})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.BufferOutputStream() as out, pa.ipc.new_file(out, bomb.schema, options=options) as writer:
        writer.write_table(bomb)
    body = out.getvalue().to_pybytes()
    assert len(body) < 100_000
    with pytest.raises(SerializationError, match="72000000 bytes in"):
        ArrowSerializer().deserialize(xxhash.xxh3_64_digest(body) + body)
    # What would not be read is not written either.
    with pytest.raises(TypeError, match=r"would not be read back.*compression=\"none\""):
        ArrowSerializer(compression="zstd").serialize(bomb)
    with pytest.raises(TypeError, match="would not be read back"):
        AutoSerializer().serialize([bomb.to_pandas()])
    lz4 = ArrowSerializer(compression="lz4")
    assert lz4.deserialize(*lz4.serialize(bomb)).equals(bomb)


@pytest.mark.parametrize("columns", [1, 8, 200])
def test_what_is_reserved_is_enough_however_many_batches_there_are(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buffer that grows would be in memory twice."""
    from cachekit.serializers import _tables

    class Sink(io.BytesIO):
        reserved = 0

        def reserve(self, size: int) -> None:
            self.reserved = size

        def check_shared(self, expanded: int) -> None:
            self.written = self.tell()

        def close(self) -> None:
            """pyarrow closes what it writes to."""

    monkeypatch.setattr(_tables, "_BATCH_BYTES", 4096)
    table = pa.table({f"c{place}": np.arange(400_000 // columns) for place in range(columns)})
    sink: Any = Sink()
    _tables.write(table, sink, "none")
    assert sink.written <= sink.reserved < 3 * sink.written
