"""The default serializer: MessagePack that every language reads."""

from __future__ import annotations

from cachekit import _native
from cachekit.serializers.base import SerializationFormat, SerializationMetadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class StandardSerializer:
    """MessagePack for None, bool, int (64 bits), float, str, bytes, list, tuple, dict, datetime, date and time.

    Tuples come back as lists and bytearrays as bytes; other types are a TypeError that names the place
    in the value and the remedy. With `enable_integrity_checking` the payload is compressed with LZ4 and
    carries an xxHash3-64 checksum, and a payload that was changed in any bit is refused.
    """

    __slots__ = ("enable_integrity_checking",)

    cross_sdk_compatible = True

    def __init__(self, enable_integrity_checking: bool = True) -> None:
        self.enable_integrity_checking = enable_integrity_checking

    def serialize(self, obj: Any) -> tuple[bytes, SerializationMetadata]:
        """The payload of a value, and what its header says. TypeError for what cannot be stored."""
        checked = self.enable_integrity_checking
        metadata = SerializationMetadata(SerializationFormat.MSGPACK, compressed=checked, original_type="msgpack")
        return _native.serialize_std(obj, checked), metadata

    def deserialize(self, data: bytes | memoryview, metadata: SerializationMetadata | None = None) -> Any:
        """The value of a payload. SerializationError for damaged or foreign bytes."""
        return _native.deserialize_std(bytes(data), self.enable_integrity_checking)

    def __repr__(self) -> str:
        return f"StandardSerializer(enable_integrity_checking={self.enable_integrity_checking})"
