"""The codec's functions, from the package or from the module that ``CACHEKIT_CODEC_HOOKS`` names."""

from __future__ import annotations

import importlib
import os
from typing import Any

import msgpack

_testing: Any = importlib.import_module(os.environ.get("CACHEKIT_CODEC_HOOKS", "cachekit._native"))._testing

encode_value = _testing.encode_value
decode_value = _testing.decode_value
encode_args = _testing.encode_args
clone_value = _testing.clone_value
weigh = _testing.weigh
numbered_objects = _testing.numbered_objects
HeldValue = _testing.HeldValue
debug_build: bool = _testing.debug_build


def key(*args: Any, **kwargs: Any) -> bytes:
    """The bytes of a plain function's arguments."""
    encoded: bytes = encode_args(args, kwargs)[0]
    return encoded


def scope(*args: Any, **kwargs: Any) -> str:
    """Where the key of a plain function's arguments is valid."""
    found: str = encode_args(args, kwargs)[1]
    return found


def content(argument: Any) -> bytes:
    """What one argument contributes."""
    encoded = key(argument)
    assert encoded[:2] == b"\x92\x91"
    assert encoded[-1:] == b"\x80"
    return encoded[2:-1]


def extension(argument: Any) -> tuple[int, bytes]:
    value = msgpack.unpackb(content(argument), strict_map_key=False)
    assert isinstance(value, msgpack.ExtType)
    return value.code, value.data
