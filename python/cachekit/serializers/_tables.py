"""Tables to Arrow IPC files and back, and what auto stores of pandas objects. Imported only when one is at hand.

The text of a TypeError raised here completes the sentence "result is a <type>, ".
"""

# pyarrow and pandas say little of their types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import json
import sys
from importlib.util import find_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Members of the schema's metadata: what a table was before it became one, and the frequency of its index.
_KIND = b"cachekit"
_FREQUENCY = b"cachekit.freq"
# Where pyarrow puts what else it knows of a DataFrame, as JSON.
_PANDAS = b"pandas"
# Record batches hold at most so many bytes.
_BATCH_BYTES = 8 << 20
# Up to so many bytes, handing work to other threads takes longer than the work.
_ONE_THREAD = 1 << 20
# What pyarrow makes of these types in object columns comes back as something else.
_ALTERED = (set, frozenset, tuple)
_DATA = "pip install 'cachekit[data]'"


def has_pyarrow() -> bool:
    """Whether pyarrow can be imported."""
    return "pyarrow" in sys.modules or find_spec("pyarrow") is not None


def codec(compression: str) -> str | None:
    """The IPC codec of a setting."""
    if compression == "auto":
        from cachekit.config import effective

        compression = effective.current().arrow_compression
    return None if compression == "none" else compression


def write(table: Any, sink: Any, compression: str) -> bool:
    """Writes a table of any kind to a sink; whether it is compressed."""
    import pyarrow as pa

    name = codec(compression)
    table = _marked(*_table(table))
    rows = table.num_rows
    size = _size(table)
    batch = max(1, rows * _BATCH_BYTES // size) if size > _BATCH_BYTES else rows
    options = pa.ipc.IpcWriteOptions(compression=name, use_threads=size > _ONE_THREAD)
    with pa.PythonFile(sink, mode="w") as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch or None)
    return name is not None


def write_frame(frame: Any, sink: Any) -> bool:
    """Writes a DataFrame as auto does."""
    return write(frame, sink, "auto")


def read(buffer: Any, return_format: str | None) -> Any:
    """The table in a buffer, over its memory where that can be."""
    import pyarrow as pa

    threads = len(buffer) > _ONE_THREAD
    options: dict[str, Any] = {"use_threads": threads}
    if hasattr(pa.ipc, "Alignment"):
        options["ensure_alignment"] = pa.ipc.Alignment.DataTypeSpecific
    with pa.ipc.open_file(pa.py_buffer(buffer), options=pa.ipc.IpcReadOptions(**options)) as reader:
        table = reader.read_all()
    metadata = dict(table.schema.metadata or {})
    kind = metadata.pop(_KIND, b"pandas").decode()
    frequency = metadata.pop(_FREQUENCY, None)
    table = _as_kind(table.replace_schema_metadata(metadata or None), return_format or kind, threads)
    if frequency is not None and hasattr(table, "index"):
        table.index.freq = frequency.decode()
    return table


def _size(table: Any) -> int:
    """A table's bytes, where pyarrow can tell them; else those of the buffers that it lies in."""
    try:
        return int(table.nbytes)
    except TypeError:  # pyarrow 21 and string views, of which polars makes its columns
        return int(table.get_total_buffer_size())


def read_frame(buffer: Any) -> Any:
    """The DataFrame in a buffer."""
    return read(buffer, "pandas")


def _as_kind(table: Any, kind: str, threads: bool) -> Any:
    if kind == "arrow":
        return table
    if kind == "polars":
        import polars

        return polars.from_arrow(table, rechunk=False)
    if kind.startswith("columns:"):
        return _columns(table, kind.partition(":")[2])
    frame = table.to_pandas(use_threads=threads)
    if not frame.attrs:  # pyarrow 21 and older leave them where they are.
        frame.attrs = _pandas_metadata(table).get("attributes") or {}
    return frame


def _columns(table: Any, letters: str) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, column, letter in zip(table.column_names, table.columns, letters):
        columns[name] = column.to_numpy().copy() if letter == "n" else column.to_pylist()
    return columns


