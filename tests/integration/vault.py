"""What the tests of encryption share: keys, a store that can be looked into, functions that count."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cachekit import cache, reset_settings
from tests.integration.support import Runs

KEY = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
SECRET = "attack at dawn: 7Qx9vLmZp2RkWs4Tn8Yb3Hc6Jd1Fg5"


class Store:
    """A backend in a dict."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        self.values[key] = bytes(value)

    def delete(self, key: str) -> bool:
        return self.values.pop(key, None) is not None

    def exists(self, key: str) -> bool:
        return key in self.values

    def health_check(self) -> tuple[bool, dict[str, Any]]:
        return True, {}

    def entries(self) -> dict[str, bytes]:
        return {key: value for key, value in self.values.items() if "ck:gen:" not in key}

    def entry(self) -> tuple[str, bytes]:
        ((key, value),) = self.entries().items()
        return key, value


def secret_of(store: Any, namespace: str, **options: Any) -> tuple[Any, Runs]:
    """A function that returns a secret, in `store` alone unless `options` say otherwise, and its runs."""
    runs = Runs()

    def load(who: str = "ada") -> dict[str, Any]:
        return {"who": who, "secret": SECRET, "run": runs()}

    options = {"master_key": KEY, "l1_enabled": False, "encryption": True, **options}
    given = {name: value for name, value in options.items() if value is not None}
    return cache(backend=store, namespace=namespace, **given)(load), runs


def header(entry: bytes) -> dict[str, Any]:
    """The header of a frame."""
    length = int.from_bytes(entry[3:7], "big")
    found: dict[str, Any] = json.loads(entry[7 : 7 + length])
    return found


def with_header(entry: bytes, changed: dict[str, Any]) -> bytes:
    """The same payload behind another header."""
    length = int.from_bytes(entry[3:7], "big")
    text = json.dumps(changed).encode()
    return b"CK\x03" + len(text).to_bytes(4, "big") + text + entry[7 + length :]


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Settings read anew, in each module that imports this."""
    reset_settings()


def report(function: Any) -> dict[str, Any]:
    """What a function's health says of its encryption."""
    found: dict[str, Any] = function.get_health_status()["encryption"]
    return found


def failures(function: Any) -> dict[str, int]:
    """What was refused in the shared layer, by reason, without zeros."""
    seen = report(function)["decrypt_failures"]
    return {reason: tiers["l2"] for reason, tiers in seen.items() if tiers["l2"]}
