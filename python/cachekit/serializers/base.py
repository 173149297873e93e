"""What every serializer is, says of its payloads, and fails with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Protocol, runtime_checkable

    from cachekit._native import Payloads

    @runtime_checkable
    class SerializerProtocol(Protocol):
        """Turns values into payloads and back."""

        def serialize(self, obj: Any) -> tuple[bytes, SerializationMetadata]: ...
        def deserialize(self, data: bytes | memoryview, metadata: SerializationMetadata | None = None) -> Any: ...

    @runtime_checkable
    class CrossSDKSerializerProtocol(SerializerProtocol, Protocol):
        """A serializer that says whether other languages read its payloads."""

        cross_sdk_compatible: ClassVar[bool]

else:
    # At run time a protocol is what isinstance() asks for.
    from abc import ABCMeta

    class _HasMethods(ABCMeta):
        _NAMES = ("serialize", "deserialize")

        def __instancecheck__(cls, instance):
            return all(hasattr(instance, name) for name in cls._NAMES)

    class SerializerProtocol(metaclass=_HasMethods):
        """Turns values into payloads and back."""

    class _SaysMore(_HasMethods):
        _NAMES = ("serialize", "deserialize", "cross_sdk_compatible")

    class CrossSDKSerializerProtocol(metaclass=_SaysMore):
        """A serializer that says whether other languages read its payloads."""


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
    encrypted: bool = False
    tenant_id: str | None = None
    encryption_algorithm: str | None = None
    key_fingerprint: str | None = None

    @property
    def format(self) -> SerializationFormat:
        """The payload's format."""
        return self.serialization_format

    def to_dict(self) -> dict[str, Any]:
        """The header's members, in the order in which they are written."""
        members: dict[str, Any] = {
            "format": self.serialization_format.value,
            "encoding": self.encoding,
            "compressed": self.compressed,
            "original_type": self.original_type,
        }
        if self.encrypted:
            members["encrypted"] = True
            for name in ("tenant_id", "encryption_algorithm", "key_fingerprint"):
                members[name] = getattr(self, name)
        return members

    @classmethod
    def from_dict(cls, members: dict[str, Any]) -> SerializationMetadata:
        """The metadata of a header's members; those that are missing have their defaults."""
        return cls(
            SerializationFormat(members.get("format", "msgpack")),
            members.get("encoding", "utf-8"),
            members.get("compressed", False),
            members.get("original_type"),
            members.get("encrypted", False),
            members.get("tenant_id"),
            members.get("encryption_algorithm"),
            members.get("key_fingerprint"),
        )


class NativeSerializer:
    """A serializer whose payloads the engine makes and reads."""

    __slots__ = ("_payloads", "enable_integrity_checking")

    _payloads: Payloads

    def __init__(self, enable_integrity_checking: bool = True) -> None:
        from cachekit import _native

        self.enable_integrity_checking = enable_integrity_checking
        self._payloads = _native.Payloads(self._chosen(), enable_integrity_checking)

    def _chosen(self) -> tuple[Any, ...] | None:
        """What the engine is told: None for std, else a kind and what that needs."""
        raise NotImplementedError

    def serialize(self, obj: Any) -> tuple[bytes, SerializationMetadata]:
        """The payload of a value, and what its header says. TypeError for what cannot be stored."""
        payload, kind, original_type, compressed = self._payloads.serialize(obj)
        metadata = SerializationMetadata(SerializationFormat(kind), compressed=compressed, original_type=original_type)
        return payload, metadata

    def deserialize(self, data: bytes | memoryview, metadata: SerializationMetadata | None = None) -> Any:
        """The value of a payload. SerializationError for damaged or foreign bytes."""
        if metadata is None:
            return self._payloads.deserialize(data, None, None, False)
        return self._payloads.deserialize(data, metadata.format.value, metadata.original_type, metadata.compressed)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments()

    def _arguments(self) -> tuple[Any, ...]:
        return (self.enable_integrity_checking,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._arguments()))})"
