"""Each option of the decorator does what it says, seen from outside."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from cachekit import (
    FOREVER,
    BackpressureConfig,
    CachekitConfig,
    CircuitBreakerConfig,
    L1CacheConfig,
    TimeoutConfig,
    cache,
    configure,
)
from cachekit._native import _testing
from cachekit.backends import RedisBackend
from tests.unit.face.test_provider import Store

calls: list[Any] = []
advance_clock = _testing.advance_clock


@pytest.fixture(autouse=True)
def fresh() -> None:
    calls.clear()


class Opaque:
    def __init__(self) -> None:
        self.parts = [1]


def opaque() -> Any:
    calls.append(1)
    return Opaque()


class TestCopy:
    def test_auto_shares_opaque_objects_and_clones_containers(self) -> None:
        f = cache(backend=None)(opaque)
        assert f() is f()
        g = cache(backend=None)(containers)
        assert g() == g()
        assert g() is not g()

    def test_true_copies_opaque_objects_too(self) -> None:
        f = cache(backend=None, copy=True)(opaque)
        f().parts.append(2)
        assert f() is not f()
        assert f().parts == [1]
        assert len(calls) == 1

    def test_false_shares(self) -> None:
        f = cache(backend=None, copy=False)(containers)
        first = f()
        assert f() is first
        assert len(calls) == 1


def containers() -> Any:
    calls.append(1)
    return {"a": [1, 2]}


def number(x: int) -> Any:
    calls.append(x)
    return x


class TestL1:
    def test_the_size_bounds_what_is_held(self) -> None:
        @cache(backend=None, namespace="small", l1=L1CacheConfig(max_size_mb=1))
        def f(x: int) -> bytes:
            calls.append(x)
            return bytes(400_000)

        for x in range(20):
            f(x)
        held = f.cache_info().currsize
        assert held is not None
        assert held <= 2

    def test_the_settings_bound_it_otherwise(self) -> None:
        configure(CachekitConfig(l1_max_size_mb=1))

        @cache(backend=None, namespace="by the settings")
        def f(x: int) -> bytes:
            return bytes(400_000)

        for x in range(20):
            f(x)
        held = f.cache_info().currsize
        assert held is not None
        assert held <= 2

    def test_the_process_may_have_a_ceiling(self) -> None:
        configure(CachekitConfig(l1_total_mb=2))
        functions = [cache(backend=None, namespace=f"total {name}")(big) for name in range(6)]
        for function in functions:
            for x in range(6):
                function(x)
        assert sum(function.cache_info().currsize or 0 for function in functions) <= 5

    def test_off_means_the_backend_alone(self) -> None:
        store = Store()
        f = cache(backend=store, namespace="no l1", l1_enabled=False)(number)
        assert f(1) == f(1) == 1
        info = f.cache_info()
        assert (info.l1_hits, info.l2_hits, info.misses) == (0, 1, 1)


def big(x: int) -> bytes:
    return bytes(400_000)


class TestEntries:
    def test_integrity_checking_puts_an_envelope_around(self) -> None:
        sealed, plain = Store(), Store()
        value = "the value, in plain sight" * 4

        def f() -> str:
            return value

        cache(backend=sealed, namespace="n")(f)()
        cache(backend=plain, namespace="n", integrity_checking=False)(f)()
        [key] = plain.results()
        assert key.endswith(":0s")
        assert plain.entries[key].endswith(value.encode())
        [key] = sealed.results()
        assert key.endswith(":1s")
        assert b'"compressed": true' in sealed.entries[key]
        assert len(sealed.entries[key]) < len(plain.entries[plain.results()[0]]) + 20

    def test_compression_can_be_off(self) -> None:
        sizes = []
        for enabled in (True, False):
            configure(CachekitConfig(enable_compression=enabled))
            store = Store()
            f = cache(backend=store, namespace="n")(zeros)
            assert f() == f() == bytes(100_000)
            sizes.append(len(store.entries[store.results()[0]]))
        assert sizes[0] < 2000
        assert sizes[1] > 100_000

    @pytest.mark.parametrize("settings", [{"max_value_size": 50_000}, {"max_chunk_size_mb": 1}])
    def test_what_is_too_large_is_not_cached(self, settings: dict[str, int], caplog: pytest.LogCaptureFixture) -> None:
        configure(CachekitConfig(enable_compression=False, **settings))  # type: ignore[arg-type]
        store = Store()

        def f() -> bytes:
            calls.append(1)
            return bytes(100_000 if "max_value_size" in settings else 2 << 20)

        cached = cache(backend=store, namespace="n", version=len(settings))(f)
        assert cached() == cached()
        assert store.results() == []
        assert len(calls) == 2
        assert caplog.text.count("WARNING") == 1

    def test_safe_mode_refuses_what_does_not_come_back_equal(self, caplog: pytest.LogCaptureFixture) -> None:
        def f() -> Any:
            calls.append(1)
            return {"point": (1, 2)}

        loose = cache(backend=Store(), namespace="loose")(f)
        assert (loose(), loose()) == ({"point": (1, 2)}, {"point": [1, 2]})
        safe = cache(backend=Store(), namespace="safe", safe_mode=True)(f)
        assert safe() == safe() == {"point": (1, 2)}
        assert len(calls) == 3
        assert caplog.text.count("(safe_mode)") == 1

    async def test_ttl_reaches_the_backend(self, redis_url: str) -> None:
        backend = RedisBackend(redis_url)
        f = cache(backend=backend, ttl="2m", namespace="n")(number)
        f(1)
        left = await backend.get_ttl(f.key_for(1))
        assert left is not None
        assert 115 <= left <= 120

    async def test_a_hit_may_renew_the_ttl(self, redis_url: str) -> None:
        backend = RedisBackend(redis_url)
        options: Any = {"backend": backend, "ttl": 100, "namespace": "n", "l1_enabled": False}
        renewing = cache(**options, refresh_ttl_on_get=True, ttl_refresh_threshold=0.5)(number)
        lasting = cache(**options)(number)
        renewing(1)
        key = renewing.key_for(1)
        for function, expected in ((lasting, 20), (renewing, 100)):
            await backend.refresh_ttl(key, 20)
            function(1)
            assert abs(await _settled(backend, key, expected) - expected) <= 2
        await backend.refresh_ttl(key, 80)
        renewing(1)
        assert abs(await _settled(backend, key, 80) - 80) <= 2
        assert len(calls) == 1


async def _settled(backend: RedisBackend, key: str, expected: int) -> int:
    """The ttl once it is what is expected, or after half a minute."""
    import asyncio

    deadline = time.monotonic() + 30
    while True:
        left = await backend.get_ttl(key) or 0
        if abs(left - expected) <= 2 or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.01)


def zeros() -> bytes:
    return bytes(100_000)


class OwnError(Exception):
    """A custom backend's own."""


