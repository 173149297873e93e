"""The values that the benchmarks cache: deterministic, the same for every contender and process."""

from __future__ import annotations

from typing import Any

SMALL_TEXT = "cachekit " * 11 + "!"  # 100 characters: 102 bytes of MessagePack
MEGABYTE = bytes(range(256)) * 4096


def packed(value: Any) -> bytes:
    """``value`` as plain MessagePack, what a user of redis-py would store."""
    import msgpack  # not in the published package's environment

    return bytes(msgpack.packb(value) or b"")


def nested() -> dict[str, Any]:
    """A page of 72 orders: about 10 KB of MessagePack, 3 600 values, dicts three levels deep."""
    return {"shop": "north", "page": 3, "orders": [_order(number) for number in range(72)]}


def _order(number: int) -> dict[str, Any]:
    return {
        "id": 70_000 + number,
        "ok": number % 3 == 0,
        "who": {"name": f"user{number}", "city": f"city{number % 7}", "age": 20 + number % 50},
        "sum": 19.25 + number,
        "rows": [{"sku": number * 31 % 997 + row, "n": row + 1, "at": number * 7 % 90} for row in range(3)],
        "tags": ["new", "gift", f"t{number % 5}"],
        "pos": [number % 40, number % 11, -(number % 17)],
        "note": None,
    }
