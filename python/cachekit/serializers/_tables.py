"""Tables to Arrow IPC files and back, and what auto stores of pandas objects. Imported only when one is at hand.

The text of a TypeError raised here completes the sentence "result is a <type>, ".
"""

# pyarrow and pandas say little of their types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import sys
from importlib.util import find_spec

from cachekit.serializers import _pandas, _sharing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit._native import Sink

# The member of the schema's metadata that says what a table was before it became one.
_KIND = b"cachekit"
# Record batches hold at most so many bytes.
_BATCH_BYTES = 8 << 20
# What is written besides the values, mostly.
_METADATA_BYTES = 64 << 10
# Up to so many bytes, handing work to other threads takes longer than the work.
_ONE_THREAD = 1 << 20
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


def write(table: Any, sink: Sink, compression: str) -> bool:
    """Writes a table of any kind to a sink; whether it is compressed."""
    import pyarrow as pa

    name = codec(compression)
    table = _with_one_dictionary_each(_marked(*_table(table)))
    rows = table.num_rows
    size = _size(table)
    batch = max(1, rows * _BATCH_BYTES // size) if size > _BATCH_BYTES else rows
    options = pa.ipc.IpcWriteOptions(compression=name, use_threads=size > _ONE_THREAD)
    batches = rows // batch + 1 if rows else 1
    sink.reserve(size + _METADATA_BYTES + batches * (512 + 128 * table.num_columns))
    with pa.PythonFile(sink, mode="w") as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
        if rows:
            try:
                writer.write_table(table, max_chunksize=batch)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise TypeError(_pandas.not_arrow(error)) from error
        else:  # A file without a batch has no categories.
            columns = [column.combine_chunks() for column in table.columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=table.schema))
    sink.check_shared(_sharing.expanded(table))
    return name is not None


def write_frame(frame: Any, sink: Sink) -> bool:
    """Writes a DataFrame as auto does."""
    return write(frame, sink, "auto")


def read(buffer: Any, trusted: bool, return_format: str | None) -> Any:
    """The table in a buffer, over its memory where that can be.

    pyarrow trusts offsets and lengths: where whoever can write to the store chose them, they are checked first.
    """
    import pyarrow as pa

    from cachekit._native import check_arrow, check_arrow_shared

    if not trusted:
        check_arrow(buffer)
    threads = len(buffer) > _ONE_THREAD
    options: dict[str, Any] = {"use_threads": threads}
    if hasattr(pa.ipc, "Alignment"):
        options["ensure_alignment"] = pa.ipc.Alignment.DataTypeSpecific
    with pa.ipc.open_file(pa.py_buffer(buffer), options=pa.ipc.IpcReadOptions(**options)) as reader:
        table = reader.read_all()
    if not trusted:
        table.validate()
        check_arrow_shared(len(buffer), _sharing.expanded(table))
        _validate(table)
    metadata = table.schema.metadata or {}
    was = metadata.get(_KIND, b"pandas").decode()
    kind = return_format or was
    if not was == kind == "pandas":
        metadata = {name: value for name, value in metadata.items() if not _is_ours(name)}
        table = table.replace_schema_metadata(metadata or None)
    return _as_kind(table, kind, threads)


def _validate(table: Any) -> None:
    """Checks the values of a table whose buffers have the sizes that they must have."""
    for column in table.columns:
        if not all(map(_is_sound_text, column.chunks)):
            column.validate(full=True)


def _is_sound_text(array: Any) -> bool:
    """Whether an array is text that pyarrow's own validation, which looks at one text after the other, would pass."""
    import pyarrow as pa

    from cachekit._native import is_arrow_text

    is_large = pa.types.is_large_string(array.type)
    if array.null_count or not (is_large or pa.types.is_string(array.type)):
        return False
    _, offsets, values = array.buffers()
    return offsets is not None and is_arrow_text(offsets, values or b"", is_large, array.offset, len(array))


def _is_ours(name: bytes) -> bool:
    """Whether a member of the schema's metadata is this package's."""
    return name == _KIND or name.startswith(_KIND + b".")


def _size(table: Any) -> int:
    """A table's bytes, where pyarrow can tell them; else those of the buffers that it lies in."""
    try:
        return int(table.nbytes)
    except TypeError:  # pyarrow 21 and string views, of which polars makes its columns
        return int(table.get_total_buffer_size())


def read_frame(buffer: Any, trusted: bool) -> Any:
    """The DataFrame in a buffer."""
    return read(buffer, trusted, "pandas")


def _as_kind(table: Any, kind: str, threads: bool) -> Any:
    if kind == "arrow":
        return table
    if kind == "polars":
        import polars

        names = table.column_names
        if "" not in names:
            return polars.from_arrow(table, rechunk=False)
        # polars gives a column whose name is empty another one.
        frame: Any = polars.from_arrow(table.rename_columns([str(at) for at in range(len(names))]), rechunk=False)
        frame.columns = names
        return frame
    if kind.startswith("columns:"):
        return _columns(table, kind.partition(":")[2])
    return _pandas.of_table(table, threads)


def _columns(table: Any, letters: str) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, column, letter in zip(table.column_names, table.columns, letters):
        columns[name] = column.to_numpy().copy() if letter == "n" else _pandas.values(column)
    return columns


