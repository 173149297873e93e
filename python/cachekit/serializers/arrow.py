"""The serializer of tables."""

from __future__ import annotations

from functools import partial

from cachekit.serializers.base import NativeSerializer, SerializationFormat, SerializationMetadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Literal

    Compression = Literal["auto", "zstd", "lz4", "none"]

_FORMATS = (None, "pandas", "polars", "arrow")
_COMPRESSIONS = ("auto", "zstd", "lz4", "none", None)


class ArrowSerializer(NativeSerializer):
    """pandas and polars DataFrames, pyarrow Tables and dicts of columns, as Arrow IPC files; needs ``cachekit[data]``.

    `return_format` is what a hit is: "pandas", "polars", "arrow" (a pyarrow Table), or None for what was
    stored (pandas for entries of older versions, which do not say). `compression` is "zstd", "lz4",
    "none" (then hits are not copied where that can be) or "auto", which is CACHEKIT_ARROW_COMPRESSION.
    A checksum is always there, whatever `enable_integrity_checking` says.
    """

    __slots__ = ("compression", "return_format")

    cross_sdk_compatible = True

    def __init__(
        self,
        return_format: Literal["pandas", "polars", "arrow"] | None = None,
        enable_integrity_checking: bool = True,
        compression: Compression | None = "auto",
    ) -> None:
        if return_format not in _FORMATS:
            raise ValueError(f"return_format={return_format!r}: 'pandas', 'polars', 'arrow' or None is expected")
        if compression not in _COMPRESSIONS:
            raise ValueError(f"compression={compression!r}: 'auto', 'zstd', 'lz4' or 'none' is expected")
        self.return_format = return_format
        self.compression = "none" if compression is None else compression
        super().__init__(enable_integrity_checking)

    def _chosen(self) -> tuple[Any, ...]:
        try:
            import pyarrow  # noqa: F401  # pyright: ignore[reportUnusedImport]
        except ImportError as error:
            from cachekit.serializers.errors import MissingLibraryError

            raise MissingLibraryError("serializer='arrow' needs pyarrow: pip install 'cachekit[data]'") from error
        from cachekit.serializers import _tables

        write = partial(_tables.write, compression=self.compression)
        return "arrow", write, partial(_tables.read, return_format=self.return_format)

    def serialization_metadata(self) -> SerializationMetadata:
        """What the header says of payloads."""
        from cachekit.serializers import _tables

        compressed = _tables.codec(self.compression) is not None
        return SerializationMetadata(SerializationFormat.ARROW, compressed=compressed, original_type="arrow")

    def serialize_to_sink(self, obj: Any, sink: BinaryIO, max_bytes: int | None = None) -> SerializationMetadata:
        """Writes the payload to a file; OverflowError, with nothing written, past `max_bytes`.

        A file that can seek gets the payload as it is made, with the checksum in front filled in at the
        end; for any other, a pipe, the payload is made in memory first.
        """
        limit = 2**63 - 1 if max_bytes is None else max_bytes
        if not sink.seekable():
            from io import BytesIO

            made = BytesIO()
            metadata = self.serialize_to_sink(obj, made, max_bytes)
            rest = made.getbuffer()
            while rest:
                rest = rest[sink.write(rest) :]
            return metadata
        compressed = self._payloads.write_table(obj, sink, limit)
        return SerializationMetadata(SerializationFormat.ARROW, compressed=compressed, original_type="arrow")

    def _arguments(self) -> tuple[Any, ...]:
        return self.return_format, self.enable_integrity_checking, self.compression
