"""What the printed blocks find around them: servers in the place of services, and a log level of their own."""

from __future__ import annotations

import logging

import pytest

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
