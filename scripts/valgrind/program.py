"""What `make valgrind` runs: every raw type object, slot and codec of the native module, a few times each."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import gc
import threading
import uuid
from collections import OrderedDict
from typing import Any

from cachekit import cache, decode_interop_value, encode_interop_value, generate_interop_key
from cachekit._native import _testing


class Store:
    """A backend of a dict."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.entries.get(key)

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        self.entries[key] = value

    def delete(self, key: str) -> bool:
        return self.entries.pop(key, None) is not None

    def exists(self, key: str) -> bool:
        return key in self.entries

    def health_check(self) -> tuple[bool, dict[str, Any]]:
        return True, {"latency_ms": 0.0, "backend_type": "dict"}


VALUES: list[Any] = [
    None,
    -(2**63),
    2**64 - 1,
    0.1,
    "grün 🌱" * 40,
    bytes(range(256)) * 3,
    {"a": [1, {"b": [(), [], {}]}], "at": dt.datetime(2024, 2, 29, tzinfo=dt.timezone.utc)},
    [{"id": n, "name": f"n{n}", "on": dt.date(2024, 1, 1)} for n in range(50)],
    OrderedDict(b=1, a=(1, 2)),
]
ARGUMENTS: list[Any] = [
    *VALUES,
    {1, "x", (2, b"y")},
    uuid.UUID(int=5),
    decimal.Decimal("1.5"),
    2**200,
    1j,
    "\ud800",
    dt.timedelta(1),
]


def give(value: Any, *rest: Any, **named: Any) -> Any:
    return value


async def agive(value: Any, **named: Any) -> Any:
    await asyncio.sleep(0)
    return value


class Shop:
    def __cache_key__(self) -> str:
        return "shop"

    @cache(backend=None)
    def price(self, article: str) -> float:
        return len(article) / 2

    @classmethod
    @cache(backend=None)
    def kind(cls, n: int) -> list[int]:
        return [n]


def calls(**options: Any) -> None:
    function: Any = cache(**options)(give)
    for value in ARGUMENTS:
        for _ in range(3):
            try:
                got = function(value, 1, z=[value], a=None)
            except ValueError:  # interop mode refuses some arguments
                break
            if isinstance(got, (list, dict)):
                got.clear()
    function.invalidate_cache(VALUES[0], 1, z=[VALUES[0]], a=None)
    function.cache_clear()


def raising() -> None:
    @cache(backend=None)
    def fails(n: int) -> int:
        raise ValueError(n)

    for n in (1, 1, 2):
        try:
            fails(n)
        except ValueError:
            pass


async def tasks() -> None:
    function: Any = cache(backend=None)(agive)
    for value in VALUES:
        await asyncio.gather(*(function(value) for _ in range(5)))
        await function(value)
    for _ in range(3):  # coroutines that are never awaited, closed, cancelled
        function(1)
        closed = function(2)
        closed.close()
        task = asyncio.ensure_future(function(object()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    remote: Any = cache(backend=Store(), namespace="tasks", interop="agive")(agive)
    for value in VALUES:
        await asyncio.gather(*(remote(value) for _ in range(3)))
    await remote.ainvalidate_cache()


def threads() -> None:
    function: Any = cache(backend=None)(give)
    crowd = [threading.Thread(target=lambda: [function(n % 7) for n in range(50)]) for _ in range(4)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()


def codecs() -> None:
    for value in VALUES:
        encoded = _testing.encode_value(value)
        _testing.decode_value(encoded)
        for end in range(0, len(encoded), 7):
            try:
                _testing.decode_value(encoded[:end])
            except Exception:
                pass
        stored = encode_interop_value(value)
        decode_interop_value(stored)
        for end in range(0, len(stored), 7):
            try:
                decode_interop_value(stored[:end])
            except Exception:
                pass
        try:
            generate_interop_key("n", "o", [value])
        except ValueError:  # a date is no argument there
            pass


def main() -> None:
    codecs()
    calls(backend=None)
    calls(backend=None, copy=True)
    calls(backend=Store(), namespace="plain")
    calls(backend=Store(), namespace="bare", integrity_checking=False, l1_enabled=False, safe_mode=True)
    calls(backend=Store(), namespace="shared", interop="give")
    raising()
    shops = [Shop() for _ in range(20)]
    for shop in shops:
        shop.price("tea")
        shop.price("tea")
        Shop.kind(1)
    del shops
    threads()
    asyncio.run(tasks())
    for _ in range(20):  # functions that come and go
        cache(backend=None)(lambda x: [x])(1)
    gc.collect()
    print("done")


main()
