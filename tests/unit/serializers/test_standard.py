"""StandardSerializer: payloads that other implementations read, and what it refuses."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from typing import Any

import lz4.block
import msgpack
import pytest
import xxhash

from cachekit import DecoratorConfig, cache
from cachekit.serializers import SerializationError, SerializationFormat, SerializationMetadata, StandardSerializer

VALUES: list[Any] = [
    None,
    True,
    -1,
    2**63,
    1.5,
    "ü",
    b"\0",
    [],
    {},
    [1, [2]],
    {"a": {"b": [None]}},
    {"n": 1} | {"x": "y" * 5000},
]


@pytest.mark.parametrize("value", VALUES)
def test_the_envelope_is_the_protocols(value: Any) -> None:
    payload, metadata = StandardSerializer().serialize(value)
    body, checksum, size, kind = msgpack.unpackb(payload)
    plain = lz4.block.decompress(body, uncompressed_size=size)
    assert (kind, len(plain)) == ("msgpack", size)
    assert bytes(checksum) == xxhash.xxh3_64(plain).digest()
    assert msgpack.unpackb(plain, strict_map_key=False) == value
    assert metadata.to_dict() == {
        "format": "msgpack",
        "encoding": "utf-8",
        "compressed": True,
        "original_type": "msgpack",
    }
    assert StandardSerializer().deserialize(memoryview(payload), metadata) == value


@pytest.mark.parametrize("value", VALUES)
def test_without_integrity_it_is_bare_messagepack(value: Any) -> None:
    serializer = StandardSerializer(enable_integrity_checking=False)
    payload, metadata = serializer.serialize(value)
    assert payload == msgpack.packb(value)
    assert metadata.compressed is False
    assert serializer.deserialize(payload) == value


def test_dates_come_back() -> None:
    value = {"at": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc), "on": dt.date(2026, 1, 2), "t": dt.time(1)}
    serializer = StandardSerializer()
    assert serializer.deserialize(serializer.serialize(value)[0]) == value


def test_every_single_bit_flip_is_refused_or_changes_nothing() -> None:
    value = {"name": "Ada", "numbers": list(range(20))}
    serializer = StandardSerializer()
    payload, _ = serializer.serialize(value)
    for position in range(len(payload) * 8):
        flipped = bytearray(payload)
        flipped[position // 8] ^= 1 << position % 8
        with suppress(SerializationError):
            assert serializer.deserialize(bytes(flipped)) == value


def test_damage_has_a_stable_code() -> None:
    with pytest.raises(SerializationError) as raised:
        StandardSerializer().deserialize(b"damaged")
    assert raised.value.code == "E021"


def test_other_types_are_refused_with_their_place() -> None:
    with pytest.raises(TypeError, match=r'result\["a"\]\[1\].*set'):
        StandardSerializer().serialize({"a": [1, {2}]})


def test_metadata_reads_headers_with_members_missing() -> None:
    assert SerializationMetadata.from_dict({}) == SerializationMetadata(SerializationFormat.MSGPACK)
    full = {"format": "arrow", "encoding": "utf-8", "compressed": True, "original_type": "arrow"}
    assert SerializationMetadata.from_dict(full).to_dict() == full


def test_an_instance_is_accepted_by_the_decorator() -> None:
    @cache(serializer=StandardSerializer(enable_integrity_checking=False), backend=None, namespace="instance")
    def stored() -> list[int]:
        return [1]

    assert stored() == stored() == [1]
    assert DecoratorConfig(serializer=StandardSerializer()).integrity_checking is True  # type: ignore[arg-type]
    assert DecoratorConfig(serializer=StandardSerializer(False)).integrity_checking is False  # type: ignore[arg-type]
