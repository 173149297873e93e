"""Bytes in the store that are not ours, or no longer: a miss, explained once, and never a wrong value."""

from __future__ import annotations

import json
import logging
import pickle
import random
from typing import Any

import msgpack
import pytest

from cachekit.backends import RedisBackend
from tests.integration.conftest import Either
from tests.integration.support import Runs, wait_until
from tests.support.redis_servers import RedisServer

VALUE = {"rows": [{"id": i, "name": f"row {i}"} for i in range(5)], "total": 5, "ratio": 0.25}


class Stored:
    """A cached function without L1, and its entry as it rests in the store."""

    def __init__(self, either: Either, server: RedisServer, namespace: str, **options: Any) -> None:
        self.runs = Runs()
        self.either = either
        self.server = server
        self.function = either.cached(
            self._answer, backend=RedisBackend(server.url), namespace=namespace, l1_enabled=False, **options
        )
        assert self.call() == VALUE
        self.key: str = self.function.key_for(1)
        self.good = self.bytes
        assert self.good is not None

    def _answer(self, x: int) -> Any:
        self.runs()
        return json.loads(json.dumps(VALUE))

    def call(self) -> Any:
        return self.either.call(self.function, 1)

    @property
    def bytes(self) -> bytes | None:
        with self.server.client() as client:
            found = client.call("GET", self.key)
        assert found is None or isinstance(found, bytes)
        return found

    def put(self, damaged: bytes) -> None:
        with self.server.client() as client:
            client.call("SET", self.key, damaged, "PX", 60_000)

    def header(self, **changes: Any) -> bytes:
        """The entry with another header, and the length that belongs to it."""
        assert self.good is not None
        length = int.from_bytes(self.good[3:7], "big")
        header = json.loads(self.good[7 : 7 + length])
        meta = changes.pop("m", {})
        header.update(changes)
        header["m"].update(meta)
        text = json.dumps(header).encode()
        return self.good[:3] + len(text).to_bytes(4, "big") + text + self.good[7 + length :]

    def is_a_miss_that_is_overwritten(self, damaged: bytes) -> None:
        self.put(damaged)
        before = self.runs.count
        assert self.call() == VALUE
        assert self.runs.count == before + 1
        assert self.call() == VALUE
        assert self.runs.count == before + 1, "the damaged entry was not overwritten"


@pytest.fixture
def stored(either: Either, redis_server: RedisServer, namespace: str) -> Stored:
    return Stored(either, redis_server, namespace)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_truncated_anywhere(stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
    assert stored.good is not None
    for length in range(len(stored.good)):
        stored.is_a_miss_that_is_overwritten(stored.good[:length])
    assert len(said(caplog)) == 1, said(caplog)
    assert stored.key not in caplog.text


def test_any_bit_flipped(stored: Stored) -> None:
    """A flip in a part of the header that nobody reads is harmless; every other is a miss. Never another value."""
    assert stored.good is not None
    rng = random.Random(7)
    for at in range(len(stored.good)):
        damaged = bytearray(stored.good)
        damaged[at] ^= 1 << rng.randrange(8)
        stored.put(bytes(damaged))
        assert stored.call() == VALUE, f"byte {at}"
        stored.put(stored.good)


def test_more_behind_the_end(stored: Stored) -> None:
    assert stored.good is not None
    stored.is_a_miss_that_is_overwritten(stored.good + b"\x00")
    stored.is_a_miss_that_is_overwritten(stored.good + stored.good)


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"\x00",
        b"CK",
        b"CK\x03",
        b"CK\x03\xff\xff\xff\xff",
        b"CK\x03\x00\x00\x00\x00",
        b"null",
        b"{}",
        b'{"data": "AAAA", "metadata": {}, "serializer": "default"}',
        b"[1, 2, 3]",
        pickle.dumps(VALUE),
        msgpack.packb(VALUE),
        msgpack.packb([b"x", [0] * 8, 4_000_000_000, "msgpack"]),
        random.Random(1).randbytes(500),
        b"v:123",
        b"\xc1" * 50,
        b"\x91" * 5000,  # nested without end
    ],
    ids=lambda value: repr(value)[:24],
)
def test_foreign_bytes(stored: Stored, foreign: bytes, caplog: pytest.LogCaptureFixture) -> None:
    stored.is_a_miss_that_is_overwritten(foreign)
    assert len(said(caplog)) == 1


def test_a_value_of_another_kind(stored: Stored) -> None:
    """A list under the key: Redis refuses to read it, and the function's result comes back."""
    with stored.server.client() as client:
        client.call("DEL", stored.key)
        client.call("RPUSH", stored.key, "another program's")
    for _ in range(3):
        assert stored.call() == VALUE


