"""What the printed blocks find around them: servers in the place of services, and a log level of their own."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from cachekit import BackendError
from cachekit.backends.cachekitio import CachekitIOBackend
from tests.support.cachekit_server import CachekitServer
from tests.support.redis_servers import RedisServer


@pytest.fixture(autouse=True)
def log_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log level that ``@cache.dev`` sets ends with the test that set it."""
    monkeypatch.setattr(logging.getLogger("cachekit"), "level", logging.NOTSET)


@pytest.fixture
def redis_environment(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """The environment names a Redis."""
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    return redis_server


@pytest.fixture(scope="session")
def _cachekit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CachekitServer]:
    server = CachekitServer(tmp_path_factory.mktemp("seeds"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def api_environment(_cachekit_server: CachekitServer, monkeypatch: pytest.MonkeyPatch) -> CachekitServer:
    """The environment names a server of our own as the CachekitIO API, with a tenant of the test's own."""
    server = _cachekit_server
    server.key = server.create_key("--tenant", f"t{time.monotonic_ns()}")
    monkeypatch.setenv("CACHEKIT_API_URL", server.url)
    monkeypatch.setenv("CACHEKIT_API_KEY", server.key)
    monkeypatch.setenv("CACHEKIT_ALLOW_CUSTOM_HOST", "true")
    monkeypatch.setenv("SSL_CERT_FILE", str(server.authority))
    deadline = time.monotonic() + 10
    while True:  # A running server hears of a new key a moment after it was made.
        try:
            CachekitIOBackend().exists("k")
        except BackendError as error:
            if not error.is_authentication or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return server
