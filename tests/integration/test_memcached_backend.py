"""`MemcachedBackend`: sync and async, beside pymemcache, among processes, through outages."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient

from cachekit import cache
from cachekit.backends.errors import BackendError, BackendErrorType
from cachekit.backends.memcached import MemcachedBackend, MemcachedBackendConfig
from cachekit.backends.provider import DefaultBackendProvider
from cachekit.config import CircuitBreakerConfig, ConfigurationError
from tests.integration.conftest import Either
from tests.integration.support import FORKS, Runs, ended, forked, program, wait_until
from tests.support.memcached_server import MemcachedServer

PROCESSES = 8
CALLERS = 25


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[MemcachedServer]]:
    servers: list[MemcachedServer] = []
    try:
        for number in range(6):
            servers.append(MemcachedServer(tmp_path_factory.mktemp(f"memcached{number}")))
            servers[-1].start()
        yield servers
    finally:
        for server in servers:
            server.stop()


def backend_of(*servers: MemcachedServer, **settings: Any) -> MemcachedBackend:
    return MemcachedBackend(MemcachedBackendConfig(servers=tuple(server.server for server in servers), **settings))


def read_by_pymemcache(server: MemcachedServer, key: str) -> bytes | None:
    with closing(Client(server.server)) as client:
        return client.get(key)


def test_bytes_come_back(memcached_server: MemcachedServer, namespace: str) -> None:
    backend = backend_of(memcached_server)
    key = f"{namespace}:k"
    assert backend.get(key) is None
    assert not backend.exists(key)
    backend.set(key, b"\r\n\x00value", ttl=60)
    assert backend.get(key) == b"\r\n\x00value"
    assert backend.exists(key)
    assert backend.delete(key)
    assert not backend.delete(key)
    healthy, details = backend.health_check()
    assert healthy
    assert details["backend_type"] == "memcached"
    assert (details["configured_servers"], details["reachable_servers"]) == (1, 1)
    assert details["version"].startswith("1.")


def test_bytes_come_back_in_tasks(memcached_server: MemcachedServer, namespace: str) -> None:
    backend = backend_of(memcached_server)
    key = f"{namespace}:k"

    async def main() -> None:
        assert await backend.get_async(key) is None
        await backend.set_async(key, b"value", 60)
        assert await backend.get_async(key) == b"value"
        assert await backend.get_ttl(key) in (59, 60)
        assert await backend.refresh_ttl(key, 3600)
        assert await backend.get_ttl(key) in (3599, 3600)
        assert not await backend.refresh_ttl(f"{key}2", 60)
        async with backend.acquire_lock(key, 5) as held:
            assert held
            assert await backend.acquire_lock(key, 5) is None
        lock_id = await backend.acquire_lock(key, 5)
        assert lock_id is not None
        assert not await backend.release_lock(key, "another")
        assert await backend.release_lock(key, lock_id)
        assert await backend.delete_async(key)
        assert (await backend.health_check_async())[0]

    asyncio.run(main())


def test_a_function_in_memcached(memcached_server: MemcachedServer, namespace: str, either: Either) -> None:
    runs = Runs()
    backend = backend_of(memcached_server)

    def work(x: int) -> dict[str, Any]:
        return {"x": x, "run": runs()}

    for options in ({}, {"l1_enabled": False}):
        function = either.cached(work, backend=backend, namespace=namespace, ttl=60, **options)
        assert either.call(function, 1) == {"x": 1, "run": 1}
    function = either.cached(work, backend=backend, namespace=namespace, ttl=60, l1_enabled=False)
    either.call(function.ainvalidate_cache if either.is_async else function.invalidate_cache, 1)
    assert either.call(function, 1) == {"x": 1, "run": 2}
    either.call(function.cache_clear)
    assert either.call(function, 1) == {"x": 1, "run": 3}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_what_pymemcache_wrote_is_found_and_the_other_way_round(six: list[MemcachedServer], count: int) -> None:
    servers = six[:count]
    ours = backend_of(*servers)
    with closing(HashClient([server.server for server in servers])) as theirs:
        for number in range(1000):
            name = f"{count}:ns:f:{number}:{'x' * (number % 60)}"
            theirs.set(f"t:{name}", b"theirs", noreply=False)
            ours.set(f"o:{name}", b"ours", ttl=60)
            assert ours.get(f"t:{name}") == b"theirs"
            assert theirs.get(f"o:{name}") == b"ours"


def test_the_prefix_stands_before_every_key(memcached_server: MemcachedServer, namespace: str) -> None:
    backend = backend_of(memcached_server, key_prefix=f"{namespace}:")
    backend.set("k", b"v")
    assert backend.key_prefix == f"{namespace}:"
    assert read_by_pymemcache(memcached_server, f"{namespace}:k") == b"v"


def test_keys_that_memcached_does_not_take(memcached_server: MemcachedServer, namespace: str) -> None:
    backend = backend_of(memcached_server)
    keys = [f"{namespace} {text}" for text in ("a b", "grüße", "x" * 300, "x" * 301, "\r\n", "")]
    for key in keys:
        backend.set(key, key.encode())
    assert [backend.get(key) for key in keys] == [key.encode() for key in keys]


def test_values_that_are_too_large_are_not_sent(
    memcached_server: MemcachedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = backend_of(memcached_server, max_item_size_bytes=1000)
    with pytest.raises(BackendError, match="max_item_size_bytes") as caught:
        backend.set(f"{namespace}:k", b"x" * 1001)
    assert caught.value.error_type == BackendErrorType.PERMANENT
    assert backend.get(f"{namespace}:k") is None

    @cache(backend=backend, namespace=namespace, ttl=60)
    def large() -> bytes:
        return b"".join(number.to_bytes(8, "big") for number in range(1000))

    assert len(large()) == 8000


def test_long_lives(memcached_server: MemcachedServer, namespace: str) -> None:
    backend = backend_of(memcached_server)
    day = 24 * 3600
    for days in (29, 31, 365):
        backend.set(f"{namespace}:{days}", b"v", ttl=days * day)
        left = asyncio.run(_ttl(backend, f"{namespace}:{days}"))
        assert left is not None
        assert abs(left - days * day) <= 3


async def _ttl(backend: MemcachedBackend, key: str) -> int | None:
    return await backend.get_ttl(key)


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_one_of_eight_processes_runs_it(
    memcached_server: MemcachedServer, namespace: str, tmp_path: Path, kind: str
) -> None:
    runs = tmp_path / "runs"
    url = f"memcached://{memcached_server.server}"
    arguments = (url, namespace, str(runs), kind, str(CALLERS), "0.3", "0.3")
    children = [program("callers", *arguments) for _ in range(PROCESSES)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.communicate()[1]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    seen = [json.loads(text) for text in ended(children)]
    (runner,) = runs.read_text().split()
    assert [one["outcomes"] for one in seen] == [[{"pid": int(runner), "x": 1}] * CALLERS] * PROCESSES


def test_an_outage_reaches_no_caller(own_memcached: MemcachedServer, namespace: str, either: Either) -> None:
    runs = Runs()
    backend = backend_of(own_memcached, timeout=0.2, connect_timeout=0.2)

    def work(x: int) -> int:
        runs()
        return x

    breaker = CircuitBreakerConfig(recovery_timeout=0.5)
    options = {"backend": backend, "namespace": namespace, "ttl": 60, "l1_enabled": False}
    function = either.cached(work, circuit_breaker=breaker, **options)
    assert either.call(function, 1) == 1
    own_memcached.kill()
    for x in range(20):
        assert either.call(function, x) == x
    own_memcached.start()

    def is_back() -> bool:
        before = runs.count
        time.sleep(0.05)
        either.call(function, 1)
        return runs.count == before

    wait_until("it is cached again", is_back, 60)


def test_a_frozen_server_costs_no_more_than_the_timeout(own_memcached: MemcachedServer, namespace: str) -> None:
    @cache(backend=backend_of(own_memcached, timeout=0.2), namespace=namespace, ttl=60, l1_enabled=False)
    def function(x: int) -> int:
        return x

    assert function(1) == 1
    own_memcached.freeze()
    try:
        for x in range(10):
            assert function(x) == x
    finally:
        own_memcached.thaw()


def test_functions_lose_no_more_than_their_share_with_a_server(tmp_path: Path, namespace: str, either: Either) -> None:
    servers = [MemcachedServer(tmp_path) for _ in range(4)]
    try:
        for server in servers:
            server.start()
        runs = Runs()

        def work(x: int) -> int:
            runs()
            return x

        def functions() -> list[Any]:
            """As another process has them."""
            backend = backend_of(*servers)
            options = {"backend": backend, "ttl": 600, "l1_enabled": False}
            return [either.cached(work, namespace=f"{namespace}{number}", **options) for number in range(16)]

        def lost(function: Any) -> int:
            before = runs.count
            for x in range(100):
                assert either.call(function, x) == x
            return runs.count - before

        ours = functions()
        assert [lost(function) for function in ours] == [100] * 16
        assert [lost(function) for function in functions()] == [0] * 16
        servers[1].kill()
        # One server of four has about 25 of 100 entries.
        assert max(lost(function) for function in ours) <= 45
        either.call(ours[0].cache_clear)
        assert lost(functions()[0]) == 100
        servers[1].start()
        assert max(lost(function) for function in functions()) <= 45
        either.call(ours[1].cache_clear)
        assert lost(functions()[1]) == 100
    finally:
        for server in servers:
            server.stop()


def test_the_environment_selects_it(
    memcached_server: MemcachedServer, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    monkeypatch.setenv("CACHEKIT_MEMCACHED_SERVERS", json.dumps([memcached_server.server]))
    monkeypatch.setenv("CACHEKIT_MEMCACHED_KEY_PREFIX", f"{namespace}:")
    backend = DefaultBackendProvider().get_backend()
    assert isinstance(backend, MemcachedBackend)
    backend.set("k", b"v")
    assert read_by_pymemcache(memcached_server, f"{namespace}:k") == b"v"


def test_urls(memcached_server: MemcachedServer, namespace: str) -> None:
    backend = MemcachedBackend(f"memcached://{memcached_server.server}?routing=ketama")
    backend.set(f"{namespace}:k", b"v")
    assert backend_of(memcached_server).get(f"{namespace}:k") == b"v"
    for url in ("memcached://", "memcached://h?routing=x", "redis://h"):
        with pytest.raises(ConfigurationError):
            MemcachedBackend(url)


def test_it_is_not_imported_with_the_package() -> None:
    import subprocess

    code = "import sys, cachekit; print([m for m in sys.modules if 'memcache' in m])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("scenario", ["fork_with_a_warm_pool", *FORKS])
def test_both_sides_of_a_fork_go_on(
    memcached_server: MemcachedServer, namespace: str, tmp_path: Path, scenario: str
) -> None:
    servers = json.dumps([memcached_server.server])
    assert forked(scenario, tmp_path, namespace, CACHEKIT_MEMCACHED_SERVERS=servers) == "done\n"
