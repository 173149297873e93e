"""Encryption as its users see it: what is encrypted, for whom, with which key, and what is told about it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import cachekit
from cachekit import CachekitConfig, ConfigurationError, EncryptionConfig, cache, validate_encryption_config
from cachekit.serializers import (
    DecryptionAuthenticationError,
    EncryptionWrapper,
    KeyringConfigurationError,
    SerializationFormat,
    SerializationMetadata,
    StandardSerializer,
    SuspiciousCacheEntryError,
    get_serializer,
    get_serializer_info,
)
from tests.integration.support import Runs
from tests.integration.vault import KEY, OTHER, SECRET, Store, fresh, header, report, secret_of

__all__ = ["fresh"]


# ---- what is encrypted


@pytest.mark.parametrize("l1", [True, False])
def test_no_layer_holds_plaintext(l1: bool, namespace: str) -> None:
    """The store has ciphertext; L1 has it too, so that a hit is another object that was decoded for this caller."""
    store = Store()
    load, runs = secret_of(store, namespace, l1_enabled=l1)
    first = load()
    assert all(SECRET.encode() not in value for value in store.values.values())
    hits = [load(), load(), load.peek() if l1 else load()]
    assert all(hit == first and hit is not first and hit["secret"] is not first["secret"] for hit in hits)
    assert runs.count == 1
    found = header(store.entry()[1])["m"]
    assert found["encrypted"] is True
    assert found["encryption_algorithm"] == "AES-256-GCM"
    assert found["tenant_id"] == "default"
    assert len(found["key_fingerprint"]) == 32


def test_l1_only_holds_ciphertext(namespace: str) -> None:
    import gc

    @cache.secure(master_key=KEY, backend=None, namespace=namespace)
    def load(x: int) -> dict[str, Any]:
        return {"secret": SECRET + str(x), "pair": (1, 2)}

    assert load(1) == {"secret": SECRET + "1", "pair": (1, 2)}
    gc.collect()
    assert not any(type(found) is dict and found.get("secret") == SECRET + "1" for found in gc.get_objects())
    assert load(1) == {"secret": SECRET + "1", "pair": [1, 2]}, "as any stored entry comes back"
    assert load.cache_info().l1_hits == 1


def test_one_value_is_encrypted_differently_each_time(namespace: str) -> None:
    store = Store()
    load, _ = secret_of(store, namespace)
    seen = set()
    for _ in range(3):
        load()
        seen.add(store.entry()[1][-40:])
        load.cache_clear()
        store.values.clear()
    assert len(seen) == 3


def test_everything_works_on_secure_functions(namespace: str) -> None:
    store = Store()
    runs = Runs()

    @cache.secure(master_key=KEY, backend=store, namespace=namespace)
    async def load(x: int) -> int:
        runs()
        return x * 2

    async def main() -> None:
        assert await asyncio.gather(*(load(3) for _ in range(9))) == [6] * 9
        assert runs.count == 1
        assert load.peek(3) == 6
        assert await load(3) == 6
        await load.invalidate_cache(3)
        assert load.peek(3) is None
        assert await load(3) == 6
        assert runs.count == 2
        await load.cache_clear()
        assert await load(3) == 6
        assert runs.count == 3

    asyncio.run(main())


def test_a_refresh_writes_ciphertext(namespace: str, advance: Any) -> None:
    store = Store()
    load, runs = secret_of(store, namespace, l1_enabled=True, ttl=10)
    load()
    before = store.entry()[1]
    advance(9.5)
    load()
    runs.wait(2)
    from tests.integration.support import wait_until

    wait_until("the refreshed entry", lambda: store.entry()[1] != before)
    assert SECRET.encode() not in store.entry()[1]
    assert header(store.entry()[1])["m"]["encrypted"] is True


@pytest.mark.parametrize("name", ["get_user", "plain"])
@pytest.mark.parametrize("setting", ["", "all"])
@pytest.mark.parametrize("key", ["", KEY])
def test_who_encrypts(name: str, setting: str, key: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", key)
    monkeypatch.setenv("CACHEKIT_ENCRYPTION", setting)

    def function() -> str:
        return SECRET

    function.__name__ = function.__qualname__ = name
    store, plain_store = Store(), Store()
    cached = cache(backend=store, namespace=namespace)(function)
    if setting and not key:
        with pytest.raises(ConfigurationError, match="CACHEKIT_MASTER_KEY") as caught:
            cached()
        assert caught.value.code == "E001"
        return
    cached()
    expected = bool(key) and (setting == "all" or name == "get_user")
    assert (SECRET.encode() not in store.entry()[1]) is expected
    assert report(cached)["enabled"] is expected
    opted_out = cache(backend=plain_store, namespace=namespace, encryption=False)(function)
    opted_out()
    assert SECRET.encode() in plain_store.entry()[1]


def test_who_does_not_encrypt_reads_what_is_encrypted(
    namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", KEY)
    store = Store()
    load, _ = secret_of(store, namespace, master_key=None)
    load()
    reader, runs = secret_of(store, namespace, master_key=None, encryption=False)
    assert reader() == reader() == load()
    assert runs.count == 0
    assert report(reader)["config_drift_reads"] == 2
    assert caplog.text.count("does not encrypt what it writes") == 1


# ---- keys


def test_rotation(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    load, _ = secret_of(store, namespace)
    load()
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", OTHER)
    monkeypatch.setenv("CACHEKIT_PREVIOUS_MASTER_KEYS", f" {'ab' * 40}, {KEY} ")
    rotated, runs = secret_of(store, namespace, master_key=None)
    assert rotated() == load()
    assert runs.count == 0
    old = header(store.entry()[1])["m"]["key_fingerprint"]
    rotated.cache_clear()
    rotated()
    assert header(store.entry()[1])["m"]["key_fingerprint"] != old
    by_parameter = EncryptionConfig(master_key=OTHER, previous_master_keys=[KEY])  # pyright: ignore[reportArgumentType]
    third, runs = secret_of(store, namespace, encryption=by_parameter, master_key=None)
    assert third()["secret"] == SECRET
    assert runs.count == 0


SHORT = "a1b2c3d4e5f6789012345678901234567890abcdef12345678901234567890"  # 31 bytes


@pytest.mark.parametrize(
    ("key", "previous", "said"),
    [
        ("my-secret-key", "", "is not hexadecimal"),
        (KEY + "0", "", "is not hexadecimal"),
        ("abcd1234", "", "has 4 bytes"),
        (SHORT, "", "has 31 bytes"),
        (KEY, SHORT, r"\(key 1\) has 31 bytes"),
        (KEY, f"{OTHER},zz", r"\(key 2\) is not hexadecimal"),
        ("", f"{OTHER},zz", r"\(key 2\) is not hexadecimal"),
        (KEY, KEY, "has the same key twice"),
        (KEY, f"{OTHER},{OTHER}", "has the same key twice"),
        (KEY, ",".join(digit * 64 for digit in "1234"), "has 4 previous keys"),
    ],
)
def test_malformed_keys(key: str, previous: str, said: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", key)
    monkeypatch.setenv("CACHEKIT_PREVIOUS_MASTER_KEYS", previous)
    load, runs = secret_of(Store(), namespace, master_key=None)
    wrong = "CACHEKIT_PREVIOUS_MASTER_KEYS" if previous else "CACHEKIT_MASTER_KEY"
    for act in (load, lambda: cache.secure(load), lambda: validate_encryption_config(True), EncryptionWrapper):
        with pytest.raises(KeyringConfigurationError, match=f"^{wrong} {said}") as caught:
            act()  # type: ignore[operator]
        assert isinstance(caught.value, (ConfigurationError, ValueError))
        assert caught.value.code == "E002"
        text = str(caught.value)
        assert not key or key not in text
        assert not previous or previous not in text
        assert caught.value.__cause__ is None
    assert runs.count == 0, "the caller is told before the function runs"


def test_a_deployment_that_is_too_long_is_named(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load, _ = secret_of(Store(), namespace)
    monkeypatch.setenv("CACHEKIT_DEPLOYMENT_UUID", "x" * 1024)
    assert load() == load()
    for text in ("x" * 1025, "é" * 513):
        cachekit.reset_settings()
        monkeypatch.setenv("CACHEKIT_DEPLOYMENT_UUID", text)
        for act in (load, CachekitConfig):
            with pytest.raises(ConfigurationError, match=r"^CACHEKIT_DEPLOYMENT_UUID is not valid: .*1024") as caught:
                act()
            assert text not in str(caught.value)
        monkeypatch.delenv("CACHEKIT_DEPLOYMENT_UUID")
        for act in (CachekitConfig, EncryptionConfig):
            with pytest.raises(ConfigurationError, match=r"^deployment_uuid is not valid: .*1024"):
                act(deployment_uuid=text)


def test_previous_keys_of_the_environment_are_named_beside_a_key_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_PREVIOUS_MASTER_KEYS", "zz")
    with pytest.raises(KeyringConfigurationError, match=r"^CACHEKIT_PREVIOUS_MASTER_KEYS \(key 1\)"):
        cache(master_key=KEY)(lambda: 1)
    with pytest.raises(KeyringConfigurationError, match=r"^previous_master_keys \(key 1\)"):
        cache(encryption=EncryptionConfig(master_key=KEY, previous_master_keys=("zz",)))(lambda: 1)


def test_a_key_that_is_given_is_checked_at_once() -> None:
    for key in ("nonsense", SHORT, b"short"):
        with pytest.raises(KeyringConfigurationError, match="master_key"):
            cache(master_key=key)(lambda: 1)
        with pytest.raises(KeyringConfigurationError, match="master_key"):
            validate_encryption_config(True, key)
    with pytest.raises(ConfigurationError, match=r"master_key.*CACHEKIT_MASTER_KEY"):
        cache.secure(lambda: 1)
    with pytest.raises(ConfigurationError, match="CACHEKIT_MASTER_KEY"):
        validate_encryption_config(True)
    validate_encryption_config(False, "nonsense")
    validate_encryption_config(True, KEY)
    with pytest.raises(ConfigurationError, match="drop encryption=False"):
        cache.secure(master_key=KEY, encryption=False)(lambda: 1)


def test_keys_appear_nowhere(namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", KEY)
    monkeypatch.setenv("CACHEKIT_PREVIOUS_MASTER_KEYS", OTHER)
    config = cachekit.DecoratorConfig(encryption=EncryptionConfig(master_key=KEY, previous_master_keys=(OTHER,)))
    settings = cachekit.get_settings()
    wrapper = EncryptionWrapper(master_key=KEY)
    load, _ = secret_of(Store(), namespace, config=config, master_key=None)
    load()
    shown = [
        repr(config),
        repr(config.encryption),
        str(config.to_dict()),
        repr(settings),
        str(settings.model_dump()),
        str(settings.get_safe_repr()),
        repr(wrapper),
        str(wrapper.get_encryption_info()),
        repr(load._handle._keychain),
        str(load.get_health_status()),
        caplog.text,
    ]
    with pytest.raises(TypeError) as caught:
        cache(master_key=KEY, encryption=EncryptionConfig(master_key=OTHER))
    shown.append(str(caught.value))
    for text in shown:
        assert KEY not in text
        assert OTHER not in text
        assert SECRET not in text
    assert config.to_dict()["master_key"] == "[REDACTED]"


class Quoting:
    """A serializer whose errors quote what it was given."""

    def __init__(self, failing: str) -> None:
        self.failing = failing

    def serialize(self, obj: Any) -> tuple[bytes, SerializationMetadata]:
        if self.failing == "serialize":
            raise ValueError(repr(obj))
        return repr(obj).encode(), SerializationMetadata(SerializationFormat.MSGPACK)

    def deserialize(self, data: bytes, metadata: SerializationMetadata | None = None) -> Any:
        raise ValueError(repr(data))


@pytest.mark.parametrize("l1", [True, False])
@pytest.mark.parametrize(
    ("serializer", "value"),
    [
        ("std", {SECRET: {1}}),
        ("auto", {SECRET: object()}),
        ("orjson", {SECRET: float("nan")}),
        ("arrow", {"a": [1, SECRET]}),
        (Quoting("serialize"), SECRET),
        (Quoting("deserialize"), SECRET),
    ],
)
def test_why_a_value_is_not_cached_is_not_told_by_quoting_it(
    serializer: Any, value: Any, l1: bool, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    if serializer in ("orjson", "arrow"):
        pytest.importorskip({"orjson": "orjson", "arrow": "pyarrow"}[serializer])
    caplog.set_level(logging.DEBUG)
    runs = Runs()

    def load() -> Any:
        runs()
        return value

    secure = cache.secure(master_key=KEY, backend=Store(), namespace=namespace, serializer=serializer, l1_enabled=l1)
    cached = secure(load)
    assert [cached(), cached()] == [value, value]
    assert runs.count == 2
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings, "it is said that there is something wrong"
    assert SECRET not in caplog.text


def test_why_a_ttl_function_failed_is_not_told_by_quoting_the_result(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def life(result: str) -> float:
        no_lives: dict[str, float] = {}
        return no_lives[result]

    cached = cache.secure(master_key=KEY, backend=Store(), namespace=namespace, ttl=life)(lambda: SECRET)
    assert cached() == SECRET
    assert "the ttl= function failed" in caplog.text
    assert "KeyError" in caplog.text
    assert SECRET not in caplog.text


def test_a_configuration_that_is_not_valid_has_a_repr_without_its_key() -> None:
    found = None
    try:
        CachekitConfig(master_key=KEY, default_ttl="no number")  # type: ignore[arg-type]
    except Exception as error:
        at = error.__traceback__
        while at is not None:
            found = next((one for one in at.tb_frame.f_locals.values() if isinstance(one, CachekitConfig)), found)
            at = at.tb_next
    assert found is not None, "a debugger sees the object"
    assert repr(found) == "CachekitConfig(<not valid>)"


def test_a_key_in_the_wrong_place_is_not_shown() -> None:
    with pytest.raises(TypeError, match="encryption=str: True, False or") as caught:
        wrong: Any = KEY
        cache(encryption=wrong)
    assert KEY not in str(caught.value)


def test_configure_brings_the_keys(namespace: str) -> None:
    store = Store()
    load, _ = secret_of(store, namespace)
    load()
    cachekit.configure(CachekitConfig(master_key=OTHER, previous_master_keys=[KEY], encryption_fail_closed=True))  # type: ignore[arg-type]
    other, runs = secret_of(store, namespace, master_key=None)
    assert other()["secret"] == SECRET
    assert runs.count == 0
    assert report(other)["fail_closed"] is True


# ---- EncryptionWrapper


def test_the_wrapper_as_a_serializer(namespace: str) -> None:
    store = Store()
    wrapper = EncryptionWrapper(serializer=StandardSerializer(), master_key=bytes.fromhex(KEY))
    wrapped, _ = secret_of(store, namespace, serializer=wrapper, encryption=None, master_key=None)
    wrapped()
    assert SECRET.encode() not in store.entry()[1]
    same, runs = secret_of(store, namespace)
    assert same() == wrapped()
    assert runs.count == 0


def test_the_wrapper_by_name(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    with pytest.raises(ConfigurationError, match="CACHEKIT_MASTER_KEY"):
        secret_of(store, namespace, serializer="encrypted", encryption=None, master_key=None)[0]()
    assert store.values == {}
    with pytest.raises(ConfigurationError, match="CACHEKIT_MASTER_KEY"):
        get_serializer("encrypted")
    assert not get_serializer_info()["encrypted"]["available"]
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", KEY)
    cachekit.reset_settings()
    named, _ = secret_of(store, namespace, serializer="encrypted", encryption=None, master_key=None)
    named()
    assert SECRET.encode() not in store.entry()[1]
    same, runs = secret_of(store, namespace)
    assert same() == named()
    assert runs.count == 0
    assert get_serializer_info()["encrypted"]["available"]
    wrapper: Any = get_serializer("encrypted")
    sealed, metadata = wrapper.serialize({"a": SECRET}, "key")
    assert SECRET.encode() not in sealed
    assert wrapper.deserialize(sealed, metadata, "key") == {"a": SECRET}
    with pytest.raises(ConfigurationError, match="enabled= and what serializer="):
        cache(serializer="encrypted", encryption=False)


@pytest.mark.parametrize(
    ("own", "setting", "closed"), [(None, "true", True), (False, "true", False), (True, "false", True)]
)
def test_whether_the_wrapper_fails_closed(
    own: bool | None, setting: str, closed: bool, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it does not say, the settings do."""
    monkeypatch.setenv("CACHEKIT_ENCRYPTION_FAIL_CLOSED", setting)
    store = Store()
    wrapper = EncryptionWrapper(master_key=KEY, fail_closed=own)
    assert wrapper.fail_closed is wrapper.get_encryption_info()["fail_closed"] is closed
    load, runs = secret_of(store, namespace, serializer=wrapper, encryption=None, master_key=None)
    load()
    key, entry = store.entry()
    store.values[key] = entry[:-1] + bytes([entry[-1] ^ 1])
    if closed:
        with pytest.raises(DecryptionAuthenticationError):
            load()
    else:
        load()
    assert runs.count == 1 + (not closed)


