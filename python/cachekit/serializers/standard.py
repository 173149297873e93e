"""The default serializer: MessagePack that every language reads."""

from __future__ import annotations

from cachekit.serializers.base import NativeSerializer


class StandardSerializer(NativeSerializer):
    """MessagePack for None, bool, int (64 bits), float, str, bytes, list, tuple, dict, datetime, date and time.

    Tuples come back as lists and bytearrays as bytes; other types are a TypeError that names the place
    in the value and the remedy. With `enable_integrity_checking` the payload is compressed with LZ4 and
    carries an xxHash3-64 checksum, and a payload that was changed in any bit is refused.
    """

    __slots__ = ()

    cross_sdk_compatible = True

    def _chosen(self) -> None:
        return None

    def __repr__(self) -> str:
        return f"StandardSerializer(enable_integrity_checking={self.enable_integrity_checking})"
