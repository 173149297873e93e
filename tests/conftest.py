"""Fixtures: real servers, faults between them and cachekit, and an environment without leaks.

A server that a test asks for and that is not installed is an error that names the remedy; nothing is skipped. Tests are
marked by the servers they ask for, so ``pytest -m "not redis"`` runs what needs none.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.cachekit_server import CachekitServer
from tests.support.memcached_server import MemcachedServer
from tests.support.proxy import FaultProxy
from tests.support.redis_servers import RedisCluster, RedisSentinel, RedisServer
from tests.support.tls import issue

MARK_OF_FIXTURE = {
    "redis_server": "redis",
    "redis_url": "redis",
    "own_redis": "redis",
    "redis_factory": "redis",
    "redis_unix": "redis",
    "redis_password": "redis",
    "fault_proxy": "redis",
    "redis_tls": "tls",
    "redis_cluster": "cluster",
    "redis_sentinel": "sentinel",
    "memcached_server": "memcached",
    "own_memcached": "memcached",
}
MARKS = {
    "redis": "asks for a redis-server",
    "tls": "asks for a redis-server that speaks TLS",
    "cluster": "asks for a Redis cluster of three nodes",
    "sentinel": "asks for a Redis master, replica and sentinel",
    "memcached": "asks for a memcached",
    "slow": "takes more than two seconds",
}
FOREIGN_VARIABLES = ("REDIS_URL", "LOG_LEVEL")


# Properties say what holds, not how fast: a busy machine is no counterexample.
settings.register_profile("cachekit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cachekit")


def pytest_configure(config: pytest.Config) -> None:
    # Up to Python 3.11 pytest-asyncio would otherwise have a loop made that it never closes.
    asyncio.set_event_loop(None)
    for name, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARK_OF_FIXTURE:
                item.add_marker(MARK_OF_FIXTURE[fixture])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips itself fails: what it needs is to be installed. A stated ``skipif`` condition is allowed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and not any(item.iter_markers("skipif")):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped itself; nothing is skipped silently here: {report.longrepr}"
    return report


# --- servers shared by the session, emptied before each test -------------------------------------------------------


@pytest.fixture(scope="session")
def _session_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(_session_redis: RedisServer) -> RedisServer:
    """A running, empty Redis. Tests that freeze or kill take ``own_redis``."""
    _session_redis.flush()
    return _session_redis


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture(scope="session")
def _session_memcached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemcachedServer]:
    server = MemcachedServer(tmp_path_factory.mktemp("memcached"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def memcached_server(_session_memcached: MemcachedServer) -> MemcachedServer:
    """A running, empty memcached."""
    _session_memcached.flush()
    return _session_memcached


@pytest.fixture
def own_memcached(tmp_path: Path) -> Iterator[MemcachedServer]:
    """A memcached of this test's own: to ``freeze``, ``thaw``, ``kill`` and ``start`` again."""
    server = MemcachedServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cachekitio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CachekitServer]:
    """A running ``cachekit serve``. Tests that store under keys of their own choice take ``api_environment``."""
    server = CachekitServer(tmp_path_factory.mktemp("cachekitio"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def api_environment(cachekitio_server: CachekitServer, monkeypatch: pytest.MonkeyPatch) -> CachekitServer:
    """The environment names the server as the CachekitIO API, with a tenant of the test's own."""
    key = cachekitio_server.create_key("--tenant", f"t{time.monotonic_ns()}")
    monkeypatch.setattr(cachekitio_server, "key", key)
    for name, value in cachekitio_server.environment.items():
        monkeypatch.setenv(name, value)
    return cachekitio_server


@pytest.fixture(scope="session")
def _session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def redis_cluster(_session_cluster: RedisCluster) -> RedisCluster:
    """Three masters, empty."""
    _session_cluster.flush()
    return _session_cluster


# --- servers of one test -------------------------------------------------------------------------------------------


@pytest.fixture
def redis_factory(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts a ``RedisServer`` with the arguments of its class; stops all at the end."""
    started: list[RedisServer] = []

    def make(**options: object) -> RedisServer:
        home = tmp_path / f"redis-{len(started)}"
        home.mkdir()
        server = RedisServer(home, **options)  # type: ignore[arg-type]
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def own_redis(redis_factory: Callable[..., RedisServer]) -> RedisServer:
    """A Redis of this test's own: to ``freeze``, ``thaw``, ``kill`` and ``start`` again."""
    return redis_factory()


@pytest.fixture
def redis_password(redis_factory: Callable[..., RedisServer]) -> RedisServer:
    return redis_factory(password="correct-horse")


@pytest.fixture
def redis_unix(redis_factory: Callable[..., RedisServer]) -> RedisServer:
    return redis_factory(unix_socket=True)


@pytest.fixture
def redis_tls(
    redis_factory: Callable[..., RedisServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RedisServer:
    """A TLS-only Redis whose authority ``SSL_CERT_FILE`` names, as a user of a private authority would set it."""
    certificates = issue(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    return redis_factory(certificates=certificates)


@pytest.fixture
def redis_sentinel(tmp_path: Path) -> Iterator[RedisSentinel]:
    sentinel = RedisSentinel(tmp_path)
    sentinel.start()
    yield sentinel
    sentinel.stop()


@pytest.fixture
def fault_proxy(redis_server: RedisServer) -> Iterator[FaultProxy]:
    """A proxy in front of ``redis_server``; passes everything until the test sets ``fault``."""
    proxy = FaultProxy(redis_server.address)
    proxy.start()
    yield proxy
    proxy.stop()


# --- isolation -----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable that cachekit reads comes in from outside, and no default backend or setting goes out."""
    for name in list(os.environ):
        if name.startswith(("CACHEKIT_", "CACHE_")) or name in FOREIGN_VARIABLES:
            monkeypatch.delenv(name)
    _forget_configuration()
    yield
    _forget_configuration()


def _forget_configuration() -> None:
    import cachekit

    cachekit.set_default_backend(None)
    cachekit.reset_settings()
