"""DataFrames to pyarrow Tables and back: what does not come back as it was is refused.

A TypeError raised here completes the sentence "result is a <type>, ".
"""

# pyarrow and pandas say little of their types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false, reportUnknownLambdaType=false

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from uuid import UUID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Members of the schema's metadata: the frequency of the index, and what else pyarrow leaves out, as JSON: `objects`,
# which columns hold Python objects, and what stands for missing ones; `names` of the index that are not all text;
# `columns`, the frequency of their names; `unique`, that labels are.
_FREQUENCY = b"cachekit.freq"
_KEPT = b"cachekit.frame"
# Where pyarrow puts what it knows of a DataFrame, as JSON.
_PANDAS = b"pandas"

_NAMES = "whose column names Arrow alters; name the columns by different texts"

# Objects that Arrow keeps in a column of nothing else.
EXACT = {str, int, bool, bytes, float, dt.date}

# Types whose values are the same where they are equal.
_COMPARED = {str, int, bool, bytes, dt.date, dt.timedelta, UUID}


def to_table(frame: Any) -> Any:
    """The Table of a DataFrame.

    TypeError where Arrow cannot hold it, or would give back something else.
    """
    import pyarrow as pa

    if frame.attrs:
        _check_attrs(frame.attrs)
    kinds = set(map(type, frame.columns))
    if str in kinds and len(kinds) > 1:
        raise TypeError(_NAMES)
    named = frame
    if any(type(name) is int for name in frame.index.names):  # Which `_kept` has.
        texts = [None if name is None else str(name) for name in frame.index.names]
        named = frame.set_axis(frame.index.set_names(texts), axis=0)
    try:
        # The columns that several threads could convert at once hold the interpreter's lock.
        table = pa.Table.from_pandas(named, nthreads=1)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise TypeError(not_arrow(error)) from error
    metadata = dict(table.schema.metadata or {})
    if frame.attrs:  # As pyarrow writes them from version 22 on.
        metadata[_PANDAS] = json.dumps({**_pandas_metadata(table), "attributes": frame.attrs}).encode()
    frequency = _frequency(frame.index)
    if frequency is not None:
        metadata[_FREQUENCY] = frequency.encode()
    dtypes = list(frame.dtypes)
    kept = _kept(frame, dtypes, table)
    if kept:
        metadata[_KEPT] = json.dumps(kept).encode()
    if metadata != table.schema.metadata:
        table = table.replace_schema_metadata(metadata)
    if not _is_plain(frame, dtypes):
        _check(frame, dtypes, table, kept)
    return table


def of_table(table: Any, threads: bool) -> Any:
    """The DataFrame of a Table."""
    import pyarrow as pa

    metadata = table.schema.metadata or {}
    kept = json.loads(metadata.get(_KEPT, b"{}"))
    objects = {int(place): missing for place, missing in kept.get("objects", {}).items()}
    bare = table
    for place in objects:
        nothing = pa.field(table.schema.field(place).name, pa.null())
        bare = bare.set_column(place, nothing, pa.nulls(table.num_rows))
    frame = bare.to_pandas(use_threads=threads)
    for place, missing in objects.items():
        frame.isetitem(place, _objects(table.column(place), missing, frame.index))
    if not frame.attrs:  # pyarrow 21 and older leave them where they are.
        frame.attrs = _pandas_metadata(table).get("attributes") or {}
    if "names" in kept:
        frame.index.names = kept["names"]
    if "columns" in kept:
        frame.columns.freq = kept["columns"]
    if _FREQUENCY in metadata:
        frame.index.freq = metadata[_FREQUENCY].decode()
    return frame.set_flags(allows_duplicate_labels=False) if kept.get("unique") else frame


def not_arrow(error: Exception) -> str:
    """What a refusal of pyarrow's says."""
    return f"which Arrow cannot hold ({_reason(error)}); return columns of one type each"


def _reason(error: Exception) -> str:
    """What an error says, in one line; pyarrow's name the column in an argument of its own."""
    texts = [part for part in error.args if type(part) is str]
    lines = ("; ".join(texts) if len(texts) == len(error.args) else str(error)).splitlines()
    return lines[0] if lines else type(error).__name__


def _pandas_metadata(table: Any) -> dict[str, Any]:
    """What pyarrow says in the schema of the DataFrame that a table was."""
    metadata: dict[str, Any] = json.loads((table.schema.metadata or {}).get(_PANDAS, b"{}"))
    return metadata


def _check_attrs(attrs: dict[Any, Any]) -> None:
    """Refuses attributes that come back from JSON as something else."""
    try:
        kept = repr(json.loads(json.dumps(attrs))) == repr(attrs)
    except (TypeError, ValueError, RecursionError):
        kept = False
    if not kept:
        raise TypeError(
            "whose attrs JSON does not keep as they are; make them text, numbers, lists and dicts with text as keys"
        )