class OwnChildError(OwnError):
    pass


class Broken(Store):
    """A store whose reads fail."""

    def __init__(self, error: type[Exception] = ConnectionError) -> None:
        super().__init__()
        self.error = error
        self.reads = 0

    def get(self, key: str) -> bytes | None:
        self.reads += 1
        raise self.error("it is broken")

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        raise self.error("it is broken")


class TestCircuitBreaker:
    def test_it_opens_after_the_threshold(self) -> None:
        store = Broken()
        f = cache(
            backend=store,
            namespace="breaks",
            l1_enabled=False,
            circuit_breaker=CircuitBreakerConfig(failure_threshold=4, recovery_timeout=60),
        )(number)
        assert [f(1) for _ in range(20)] == [1] * 20
        assert store.reads <= 4
        assert f.get_health_status()["circuit_breaker"]["state"] == "OPEN"

    def test_it_can_be_off(self) -> None:
        store = Broken()
        f = cache(backend=store, namespace="never breaks", l1_enabled=False, circuit_breaker=False)(number)
        for _ in range(20):
            f(1)
        assert store.reads == 20

    def test_excluded_exceptions_do_not_count(self) -> None:
        store = Broken(TimeoutError)
        f = cache(
            backend=store,
            namespace="excludes",
            l1_enabled=False,
            circuit_breaker=CircuitBreakerConfig(failure_threshold=2, excluded_exceptions=(TimeoutError,)),
        )(number)
        for _ in range(10):
            f(1)
        assert store.reads == 10
        assert f.get_health_status()["circuit_breaker"]["state"] == "CLOSED"

    @pytest.mark.parametrize("raised", [OwnError, OwnChildError])
    def test_a_custom_backends_own_exceptions_can_be_excluded(self, raised: type[Exception]) -> None:
        store = Broken(raised)
        breaker = CircuitBreakerConfig(failure_threshold=2, excluded_exceptions=(OwnError,))
        f = cache(backend=store, namespace=f"excludes {raised.__name__}", l1_enabled=False, circuit_breaker=breaker)(
            number
        )
        for _ in range(10):
            f(1)
        assert store.reads == 10
        assert f.get_health_status()["circuit_breaker"]["state"] == "CLOSED"

    def test_other_exceptions_of_a_custom_backend_count(self) -> None:
        store = Broken(ConnectionError)
        breaker = CircuitBreakerConfig(failure_threshold=2, excluded_exceptions=(OwnError,))
        f = cache(backend=store, namespace="excludes others", l1_enabled=False, circuit_breaker=breaker)(number)
        for _ in range(10):
            f(1)
        assert store.reads == 2

    def test_health_shows_the_breaker_that_is_in_force(self) -> None:
        store = Broken()
        first, second = (
            cache(
                backend=store,
                namespace="first wins",
                l1_enabled=False,
                key=lambda x, name=name: f"{name}{x}",
                circuit_breaker=CircuitBreakerConfig(failure_threshold=threshold, recovery_timeout=threshold),
            )(number)
            for name, threshold in (("a", 3), ("b", 7))
        )
        second_alone = second.get_health_status()["circuit_breaker"]["config"]
        assert second_alone["failure_threshold"] == 7, "its own, as long as nothing was asked"
        for f in (first, second):
            f(1)
        for f in (first, second):
            shown = f.get_health_status()["circuit_breaker"]["config"]
            assert (shown["failure_threshold"], shown["recovery_timeout"]) == (3, 3)

    def test_it_tries_again_after_the_recovery_timeout(self) -> None:
        store = Broken()
        f = cache(
            backend=store,
            namespace="recovers",
            l1_enabled=False,
            circuit_breaker=CircuitBreakerConfig(failure_threshold=1, recovery_timeout=60, success_threshold=1),
        )(number)
        for seconds, reads in ((0, 1), (59, 1), (2, 2), (0, 2)):
            advance_clock(seconds)
            f(1)
            assert store.reads == reads