def _table(table: Any) -> tuple[Any, str]:
    """A pyarrow Table of the columns, and what they came as."""
    import pyarrow as pa

    if isinstance(table, pa.Table):
        return table, "arrow"
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and type(table) is pandas.DataFrame:
        return _of_pandas(table), "pandas"
    if polars is not None and type(table) is polars.DataFrame:
        return pa.table(table), "polars"
    if type(table) is dict:
        return _of_columns(table)
    raise TypeError(
        'which is not a table; serializer="arrow" stores pandas and polars DataFrames, pyarrow Tables and dicts of '
        'columns, and serializer="auto" what else Python has'
    )


def _of_columns(columns: dict[Any, Any]) -> tuple[Any, str]:
    import pyarrow as pa

    numpy = sys.modules.get("numpy")
    letters = ""
    for name, column in columns.items():
        is_array = numpy is not None and type(column) is numpy.ndarray and column.ndim == 1
        is_array = is_array and column.dtype.kind in "iufbmM"
        if not isinstance(name, str) or not (is_array or type(column) is list):
            raise TypeError(
                f'whose item {name!r} is not a column; a dict for serializer="arrow" holds lists or one-dimensional '
                'arrays by name, serializer="auto" stores others'
            )
        letters += "n" if is_array else "l"
    try:
        return pa.table(columns), f"columns:{letters}"
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise TypeError(_not_arrow(error)) from error


def _of_pandas(frame: Any) -> Any:
    import pyarrow as pa

    if frame.attrs:
        _check_attrs(frame.attrs)
    try:
        # The columns that several threads could convert at once hold the interpreter's lock.
        table = pa.Table.from_pandas(frame, nthreads=1)
        for place, field in zip(range(len(frame.columns)), table.schema):
            if pa.types.is_nested(field.type):
                _check_nested(frame.columns[place], frame.iloc[:, place])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
        raise TypeError(_not_arrow(error)) from error
    metadata = dict(table.schema.metadata or {})
    if frame.attrs:  # As pyarrow writes them from version 22 on.
        metadata[_PANDAS] = json.dumps({**_pandas_metadata(table), "attributes": frame.attrs}).encode()
    frequency = getattr(frame.index, "freqstr", None)
    if frequency is not None and hasattr(type(frame.index), "inferred_freq"):  # A PeriodIndex's is its type.
        metadata[_FREQUENCY] = frequency.encode()
    return table.replace_schema_metadata(metadata)


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


def _check_nested(name: Any, column: Any) -> None:
    """TypeError where lists and structs are not what the column's objects are."""
    if not _is_object(column.dtype):
        return
    for value in column:
        if isinstance(value, _ALTERED):
            raise TypeError(
                f"whose column {name!r} holds a {type(value).__name__}, which Arrow turns into a list; make it a list"
            )
    shapes = {frozenset(value) for value in column if type(value) is dict}
    if len(shapes) > 1:
        raise TypeError(
            f"whose column {name!r} holds dicts with different keys, which Arrow fills up; give all the same keys"
        )


def _not_arrow(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"which Arrow cannot hold ({text}); return columns of one type each"


def _marked(table: Any, kind: str) -> Any:
    if kind == "pandas":
        return table  # What those say who do not say.
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _KIND: kind.encode()})


# ---- within other values


def nested_to_ipc(table: Any) -> bytes:
    """A DataFrame or Series as an IPC file."""
    if not has_pyarrow():
        raise TypeError(f"which needs pyarrow to be stored within another value; {_DATA}")
    from io import BytesIO

    out = BytesIO()
    if type(table).__name__ == "Series":
        if table.name is not None and type(table.name) not in (str, int):
            raise TypeError("whose name is neither text nor an int; rename it")
        table = _series_frame(table)
    write(table, _Open(out), "auto")
    return out.getvalue()


def nested_frame(ipc: bytes) -> Any:
    """The DataFrame of an IPC file."""
    return read(ipc, "pandas")