def _frequency(index: Any) -> str | None:
    """The text of an index's frequency."""
    frequency = getattr(index, "freq", None)
    if frequency is None or not hasattr(type(index), "inferred_freq"):  # A PeriodIndex's is its type.
        return None
    from pandas.tseries.frequencies import to_offset

    text: str = index.freqstr
    try:
        kept = to_offset(text) == frequency
    except ValueError:
        kept = False
    if not kept:
        raise TypeError(f"whose index has the frequency {frequency!r}, which no text keeps; set its freq to None")
    return text


def _kept(frame: Any, dtypes: list[Any], table: Any) -> dict[str, Any]:
    """What of a DataFrame pyarrow leaves out."""
    kept: dict[str, Any] = {}
    objects: dict[str, str] = {}
    for place, dtype in enumerate(dtypes):
        if _is_object(dtype):
            missing = _missing(frame.columns[place], frame.iloc[:, place], table.column(place))
            if missing is not None:
                objects[str(place)] = missing
    if objects:
        kept["objects"] = objects
    kinds = set(map(type, frame.index.names))
    if int in kinds and kinds <= {int, str, type(None)}:
        kept["names"] = list(frame.index.names)
    if not frame.flags.allows_duplicate_labels:
        kept["unique"] = True
    frequency = _frequency(frame.columns)
    if frequency is not None:
        kept["columns"] = frequency
    return kept


# ---- columns of Python objects


def _missing(name: Any, column: Any, stored: Any) -> str | None:
    """What stands for missing objects in a column: the name of one of `_marks`; None if pyarrow gives the column back.

    TypeError where its objects would come back as others.
    """
    marks = _marks()
    cells = column.to_numpy()
    kinds = set(map(type, cells))
    found = {mark for mark, value in marks.items() if mark != "nan" and type(value) in kinds}
    kinds -= {type(marks[mark]) for mark in found}
    if float in kinds:
        numbers = [cell for cell in cells if type(cell) is float]
        if any(number != number for number in numbers):
            found.add("nan")
            if all(number != number for number in numbers):
                kinds.discard(float)
    if len(found) > 1:
        raise TypeError(
            f"whose column {name!r} mixes {' and '.join(sorted(found))}, which Arrow does not tell apart; use one"
        )
    missing = found.pop() if found else "None"
    if len(kinds) <= 1 and kinds <= EXACT:
        return missing
    arrays = {kind.__name__ for kind in kinds} == {"ndarray"}
    back = stored.to_pandas() if arrays else _objects(stored, missing, column.index)
    for one, other in zip(cells, back):
        if not same(one, other):
            raise TypeError(altered(f"column {name!r}", one, other))
    return None if arrays else missing


def altered(place: str, one: Any, other: Any) -> str:
    """What a refusal says of an object that would come back as another."""
    was, becomes = type(one).__name__, type(other).__name__
    if was == becomes:  # Their content may be a secret.
        becomes = f"another {was}"
    return (
        f"whose {place} holds a {was} that Arrow gives back as {becomes}; give it values of one plain type "
        'and dicts of the same keys, or return a list of dicts with serializer="auto"'
    )


def _marks() -> dict[str, Any]:
    import pandas

    return {"None": None, "nan": float("nan"), "NA": pandas.NA, "NaT": pandas.NaT}


def _objects(column: Any, missing: str, index: Any) -> Any:
    """The Series of Python objects in a column."""
    import numpy
    import pandas
    import pyarrow as pa

    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        cells = column.to_numpy()  # Objects, and faster.
    else:
        cells = numpy.fromiter(values(column), dtype=object, count=len(column))
    if missing != "None" and column.null_count:
        cells = cells if cells.flags.writeable else cells.copy()
        cells[column.is_null().to_numpy()] = _marks()[missing]
    return pandas.Series(cells, index=index, dtype=object)


def values(column: Any) -> list[Any]:
    """The Python objects of a column."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):  # As no writer has it, and the objects of one category may be many.
        raise ValueError(f"Python objects stored as {column.type}")
    objects: list[Any] = column.to_pylist()
    return objects


def same(one: Any, other: Any) -> bool:
    """Whether objects are equal and of the same types all through."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is list:
        return len(one) == len(other) and all(map(same, one, other))
    if kind is dict:
        return bool(list(one) == list(other)) and all(map(same, one.values(), other.values()))
    if kind is float:
        return bool(one == other or (one != one and other != other))
    if kind is Decimal:
        return bool(one.as_tuple() == other.as_tuple())
    if kind is dt.datetime or kind is dt.time:
        zones = (one.utcoffset(), one.tzname()) == (other.utcoffset(), other.tzname())
        return one == other and one.fold == other.fold and zones
    if kind.__name__ == "ndarray":
        return one.dtype == other.dtype and repr(one.tolist()) == repr(other.tolist())
    return one is other or (kind in _COMPARED and one == other)


# ---- all other columns, and the index


