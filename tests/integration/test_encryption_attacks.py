"""What whoever can write to the store may try, and what comes of it: the outcome, and the count."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from cachekit.serializers import (
    DecryptionAuthenticationError,
    EncryptionError,
    SerializationFormat,
    SerializationMetadata,
)
from tests.integration.vault import KEY, OTHER, SECRET, Store, failures, header, secret_of, with_header
from tests.support.redis_servers import RedisServer

Tamper = Callable[[bytes], bytes]


def changed(**members: Any) -> Tamper:
    """The entry with other members in its header's `m`; None removes one."""

    def tamper(entry: bytes) -> bytes:
        found = header(entry)
        for name, value in members.items():
            found["m"].pop(name, None)
            if value is not None:
                found["m"][name] = value
        return with_header(entry, found)

    return tamper


def payload(change: Tamper) -> Tamper:
    def tamper(entry: bytes) -> bytes:
        at = 7 + int.from_bytes(entry[3:7], "big")
        return entry[:at] + change(entry[at:])

    return tamper


ALTERED = {
    "nonce": payload(lambda sealed: bytes([sealed[0] ^ 1]) + sealed[1:]),
    "ciphertext": payload(lambda sealed: sealed[:20] + bytes([sealed[20] ^ 0x80]) + sealed[21:]),
    "tag": payload(lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1])),
    "shorter": payload(lambda sealed: sealed[:-1]),
    "no ciphertext": payload(lambda sealed: sealed[:12] + sealed[-16:]),
    "longer": payload(lambda sealed: sealed + b"\0"),
    "another format": changed(format="arrow"),
    "no format": changed(format=None, compressed=False),
    "another type": changed(original_type="series"),
    "no type": changed(original_type=None),
    "not compressed": changed(compressed=False),
    "another tenant": changed(tenant_id="somebody"),
    "tenant of no length": changed(tenant_id=""),
    "tenant of great length": changed(tenant_id="x" * 2000),
}
SHORT = {
    "tag missing": payload(lambda sealed: sealed[:27]),
    "nonce alone": payload(lambda sealed: sealed[:12]),
    "nothing": payload(lambda _: b""),
}
PLAIN = {
    "header says so": changed(encrypted=False),
    "header does not say": changed(encrypted=None),
    "no mention at all": changed(encrypted=None, tenant_id=None, encryption_algorithm=None, key_fingerprint=None),
}
DAMAGED = {"no frame": lambda _: b"garbage", "half a header": lambda entry: entry[:40]}
EXPECTED: list[Any] = [
    *(pytest.param(tamper, "auth_tamper", id=name) for name, tamper in ALTERED.items()),
    *(pytest.param(tamper, "corruption", id=name) for name, tamper in {**SHORT, **DAMAGED}.items()),
    *(pytest.param(tamper, "suspicious_envelope", id=name) for name, tamper in PLAIN.items()),
]


