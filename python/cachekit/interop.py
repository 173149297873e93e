"""Interop mode by hand: the keys and values that every CacheKit SDK makes and reads alike.

``@cache(interop="get_user", namespace="users")`` uses them by itself.
"""

from __future__ import annotations

from typing import NamedTuple

from cachekit import _native
from cachekit.serializers.base import SerializationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ExtType(NamedTuple):
    """A MessagePack extension value that another program stored: its application type and data."""

    code: int
    data: bytes


class InteropError(ValueError):
    """A name, argument or value that is not in the interop data model."""

    code = "E020"


class InteropDecodeError(SerializationError):
    """Stored bytes that are no interop value."""


def generate_interop_key(namespace: str, operation: str, args: list[Any] | tuple[Any, ...]) -> str:
    """The key of a call: ``namespace:operation:`` and a hash of its arguments.

    `args` are all of the function's arguments in the order of their declaration, defaults included;
    those of ``*args`` are one list among them and those of ``**kwargs`` one dict.
    """
    return _native.interop_key(_text("namespace", namespace), _text("operation", operation), _flat(args))


def canonical_args_bytes(args: list[Any] | tuple[Any, ...]) -> bytes:
    """The bytes whose hash is in a key: to compare with another implementation's where keys differ."""
    return _native.interop_args(_flat(args))


def encode_interop_value(value: Any) -> bytes:
    """A value as the one MessagePack document that is stored."""
    return _native.interop_encode(value)


def decode_interop_value(data: bytes | bytearray | memoryview) -> Any:
    """The value of a stored document, whoever encoded it.

    MessagePack's timestamps become aware datetimes and other extension values `ExtType`. Anything but
    one whole well-formed document is an `InteropDecodeError`.
    """
    return _native.interop_decode(bytes(memoryview(data)))


def _text(part: str, name: Any) -> str:
    if not isinstance(name, str):
        raise InteropError(f"interop {part} {name!r}: a name is expected")
    return name


def _flat(args: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"args: a list or tuple of all arguments is expected, not {type(args).__name__}")
    return args  # pyright: ignore[reportUnknownVariableType]
