"""Columns of text that somebody else wrote: read where pyarrow's own validation passes them, refused elsewhere."""

from __future__ import annotations

import random
import struct

import pyarrow as pa
import pytest
import xxhash

from cachekit.serializers import ArrowSerializer, SerializationError, _tables

TEXTS = ["one", "", "zwölf", "€", "x" * 40]
KINDS = pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)


def payload_of(array: pa.Array) -> bytes:
    """An entry's payload of a table with this column, as a writer may make it who checks nothing."""
    sink = pa.BufferOutputStream()
    table = pa.table({"text": array})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    return struct.pack(">Q", xxhash.xxh3_64_intdigest(body)) + body


def array_of(kind: pa.DataType, offsets: list[int], values: bytes) -> pa.Array:
    packed = struct.pack(f"<{len(offsets)}{'q' if kind == pa.large_string() else 'i'}", *offsets)
    memory = bytearray(len(packed))
    array = pa.Array.from_buffers(kind, len(offsets) - 1, [None, pa.py_buffer(memory), pa.py_buffer(values)])
    memory[:] = packed  # Now that pyarrow has had its first look.
    return array


def read(payload: bytes) -> list[str]:
    serializer = ArrowSerializer(return_format="arrow", compression="none")
    return serializer.deserialize(payload, serializer.serialization_metadata())["text"].to_pylist()


@KINDS
def test_sound_text_is_not_looked_at_twice(kind: pa.DataType) -> None:
    array = pa.array(TEXTS, kind)
    assert _tables._is_sound_text(array)
    assert _tables._is_sound_text(array.slice(2, 2))
    assert _tables._is_sound_text(array.slice(5, 0))
    assert read(payload_of(array)) == TEXTS


@KINDS
def test_other_columns_are_left_to_pyarrow(kind: pa.DataType) -> None:
    for array in (pa.array([*TEXTS, None], kind), pa.array([1, 2]), pa.array([["one"]], pa.list_(kind)), pa.nulls(2)):
        assert not _tables._is_sound_text(array)
    assert read(payload_of(pa.array([*TEXTS, None], kind))) == [*TEXTS, None]


@KINDS
@pytest.mark.parametrize(
    ("offsets", "values"),
    [
        ([0, 3, 2, 3], b"abc"),
        ([0, -3, 3], b"abc"),
        ([0, 1 << 20, 3], b"abc"),
        ([0, 1, 3], "éa".encode()),
        ([0, 3], b"a\xffb"),
    ],
    ids=["falling", "negative", "past the end", "within a character", "no UTF-8"],
)
def test_unsound_text_is_refused(kind: pa.DataType, offsets: list[int], values: bytes) -> None:
    with pytest.raises(SerializationError):
        read(payload_of(array_of(kind, offsets, values)))


@KINDS
def test_what_is_read_is_what_pyarrow_would_pass(kind: pa.DataType) -> None:
    rng = random.Random(7)
    passed = 0
    for _ in range(2000):
        values = rng.choice(["aéb€c".encode(), b"abcdef", bytes(rng.choices(range(256), k=6))])
        offsets = [rng.randint(-1, len(values) + 1) for _ in range(rng.randint(1, 5))]
        if rng.random() < 0.8:
            offsets.sort()
        array = array_of(kind, offsets, values)
        try:
            array.validate()
            array.validate(full=True)
        except pa.ArrowInvalid:
            assert not _tables._is_sound_text(array), (offsets, values)
        else:
            passed += _tables._is_sound_text(array)
    assert passed > 200
