"""What every serializer is, says of its payloads, and fails with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class SerializerProtocol(Protocol):
        """Turns values into payloads and back."""

        def serialize(self, obj: Any) -> tuple[bytes, SerializationMetadata]: ...
        def deserialize(self, data: bytes | memoryview, metadata: SerializationMetadata | None = None) -> Any: ...


class SerializationError(Exception):
    """A payload is damaged, foreign, or larger than the protocol allows."""

    code = "E021"


class SerializationFormat(str, Enum):
    """What a payload is made of."""

    MSGPACK = "msgpack"
    ORJSON = "orjson"
    ARROW = "arrow"


@dataclass(frozen=True)
class SerializationMetadata:
    """What a stored entry's header says of its payload."""

    serialization_format: SerializationFormat
    encoding: str = "utf-8"
    compressed: bool = False
    original_type: str | None = None

    @property
    def format(self) -> SerializationFormat:
        """The payload's format."""
        return self.serialization_format

    def to_dict(self) -> dict[str, Any]:
        """The header's members, in the order in which they are written."""
        return {
            "format": self.serialization_format.value,
            "encoding": self.encoding,
            "compressed": self.compressed,
            "original_type": self.original_type,
        }

    @classmethod
    def from_dict(cls, members: dict[str, Any]) -> SerializationMetadata:
        """The metadata of a header's members; those that are missing have their defaults."""
        return cls(
            SerializationFormat(members.get("format", "msgpack")),
            members.get("encoding", "utf-8"),
            members.get("compressed", False),
            members.get("original_type"),
        )