def nested_series(ipc: bytes) -> Any:
    """The Series of an IPC file."""
    frame = read(ipc, "pandas")
    series = frame.iloc[:, 0]
    series.attrs = frame.attrs
    # A name that no column can have: the frame's own says so.
    return series.rename(frame.columns.name if frame.columns.name != _NAMED else frame.columns[0])


_NAMED = "cachekit.named"


def _series_frame(series: Any) -> Any:
    frame = series.to_frame(name="values" if series.name is None else series.name)
    frame.columns.name = None if series.name is None else _NAMED
    return frame


class _Open:
    """A file that stays open, for pyarrow closes what it writes to."""

    def __init__(self, file: Any) -> None:
        self.write = file.write
        self.closed = False

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


# ---- the protocol's forms of Series, and of DataFrames without pyarrow


def _plain(values: Any) -> dict[str, Any] | None:
    """The form of a column of numbers or text; None for any other."""
    from pandas.api.types import infer_dtype

    dtype: Any = values.dtype
    if getattr(dtype, "kind", "O") in "iufb" and type(dtype).__module__.startswith("numpy"):
        data = values.to_numpy().tobytes()
        return {"type": "numeric", "data": data, "dtype": str(dtype)}
    if infer_dtype(values, skipna=True) == "string":
        data = [None if value != value else value for value in values]
        if all(value is None or type(value) is str for value in data) and _comes_back(values, data):
            return {"type": "object", "data": data}
    return None


def _is_object(dtype: Any) -> bool:
    return str(dtype) == "object"


def _comes_back(values: Any, data: list[str | None]) -> bool:
    """Whether the texts, read as the protocol has them, are the same column."""
    import pandas

    return bool(pandas.Series(data).equals(values.reset_index(drop=True)))


def _of_plain(form: dict[str, Any]) -> Any:
    if form["type"] == "numeric":
        import numpy

        dtype = numpy.dtype(form["dtype"])
        if dtype.hasobject:
            raise TypeError("a column of objects")
        return numpy.frombuffer(form["data"], dtype=dtype).copy()
    return form["data"]


def _is_default(index: Any, rows: int) -> bool:
    import pandas

    return type(index) is pandas.RangeIndex and index.equals(pandas.RangeIndex(rows)) and index.name is None


def series_parts(series: Any) -> dict[str, Any] | None:
    """The protocol's form of a Series; None where that would lose something."""
    if series.attrs or not _is_default(series.index, len(series)):
        return None
    if series.name is not None and type(series.name) is not str:
        return None
    form = _plain(series)
    return None if form is None else {"name": series.name, "index": None, **form}


def series_of(parts: dict[str, Any]) -> Any:
    """The Series of the protocol's form."""
    import pandas

    return pandas.Series(_of_plain(parts), index=parts.get("index"), name=parts.get("name"))


def frame_parts(frame: Any) -> dict[str, Any]:
    """The protocol's form of a DataFrame where there is no pyarrow."""
    names = list(frame.columns)
    if frame.attrs or not _is_default(frame.index, len(frame)) or frame.columns.name is not None:
        raise TypeError(f"with more than columns and a plain index, which needs pyarrow to be stored; {_DATA}")
    if not names:
        raise TypeError(f"without columns, which needs pyarrow to be stored; {_DATA}")
    if len(set(names)) != len(names) or not all(type(name) is str for name in names):
        raise TypeError(f"whose columns are not named by different texts, which needs pyarrow to be stored; {_DATA}")
    data = {name: _plain(frame[name]) for name in names}
    for name, form in data.items():
        if form is None:
            raise TypeError(f"whose column {name!r} is neither numbers nor text, which needs pyarrow; {_DATA}")
    return {"columns": names, "index": None, "data": data}


def frame_of(parts: dict[str, Any]) -> Any:
    """The DataFrame of the protocol's form."""
    import pandas

    data = {name: _of_plain(parts["data"][name]) for name in parts["columns"]}
    return pandas.DataFrame(data, columns=parts["columns"], index=parts.get("index"))
