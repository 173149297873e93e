"""Serializers: how results become bytes. The payloads' envelope and frame are Rust's."""

from __future__ import annotations

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.serializers.arrow import ArrowSerializer
    from cachekit.serializers.auto import AutoSerializer
    from cachekit.serializers.auto import AutoSerializer as DefaultSerializer
    from cachekit.serializers.base import (
        CrossSDKSerializerProtocol,
        SerializationError,
        SerializationFormat,
        SerializationMetadata,
        SerializerProtocol,
    )
    from cachekit.serializers.encryption_wrapper import EncryptionWrapper
    from cachekit.serializers.errors import (
        DecryptionAuthenticationError,
        EncryptionError,
        KeyringConfigurationError,
        MissingLibraryError,
        SuspiciousCacheEntryError,
    )
    from cachekit.serializers.interop import InteropSerializer
    from cachekit.serializers.names import (
        benchmark_serializers,
        get_available_serializers,
        get_serializer,
        get_serializer_info,
    )
    from cachekit.serializers.orjson import OrjsonSerializer
    from cachekit.serializers.registry import SERIALIZER_REGISTRY
    from cachekit.serializers.standard import StandardSerializer

_HOMES = {
    "ArrowSerializer": "cachekit.serializers.arrow",
    "AutoSerializer": "cachekit.serializers.auto",
    "CrossSDKSerializerProtocol": "cachekit.serializers.base",
    "DefaultSerializer": "cachekit.serializers.auto:AutoSerializer",
    "DecryptionAuthenticationError": "cachekit.serializers.errors",
    "EncryptionError": "cachekit.serializers.errors",
    "EncryptionWrapper": "cachekit.serializers.encryption_wrapper",
    "KeyringConfigurationError": "cachekit.serializers.errors",
    "InteropSerializer": "cachekit.serializers.interop",
    "MissingLibraryError": "cachekit.serializers.errors",
    "OrjsonSerializer": "cachekit.serializers.orjson",
    "SERIALIZER_REGISTRY": "cachekit.serializers.registry",
    "SuspiciousCacheEntryError": "cachekit.serializers.errors",
    "SerializationError": "cachekit.serializers.base",
    "SerializationFormat": "cachekit.serializers.base",
    "SerializationMetadata": "cachekit.serializers.base",
    "SerializerProtocol": "cachekit.serializers.base",
    "StandardSerializer": "cachekit.serializers.standard",
    "benchmark_serializers": "cachekit.serializers.names",
    "get_available_serializers": "cachekit.serializers.names",
    "get_serializer": "cachekit.serializers.names",
    "get_serializer_info": "cachekit.serializers.names",
}

__all__ = [
    "SERIALIZER_REGISTRY",
    "ArrowSerializer",
    "AutoSerializer",
    "CrossSDKSerializerProtocol",
    "DefaultSerializer",
    "DecryptionAuthenticationError",
    "EncryptionError",
    "EncryptionWrapper",
    "InteropSerializer",
    "KeyringConfigurationError",
    "MissingLibraryError",
    "OrjsonSerializer",
    "SerializationError",
    "SerializationFormat",
    "SerializationMetadata",
    "SerializerProtocol",
    "StandardSerializer",
    "SuspiciousCacheEntryError",
    "benchmark_serializers",
    "get_available_serializers",
    "get_serializer",
    "get_serializer_info",
]

__getattr__ = lazy(__name__, _HOMES)