def _is_plain(frame: Any, dtypes: list[Any]) -> bool:
    """Whether pyarrow is known to give back all but the columns of objects."""
    import pandas

    columns, index = frame.columns, frame.index
    text = "str" if _is_pandas_3() else "object"
    if type(columns) is not pandas.Index or str(columns.dtype) != text or set(map(type, columns)) != {str}:
        return False
    if not _is_name(columns.name) or not _is_name(index.name):
        return False
    if type(index) is not pandas.RangeIndex:
        if type(index) not in (pandas.Index, pandas.DatetimeIndex, pandas.TimedeltaIndex):
            return False
        of_numpy = type(index.dtype).__module__.startswith("numpy")  # Of pandas' own types others come back.
        if not of_numpy and type(index) is pandas.Index and str(index.dtype) != "str":
            return False
        if not _is_plain_type(index.dtype, len(index)):
            return False
    return all(_is_object(dtype) or _is_plain_type(dtype, len(index)) for dtype in dtypes)


def _is_pandas_3() -> bool:
    import pandas

    return int(pandas.__version__.partition(".")[0]) > 2


def _is_object(dtype: Any) -> bool:
    return getattr(dtype, "hasobject", False)  # pandas' own types have no such member.


def _is_name(name: Any) -> bool:
    return name is None or type(name) is str


def _is_plain_type(dtype: Any, rows: int) -> bool:
    kind = type(dtype).__name__
    if kind == "DatetimeTZDtype":
        return type(dtype.tz).__name__ == "ZoneInfo" or dtype.tz is dt.timezone.utc
    if kind == "CategoricalDtype":
        categories = dtype.categories
        if not rows or categories.name is not None:
            return False
        return type(categories).__name__ == "Index" and str(categories.dtype) in ("str", "int64")
    if kind == "StringDtype":  # Which pandas 2 gives back with the other storage.
        return bool(dtype.storage == "pyarrow") and _is_pandas_3()
    if kind == "BooleanDtype":
        return True
    if type(dtype).__module__.startswith("numpy"):
        return bool(dtype.isnative) and (dtype.kind in "iubmM" or str(dtype) in ("float32", "float64"))
    return kind.startswith(("Int", "UInt")) and kind.endswith(("8Dtype", "16Dtype", "32Dtype", "64Dtype"))


def _check(frame: Any, dtypes: list[Any], table: Any, kept: dict[str, Any]) -> None:
    """Refuses what does not come back as it was."""
    objects = kept.get("objects", {})
    try:
        shape = of_table(table.slice(0, 1), threads=False)
    except Exception as error:
        raise TypeError(
            f"which Arrow does not give back ({_reason(error)}); reset its index, convert its columns"
        ) from error
    if not _is_same_index(frame.columns, shape.columns):
        raise TypeError(_NAMES)
    for place, (name, one, other) in enumerate(zip(frame.columns, dtypes, shape.dtypes)):
        if not _is_same_type(one, other):
            raise TypeError(
                f"whose column {name!r} of {_text(one)} comes back as {_text(other)}; convert it with .astype(…)"
            )
        if _is_object(one) or str(place) in objects or _is_plain_type(one, len(frame)):
            continue
        back = table.select([place]).to_pandas().iloc[:, 0]
        if not back.reset_index(drop=True).equals(frame.iloc[:, place].reset_index(drop=True)):
            raise TypeError(f"whose column {name!r} of {one} comes back with other values; convert it with .astype(…)")
    levels = [name for name in _pandas_metadata(table)["index_columns"] if type(name) is str]
    index = table.select(levels).to_pandas().index
    if index.nlevels == shape.index.nlevels:
        index.names = shape.index.names
    if not _is_same_index(frame.index, index):
        raise TypeError("whose index Arrow alters; return it as columns: frame.reset_index()")


def _text(dtype: Any) -> str:
    """A type's name, with what tells two types of text apart."""
    storage = getattr(dtype, "storage", None)
    return str(dtype) if storage is None else f"{dtype}[{storage}]"


def _is_same_type(one: Any, other: Any) -> bool:
    if type(one).__name__ != "CategoricalDtype":
        return bool(one == other)
    return one == other and one.ordered == other.ordered and _is_same_index(one.categories, other.categories)


def _is_same_index(one: Any, other: Any) -> bool:
    """Whether indexes hold the same labels, of the same types, under the same names; ranges are indexes of ints."""
    import pandas

    if one.nlevels != other.nlevels or not _is_same_type(one.dtype, other.dtype):
        return False
    if list(map(type, one.names)) != list(map(type, other.names)) or list(one.names) != list(other.names):
        return False
    if one.nlevels > 1:
        levels = range(one.nlevels)
        return all(_is_same_index(one.get_level_values(level), other.get_level_values(level)) for level in levels)
    ranges = {pandas.RangeIndex, pandas.Index}
    if type(one) is not type(other) and {type(one), type(other)} != ranges:
        return False
    if _is_object(one.dtype):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one.equals(other))
