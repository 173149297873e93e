"""P12: a 10 KB nested dict to bytes and back: MessagePack alone, then with LZ4 and checksum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import lz4.block
import msgpack
import ormsgpack
import xxhash

from benches import payloads
from benches.context import Context, ours
from benches.harness import Contender, Statement, interleave, medians
from benches.table import OURS, Budget, Line

NESTED = payloads.nested()


def seal(value: Any) -> tuple[bytes, bytes, int]:
    """MessagePack, LZ4 block and XXH3 as one would write it with the best packages for each."""
    packed = ormsgpack.packb(value)
    return lz4.block.compress(packed, store_size=False), xxhash.xxh3_64_digest(packed), len(packed)


def unseal(sealed: tuple[bytes, bytes, int]) -> Any:
    compressed, checksum, size = sealed
    packed = lz4.block.decompress(compressed, uncompressed_size=size)
    if xxhash.xxh3_64_digest(packed) != checksum:
        raise ValueError("checksum")
    return ormsgpack.unpackb(packed)


def _compare(
    context: Context, work: str, base: str, make: Callable[[], Contender], rivals: Mapping[str, Contender]
) -> Line:
    mine, missing = ours(lambda: [make()])
    samples = interleave([*mine, *rivals.values()], context.rounds)
    return Line("P12", work, "s", medians(samples), Budget(1, base), missing=missing, samples=samples)


def _our_codec() -> Any:
    """The native module's hooks for tests: they are no part of the typed interface."""
    return import_module("cachekit._native")._testing


def _call(name: str, function: Callable[[Any], Any], argument: Any) -> Statement:
    return Statement(name, "f(x)", {"f": function, "x": argument})


def p12(context: Context) -> list[Line]:
    packed = payloads.packed(NESTED)

    def our_encode() -> Contender:
        return _call(OURS, _our_codec().encode_value, NESTED)

    def our_decode() -> Contender:
        codec = _our_codec()
        return _call(OURS, codec.decode_value, codec.encode_value(NESTED))

    def our_seal() -> Contender:
        from cachekit.serializers import StandardSerializer

        return _call(OURS, StandardSerializer().serialize, NESTED)

    def our_unseal() -> Contender:
        from cachekit.serializers import StandardSerializer

        serializer = StandardSerializer()
        sealed, _ = serializer.serialize(NESTED)
        return _call(OURS, serializer.deserialize, sealed)

    encoders = {"ormsgpack": ormsgpack.packb, "msgpack": msgpack.packb}
    decoders = {"ormsgpack": ormsgpack.unpackb, "msgpack": msgpack.unpackb}
    return [
        _compare(
            context,
            "encode 10 KB nested dict, MessagePack",
            "ormsgpack",
            our_encode,
            {name: _call(name, function, NESTED) for name, function in encoders.items()},
        ),
        _compare(
            context,
            "decode 10 KB nested dict, MessagePack",
            "ormsgpack",
            our_decode,
            {name: _call(name, function, packed) for name, function in decoders.items()},
        ),
        _compare(context, "encode with LZ4 and checksum", "by hand", our_seal, {"": _call("by hand", seal, NESTED)}),
        _compare(
            context, "decode with LZ4 and checksum", "by hand", our_unseal, {"": _call("by hand", unseal, seal(NESTED))}
        ),
    ]


MEASURES = {"P12": p12}
