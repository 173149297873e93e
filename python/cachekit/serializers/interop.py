"""`InteropSerializer`: values as plain MessagePack, for programs in any language."""

from __future__ import annotations

from cachekit.interop import decode_interop_value, encode_interop_value
from cachekit.serializers.base import SerializationFormat, SerializationMetadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class InteropSerializer:
    """What functions with ``interop=`` store: one MessagePack document, without checksum or envelope."""

    cross_sdk_compatible = True

    def serialize(self, obj: Any) -> tuple[bytes, SerializationMetadata]:
        """The document of `obj`; `InteropError` for what is not in the data model."""
        metadata = SerializationMetadata(SerializationFormat.MSGPACK, original_type="msgpack")
        return encode_interop_value(obj), metadata

    def deserialize(self, data: bytes | memoryview, metadata: SerializationMetadata | None = None) -> Any:
        """The value of a document; `InteropDecodeError` for anything else."""
        return decode_interop_value(data)
