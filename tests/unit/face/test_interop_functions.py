"""Interop mode: what the decorator makes of calls, settings and encryption."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import math
import weakref
from typing import Any

import msgpack
import pytest

from cachekit import (
    ConfigurationError,
    DecoratorConfig,
    InteropError,
    cache,
    configure,
    encode_interop_value,
    reset_settings,
)
from cachekit.backends import RedisBackend
from cachekit.config.settings import CachekitConfig
from tests.unit.face.interop_reference import key
from tests.unit.face.test_provider import Store

UTC = dt.timezone.utc
pack: Any = msgpack.packb
OP: dict[str, Any] = {"interop": "op", "namespace": "n"}


calls: list[Any] = []
decorate: Any = cache


@pytest.fixture(autouse=True)
def fresh() -> None:
    calls.clear()


def everything(a: Any, /, b: Any = 2, *rest: Any, c: Any = 3, **extra: Any) -> Any:
    calls.append(a)
    return [a, b, list(rest), c, extra]


class TestCalls:
    @pytest.mark.parametrize(
        ("args", "kwargs", "flat"),
        [
            ((1,), {}, [1, 2, [], 3, {}]),
            ((1, 2), {"c": 3.0}, [1, 2, [], 3, {}]),
            ((1,), {"b": 2}, [1, 2, [], 3, {}]),
            ((1, 5, 6, 7), {"z": 1, "y": 2}, [1, 5, [6, 7], 3, {"y": 2, "z": 1}]),
            ((1,), {"a": 9}, [1, 2, [], 3, {"a": 9}]),
        ],
    )
    def test_arguments_are_bound(self, args: Any, kwargs: Any, flat: Any) -> None:
        store = Store()
        function = cache(backend=store, l1_enabled=False, **OP)(everything)
        wanted = everything(*args, **kwargs)
        calls.clear()
        for _ in range(2):
            assert function(*args, **kwargs) == wanted
        assert len(calls) == 1
        assert list(store.entries) == [key("n", "op", flat)] == [function.key_for(*args, **kwargs)]
        assert store.entries[function.key_for(*args, **kwargs)] == encode_interop_value(wanted)

    def test_what_is_ignored_is_left_out(self) -> None:
        store = Store()

        class Shop:
            @cache(backend=store, ignore=("self", "session"), **OP)
            def price(self, session: Any, article: str) -> float:
                return 7.5

        assert Shop().price(object(), "tea") == 7.5
        assert list(store.entries) == [key("n", "op", ["tea"])]

    def test_a_call_that_does_not_fit_is_the_functions_own_error(self) -> None:
        function = cache(backend=Store(), **OP)(everything)
        for args, kwargs in [((), {}), ((1, 2), {"b": 2})]:
            with pytest.raises(TypeError, match=r"everything\(\)"):
                function(*args, **kwargs)

    def test_an_argument_outside_of_the_model_is_raised(self) -> None:
        function = cache(backend=Store(), **OP)(everything)
        with pytest.raises(InteropError, match=r'^rest\[0\]\["x"\] is of type float'):
            function(1, 2, {"x": math.nan})
        with pytest.raises(InteropError, match=r"^extra\[.y.\] is of type object"):
            function(1, y=object())
        assert calls == []

    def test_a_value_outside_of_the_model_is_returned_uncached(self, caplog: pytest.LogCaptureFixture) -> None:
        store = Store()

        def tags() -> Any:
            calls.append(1)
            return {"tags": [{1}]}

        function = cache(backend=store, **OP)(tags)
        for _ in range(2):
            assert function() == {"tags": [{1}]}
        assert len(calls) == 2
        assert store.entries == {}
        assert caplog.text.count('not cached: result["tags"][0] is of type set') == 1

    def test_layers_agree(self) -> None:
        def made() -> Any:
            return {"b": (1, 2), "a": bytearray(b"x")}

        store = Store()
        function = cache(backend=store, **OP)(made)
        function()
        hit = function()
        assert (hit, list(hit)) == ({"a": b"x", "b": [1, 2]}, ["a", "b"])
        assert function() is not hit
        assert cache(backend=store, l1_enabled=False, **OP)(made)() == hit

    def test_coroutines(self) -> None:
        store = Store()

        async def double(x: int) -> int:
            calls.append(x)
            return 2 * x

        function = cache(backend=store, **OP)(double)

        async def twice() -> list[int]:
            return [await function(4), await function(x=4.0)]  # type: ignore[arg-type]

        assert asyncio.run(twice()) == [8, 8]
        assert calls == [4]
        assert store.entries == {key("n", "op", [4]): b"\x08"}

    @pytest.mark.parametrize("foreign", [b"CK\x03\x00\x00\x00\x02{}", b"\x01\x01", b""])
    def test_foreign_entries_are_overwritten(self, foreign: bytes, caplog: pytest.LogCaptureFixture) -> None:
        store = Store()
        function = cache(backend=store, **OP)(everything)
        store.entries[function.key_for(1)] = foreign
        function(1)
        assert calls == [1]
        assert store.entries[function.key_for(1)] == encode_interop_value([1, 2, [], 3, {}])
        assert "damaged or foreign bytes" in caplog.text

    def test_forgetting(self) -> None:
        store = Store()
        function = cache(backend=store, **OP)(everything)
        for number in (1, 2, 3):
            function(number)
        function.invalidate_cache(1, b=2)
        assert set(store.entries) == {function.key_for(2), function.key_for(3)}
        store.entries[key("n", "op", ["theirs"])] = b"\x01"
        function.cache_clear()
        assert set(store.entries) == {key("n", "op", ["theirs"])}, "which this process never saw"
        function(2)
        assert calls == [1, 2, 3, 2]

    def test_functions_are_collected(self) -> None:
        def short_lived(x: Any = calls) -> int:
            return 1

        function = cache(backend=Store(), **OP)(short_lived)
        function(1)
        gone = weakref.ref(function)
        del function, short_lived
        gc.collect()
        assert gone() is None


class Prefixing(Store):
    key_prefix = "app:"


class TestConfiguration:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"namespace": None}, "needs a namespace"),
            ({"namespace": "N"}, 'interop namespace "N"'),
            ({"interop": "get user"}, 'interop operation "get user"'),
            ({"interop": ""}, "interop operation"),
            ({"interop": True}, "the operation's name is expected"),
            ({"key": str}, "key="),
            ({"version": 2}, "version="),
            ({"backend": None}, "backend=None"),
            ({"backend": Prefixing()}, "'app:'"),
            ({"fast_mode": True}, "fast_mode"),
        ],
    )
    def test_what_excludes_interop(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError) as raised:
            decorate(**{"backend": Store(), **OP, **options})(everything)
        assert message in str(raised.value)

    def test_a_prefix_that_comes_later(self) -> None:
        store: Any = Store()
        function = cache(backend=store, l1_enabled=False, **OP)(everything)
        function(1)
        store._key_prefix = "late:"
        with pytest.raises(ConfigurationError, match="'late:'"):
            function(1)
        assert calls == [1]

    def test_the_environments_redis_prefixes_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDIS_URL", "redis://localhost:1/0")
        function = cache(**OP)(everything)
        with pytest.raises(ConfigurationError, match=r"'t:default:'.*RedisBackend\(url\)"):
            function(1)
        assert calls == []

    def test_builtins_without_a_signature(self) -> None:
        with pytest.raises(ConfigurationError, match="parameters"):
            cache(backend=Store(), **OP)(dict.update)  # type: ignore[call-overload]

    def test_it_is_a_field_of_the_configuration(self) -> None:
        backend = RedisBackend("redis://localhost:1/0")
        config = DecoratorConfig(interop="op", namespace="n", backend=backend)
        assert config.to_dict()["interop"] == "op"


DEPLOYMENT = "12345678-1234-1234-1234-123456789abc"
ENCRYPTED: dict[str, Any] = {"encryption": True, "master_key": "a" * 64, "single_tenant_mode": True}


class TestEncryption:
    def test_an_entry_is_nonce_ciphertext_and_tag(self) -> None:
        store = Store()
        function = decorate(backend=store, deployment_uuid=DEPLOYMENT, **ENCRYPTED, **OP)(everything)
        function(1)
        (stored,) = store.entries.values()
        assert len(stored) == 12 + len(encode_interop_value([1, 2, [], 3, {}])) + 16
        other = decorate(backend=store, deployment_uuid=DEPLOYMENT, l1_enabled=False, **ENCRYPTED, **OP)(everything)
        assert other(1) == [1, 2, [], 3, {}]
        assert calls == [1]

    def test_plaintext_is_refused_where_ciphertext_must_be(self) -> None:
        store = Store()
        function = decorate(backend=store, deployment_uuid=DEPLOYMENT, **ENCRYPTED, **OP)(everything)
        store.entries[function.key_for(1)] = encode_interop_value("forged")
        assert function(1) == [1, 2, [], 3, {}]
        assert calls == [1]

    def test_an_entry_of_the_published_package(self) -> None:
        def found(a: Any, b: Any = 2) -> Any:
            calls.append(a)

        store = Store()
        options = {**ENCRYPTED, "interop": "enc", "namespace": "n"}
        function = decorate(backend=store, deployment_uuid=DEPLOYMENT, **options)(found)
        # What cachekit 0.24.1 stored for the result {"a": 1, "b": [2]}.
        store.entries["n:enc:0fc882b05c2c6b65228714a9137fd7f4add8e968e61b55cf40c3bd636b47dc5b"] = bytes.fromhex(
            "5ca4fd86c3d17a600000000055be35db169060080602b600652a7af5304fb1e92bcb85ac"
        )
        assert function(1) == {"a": 1, "b": [2]}
        assert calls == []

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "need a deployment_uuid="),
            ({"deployment_uuid": DEPLOYMENT.upper()}, f"as {DEPLOYMENT}"),
            ({"single_tenant_mode": False, "tenant_extractor": lambda *_: DEPLOYMENT}, "tenant_extractor="),
        ],
    )
    def test_what_it_needs(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError) as raised:
            decorate(**{"backend": Store(), **ENCRYPTED, **OP, **options})(everything)
        assert message in str(raised.value)

    @pytest.mark.parametrize("name", ["everything", "get_user"])
    def test_where_the_settings_encrypt_it_needs_the_same(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """All functions, or those of a sensitive name: an entry under a name of nobody's is never written."""
        monkeypatch.setenv("CACHEKIT_MASTER_KEY", "a" * 64)
        if name == "everything":
            monkeypatch.setenv("CACHEKIT_ENCRYPTION", "all")

        def function(a: int) -> int:
            return a

        function.__name__ = function.__qualname__ = name
        store = Store()
        cached = decorate(backend=store, **OP)(function)
        with pytest.raises(ConfigurationError, match="need a deployment_uuid="):
            cached(1)
        assert store.entries == {}
        monkeypatch.setenv("CACHEKIT_DEPLOYMENT_UUID", DEPLOYMENT)
        reset_settings()
        assert cached(1) == 1
        ((key, entry),) = store.entries.items()
        assert (key, len(entry)) == (cached.key_for(1), 1 + 28)

    def test_the_deployment_may_come_from_configure(self) -> None:
        configure(CachekitConfig(deployment_uuid=DEPLOYMENT.upper()))
        with pytest.raises(ConfigurationError, match=DEPLOYMENT):
            decorate(backend=Store(), **ENCRYPTED, **OP)(everything)
        reset_settings()
        configure(CachekitConfig(deployment_uuid=DEPLOYMENT))
        assert decorate(backend=Store(), **ENCRYPTED, **OP)(everything)(1) == [1, 2, [], 3, {}]
