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
    """152 user records keyed by their names: about 10 KB of MessagePack, three levels deep."""
    return {"team": "north", "users": {f"u{number}": _user(number) for number in range(152)}}


def _user(number: int) -> dict[str, Any]:
    mail = f"name{number}@example.org"
    return {"id": number, "name": f"name{number}", "mail": mail, "age": number % 90, "tags": ["new", "gift"]}
