"""Tenants: whose entry a call reads and writes, and which calls are nobody's."""

from __future__ import annotations

import contextvars
from typing import Any
from uuid import UUID

import pytest

import cachekit
from cachekit import ConfigurationError, EncryptionConfig, cache
from cachekit.decorators.tenant_context import (
    DEFAULT_TENANT_EXTRACTOR,
    ArgumentNameExtractor,
    CallableExtractor,
    ContextVarExtractor,
)
from tests.integration.support import Runs
from tests.integration.vault import KEY, SECRET, Store, failures, fresh, header, secret_of

__all__ = ["fresh"]


def test_tenants_are_apart_in_every_layer(namespace: str) -> None:
    store = Store()
    runs = Runs()

    @cache(backend=store, namespace=namespace, master_key=KEY, tenant_extractor="tenant_id", key=lambda *a, **k: "same")
    def load(tenant_id: str, other: int = 0) -> tuple[str, int]:
        return tenant_id, runs()

    assert [load("acme"), load(tenant_id="acme"), load("acme", 5)] == [("acme", 1), ["acme", 1], ["acme", 1]]
    assert load("bolt") == ("bolt", 2)
    assert load("acme") == ["acme", 1]
    keys = sorted(store.entries())
    assert [key.partition(":ns:")[0].partition(f":{namespace}")[0] for key in keys] == ["t:acme", "t:bolt"]
    assert {header(store.values[key])["m"]["tenant_id"] for key in keys} == {"acme", "bolt"}
    # Another tenant's entry, at one's own place: never served, although key and master key are the same.
    store.values[keys[0]] = store.values[keys[1]]
    cachekit.reset_settings()  # functions look for their backend again, and forget what L1 has
    assert load("acme") == ("acme", 3)
    assert failures(load) == {"auth_tamper": 1}
    load.invalidate_cache("bolt")
    assert load("bolt") == ("bolt", 4)
    assert load("acme") == ["acme", 3]


def test_tenants_without_encryption(namespace: str) -> None:
    store = Store()

    @cache(backend=store, namespace=namespace, tenant_extractor=lambda org, year: org)
    def load(org: str, year: int) -> list[Any]:
        return [org, year]

    assert load("a/b", 1) == load("a/b", 1) == ["a/b", 1]
    assert load.key_for("a/b", year=1).startswith("t:a%2Fb:ns:")
    assert list(store.entries()) == [load.key_for("a/b", 1)]


class Extractor:
    def extract(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[0]


EXTRACTORS: list[Any] = [
    "who",
    ArgumentNameExtractor("who"),
    CallableExtractor(lambda args, kwargs: args[0]),
    lambda who, *rest: who,
    Extractor(),
]


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("acme", "acme"),
        (7, "7"),
        (UUID(int=10), "00000000-0000-0000-0000-00000000000a"),
        ("00000000-0000-0000-0000-00000000000A", "00000000-0000-0000-0000-00000000000a"),
    ],
)
def test_extractors(extractor: Any, given: Any, name: str, namespace: str) -> None:
    @cache(backend=Store(), namespace=namespace, tenant_extractor=extractor)
    def load(who: Any, x: int = 1) -> int:
        return x

    load(given)
    assert load.key_for(given).startswith(f"t:{name}:")


@pytest.mark.parametrize("sign", ["+", " ", "\u0660", "0_"])
def test_names_that_only_look_like_a_uuid_are_tenants_of_their_own(sign: str, namespace: str) -> None:
    """`UUID` reads signs, spaces, underscores and other scripts' digits, too."""
    digits = "0" * len(sign) + "123456789abcdef0123456789abcdef0"[len(sign) :]

    @cache(backend=None, tenant_extractor="who", key=lambda who: "k", namespace=namespace)
    def load(who: str) -> str:
        return who

    assert load(digits) == digits
    assert load(f"{{{UUID(digits)}}}") == load(str(UUID(digits)).upper()) == digits
    other = sign + digits[len(sign) :]
    assert load(other) == other


def test_the_tenant_of_the_context(namespace: str) -> None:
    runs = Runs()

    @cache(backend=None, namespace=namespace, tenant_extractor=DEFAULT_TENANT_EXTRACTOR)
    def load() -> int:
        return runs()

    def as_tenant(name: str) -> int:
        ContextVarExtractor.set_tenant_id(name)
        return load()

    assert [contextvars.copy_context().run(as_tenant, name) for name in "abab"] == [1, 2, 1, 2]
    assert [load(), load()] == [3, 4], "nobody's calls are not cached"


@pytest.mark.parametrize("given", [None, "", "x" * 1025, "\ud800", 1.5, True, object()])
def test_calls_of_nobody_run_uncached(given: Any, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    runs = Runs()
    store = Store()

    @cache(backend=store, namespace=namespace, tenant_extractor="who")
    def load(who: Any) -> int:
        return runs()

    assert [load(given), load(given)] == [1, 2]
    assert store.values == {}
    assert caplog.text.count("nobody's") == 1


def test_an_extractor_that_fails(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    @cache(backend=None, namespace=namespace, tenant_extractor=lambda **kw: kw["missing"])
    def load(x: int = 1) -> int:
        return x

    assert load() == load() == 1
    assert caplog.text.count("its tenant cannot be told") == 1
    assert load.cache_info().currsize == 0


def test_extractors_that_cannot_be() -> None:
    for wrong in (5, object(), "not an identifier"):
        with pytest.raises(ConfigurationError):
            cache(tenant_extractor=wrong)(lambda: 1)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="no parameter 'tenant_id'"):
        cache(tenant_extractor=ArgumentNameExtractor())(lambda x: x)
    with pytest.raises(ConfigurationError, match="exclude each other"):
        EncryptionConfig(tenant_extractor="x", single_tenant_mode=True)


@pytest.mark.parametrize("own", [True, False])
def test_the_deployment_names_the_one_tenant(own: bool, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = "12345678-1234-1234-1234-123456789ABC"
    if not own:
        monkeypatch.setenv("CACHEKIT_DEPLOYMENT_UUID", uuid)
    store = Store()
    load, _ = secret_of(store, namespace, master_key="61" * 32, deployment_uuid=uuid if own else None)
    load()
    found = header(store.entry()[1])["m"]
    assert found["tenant_id"] == uuid.lower()
    assert found["key_fingerprint"] == "a96cccd7b110780e88c810525b9b5946"
    # Another deployment with the master key reads by the tenant that the entry names.
    monkeypatch.delenv("CACHEKIT_DEPLOYMENT_UUID", raising=False)
    other, runs = secret_of(store, namespace, master_key="61" * 32)
    assert other()["secret"] == SECRET
    assert runs.count == 0
