"""The serializer of JSON."""

from __future__ import annotations

from cachekit.serializers.base import NativeSerializer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SORT_KEYS = 1 << 5  # orjson.OPT_SORT_KEYS


class OrjsonSerializer(NativeSerializer):
    """JSON by orjson, which every language reads; needs ``cachekit[json]``.

    Refused is what JSON would bring back as something else: NaN and infinities, dates, UUIDs, other
    keys than text, bytes, instances of classes. Tuples come back as lists.
    """

    __slots__ = ("option",)

    cross_sdk_compatible = True

    def __init__(self, option: int = _SORT_KEYS, enable_integrity_checking: bool = True) -> None:
        self.option = option
        super().__init__(enable_integrity_checking)

    def _chosen(self) -> tuple[Any, ...]:
        try:
            import orjson
        except ImportError as error:
            from cachekit.serializers.errors import MissingLibraryError

            raise MissingLibraryError("serializer='orjson' needs orjson: pip install 'cachekit[json]'") from error
        return "orjson", orjson.dumps, orjson.loads, self.option

    def _arguments(self) -> tuple[Any, ...]:
        return self.option, self.enable_integrity_checking
