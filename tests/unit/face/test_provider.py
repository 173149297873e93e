"""The rule that picks a backend."""

from __future__ import annotations

from typing import Any

import pytest

import cachekit
from cachekit import ConfigurationError, cache, set_default_backend
from cachekit.backends import BaseBackend, RedisBackend, provider
from cachekit.backends.provider import DefaultBackendProvider
from cachekit.cache_handler import get_backend_provider
from cachekit.config.decorator import get_default_backend


class Store:
    """A backend of a user's own."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}

    def results(self) -> list[str]:
        """The keys of cached results, without the engine's own items."""
        return [key for key in self.entries if not key.startswith("ck:")]

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


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "_told_local", False)
    monkeypatch.setattr(provider, "_told_ambiguous", False)


def test_nothing_set(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "cachekit")
    assert DefaultBackendProvider().get_backend() is None
    assert DefaultBackendProvider().get_backend() is None
    assert caplog.text.count("no backend is configured") == 1


@pytest.mark.parametrize("variable", ["CACHEKIT_REDIS_URL", "REDIS_URL"])
def test_redis(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "redis://127.0.0.1:1/0")
    rule = DefaultBackendProvider()
    backend = rule.get_backend()
    assert isinstance(backend, RedisBackend)
    assert backend.key_prefix == "t:default:"
    assert rule.get_backend() is backend
    monkeypatch.setenv(variable, "redis://127.0.0.1:2/0")
    assert rule.get_backend() is not backend


def test_empty_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_API_KEY", "")
    monkeypatch.setenv("CACHEKIT_REDIS_URL", "")
    assert DefaultBackendProvider().get_backend() is None


def test_two_backends_are_warned_about_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@127.0.0.1:1")
    monkeypatch.setenv("CACHEKIT_MEMCACHED_SERVERS", '["a:1"]')
    for _ in range(3):
        assert isinstance(DefaultBackendProvider().get_backend(), RedisBackend)
    assert caplog.text.count("several backends") == 1
    assert "REDIS_URL is used, CACHEKIT_MEMCACHED_SERVERS is ignored" in caplog.text
    assert "hunter2" not in caplog.text


def test_both_redis_urls_are_a_plain_precedence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("CACHEKIT_REDIS_URL", "redis://127.0.0.1:2")
    assert isinstance(DefaultBackendProvider().get_backend(), RedisBackend)
    assert caplog.text == ""


@pytest.mark.parametrize("url", ["redis:localhost:6379", "http://127.0.0.1", "localhost", "redis://h:99999"])
def test_a_bad_url_is_raised_naming_its_variable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", url)

    @cache
    def f() -> int:
        return 1

    with pytest.raises(ConfigurationError, match="REDIS_URL") as caught:
        f()
    assert caught.value.code == "E040"
    monkeypatch.delenv("REDIS_URL")
    assert f() == 1


def test_configured_redis_is_used() -> None:
    cachekit.configure(cachekit.CachekitConfig(redis_url="redis://127.0.0.1:1"))
    assert isinstance(get_backend_provider().get_backend(), RedisBackend)
    cachekit.configure(cachekit.CachekitConfig(default_ttl=5))
    assert get_backend_provider().get_backend() is None
    assert get_backend_provider() is get_backend_provider()


def test_the_default_backend_is_looked_up_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_API_KEY", "never asked")
    explicit, default = Store(), Store()

    @cache(namespace="n")
    def f(x: int) -> int:
        return x

    @cache(namespace="n", backend=explicit)
    def g(x: int) -> int:
        return x

    @cache(namespace="n", backend=None)
    def h(x: int) -> int:
        return x

    set_default_backend(default)
    assert get_default_backend() is default
    f(1)
    g(1)
    h(1)
    assert (len(default.results()), len(explicit.results())) == (1, 1)
    set_default_backend(None)
    with pytest.raises(ConfigurationError):
        f(2)
    assert g(2) == 2


def test_the_default_backend_may_change_after_use() -> None:
    one, two = Store(), Store()

    @cache(namespace="n")
    def f(x: int) -> int:
        return x

    f(1)
    for backend in (one, two):
        set_default_backend(backend)
        f(1)
        assert len(backend.results()) == 1
    with pytest.raises(TypeError, match="RedisBackend"):
        set_default_backend("redis://localhost")  # type: ignore[arg-type]


def test_protocols_are_checkable() -> None:
    assert isinstance(Store(), BaseBackend)
    assert not isinstance(object(), BaseBackend)
