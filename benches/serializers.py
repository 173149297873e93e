"""S1 to S6: serializers beside what one would use by hand, there and back, and the guides' own figures."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import lz4.block
import numpy as np
import orjson
import ormsgpack
import pandas as pd
import pyarrow as pa
import xxhash

from benches import payloads
from benches.context import Context, ours
from benches.harness import Contender, Statement, interleave, medians
from benches.table import OURS, Budget, Line

# The largest tables take seconds per round.
FEW_ROUNDS = 3


def _there_and_back(name: str, write: Callable[[Any], Any], read: Callable[[Any], Any], value: Any) -> Statement:
    return Statement(name, "read(write(x))", {"read": read, "write": write, "x": value})


def _of(name: str, serializer: Any, value: Any) -> Statement:
    return _there_and_back(name, serializer.serialize, lambda made: serializer.deserialize(*made), value)


def _line(
    context: Context,
    measure: str,
    work: str,
    budget: Budget,
    make: Callable[[], Contender],
    rivals: list[Contender],
    rounds: int | None = None,
) -> Line:
    mine, missing = ours(lambda: [make()])
    samples = interleave([*mine, *rivals], rounds or context.rounds)
    return Line(measure, work, "s", medians(samples), budget, missing=missing, samples=samples)


def _frame(rows: int) -> pd.DataFrame:
    numbers = np.arange(rows)
    names = [f"name {n % 977}" for n in range(rows)]
    return pd.DataFrame({"id": numbers, "price": numbers * 0.25, "flag": numbers % 3 == 0, "name": names})


def _pickled(value: Any) -> bytes:
    return pickle.dumps(value, protocol=5)


def _ipc(frame: pd.DataFrame, compression: str | None = "zstd") -> tuple[bytes, pa.Buffer]:
    """What one would write by hand: pyarrow's own file and a checksum over it."""
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pandas(frame)
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    made = sink.getvalue()
    return xxhash.xxh3_64_digest(made), made


def _of_ipc(made: tuple[bytes, pa.Buffer]) -> pd.DataFrame:
    checksum, data = made
    if xxhash.xxh3_64_digest(data) != checksum:
        raise ValueError("checksum")
    return pa.ipc.open_file(data).read_all().to_pandas()


def _records(write: Callable[[Any], Any], read: Callable[[Any], Any], name: str, frame: pd.DataFrame) -> Statement:
    """A serializer of plain values, which has a table as a list of records."""
    return _there_and_back(name, lambda x: write(x.to_dict("records")), lambda data: pd.DataFrame(read(data)), frame)


def s1(context: Context) -> list[Line]:
    """Tables: by hand with pyarrow, pickle, and the guide's factors over std, which stores them as records."""
    from cachekit.serializers import ArrowSerializer, StandardSerializer

    std = StandardSerializer()
    lines: list[Line] = []
    for rows, factor in ((10_000, 5.0), (100_000, 9.6), (1_000_000, 20.0)):
        frame = _frame(rows)
        rounds = context.rounds if rows == 10_000 else FEW_ROUNDS
        work = f"DataFrame of {rows:,} rows, there and back"
        pickled = _there_and_back("pickle 5", _pickled, pickle.loads, frame)
        for compression in ("zstd", "none"):

            def make(frame: pd.DataFrame = frame, compression: Any = compression) -> Contender:
                return _of(OURS, ArrowSerializer(compression=compression), frame)

            name = None if compression == "none" else compression
            by_hand = _there_and_back("by hand", lambda x, name=name: _ipc(x, name), _of_ipc, frame)
            rivals: list[Contender] = [by_hand, pickled]
            budget = Budget(1, "by hand")
            lines.append(_line(context, "S1", f"{work}, {compression}", budget, make, rivals, context.rounds))
        as_records: list[Contender] = [
            _records(std.serialize, lambda made: std.deserialize(*made), "std", frame),
            _records(ormsgpack.packb, ormsgpack.unpackb, "ormsgpack", frame),
            _records(orjson.dumps, orjson.loads, "orjson", frame),
        ]
        lines.append(_line(context, "S1", f"{work}, std", Budget(1 / factor, "std"), make, as_records, rounds))
    return lines


def _of_tensor(data: pa.Buffer) -> Any:
    return pa.ipc.read_tensor(pa.BufferReader(data)).to_numpy().copy()


def _tensor(array: Any) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pa.ipc.write_tensor(pa.Tensor.from_numpy(array), sink)
    return sink.getvalue()


