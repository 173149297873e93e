"""Functions and values that this cachekit and the published one both know, under the same names."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import pathlib
import uuid
from typing import Any

UTC_PLUS_2 = dt.timezone(dt.timedelta(hours=2))

VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "int": -129,
    "largest": 2**64 - 1,
    "smallest": -(2**63),
    "float": 0.1,
    "negative-zero": -0.0,
    "nan": math.nan,
    "infinity": math.inf,
    "minus-infinity": -math.inf,
    "denormal": 5e-324,
    "str": "grün 🌱 \x00 'quoted'",
    "empty-str": "",
    "bytes": bytes(range(256)),
    "empty-bytes": b"",
    "list": [1, "two", 3.0, None, [True, []]],
    "empty-list": [],
    "dict": {"b": 1, "a": {"deep": [{"er": b"\xff"}, {}]}, "": dt.date(1999, 12, 31)},
    "bytes-keys": {b"k": 1, "k": 2},
    "empty-dict": {},
    "datetime": dt.datetime(2024, 2, 29, 12, 30, 15, 123456),
    "aware-datetime": dt.datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC_PLUS_2),
    "date": dt.date(1, 1, 1),
    "time": dt.time(23, 59, 59, 999999),
    "long-str": "abcdefghij" * 10_000,
    "long-bytes": bytes(100_000),
    "long-list": [{"id": i, "name": f"n{i}", "at": dt.date(2024, 1, 1)} for i in range(3_000)],
}
# These come back as the wire has them.
CHANGED: dict[str, Any] = {"tuple": (1, (2, 3))}


def _numpy() -> Any:
    import numpy

    return numpy


def _pandas() -> Any:
    import pandas

    return pandas


def _frame() -> Any:
    columns = {"id": [1, 2, 3], "price": [0.5, -1.25, math.nan], "on": [True, False, True], "name": ["a", "ü", ""]}
    return _pandas().DataFrame(columns)


# What the other serializers hold, made when asked for: the libraries are not everywhere.
RICH: dict[str, Any] = {
    "set": lambda: {3},
    "frozenset": lambda: frozenset([3]),
    "tuple": lambda: (1, (2, 3), []),
    "uuid": lambda: uuid.UUID(int=5),
    "deep": lambda: {"a": [(1, {2}), {"b": uuid.UUID(int=7)}], "at": dt.datetime(2024, 2, 29, 12)},
    "array": lambda: _numpy().arange(12, dtype="int32").reshape(3, 4),
    "array-of-floats": lambda: _numpy().linspace(-1, 1, 1000),
    "array-of-bools": lambda: _numpy().array([True, False]),
    "array-without-dimensions": lambda: _numpy().array(7.5),
    "array-in-a-dict": lambda: {"a": _numpy().arange(3.0)},
    "series": lambda: _pandas().Series([1.5, 2.5], name="s"),
    "series-of-text": lambda: _pandas().Series(["a", "b"], name="s"),
    "frame": _frame,
    "frame-with-index": lambda: _frame().set_index("name"),
    "frame-of-times": lambda: _pandas().DataFrame({"at": _pandas().date_range("2024-02-28", periods=3, tz="UTC")}),
    "frame-of-categories": lambda: _frame().astype({"name": "category"}),
    "empty-frame": lambda: _pandas().DataFrame({"a": _numpy().array([], dtype="float64")}),
    "large-frame": lambda: _pandas().DataFrame({"a": _numpy().arange(200_000), "b": 0.5}),
}


def shown(value: Any) -> str:
    """A value's repr, whole and with its types where a library's own would leave them out."""
    kind = type(value).__name__
    if kind == "ndarray":
        return f"array {value.dtype} {value.shape} {value.tobytes().hex()}"
    if kind == "Series":
        return f"series {value.name!r} {value.dtype} {value.tolist()!r} {value.index.tolist()!r}"
    if kind == "DataFrame":
        index = value.index
        columns = [shown(value[name]) for name in value.columns]
        return f"frame {type(index).__name__} {index.names!r} {index.tolist()!r} {columns!r}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {shown(item)}" for key, item in value.items()) + "}"
    return repr(value)


CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "nothing": ((), {}),
    "int": ((1,), {}),
    "int-as-float": ((1.0,), {}),
    "negative-zero": ((-0.0,), {}),
    "nan": ((math.nan,), {}),
    "bool": ((True,), {}),
    "none": ((None,), {}),
    "large": ((2**64 - 1, -(2**63)), {}),
    "str": (("grün 🌱",), {}),
    "bytes": ((b"\x00\xff",), {}),
    "nested": (([1, (2, 3)], {"b": {"d": 1, "c": 2}, "a": None}), {}),
    "keywords": ((1,), {"z": 1, "a": [2]}),
    "path": ((pathlib.PurePosixPath("/a/b"),), {}),
    "uuid": ((uuid.UUID(int=5),), {}),
    "decimal": ((decimal.Decimal("1.50"),), {}),
    "aware-datetime": ((dt.datetime(2024, 2, 29, 12, tzinfo=UTC_PLUS_2),), {}),
    "long": (("x" * 100_000,), {}),
}

# Which cases ran a function, since it was last looked at.
ran: list[str] = []


def value(name: str) -> Any:
    ran.append(name)
    return VALUES[name] if name in VALUES else CHANGED[name]


async def avalue(name: str) -> Any:
    ran.append(name)
    return VALUES[name] if name in VALUES else CHANGED[name]


def rich(name: str) -> Any:
    ran.append(name)
    return RICH[name]()


async def arich(name: str) -> Any:
    ran.append(name)
    return RICH[name]()


def echo(*args: Any, **kwargs: Any) -> str:
    ran.append("echo")
    return f"{args!r} {sorted(kwargs.items())!r}"


class Shop:
    @staticmethod
    def price(name: str) -> Any:
        ran.append(name)
        return VALUES[name]


FUNCTIONS: dict[str, Any] = {
    "value": value,
    "avalue": avalue,
    "rich": rich,
    "arich": arich,
    "echo": echo,
    "Shop.price": Shop.price,
}


def call(function: Any, name: str) -> Any:
    """What a cached form of one of `FUNCTIONS` returns, or an awaitable of it."""
    if function.__name__ == "echo":
        args, kwargs = CALLS[name]
        return function(*args, **kwargs)
    return function(name)
