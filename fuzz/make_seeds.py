"""Writes the seeds that come from real values: entries as cachekit stores them, and what Redis answers.

python fuzz/make_seeds.py        (with cachekit installed; the result is committed)
"""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from cachekit import cache, encode_interop_value
from cachekit.interop import canonical_args_bytes
from cachekit.serializers import ArrowSerializer, AutoSerializer, OrjsonSerializer, StandardSerializer

SEEDS = Path(__file__).parent / "seeds"

VALUES: dict[str, Any] = {
    "none": None,
    "int": -40_000,
    "float": 0.1,
    "text": "grün 🌱",
    "bytes": bytes(range(64)),
    "record": {"id": 2**40, "name": "Ada", "tags": ["a", "b"], "at": dt.datetime(2024, 2, 29, 12, 30)},
    "records": [{"id": n, "on": n % 2 == 0, "score": n / 7} for n in range(20)],
    "nested": [[[[{"a": [{}, [], ""]}]]]],
    "long": "abcdefghij" * 60,
}


# What `entry_open` has as kinds of bodies, by what makes one.
TABLE = pd.DataFrame({"id": [1, 2], "name": ["Ada", "Bo"]})
BODIES: list[tuple[Any, Any]] = [
    (StandardSerializer(), VALUES["record"]),
    (AutoSerializer(), {"at": (1, 2), "tags": {"a"}}),
    (AutoSerializer(), np.arange(6, dtype="int32").reshape(2, 3)),
    (AutoSerializer(), TABLE),
    (OrjsonSerializer(), {"id": 7, "tags": ["a", "b"]}),
    (ArrowSerializer(compression="none"), TABLE),
]
ARRAYS = [np.array(7.5), np.array(["a", "ü"]), np.zeros((0, 3)), np.arange(3, dtype=">u2"), np.array("2024", "M8[D]")]


# Tables of every kind of message and buffer that the size of an Arrow IPC file is told from.
TABLES = {
    "numbers": pa.table({"a": [1, None, 3], "b": [0.5, 1.5, 2.5]}),
    "text": pa.table({"a": ["x" * 40, None, "y"]}),
    "categories": pa.table({"a": pa.array(["x", "y"] * 8).dictionary_encode(), "n": pa.nulls(16)}),
    "nested": pa.table({"a": [[{"b": [1, 2]}], None, []]}),
    "views": pa.table(
        {"a": pa.array(["x" * 40, None], pa.string_view()), "l": pa.array([[1], []], pa.list_view(pa.int32()))}
    ),
    "runs": pa.table({"a": pa.RunEndEncodedArray.from_arrays(pa.array([9, 99], pa.int32()), pa.array([1, 2]))}),
    "without_columns": pa.table({}),
    "same": pa.table({"a": [0] * 512}),
}


class Entries(dict):
    """A backend that keeps what it is given."""

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        self[key] = value

    def delete(self, key: str) -> bool:
        return self.pop(key, None) is not None

    def exists(self, key: str) -> bool:
        return key in self

    def health_check(self) -> tuple[bool, dict[str, Any]]:
        return True, {"latency_ms": 0.0, "backend_type": "dict"}


def stored(value: Any, **options: Any) -> bytes:
    """The entry that a function's result becomes."""
    backend = Entries()

    def give() -> Any:
        return value

    function = cache(backend=backend, namespace="seeds", l1_enabled=False, **options)(give)
    function()
    return backend[function.key_for()]


def arrow(table: pa.Table, compression: str | None) -> bytes:
    """The IPC file of a table, in two batches where it is long."""
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.BufferOutputStream() as out, pa.ipc.new_file(out, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=max(8, len(table) // 2))
    return out.getvalue().to_pybytes()


def write(target: str, name: str, data: bytes) -> None:
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def main() -> None:
    bulk = b"$%d\r\n%s\r\n"
    for name, value in VALUES.items():
        plain, _ = StandardSerializer(enable_integrity_checking=False).serialize(value)
        envelope, _ = StandardSerializer().serialize(value)
        entry = stored(value)
        write("msgpack_reader", f"real_{name}", plain)
        write("frame_parse", f"real_{name}", entry)
        write("envelope_open", f"real_{name}", b"\x00" + envelope)
        write("interop", f"real_{name}", encode_interop_value(value))
        write("payload_open", f"real_{name}", b"\x00\x01" + plain)
        write("encryption_open", f"real_{name}", b"\x03\x80\x01\x00" + plain)
        write("redis_reply", f"real_{name}", b"\x07" + b"*3\r\n" + bulk % (len(entry), entry) + b":3599\r\n$-1\r\n")
    write(
        "interop",
        "real_args",
        canonical_args_bytes([42, {"b": {3, 1, "x"}, "a": 1.5}, dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)]),
    )
    for kind, (serializer, value) in enumerate(BODIES):
        # Behind eight bytes of checksum, but for those in an envelope.
        body = serializer.serialize(value)[0][8:]
        write("entry_open", f"body_{kind}", bytes([kind, 0, 0]) + body)
        write("entry_open", f"damaged_{kind}", bytes([kind, 250, 1]) + body)
        write("entry_open", f"entry_{kind}", stored(value, serializer=serializer))
        write("payload_numpy", f"payload_{kind}", serializer.serialize(value)[0])
    for number, array in enumerate(ARRAYS):
        write("payload_numpy", f"array_{number}", AutoSerializer().serialize(array)[0])
        write("payload_numpy", f"head_{number}", AutoSerializer().serialize(array)[0][17:])
    for name, table in TABLES.items():
        for compression in (None, "lz4", "zstd"):
            write("payload_arrow", f"{name}_{compression or 'plain'}", arrow(table, compression))
        # As the target has files between their marks: the footer's length in front.
        file = arrow(table, None)
        write("payload_arrow", f"{name}_bare", file[-10:-8] + file[8:-10])
    write("payload_open", "generation", b"c:18446744073709551615")
    write("payload_open", "arrow", b"ARROW1\x00\x00")
    write("encryption_open", "moved", b"\x02\x00\x00\x00" + os.path.basename(__file__).encode())
    for name, reply in {
        "ok": b"+OK\r\n",
        "moved": b"-MOVED 3999 127.0.0.1:6381\r\n",
        "scripts": b"*2\r\n*3\r\n:1\r\n$5\r\nhello\r\n+PONG\r\n*-1\r\n-ERR no\r\n",
    }.items():
        write("redis_reply", name, b"\x01" + reply)


if __name__ == "__main__":
    main()