def _table(table: Any) -> tuple[Any, str]:
    """A pyarrow Table of the columns, and what they came as."""
    import pyarrow as pa

    if isinstance(table, pa.Table):
        for name in table.schema.metadata or ():
            if _is_ours(name):
                raise TypeError(
                    f"whose schema's metadata has {name.decode()!r}, which marks entries; name it otherwise"
                )
        return table, "arrow"
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and type(table) is pandas.DataFrame:
        return _pandas.to_table(table), "pandas"
    if polars is not None and type(table) is polars.DataFrame:
        for name, dtype in table.schema.items():
            if has_objects(dtype):
                raise TypeError(f"whose column {name!r} holds Python objects, which only their process can read")
        try:
            return pa.table(table), "polars"
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise TypeError(_pandas.not_arrow(error)) from error
    if type(table) is dict:
        return _of_columns(table)
    for module in filter(None, (pandas, polars)):
        if isinstance(table, module.DataFrame):
            name = f"{module.__name__}.DataFrame"
            raise TypeError(f"whose class adds what a {name} does not keep; return {name}(…) of it")
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
        table = pa.table(columns)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise TypeError(_pandas.not_arrow(error)) from error
    for name, column in columns.items():
        _check_column(name, column, table[name])
    return table, f"columns:{letters}"


def _check_column(name: str, column: Any, stored: Any) -> None:
    """Refuses a list or array that Arrow gives back as another."""
    if type(column) is not list:
        back = stored.slice(0, 1).to_numpy().dtype
        if back != column.dtype:
            raise TypeError(f"whose column {name!r} of {column.dtype} comes back as {back}; convert it with .astype(…)")
        return
    kinds = set(map(type, column)) - {type(None)}
    if len(kinds) <= 1 and kinds <= _pandas.EXACT:
        return
    for one, other in zip(column, stored.to_pylist()):
        if not _pandas.same(one, other):
            raise TypeError(_pandas.altered(f"column {name!r}", one, other))


def _with_one_dictionary_each(table: Any) -> Any:
    """A table whose columns have one dictionary for all their chunks, as a file has; joined tables have several."""
    import pyarrow as pa

    try:
        return table.unify_dictionaries()
    except pa.ArrowException:  # Where there are several indeed, the writer refuses them.
        return table


def has_objects(dtype: Any) -> bool:
    """Whether a polars type is, or holds, Python objects, of which Arrow would get the addresses."""
    from polars import Object

    inner = [field.dtype for field in getattr(dtype, "fields", ())]
    inner += [dtype.inner] if hasattr(dtype, "inner") else []
    return dtype == Object or any(map(has_objects, inner))


def _marked(table: Any, kind: str) -> Any:
    if kind == "pandas":
        return table  # What those say who do not say.
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _KIND: kind.encode()})


# ---- within other values


def nested_to_ipc(table: Any) -> bytes:
    """A DataFrame or Series as an IPC file."""
    if not has_pyarrow():
        raise TypeError(f"which needs pyarrow to be stored within another value; {_DATA}")
    if type(table).__name__ == "Series":
        if table.name is not None and type(table.name) not in (str, int):
            raise TypeError("whose name is neither text nor an int; rename it")
        table = _series_frame(table)
    from cachekit._native import write_arrow

    return write_arrow(write_frame, table)


def nested_series(ipc: bytes, trusted: bool) -> Any:
    """The Series of an IPC file."""
    frame = read_frame(ipc, trusted)
    series = frame.iloc[:, 0]
    series.attrs = frame.attrs
    if frame.columns.name != _NAMED:
        return series.rename(frame.columns.name)
    name = frame.columns[0]
    return series.rename(name if type(name) is str else int(name))  # NumPy's integers are of an index of ints.


_NAMED = "cachekit.named"


def _series_frame(series: Any) -> Any:
    frame = series.to_frame(name="values" if series.name is None else series.name)
    frame.columns.name = None if series.name is None else _NAMED
    return frame


# ---- the protocol's forms of Series, and of DataFrames without pyarrow


def _plain(values: Any) -> dict[str, Any] | None:
    """The form of a column of numbers or text; None for any other."""
    from pandas.api.types import infer_dtype

    dtype: Any = values.dtype
    if getattr(dtype, "kind", "O") in "iufb" and type(dtype).__module__.startswith("numpy"):
        data = values.to_numpy().tobytes()
        return {"type": "numeric", "data": data, "dtype": str(dtype)}
    if infer_dtype(values, skipna=True) == "string":
        data = [None if gone else value for value, gone in zip(values, values.isna())]
        if all(value is None or type(value) is str for value in data) and _comes_back(values, data):
            return {"type": "object", "data": data}
    return None


def _comes_back(values: Any, data: list[str | None]) -> bool:
    """Whether the texts, read as the protocol has them, are the same column."""
    import pandas

    back = pandas.Series(data)
    kept = back.dtype == values.dtype and back.equals(values.reset_index(drop=True))
    return bool(kept and (str(back.dtype) != "object" or all(map(_pandas.same, back, values))))


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
    if series.attrs or not series.flags.allows_duplicate_labels or not _is_default(series.index, len(series)):
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
    if (
        frame.attrs
        or not frame.flags.allows_duplicate_labels
        or not _is_default(frame.index, len(frame))
        or frame.columns.name is not None
    ):
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