def test_the_wrapper_switched_off(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    wrapper = EncryptionWrapper(enable_encryption=False)
    assert "stored in plain" in caplog.text
    assert wrapper.serialize({"a": 1}) == StandardSerializer().serialize({"a": 1})
    assert wrapper.deserialize(*wrapper.serialize([1])) == [1]
    store = Store()
    load, _ = secret_of(store, namespace, serializer=wrapper, encryption=None, master_key=None)
    load()
    assert SECRET.encode() in store.entry()[1]


def test_the_wrapper_takes_no_wrapper() -> None:
    for inner in ("encrypted", EncryptionWrapper(master_key=KEY)):
        with pytest.raises(ConfigurationError, match="give it that one"):
            EncryptionWrapper(inner, master_key=KEY)


def test_the_wrapper_by_itself() -> None:
    wrapper = EncryptionWrapper(master_key=KEY, tenant_id="acme")
    data, metadata = wrapper.serialize({"a": [1, 2]}, "key")
    assert metadata.encrypted
    assert (metadata.tenant_id, metadata.encryption_algorithm) == ("acme", "AES-256-GCM")
    assert wrapper.deserialize(data, metadata, "key") == {"a": [1, 2]}
    assert wrapper.deserialize(memoryview(data), metadata, "key") == {"a": [1, 2]}
    rotated = EncryptionWrapper(master_key=OTHER, tenant_id="acme", previous_master_keys=[KEY])
    assert rotated.deserialize(data, metadata, "key") == {"a": [1, 2]}
    for other, cache_key, sealed in (
        (wrapper, "another", data),
        (wrapper, "key", data[:-1]),
        (EncryptionWrapper(master_key=KEY), "key", data),
        (EncryptionWrapper(master_key=OTHER, tenant_id="acme"), "key", data),
    ):
        with pytest.raises(DecryptionAuthenticationError):
            other.deserialize(sealed, metadata, cache_key)
    plain, plainly = StandardSerializer().serialize(1)
    for found in (plainly, None):
        with pytest.raises(SuspiciousCacheEntryError):
            wrapper.deserialize(plain, found, "key")
    with pytest.raises(ValueError, match="cache_key is empty"):
        wrapper.serialize(1)
    with pytest.raises(TypeError):
        wrapper.serialize(1, 5)  # type: ignore[arg-type]
    info = wrapper.get_encryption_info()
    assert info["algorithm"] == "AES-256-GCM"
    assert info["key_fingerprint"] == metadata.key_fingerprint


# ---- the audit log


def test_secure_keeps_an_audit_log(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cachekit.audit")
    store = Store()

    def load(x: str) -> str:
        return SECRET + x

    cached = cache.secure(master_key=KEY, backend=store, namespace=namespace)(load)
    cached("argument")
    cached("argument")
    cachekit.reset_settings()
    cached("argument")
    key, good = store.entry()
    store.values[key] = good[:-1]
    cachekit.reset_settings()
    cached("argument")
    records: list[Any] = [record for record in caplog.records if record.name == "cachekit.audit"]
    assert [(record.action, record.tier) for record in records] == [
        ("encrypt", "l2"),
        ("decrypt", "l1"),
        ("decrypt", "l2"),
        ("refuse", "l2"),
        ("encrypt", "l2"),
    ]
    assert {record.tenant for record in records} == {"default"}
    (hashed,) = {record.key_hash for record in records}
    assert len(hashed) == 64
    for word in (SECRET, "argument", key, KEY):
        assert word not in caplog.text
    caplog.clear()
    cache(backend=None, namespace=namespace, master_key=KEY)(load)("other")
    assert not [record for record in caplog.records if record.name == "cachekit.audit"]


@pytest.mark.parametrize("listens", [False, True])
def test_nobody_but_its_own_level_switches_the_audit_log_on(
    listens: bool, namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither another function's preset nor a chatty root logger costs a secure hit a record."""
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    package, audit = logging.getLogger("cachekit"), logging.getLogger("cachekit.audit")
    monkeypatch.setattr(package, "level", package.level)  # puts it back afterwards
    caplog.set_level(logging.DEBUG)

    def load(x: int) -> int:
        return x

    cached = cache.secure(master_key=KEY, backend=None, namespace=namespace)(load)
    cache.dev(backend=None, namespace=f"{namespace}-dev")(load)
    assert audit.isEnabledFor(logging.INFO), "inherited from the package"
    if listens:
        caplog.set_level(logging.INFO, "cachekit.audit")
    cached(1)
    cached(1)
    records = [record for record in caplog.records if record.name == "cachekit.audit"]
    assert len(records) == (2 if listens else 0)
