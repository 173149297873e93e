"""What the protocol says, written down a second time in plain Python over the PyPI package ``msgpack``.

Nothing here knows the implementation: it is what the property tests compare it with.
"""

from __future__ import annotations

import enum
import hashlib
import sys
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgpack


class NotTakenError(TypeError):
    """The protocol's auto key does not take the argument."""


def packed(value: Any) -> bytes:
    """MessagePack as the protocol writes it."""
    return bytes(msgpack.packb(value, use_bin_type=True, strict_types=True) or b"")


def normalised(value: Any) -> Any:
    """An argument of an auto key, as MessagePack takes it."""
    kind = type(value)
    if value is None or kind in (bool, bytes):
        return value
    if kind is int:
        if not -(2**63) <= value < 2**64:
            raise NotTakenError("beyond 64 bits")
        return value
    if kind is str:
        if any(0xD800 <= ord(character) < 0xE000 for character in value):
            raise NotTakenError("a lone surrogate")
        return value
    if kind is float:
        return 0.0 if value == 0 else value
    if isinstance(value, enum.Enum):
        return normalised(value.value)
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise NotTakenError("naive")
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return [normalised(item) for item in value]
    if isinstance(value, dict):
        if any(type(key) not in (str, bytes, int, float, bool, type(None)) for key in value):
            raise NotTakenError("keys")
        try:
            return {key: normalised(value[key]) for key in sorted(value)}
        except TypeError as error:
            raise NotTakenError("keys that do not compare") from error
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return _array(value)
    raise NotTakenError(kind.__name__)


def _array(array: Any) -> list[Any]:
    codes = {"int32": "i32", "int64": "i64", "float32": "f32", "float64": "f64"}
    if array.ndim != 1 or array.dtype.name not in codes or array.nbytes > 100_000:
        raise NotTakenError("array")
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return ["__array_v1__", [len(array)], codes[array.dtype.name], hashlib.blake2b(data, digest_size=32).hexdigest()]


def auto_key(*args: Any, **kwargs: Any) -> bytes:
    """The bytes that the hash of an auto key is made of."""
    return packed([[normalised(a) for a in args], {name: normalised(kwargs[name]) for name in sorted(kwargs)}])


def std_map(value: Any) -> Any:
    """A value of the std serializer, as MessagePack takes it."""
    if isinstance(value, datetime):
        return {"__datetime__": True, "value": value.isoformat()}
    if isinstance(value, date):
        return {"__date__": True, "value": value.isoformat()}
    if isinstance(value, time):
        return {"__time__": True, "value": value.isoformat()}
    if isinstance(value, dict):
        return {key: std_map(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [std_map(item) for item in value]
    return bytes(value) if isinstance(value, bytearray) else value


def std_image(value: Any) -> Any:
    """What a hit gives for a value of the std serializer."""
    if isinstance(value, dict):
        return {key: std_image(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [std_image(item) for item in value]
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, (datetime, time)) and value.tzinfo is not None:
        return type(value).fromisoformat(value.isoformat())
    return value


def same(a: Any, b: Any) -> bool:
    """Equal with equal types all through; NaN is itself, and zeros have their signs."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return (
            list(a) == list(b)
            and all(same(x, y) and type(x) is type(y) for x, y in zip(a, b))
            and all(same(a[key], b[key]) for key in a)
        )
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, (datetime, time)):
        return a == b and a.tzinfo == b.tzinfo and a.fold == b.fold
    return bool(a == b)


PYTHON = sys.version_info[:2]
