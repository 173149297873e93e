"""The rules of interop mode in plain Python: canonical arguments and the keys made of them."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import hashlib
import pathlib
import uuid
from typing import Any

import msgpack

UTC = dt.timezone.utc
pack: Any = msgpack.packb
OP: dict[str, Any] = {"interop": "op", "namespace": "n"}


def canonical(value: Any) -> bytes:
    if isinstance(value, enum.Enum):
        return canonical(value.value)
    if isinstance(value, bool) or value is None:
        return pack(value)
    if isinstance(value, float):
        if value.is_integer() and -(2.0**63) <= value < 2.0**64:
            return canonical(int(value))
        return pack(value)
    if isinstance(value, dt.datetime):
        micros = (value - dt.datetime(1970, 1, 1, tzinfo=UTC)) // dt.timedelta(microseconds=1)
        return canonical(micros / 1e6)
    if isinstance(value, (set, frozenset)):
        return array(sorted({canonical(item) for item in value}))
    if isinstance(value, (list, tuple)):
        return array([canonical(item) for item in value])
    if isinstance(value, dict):
        header = msgpack.Packer().pack_map_header(len(value))
        return header + b"".join(pack(key) + canonical(value[key]) for key in sorted(value))
    if isinstance(value, pathlib.PurePath):
        return pack(value.as_posix())
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return pack(str(value))
    return pack(value, use_bin_type=True)


def array(items: list[bytes]) -> bytes:
    return msgpack.Packer().pack_array_header(len(items)) + b"".join(items)


def key(namespace: str, operation: str, args: list[Any]) -> str:
    return f"{namespace}:{operation}:{hashlib.blake2b(canonical(args), digest_size=32).hexdigest()}"