class Slow(Store):
    """A store whose reads wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.leave = threading.Event()
        self.reads = 0

    def get(self, key: str) -> bytes | None:
        self.reads += 1
        self.entered.release()
        self.leave.wait(10)
        return None


@pytest.mark.parametrize("limited", [True, False])
def test_backpressure_bounds_what_is_under_way(limited: bool) -> None:
    store = Slow()
    f = cache(
        backend=store,
        namespace=f"presses {limited}",
        l1_enabled=False,
        timeout=False,
        backpressure=BackpressureConfig(max_concurrent_requests=1, queue_size=0, timeout=0) if limited else False,
    )(number)
    threads = [threading.Thread(target=f, args=(x,)) for x in range(2)]
    threads[0].start()
    assert store.entered.acquire(timeout=10)
    threads[1].start()
    if limited:
        threads[1].join(10)
        assert not threads[1].is_alive()
        assert f.get_health_status()["backpressure"]["rejected_requests"] >= 1
    else:
        assert store.entered.acquire(timeout=10)
    store.leave.set()
    for thread in threads:
        thread.join(10)
    assert sorted(calls) == [0, 1]


def test_timeouts_are_what_was_asked_for(redis_url: str) -> None:
    backend = RedisBackend(redis_url)
    f = cache(backend=backend, namespace="deadlines", timeout=TimeoutConfig(initial=0.7, min=0.3, max=0.9))(number)
    f(1)
    seen = f.get_health_status()["adaptive_timeout"]
    assert (seen["base_timeout"], seen["current_timeout"]) == (0.7, 0.7)
    for x in range(30):
        f(x)
    assert f.get_health_status()["adaptive_timeout"]["current_timeout"] == 0.3


@pytest.mark.parametrize("locked", [True, False])
def test_the_distributed_lock(locked: bool, redis_url: str) -> None:
    backend = RedisBackend(redis_url)
    seen = []

    def f() -> int:
        seen.append(backend.exists(f"{cached.key_for()}:lock"))
        return 1

    cached: Any = cache(backend=backend, namespace=f"locks {locked}", lock=locked)(f)
    assert cached() == 1
    assert seen == [locked]
    assert not backend.exists(f"{cached.key_for()}:lock")


def test_lock_wait_bounds_the_patience(redis_url: str) -> None:
    backend = RedisBackend(redis_url)
    f = cache(backend=backend, namespace="patience", lock_wait=0.2)(number)
    with backend.lock(f.key_for(1), timeout=30) as held:
        assert held
        started = time.monotonic()
        assert f(1) == 1
        assert 0.15 < time.monotonic() - started < 5


def test_swr_serves_an_ageing_entry_and_refreshes_it() -> None:
    refreshed = threading.Event()

    def f() -> int:
        calls.append(1)
        if len(calls) > 1:
            refreshed.set()
        return len(calls)

    ageing = cache(backend=None, ttl=100, namespace="swr", l1=L1CacheConfig(swr_threshold_ratio=0.5))(f)
    assert ageing() == 1
    advance_clock(40)
    assert ageing() == 1
    assert not refreshed.wait(0.05)
    advance_clock(20)
    assert ageing() == 1
    assert refreshed.wait(10)


def test_without_swr_an_entry_lives_out_its_ttl() -> None:
    f = cache(backend=None, ttl="100s", l1=L1CacheConfig(swr_enabled=False))(number)
    for seconds in (0, 50, 49):
        advance_clock(seconds)
        f(1)
    assert len(calls) == 1
    advance_clock(2)
    f(1)
    assert len(calls) == 2


def test_forever_and_the_default_ttl() -> None:
    configure(CachekitConfig(default_ttl=1000))
    options: Any = {"backend": None, "l1": L1CacheConfig(swr_enabled=False)}
    lasting, ending = cache(**options, ttl=FOREVER)(number), cache(**options)(number)
    chosen = cache(**options, ttl=lambda result: "10m")(number)
    for f in (lasting, ending, chosen):
        f(1)
    for seconds, runs in ((599, 0), (2, 1), (400, 1), (10_000_000, 2)):
        advance_clock(seconds)
        calls.clear()
        for f in (lasting, ending, chosen):
            f(1)
        assert len(calls) == runs


def test_collect_stats_does_not_stop_cache_info() -> None:
    f = cache(backend=None, collect_stats=False)(number)
    f(1)
    f(1)
    assert f.cache_info()[:2] == (1, 1)
    assert not f.get_health_status()["features_enabled"]["statistics"]
