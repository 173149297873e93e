"""`CachekitIOBackend` and `@cache.io()` against a real `cachekit serve` over TLS."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import socket
import subprocess
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from cachekit import BackendError, BackendErrorType, ConfigurationError, cache
from cachekit.backends import BaseBackend, LockableBackend, TTLInspectableBackend
from cachekit.backends.cachekitio import CachekitIOBackend, CachekitIOBackendConfig
from cachekit.backends.provider import DefaultBackendProvider
from tests.integration.support import program
from tests.support.cachekit_server import CachekitServer
from tests.support.process import free_port
from tests.support.scripted_api import ScriptedApi

Environment = pytest.MonkeyPatch


@pytest.fixture
def server(api_environment: CachekitServer) -> CachekitServer:
    return api_environment


@pytest.fixture
def backend(server: CachekitServer) -> CachekitIOBackend:
    return CachekitIOBackend()


def finished(child: subprocess.Popen[str]) -> str:
    """What a program said since, once it was told to go on and has ended."""
    out, err = child.communicate("go on\n", timeout=60)
    assert (child.returncode, err) == (0, ""), err
    return out


def test_satisfies_the_protocols(backend: CachekitIOBackend) -> None:
    for protocol in (BaseBackend, LockableBackend, TTLInspectableBackend):
        assert isinstance(backend, protocol)


def test_the_five(backend: CachekitIOBackend, server: CachekitServer) -> None:
    assert backend.get("k") is None
    backend.set("k", b"\x00value", ttl=60)
    assert backend.get("k") == b"\x00value"
    assert backend.exists("k")
    assert backend.delete("k")
    assert not backend.delete("k")
    assert not backend.exists("k")
    healthy, details = backend.health_check()
    assert healthy
    assert details["backend_type"] == "saas"
    assert details["api_url"] == server.url
    assert details["latency_ms"] > 0
    assert details["version"]


async def test_the_five_in_a_task(backend: CachekitIOBackend) -> None:
    assert await backend.get_async("k") is None
    await backend.set_async("k", b"v", ttl=60)
    assert await backend.get_async("k") == b"v"
    assert await backend.exists_async("k")
    assert await backend.delete_async("k")
    healthy, details = await backend.health_check_async()
    assert healthy
    assert details["backend_type"] == "saas"


async def test_many_tasks_share_a_connection(backend: CachekitIOBackend) -> None:
    values = {f"k{n}": os.urandom(n * 97) for n in range(200)}
    await asyncio.gather(*(backend.set_async(key, value, 60) for key, value in values.items()))
    found = await asyncio.gather(*(backend.get_async(key) for key in values))
    assert found == list(values.values())


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 20) + 1, 20 << 20])
def test_values_of_any_size(backend: CachekitIOBackend, size: int) -> None:
    value = os.urandom(size)
    backend = backend.with_timeout(60)
    backend.set("k", value, 60)
    assert backend.get("k") == value


async def test_time_left(backend: CachekitIOBackend) -> None:
    assert await backend.get_ttl("k") is None
    assert not await backend.refresh_ttl("k", 60)
    backend.set("k", b"v", ttl=60)
    left = await backend.get_ttl("k")
    assert left is not None
    assert 50 < left <= 60
    assert await backend.refresh_ttl("k", 600)
    left = await backend.get_ttl("k")
    assert left is not None
    assert 590 < left <= 600


async def test_lives_are_whole_seconds_from_1_to_30_days(backend: CachekitIOBackend) -> None:
    backend.set("k", b"v", ttl=0.001)
    assert await backend.get_ttl("k") == 1
    backend.set("k", b"v", ttl=1e12)
    left = await backend.get_ttl("k")
    assert left is not None
    assert 2_591_990 < left <= 2_592_000
    for wrong in (0, -1, float("nan")):
        with pytest.raises(BackendError, match="ttl must be a positive") as caught:
            backend.set("k", b"w", ttl=wrong)
        assert caught.value.is_permanent
        with pytest.raises(BackendError):
            backend.set_async("k", b"w", ttl=wrong)
    assert backend.get("k") == b"v"


@pytest.mark.slow
async def test_stale_values_are_told_from_fresh_ones(backend: CachekitIOBackend) -> None:
    assert backend.get_with_freshness("k") is None
    backend.set("k", b"v", ttl=1, stale_ttl=60)
    assert backend.get_with_freshness("k") == (b"v", False)
    deadline = time.monotonic() + 10
    while (found := await backend.get_with_freshness_async("k")) == (b"v", False):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert found == (b"v", True)
    assert backend.get("k") is None
    assert not backend.exists("k")
    assert await backend.get_ttl("k") is None


@pytest.mark.parametrize("key", ["", "a b", "ü", "..", "health", "a/b?c#d", "%61", "k" * 1000])
def test_keys_that_the_service_does_not_take_are_mapped(backend: CachekitIOBackend, key: str) -> None:
    backend.set(key, key.encode(), 60)
    assert backend.get(key) == key.encode()
    assert backend.delete(key)


async def test_locks(backend: CachekitIOBackend) -> None:
    lock_id = await backend.acquire_lock("k", timeout=5)
    assert lock_id is not None
    assert await backend.acquire_lock("k", timeout=5) is None
    assert await backend.acquire_lock("k", timeout=5, blocking_timeout=0.1) is None
    assert not await backend.release_lock("k", "0" * 32)
    assert not await backend.release_lock("k", "not an id")
    # The id is the service's own: who has it can release the lock from anywhere.
    assert await CachekitIOBackend().release_lock("k", lock_id)
    assert not await backend.release_lock("k", lock_id)
    async with backend.acquire_lock("k", timeout=5) as held:
        assert held
        with backend.lock("k", timeout=5) as other:
            assert not other
    with backend.lock("k", timeout=5) as held:
        assert held


async def test_a_lock_is_waited_for(backend: CachekitIOBackend) -> None:
    lock_id = await backend.acquire_lock("k", timeout=60)
    assert lock_id is not None

    async def release() -> None:
        await asyncio.sleep(0.2)
        assert await backend.release_lock("k", lock_id)

    waiting, _ = await asyncio.gather(backend.acquire_lock("k", 60, blocking_timeout=20)._acquire(), release())
    assert waiting is not None
    assert await backend.release_lock("k", waiting)
    with backend.lock("k", timeout=0.3) as held:
        assert held
        with backend.lock("k", timeout=5, blocking_timeout=20) as other:
            assert other  # the first lease ended


async def test_a_service_that_does_not_answer(monkeypatch: Environment) -> None:
    monkeypatch.setenv("CACHEKIT_ALLOW_CUSTOM_HOST", "true")
    backend = CachekitIOBackend(f"https://127.0.0.1:{free_port()}", "ck_test_verysecret", timeout=0.3)
    with pytest.raises(BackendError, match="cannot be reached") as caught:
        backend.get("k")
    assert caught.value.is_transient
    with pytest.raises(BackendError, match="cannot be reached"):
        await backend.set_async("k", b"v")
    assert await backend.get_ttl("k") is None
    assert not await backend.refresh_ttl("k", 60)
    assert await backend.acquire_lock("k", 5) is None
    assert not await backend.release_lock("k", "0" * 32)
    with backend.lock("k", 5) as held:
        assert not held


async def test_the_patience_for_a_lock_begins_with_the_first_attempt(monkeypatch: Environment) -> None:
    monkeypatch.setenv("CACHEKIT_ALLOW_CUSTOM_HOST", "true")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        backend = CachekitIOBackend(f"https://127.0.0.1:{silent.getsockname()[1]}", "ck_test_x", timeout=0.3)
        assert await backend.acquire_lock("k", 5, blocking_timeout=0.1) is None
        with backend.lock("k", 5, blocking_timeout=0.1) as held:
            assert not held
        silent.setblocking(False)
        attempts = 0
        with pytest.raises(BlockingIOError):
            while True:
                silent.accept()[0].close()
                attempts += 1
        assert attempts == 2, "one each: it took longer than the patience"


def test_a_wrong_key_is_refused_and_never_shown(server: CachekitServer) -> None:
    secret = "ck_test_verysecret"
    backend = CachekitIOBackend(server.url, secret)
    with pytest.raises(BackendError, match="CACHEKIT_API_KEY") as caught:
        backend.get("k")
    error = caught.value
    assert error.error_type is BackendErrorType.AUTHENTICATION
    shown = [repr(backend), repr(backend._native), repr(backend._io), str(error), repr(error)]
    shown += traceback.format_exception(type(error), error, error.__traceback__)
    assert all("verysecret" not in text for text in shown)
    assert b"verysecret" not in pickle.dumps(error)
    with pytest.raises(BackendError) as caught:
        asyncio.run(_acquire(backend))
    assert caught.value.is_authentication


async def _acquire(backend: CachekitIOBackend) -> object:
    return await backend.acquire_lock("k", 5)


def test_instances_are_apart(server: CachekitServer) -> None:
    other_key = server.create_key("--tenant", "other")
    one, other = CachekitIOBackend(), CachekitIOBackend(server.url, other_key, timeout=2)
    one.set("k", b"one", 60)
    assert other.get("k") is None
    other.set("k", b"other", 60)
    assert one.get("k") == b"one"
    brief = other.with_timeout(0.05)
    server.freeze()
    try:
        with pytest.raises(BackendError, match="did not answer") as caught:
            brief.get("k")
    finally:
        server.thaw()
    assert caught.value.is_timeout
    assert other.get("k") == b"other"
    assert one._io.timeout == 5.0
    assert other._io.timeout == 2.0


def test_what_the_constructor_takes(monkeypatch: Environment) -> None:
    with pytest.raises(ConfigurationError, match="CACHEKIT_API_KEY"):
        CachekitIOBackend()
    wrong: tuple[dict[str, Any], ...] = (
        {"api_url": "https://api.cachekit.io"},
        {"api_key": "ck_live_k"},
        {"timeout": 1.0},
        {"api_url": "", "api_key": "ck_live_k"},
    )
    for arguments in wrong:
        with pytest.raises(ValueError, match="give api_url and api_key both"):
            CachekitIOBackend(**arguments)
    assert (
        repr(CachekitIOBackend("https://api.cachekit.io", "ck_live_k")) == "<CachekitIOBackend https://api.cachekit.io>"
    )
    for url, why in {
        "http://api.cachekit.io": "https://",
        "https://example.com": "CACHEKIT_ALLOW_CUSTOM_HOST",
        "https://2130706433": "CACHEKIT_ALLOW_CUSTOM_HOST",
        "https://u:hunter2@api.cachekit.io": "user or password",
        "nonsense": "no scheme",
    }.items():
        with pytest.raises(ConfigurationError, match=why) as caught:
            CachekitIOBackend(url, "ck_live_k")
        assert "CACHEKIT_API_URL" in str(caught.value)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="CACHEKIT_API_KEY") as caught:
        CachekitIOBackend("https://api.cachekit.io", "very secret")
    assert "very secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="timeout"):
        CachekitIOBackend("https://api.cachekit.io", "ck_live_k", timeout=0)
    with pytest.raises(ConfigurationError, match="with_timeout"):
        CachekitIOBackend("https://api.cachekit.io", "ck_live_k").with_timeout(-1)
    config = CachekitIOBackendConfig(api_url="https://api.cachekit.io", api_key=SecretStr("ck_live_k"), timeout=2)
    assert CachekitIOBackend(config)._io.timeout == 2.0
    with pytest.raises(ConfigurationError, match="nothing else"):
        CachekitIOBackend(config, timeout=1)


def test_the_managed_name_is_not_dialled_at_a_private_address(server: CachekitServer, monkeypatch: Environment) -> None:
    monkeypatch.delenv("CACHEKIT_ALLOW_CUSTOM_HOST")
    with pytest.raises(ConfigurationError, match="CACHEKIT_ALLOW_CUSTOM_HOST"):
        CachekitIOBackend()


def test_metadata_services_are_never_dialled(monkeypatch: Environment) -> None:
    monkeypatch.setenv("CACHEKIT_ALLOW_CUSTOM_HOST", "true")
    for host in ("169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "2852039166", "0xa9fea9fe"):
        backend = CachekitIOBackend(f"https://{host}", "ck_live_k", timeout=5)
        with pytest.raises(BackendError, match=r"not dialled|cannot be reached: failed to lookup") as caught:
            backend.get("k")
        assert "169.254" not in host or caught.value.is_permanent


def test_an_authority_that_is_not_trusted(server: CachekitServer, monkeypatch: Environment) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(BackendError, match="SSL_CERT_FILE") as caught:
        CachekitIOBackend().get("k")
    assert caught.value.is_permanent
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.authority))
    assert not CachekitIOBackend().exists("k")


def test_a_file_of_authorities_that_holds_none_is_told(
    server: CachekitServer, tmp_path: Path, monkeypatch: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("not a certificate\n")
    for named in (empty, tmp_path / "missing.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(named))
        caplog.clear()
        with pytest.raises(BackendError, match="is not trusted"):
            CachekitIOBackend().get("k")
        told = [record.getMessage() for record in caplog.records if str(named) in record.getMessage()]
        assert len(told) == 1, caplog.text
    assert "SSL_CERT_FILE" in caplog.text
    monkeypatch.setenv("SSL_CERT_FILE", str(server.authority))
    caplog.clear()
    assert not CachekitIOBackend().exists("k")
    assert not caplog.records


def test_the_environment_selects_it(server: CachekitServer) -> None:
    provider = DefaultBackendProvider()
    assert isinstance(provider.get_backend(), CachekitIOBackend)
    assert provider.get_backend() is provider.get_backend()


def test_io_functions_share_their_results(backend: CachekitIOBackend, server: CachekitServer) -> None:
    runs = []

    def compute(x: int) -> dict[str, int]:
        runs.append(x)
        return {"twice": 2 * x}

    functions = [cache.io(ttl=60, namespace="shared")(compute) for _ in range(2)]
    assert functions[0](4) == {"twice": 8}
    assert functions[1](4) == {"twice": 8}
    assert runs == [4]
    assert functions[1].cache_info().l2_hits == 1
    assert functions[1](4) == {"twice": 8}
    assert functions[1].cache_info().l1_hits == 1, "what the service sends with a value lets it be kept here"
    functions[0].invalidate_cache(4)
    assert functions[0](4) == {"twice": 8}
    assert runs == [4, 4]


async def test_io_coroutines_share_their_results(backend: CachekitIOBackend) -> None:
    runs = []

    async def compute(x: int) -> int:
        runs.append(x)
        await asyncio.sleep(0.01)
        return 2 * x

    functions = [cache.io(ttl=60, namespace="shared")(compute) for _ in range(2)]
    assert await asyncio.gather(*(functions[0](n % 5) for n in range(50))) == [2 * (n % 5) for n in range(50)]
    assert sorted(runs) == [0, 1, 2, 3, 4]
    assert await functions[1](3) == 6
    assert len(runs) == 5


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_an_invalidation_keeps_another_process_from_storing_what_it_computed_before(
    backend: CachekitIOBackend, kind: str
) -> None:
    namespace = f"fills-{kind}"

    @cache.io(ttl=60, namespace=namespace, key=str)
    def answer(x: int) -> str:
        return "new"

    other = program("fills", namespace, kind)
    assert other.stdout is not None
    assert other.stdout.readline() == "computing\n"
    answer.invalidate_cache(1)
    assert finished(other) == "old\n", "its own caller gets what it asked for"
    assert backend.get(f"{namespace}:1") is None
    assert answer(1) == "new"


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_without_an_invalidation_another_process_stores_what_it_computed(backend: CachekitIOBackend, kind: str) -> None:
    namespace = f"filled-{kind}"

    @cache.io(ttl=60, namespace=namespace, key=str)
    def answer(x: int) -> str:
        return "new"

    assert finished(program("fills", namespace, kind)) == "computing\nold\n"
    assert answer(1) == "old"
    assert answer.cache_info().l2_hits == 1


def test_an_outage_costs_no_caller_anything(
    tmp_path: Path, monkeypatch: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    own = CachekitServer(tmp_path)
    own.start()
    for name, value in own.environment.items():
        monkeypatch.setenv(name, value)
    try:

        @cache.io(ttl=60, namespace="outage", l1_enabled=False)
        def twice(x: int) -> int:
            return 2 * x

        assert twice(1) == 2
        assert twice.cache_info().misses == 1
        assert twice(1) == 2
        assert twice.cache_info().l2_hits == 1
        own.kill()
        with caplog.at_level(logging.WARNING, "cachekit"):
            assert [twice(n) for n in range(20)] == [2 * n for n in range(20)]
        warnings = [record.getMessage() for record in caplog.records]
        assert len(warnings) == 1, warnings
        assert own.key not in warnings[0]
    finally:
        own.stop()


def test_functions_report_their_hits(tmp_path: Path, monkeypatch: Environment) -> None:
    with ScriptedApi(tmp_path) as api:
        monkeypatch.setenv("CACHEKIT_ALLOW_CUSTOM_HOST", "true")
        monkeypatch.setenv("SSL_CERT_FILE", str(api.authority))
        backend = CachekitIOBackend(api.url, "ck_test_k", timeout=5)
        assert backend.get("k") is None
        assert api.requests[-1].header("x-cachekit-l1-status") == "disabled"
        assert api.requests[-1].header("x-cachekit-session-id") is None

        @cache(backend=backend, ttl=60, namespace="reported")
        def twice(x: int) -> int:
            return 2 * x

        for n in (1, 2, 1, 1, 3):
            assert twice(n) == 2 * n
        last = api.requests[-1]
        told = [last.header(f"x-cachekit-{name}") for name in ("l1-hits", "l2-hits", "misses", "l1-hit-rate")]
        assert told == ["2", "0", "2", "1.000"]
        sessions = {request.header("x-cachekit-session-id") for request in api.requests} - {None}
        assert len(sessions) == 1
        twice.cache_clear()
        assert [twice(n) for n in (1, 1, 4)] == [2, 2, 8]
        for name in ("l1-hits", "misses"):
            told = [int(request.header(f"x-cachekit-{name}") or 0) for request in api.requests]
            assert told == sorted(told), "counters never go backwards"
            assert told[-1] >= 3


def test_a_forked_child_has_connections_of_its_own(backend: CachekitIOBackend) -> None:
    backend.set("k", b"parents", 60)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        found: object = None
        try:
            before = backend.get("k")
            backend.set("child", b"childs", 60)
            found = [before == b"parents", asyncio.run(_read(backend)) == b"childs"]
        finally:
            os.write(writer, json.dumps(found).encode())
            os._exit(0)
    os.close(writer)
    assert backend.get("k") == b"parents"
    with os.fdopen(reader) as pipe:
        assert json.loads(pipe.read()) == [True, True]
    os.waitpid(pid, 0)
    assert backend.get("child") == b"childs"


async def _read(backend: CachekitIOBackend) -> bytes | None:
    return await backend.get_async("child")
