"""`RedisBackend` against a real server."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from cachekit import BackendError, BackendErrorType, ConfigurationError, cache
from cachekit.backends import (
    BaseBackend,
    LockableBackend,
    RedisBackend,
    RedisBackendConfig,
    TimeoutConfigurableBackend,
    TTLInspectableBackend,
)
from cachekit.cache_handler import get_backend_provider
from tests.support.redis_servers import RedisServer


@pytest.fixture
def backend(redis_url: str) -> RedisBackend:
    return RedisBackend(redis_url)


def test_satisfies_the_protocols(backend: RedisBackend) -> None:
    for protocol in (BaseBackend, LockableBackend, TTLInspectableBackend, TimeoutConfigurableBackend):
        assert isinstance(backend, protocol)


def test_the_five(backend: RedisBackend) -> None:
    assert backend.get("k") is None
    backend.set("k", b"\x00value", ttl=60)
    assert backend.get("k") == b"\x00value"
    assert backend.exists("k")
    assert backend.delete("k")
    assert not backend.delete("k")
    assert not backend.exists("k")
    healthy, details = backend.health_check()
    assert healthy
    assert details["backend_type"] == "redis"
    assert details["latency_ms"] > 0


async def test_the_five_in_a_task(backend: RedisBackend) -> None:
    assert await backend.get_async("k") is None
    await backend.set_async("k", b"v", ttl=60)
    assert await backend.get_async("k") == b"v"
    assert await backend.exists_async("k")
    assert await backend.delete_async("k")
    healthy, details = await backend.health_check_async()
    assert healthy
    assert details["backend_type"] == "redis"


async def test_time_left(backend: RedisBackend) -> None:
    assert await backend.get_ttl("k") is None
    backend.set("k", b"v")
    assert await backend.get_ttl("k") is None
    assert await backend.refresh_ttl("k", 100)
    left = await backend.get_ttl("k")
    assert left is not None
    assert 95 < left <= 100
    assert not await backend.refresh_ttl("missing", 100)


def test_where_it_connects(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    RedisBackend(redis_url).set("k", b"v")
    assert RedisBackend(RedisBackendConfig(redis_url=redis_url, connection_pool_size=1)).get("k") == b"v"
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert RedisBackend().get("k") == b"v"
    zero_config = get_backend_provider().get_backend()
    assert zero_config is not None
    assert zero_config.get("k") is None
    zero_config.set("k", b"other")
    assert RedisBackend().get("t:default:k") == b"other"


def test_making_one_connects_to_nothing() -> None:
    backend = RedisBackend("redis://127.0.0.1:1/0")
    assert backend.key_prefix == ""
    assert "RedisBackend" in repr(backend)
    with pytest.raises(BackendError) as caught:
        backend.get("k")
    assert caught.value.error_type is BackendErrorType.TRANSIENT
    assert caught.value.code == "E010"
    assert caught.value.key == "k"


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", ""])
def test_a_bad_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis://localhost:6379/0"):
        RedisBackend(url)


def test_a_timeout_is_a_new_backend(own_redis: RedisServer) -> None:
    backend = RedisBackend(own_redis.url).with_timeout(60)
    backend.set("k", b"v")
    quick = backend.with_timeout(0.5)
    assert quick is not backend
    assert quick.get("k") == b"v"
    own_redis.freeze()
    started = time.monotonic()
    with pytest.raises(BackendError) as caught:
        quick.get("k")
    assert time.monotonic() - started < 20
    assert caught.value.is_timeout
    own_redis.thaw()
    assert quick.get("k") == b"v"
    with pytest.raises(ConfigurationError, match="with_timeout"):
        backend.with_timeout(0)
    with pytest.raises(ConfigurationError, match=r"below 2\*\*64, got 1e300"):
        backend.with_timeout(1e300)


async def test_a_lock_id(backend: RedisBackend) -> None:
    lock_id = await backend.acquire_lock("k", timeout=5)
    assert lock_id
    assert await backend.acquire_lock("k", timeout=5) is None
    assert backend.get("k:lock") == lock_id.encode()
    assert not await backend.release_lock("k", "somebody else's")
    assert await backend.release_lock("k", lock_id)
    assert not await backend.release_lock("k", lock_id)
    assert await backend.acquire_lock("k", 5)


async def test_a_lock_entered_in_a_task(backend: RedisBackend) -> None:
    async with backend.acquire_lock("k", 5) as held:
        assert held
        async with backend.acquire_lock("k", 5) as second:
            assert not second
        assert backend.exists("k:lock")
    assert not backend.exists("k:lock")


async def test_waiting_for_a_lock_in_a_task(backend: RedisBackend) -> None:
    order: list[object] = []
    first = await backend.acquire_lock("k", 10)
    assert first

    async def second() -> None:
        async with backend.acquire_lock("k", 10, blocking_timeout=10) as held:
            order.append(held)

    waiter = asyncio.create_task(second())
    await asyncio.sleep(0.2)
    order.append("released")
    started = time.monotonic()
    await backend.release_lock("k", first)
    await waiter
    assert order == ["released", True]
    assert time.monotonic() - started < 2


async def test_waiting_ends(backend: RedisBackend) -> None:
    assert await backend.acquire_lock("k", 30)
    started = time.monotonic()
    assert await backend.acquire_lock("k", 30, blocking_timeout=0.3) is None
    assert 0.25 < time.monotonic() - started < 2


def test_a_dead_holder_is_waited_out(backend: RedisBackend) -> None:
    with backend.lock("k", 0.3) as held:
        assert held
        with backend.lock("k", 5, blocking_timeout=5) as second:
            assert second
    assert not backend.exists("k:lock")


def test_a_lock_on_the_calling_thread(backend: RedisBackend) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with backend.lock("k", 10) as held:
            assert held
            entered.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(10)
    with backend.lock("k", 10) as got:
        assert not got
    threading.Timer(0.2, leave.set).start()
    with backend.lock("k", 10, blocking_timeout=10) as got:
        assert got
    holder.join()


async def test_an_exception_releases_the_lock(backend: RedisBackend) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with backend.acquire_lock("k", 10):
            raise ValueError("mine")
    with pytest.raises(ValueError, match="mine"), backend.lock("k", 10) as held:
        assert held
        raise ValueError("mine")
    assert not backend.exists("k:lock")


def test_an_heir_that_changes_an_operation_is_asked_itself(redis_url: str) -> None:
    class Prefixed(RedisBackend):
        def get(self, key: str) -> bytes | None:
            return super().get(f"prefix:{key}")

        def set(self, key: str, value: bytes, ttl: float | None = None) -> None:
            super().set(f"prefix:{key}", value, ttl)

    @cache(backend=Prefixed(redis_url), namespace="heir", l1_enabled=False)
    def f() -> int:
        return 1

    assert f() == f() == 1
    assert f.cache_info().l2_hits == 1
    assert RedisBackend(redis_url).exists(f"prefix:{f.key_for()}")
