"""Serializers: how results become bytes. The payloads' envelope and frame are Rust's."""

from __future__ import annotations

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.serializers.base import (
        SerializationError,
        SerializationFormat,
        SerializationMetadata,
    )
    from cachekit.serializers.standard import StandardSerializer

_HOMES = {
    "SerializationError": "cachekit.serializers.base",
    "SerializationFormat": "cachekit.serializers.base",
    "SerializationMetadata": "cachekit.serializers.base",
    "StandardSerializer": "cachekit.serializers.standard",
}

__all__ = ["SerializationError", "SerializationFormat", "SerializationMetadata", "StandardSerializer"]

__getattr__ = lazy(__name__, _HOMES)