def s2(context: Context) -> list[Line]:
    """A NumPy array of 8 MB."""
    from cachekit.serializers import AutoSerializer

    array = np.random.default_rng(7).random(1_000_000)
    rivals: list[Contender] = [
        _there_and_back(
            "pickle 5 + xxh3",
            lambda x: (made := _pickled(x), xxhash.xxh3_64_digest(made)),
            lambda made: xxhash.xxh3_64_digest(made[0]) == made[1] and pickle.loads(made[0]),
            array,
        ),
        _there_and_back("pickle 5", _pickled, pickle.loads, array),
        _there_and_back("pyarrow", _tensor, _of_tensor, array),
        _there_and_back(
            "ormsgpack",
            lambda x: ormsgpack.packb(x, option=ormsgpack.OPT_SERIALIZE_NUMPY),
            lambda data: np.array(ormsgpack.unpackb(data)),
            array,
        ),
        _there_and_back(
            "orjson",
            lambda x: orjson.dumps(x, option=orjson.OPT_SERIALIZE_NUMPY),
            lambda data: np.array(orjson.loads(data)),
            array,
        ),
    ]
    work = "ndarray of 8 MB with checksum, there and back"
    budget = Budget(2, "pickle 5 + xxh3")
    return [_line(context, "S2", work, budget, lambda: _of(OURS, AutoSerializer(), array), rivals)]


def s3(context: Context) -> list[Line]:
    """JSON: the guide says 2 to 5 times as fast as the standard library."""
    from cachekit.serializers import OrjsonSerializer

    value = payloads.nested()
    rivals: list[Contender] = [
        _there_and_back("json", lambda x: json.dumps(x).encode(), json.loads, value),
        _there_and_back("orjson alone", orjson.dumps, orjson.loads, value),
    ]
    work = "10 KB nested dict as JSON, there and back"
    return [_line(context, "S3", work, Budget(1 / 2, "json"), lambda: _of(OURS, OrjsonSerializer(), value), rivals)]


def s4(context: Context) -> list[Line]:
    """Sizes: the guide says LZ4 makes payloads 3 to 5 times smaller."""
    from cachekit.serializers import StandardSerializer

    del context
    value = payloads.nested()
    packed = ormsgpack.packb(value)
    sizes: Mapping[str, float] = {
        OURS: len(StandardSerializer().serialize(value)[0]),
        "uncompressed": len(packed),
        "lz4 alone": len(lz4.block.compress(packed, store_size=False)),
    }
    return [Line("S4", "10 KB nested dict, stored", "B", dict(sizes), Budget(1 / 3, "uncompressed"))]


def s5(context: Context) -> list[Line]:
    """Python's own types, which pickle is the alternative for."""
    from cachekit.serializers import AutoSerializer

    value = [{"id": n, "at": (n, n + 1), "tags": {n % 7, n % 5}} for n in range(500)]
    rivals: list[Contender] = [_there_and_back("pickle 5", _pickled, pickle.loads, value)]
    work = "500 dicts with tuples and sets, there and back"
    return [_line(context, "S5", work, Budget(3, "pickle 5"), lambda: _of(OURS, AutoSerializer(), value), rivals)]


def s6(context: Context) -> list[Line]:
    """What encryption adds: the guides say 2.5 % on tables, and 3 to 5 µs on small values."""
    from cachekit.serializers import ArrowSerializer, EncryptionWrapper, StandardSerializer

    def sealed(serializer: Any, value: Any) -> Statement:
        wrapper: Any = EncryptionWrapper(serializer, master_key="ab" * 32)
        return _there_and_back(
            OURS, lambda x: wrapper.serialize(x, "key"), lambda made: wrapper.deserialize(*made, "key"), value
        )

    lines: list[Line] = []
    for rows in (10_000, 100_000):
        frame, arrow = _frame(rows), ArrowSerializer(compression="zstd")
        work = f"DataFrame of {rows:,} rows, there and back, encrypted"
        plain: list[Contender] = [_of("in plain", arrow, frame)]
        budget = Budget(1.025, "in plain")
        lines.append(_line(context, "S6", work, budget, lambda arrow=arrow, frame=frame: sealed(arrow, frame), plain))
    std, small = StandardSerializer(), {"id": 7, "name": "Ada", "mail": "ada@example.org"}
    contenders = [sealed(std, small), _of("in plain", std, small)]
    samples = interleave(contenders, context.rounds)
    found = medians(samples)
    values = {OURS: found[OURS] - found["in plain"], "encrypted": found[OURS], "in plain": found["in plain"]}
    work = "small value, there and back: what encryption adds"
    lines.append(Line("S6", work, "s", values, Budget(5e-6), samples=samples))
    return lines


MEASURES = {"S1": s1, "S2": s2, "S3": s3, "S4": s4, "S5": s5, "S6": s6}
