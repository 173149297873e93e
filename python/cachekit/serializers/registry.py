"""Every name of a serializer with its class."""

from __future__ import annotations

from cachekit.serializers.names import get_available_serializers

SERIALIZER_REGISTRY = get_available_serializers()
