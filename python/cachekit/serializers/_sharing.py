"""What the values of a table take where each is counted as often as it stands in a column.

Some of Arrow's encodings store a value once for the many places where it stands: views, list views, dictionaries, runs
and dense unions. What reads them makes a value for each place, so a small entry could take any memory and time.
"""

# pyarrow says little of its types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The least that a value of variable length takes: a view's half, an offset, a pointer.
_PLACE = 8


def expanded(table: Any) -> int:
    """The bytes of the values in all columns that share some; 0 where none does."""
    columns = [column for column in table.columns if _shares(column.type, within=False)]
    return int(min(sum(_weights(chunk).sum() for column in columns for chunk in column.chunks), 2**63))


def _shares(kind: Any, within: bool) -> bool:
    """Whether values of a type may share what is stored once; a column of categories keeps them so when it is read."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _shares(kind.storage_type, within=True)
    if pa.types.is_dictionary(kind):
        values = kind.value_type
        is_text = pa.types.is_string(values) or pa.types.is_large_string(values)
        return within or not (is_text or pa.types.is_primitive(values))
    if _is(kind, "string_view", "binary_view", "list_view", "large_list_view", "run_end_encoded", "union"):
        return True
    return any(_shares(kind.field(place).type, within=True) for place in range(kind.num_fields))


def _is(kind: Any, *names: str) -> bool:
    """Whether a type is one of these, of which older versions of pyarrow do not know some."""
    import pyarrow as pa

    tests = (getattr(pa.types, f"is_{name}", None) for name in names)
    return any(test(kind) for test in tests if test is not None)


def _weights(array: Any) -> Any:
    """The bytes of each value of an array, as floats, which do not overflow."""
    import numpy
    import pyarrow as pa
    from pyarrow import compute

    kind, length = array.type, len(array)
    if isinstance(kind, pa.BaseExtensionType):
        return _weights(array.storage)
    if pa.types.is_dictionary(kind):
        places = array.indices.cast(pa.int64()).fill_null(len(array.dictionary)).to_numpy(zero_copy_only=False)
        return numpy.append(_weights(array.dictionary), 1.0)[places]
    if _is(kind, "run_end_encoded"):
        ends = array.run_ends.to_numpy().astype("i8") - array.offset
        return numpy.repeat(_weights(array.values), numpy.diff(ends.clip(0, length), prepend=0))
    if _is(kind, "string_view", "binary_view"):
        return _of_valid(array, _view_lengths(array)) + float(_PLACE)
    if pa.types.is_union(kind):
        heaviest = max((_weights(array.field(place)).max(initial=0) for place in range(kind.num_fields)), default=0)
        return numpy.full(length, heaviest + 1.0)
    if pa.types.is_struct(kind):
        return sum((_weights(array.field(place)) for place in range(kind.num_fields)), numpy.ones(length))
    if pa.types.is_nested(kind):
        upto = numpy.append(0.0, numpy.cumsum(_weights(array.values)))
        starts, ends = _ranges(array)
        return _of_valid(array, upto[ends] - upto[starts]) + _PLACE
    if kind.num_buffers == 3:  # Text and bytes, behind their offsets.
        return compute.binary_length(array).fill_null(0).to_numpy(zero_copy_only=False) + float(_PLACE)
    return numpy.full(length, 1.0 if pa.types.is_null(kind) else max(1.0, kind.bit_width / 8))


def _view_lengths(array: Any) -> Any:
    """How long the texts of views are.

    pyarrow's casts follow the views of missing texts, which its own validation leaves out.
    """
    import numpy

    _, views, *texts = array.buffers()
    # Length, and of more than twelve bytes the first four, the number of the buffer and the place in it.
    views = numpy.frombuffer(views or b"", "<i4").reshape(-1, 4)[array.offset :][: len(array)].astype("i8")
    lengths = views[:, 0]
    length, _, buffer, place = views[lengths > 12].T
    sizes = numpy.array([len(text) for text in texts], "i8")
    outside = (buffer < 0) | (buffer >= len(sizes))
    if (lengths < 0).any() or outside.any() or ((place < 0) | (place + length > sizes[buffer])).any():
        raise ValueError("views of text that is not there")
    return lengths


def _ranges(array: Any) -> tuple[Any, Any]:
    """Where the lists of an array start and end in its values."""
    import numpy
    import pyarrow as pa

    if pa.types.is_fixed_size_list(array.type):
        bounds = (numpy.arange(len(array) + 1) + array.offset) * array.type.list_size
    else:
        bounds = array.offsets.to_numpy().astype("i8")
        if _is(array.type, "list_view", "large_list_view"):
            # Those of missing lists say nothing.
            starts, sizes = _of_valid(array, bounds), _of_valid(array, array.sizes.to_numpy().astype("i8"))
            return starts, starts + sizes
    return bounds[:-1], bounds[1:]


def _of_valid(array: Any, numbers: Any) -> Any:
    """The numbers of an array's values, 0 where one is missing."""
    if not array.null_count:
        return numbers
    import numpy

    return numpy.where(array.is_valid().to_numpy(zero_copy_only=False), numbers, 0)
