"""The serializer of what Python programs return."""

from __future__ import annotations

from cachekit.serializers.base import NativeSerializer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class AutoSerializer(NativeSerializer):
    """MessagePack that keeps Python's own types.

    Beyond what `StandardSerializer` takes: tuple, set, frozenset, UUID, Decimal, timedelta, complex,
    integers of any size, dicts with any keys, NumPy arrays and scalars, pandas Series and DataFrames.
    Instances of enumerations, dataclasses, pydantic models and named tuples are kept for the classes
    in `types`; no other class is ever looked up because stored bytes name it.
    """

    __slots__ = ("types",)

    cross_sdk_compatible = False

    def __init__(
        self,
        default_format: str = "msgpack",
        enable_integrity_checking: bool = True,
        use_rust: bool | None = None,
        *,
        types: Iterable[type[Any]] = (),
    ) -> None:
        if default_format != "msgpack":
            raise ValueError(f"default_format={default_format!r}: 'msgpack' is the only format")
        if use_rust is not None:
            import warnings

            warnings.warn("AutoSerializer: use_rust= has no effect, leave it out", DeprecationWarning, stacklevel=2)
        self.types = tuple(types)
        super().__init__(enable_integrity_checking)

    def _chosen(self) -> tuple[Any, ...]:
        return "auto", self.types

    def validate_data(self, obj: Any) -> bool:
        """Whether the value can be stored."""
        try:
            self.serialize(obj)
        except TypeError:
            return False
        return True

    def estimate_compression_ratio(self, obj: Any) -> float:
        """How many times smaller the payload is than the same one without compression."""
        bare = AutoSerializer(enable_integrity_checking=False, types=self.types).serialize(obj)[0]
        return len(bare) / len(self.serialize(obj)[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.enable_integrity_checking, self.types)

    def __repr__(self) -> str:
        names = ", ".join(each.__qualname__ for each in self.types)
        return f"AutoSerializer(enable_integrity_checking={self.enable_integrity_checking}, types=[{names}])"


def _again(enable_integrity_checking: bool, types: tuple[type[Any], ...]) -> AutoSerializer:
    return AutoSerializer(enable_integrity_checking=enable_integrity_checking, types=types)