@pytest.mark.parametrize("name", ["auto", "orjson", "arrow", "SomebodysSerializer"])
def test_another_serializers_entry(stored: Stored, name: str, caplog: pytest.LogCaptureFixture) -> None:
    stored.is_a_miss_that_is_overwritten(stored.header(s=name))
    assert len(said(caplog)) == 1
    assert name in said(caplog)[0]


@pytest.mark.parametrize("name", ["default", "std", "standard"])
def test_all_names_of_our_serializer_are_read(stored: Stored, name: str) -> None:
    stored.put(stored.header(s=name, v="9.7", later={"unknown": [1]}, m={"unknown": True}))
    before = stored.runs.count
    assert stored.call() == VALUE
    assert stored.runs.count == before


def test_an_encrypted_entry(stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
    stored.is_a_miss_that_is_overwritten(
        stored.header(m={"encrypted": True, "tenant_id": "default", "encryption_algorithm": "AES-256-GCM"})
    )
    assert len(said(caplog)) == 1
    assert "encrypted" in said(caplog)[0]


def test_a_newer_versions_entry_is_a_miss_and_left_alone(stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
    assert stored.good is not None
    newer = b"CK\x04" + stored.good[3:]
    stored.put(newer)
    before = stored.runs.count
    for number in range(1, 4):
        assert stored.call() == VALUE
        assert stored.runs.count == before + number
        assert stored.bytes == newer
    assert len(said(caplog)) == 1
    assert "version 4" in said(caplog)[0]
    assert stored.server.keys("*:lock") == []


def test_a_newer_versions_entry_costs_nothing_with_l1(
    either: Either, redis_server: RedisServer, namespace: str
) -> None:
    stored = Stored(either, redis_server, namespace)
    assert stored.good is not None
    stored.put(b"CK\x04" + stored.good[3:])
    runs = Runs()

    def answer(x: int) -> int:
        return runs()

    function = either.cached(answer, backend=RedisBackend(redis_server.url), namespace=namespace)
    with redis_server.client() as client:
        client.call("SET", function.key_for(1), b"CK\x04" + stored.good[3:], "PX", 60_000)
    assert [either.call(function, 1) for _ in range(3)] == [1, 1, 1]


def test_damage_without_integrity_checking(either: Either, redis_server: RedisServer, namespace: str) -> None:
    """There is no checksum, so a flipped bit may be another value; but never a crash or an exception."""
    stored = Stored(either, redis_server, namespace, integrity_checking=False)
    assert stored.good is not None
    for length in range(len(stored.good)):
        stored.is_a_miss_that_is_overwritten(stored.good[:length])
    for at in range(len(stored.good)):
        for bit in (0, 4, 7):
            damaged = bytearray(stored.good)
            damaged[at] ^= 1 << bit
            stored.put(bytes(damaged))
            stored.call()


def test_an_entry_with_integrity_is_none_without(either: Either, redis_server: RedisServer, namespace: str) -> None:
    """The two forms have keys of their own; one under the other's key is not taken for a value."""
    checked = Stored(either, redis_server, namespace)
    bare = Stored(either, redis_server, namespace, integrity_checking=False)
    assert checked.key != bare.key
    assert checked.good is not None
    assert bare.good is not None
    checked.is_a_miss_that_is_overwritten(bare.good)


def test_a_damaged_entry_that_cannot_be_replaced_is_deleted(
    either: Either, redis_server: RedisServer, namespace: str
) -> None:
    stored = Stored(either, redis_server, namespace)
    stored.put(b"damaged")

    def fails(x: int) -> Any:
        raise LookupError("nothing to store")

    failing = either.cached(fails, backend=RedisBackend(redis_server.url), namespace=namespace, key=lambda x: "k")
    with redis_server.client() as client:
        client.call("SET", failing.key_for(1), b"damaged")
    with pytest.raises(LookupError):
        either.call(failing, 1)
    wait_until("the damaged entry is gone", lambda: redis_server.keys(failing.key_for(1)) == [])


def test_a_damaged_generation_item(stored: Stored) -> None:
    """It is replaced: what was stored before is a miss, what is stored after is a hit again."""
    (item,) = (key for key in stored.server.keys("*") if key != stored.key)
    for damaged in (b"", b"nonsense", b"v:", b"c:-1", b"\xff" * 100, b"v:99999999999999999999999"):
        with stored.server.client() as client:
            client.call("SET", item, damaged)
        before = stored.runs.count
        assert [stored.call() for _ in range(3)] == [VALUE] * 3
        assert stored.runs.count == before + 1