@pytest.mark.parametrize(("tamper", "reason"), EXPECTED)
def test_a_refused_entry_is_computed_anew(
    tamper: Tamper, reason: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    load, runs = secret_of(store, namespace)
    assert load()["run"] == load()["run"] == 1
    key, good = store.entry()
    bad = store.values[key] = tamper(good)
    assert bad != good
    caplog.clear()
    assert load()["run"] == runs.count == 2
    assert failures(load) == {reason: 1}
    records = [record for record in caplog.records if record.name == "cachekit.security"]
    assert len(records) == 1
    assert reason in caplog.text
    assert SECRET not in caplog.text
    assert key not in caplog.text
    assert store.entry()[1] not in (good, bad), "it is overwritten"
    assert load()["run"] == 2


def test_an_entry_that_is_met_twice_counts_once(
    redis_server: RedisServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who takes the lock looks into the store again."""
    load, runs = secret_of(RedisBackend(redis_server.url), namespace)
    load()
    with redis_server.client() as client:
        good = client.call("GET", load.key_for())
        assert isinstance(good, bytes)
        client.call("SET", load.key_for(), good[:-1])
    assert load()["run"] == runs.count == 2
    assert failures(load) == {"auth_tamper": 1}
    assert len([record for record in caplog.records if record.name == "cachekit.security"]) == 1


class Moody:
    """A serializer that can be made to fail on what it wrote."""

    cross_sdk_compatible = True
    fails = False

    def serialize(self, obj: Any) -> tuple[bytes, SerializationMetadata]:
        return json.dumps(obj).encode(), SerializationMetadata(SerializationFormat.ORJSON)

    def deserialize(self, data: Any, metadata: Any = None) -> Any:
        if self.fails:
            raise ValueError("not now")
        return json.loads(bytes(data))


def test_what_l1_cannot_read_is_counted_there_and_computed_anew(namespace: str) -> None:
    moody = Moody()
    load, runs = secret_of(None, namespace, l1_enabled=True, serializer=moody)
    assert load()["run"] == load()["run"] == 1
    moody.fails = True
    assert load()["run"] == runs.count == 2
    moody.fails = False
    assert load()["run"] == 2
    failed = load.get_health_status()["encryption"]["decrypt_failures"]
    assert failed["corruption"] == {"l1": 1, "l2": 0}


@pytest.mark.parametrize(("tamper", "reason"), EXPECTED)
def test_fail_closed_raises_and_leaves_the_entry(tamper: Tamper, reason: str, namespace: str) -> None:
    store = Store()
    load, runs = secret_of(store, namespace, fail_closed=True)
    load()
    key, good = store.entry()
    bad = store.values[key] = tamper(good)
    if tamper in DAMAGED.values() or reason == "suspicious_envelope":
        assert load()["run"] == 2
    else:
        for number in (1, 2):
            with pytest.raises(DecryptionAuthenticationError) as caught:
                load()
            assert caught.value.code == "E003"
            assert isinstance(caught.value, EncryptionError)
            assert failures(load) == {reason: number}
            assert SECRET not in str(caught.value)
        assert store.values[key] == bad
        assert runs.count == 1
        store.values[key] = good
        assert load()["run"] == 1


def test_every_refusal_reads_the_same(namespace: str) -> None:
    """Who can write to the store and sees errors learns nothing about what was wrong."""
    store = Store()
    load, _ = secret_of(store, namespace, fail_closed=True)
    load()
    key, good = store.entry()
    said: set[str] = set()
    for tamper in (*ALTERED.values(), *SHORT.values(), changed(key_fingerprint="0" * 32), changed(key_fingerprint="")):
        store.values[key] = tamper(good)
        with pytest.raises(DecryptionAuthenticationError) as caught:
            load()
        said.add(str(caught.value))
    assert len(said) == 1


def test_an_entry_that_was_moved_is_refused(namespace: str) -> None:
    store = Store()
    load, runs = secret_of(store, namespace)
    load("ada")
    load("bob")
    keys = sorted(store.entries())
    store.values[keys[0]], store.values[keys[1]] = store.values[keys[1]], store.values[keys[0]]
    assert load("ada")["who"] == "ada"
    assert load("bob")["who"] == "bob"
    assert (runs.count, failures(load)) == (4, {"auth_tamper": 2})


def test_an_entry_of_another_function_or_version_is_refused(namespace: str) -> None:
    store = Store()
    load, _ = secret_of(store, namespace)
    newer, runs = secret_of(store, namespace, version=2)
    load()
    newer()
    old, new = sorted(store.entries(), key=lambda key: ":v2:" in key)
    store.values[new] = store.values[old]
    assert newer()["run"] == runs.count == 2
    assert failures(newer) == {"auth_tamper": 1}


def test_an_older_entry_of_the_same_key_is_served(namespace: str) -> None:
    """Replay is not noticed, which docs/security.md says: the older value is served, not a third one computed."""
    store = Store()
    load, runs = secret_of(store, namespace)
    assert load()["run"] == 1
    key, old = store.entry()
    del store.values[key]
    assert load()["run"] == runs.count == 2
    store.values[key] = old
    assert load()["run"] == 1
    assert runs.count == 2
    assert failures(load) == {}


def test_members_that_are_not_bound_change_nothing(namespace: str) -> None:
    store = Store()
    load, runs = secret_of(store, namespace)
    load()
    key, good = store.entry()
    for tamper in (
        changed(encoding="latin-1"),
        changed(encryption_algorithm="ROT13"),
        changed(tenant_id=None),
        changed(key_fingerprint=None),
        changed(key_fingerprint="0" * 32),
        changed(new="member"),
    ):
        store.values[key] = tamper(good)
        assert load()["run"] == runs.count == 1
    assert failures(load) == {}


def test_another_serializer_in_the_header_is_a_miss(namespace: str) -> None:
    store = Store()
    load, runs = secret_of(store, namespace)
    load()
    key, good = store.entry()
    found = header(good)
    found["s"] = "somebody's"
    store.values[key] = with_header(good, found)
    assert load()["run"] == runs.count == 2


def test_a_newer_frame_is_left_alone(namespace: str) -> None:
    store = Store()
    load, _ = secret_of(store, namespace, fail_closed=True)
    load()
    key, good = store.entry()
    newer = store.values[key] = good[:2] + b"\x04" + good[3:]
    assert load()["run"] == 2
    assert store.values[key] == newer


@pytest.mark.parametrize("closed", [False, True])
def test_a_wrong_key(closed: bool, namespace: str) -> None:
    store = Store()
    load, _ = secret_of(store, namespace)
    load()
    other, runs = secret_of(store, namespace, master_key=OTHER, fail_closed=closed)
    if closed:
        with pytest.raises(DecryptionAuthenticationError):
            other()
    else:
        assert other()["run"] == runs.count == 1
    assert failures(other) == {"auth_tamper": 1}


def test_a_missing_key_is_a_miss_that_shows_nothing(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    load, _ = secret_of(store, namespace)
    load()
    plain, runs = secret_of(store, namespace, encryption=False, master_key=None)
    assert plain()["run"] == runs.count == 1
    assert "encrypted, and this function has no key" in caplog.text


def test_a_plain_entry_is_refused(namespace: str) -> None:
    """Also a whole and well-formed one, written by a function of the same name that does not encrypt."""
    store = Store()
    plain, _ = secret_of(store, namespace, encryption=False, master_key=None)
    plain()
    load, runs = secret_of(store, namespace)
    assert load()["run"] == runs.count == 1
    assert failures(load) == {"suspicious_envelope": 1}
    assert header(store.entry()[1])["m"]["encrypted"] is True


def test_joiners_get_the_error_too(namespace: str) -> None:
    import asyncio

    store = Store()

    @cache(backend=store, namespace=namespace, l1_enabled=False, master_key=KEY, fail_closed=True)
    async def load() -> str:
        return SECRET

    async def main() -> list[Any]:
        await load()
        key, good = store.entry()
        store.values[key] = good[:-1]
        return await asyncio.gather(*(load() for _ in range(5)), return_exceptions=True)

    found = asyncio.run(main())
    assert {type(one) for one in found} == {DecryptionAuthenticationError}


def test_l1_of_fail_closed_functions_keeps_nothing_bad(namespace: str) -> None:
    store = Store()
    load, _ = secret_of(store, namespace, fail_closed=True, l1_enabled=True)
    load()
    key, good = store.entry()
    load.invalidate_cache("ada")
    store.values[key] = good[:-1]
    with pytest.raises(DecryptionAuthenticationError):
        load()
    assert load.cache_info().currsize == 0


def test_security_log_is_on_a_logger_of_its_own(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    load, _ = secret_of(store, namespace)
    load()
    key, good = store.entry()
    store.values[key] = good[:-1]
    with caplog.at_level(logging.WARNING, "cachekit.security"):
        load()
    (record,) = (record for record in caplog.records if record.name == "cachekit.security")
    assert record.levelno == logging.WARNING
    assert "tenant=" in record.getMessage()
