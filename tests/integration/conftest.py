"""Fixtures of the integration tests: a namespace of each test's own, and the layers that a function may have."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from cachekit.backends import RedisBackend
from tests.support.redis_servers import RedisServer

SECONDS = 60  # a test that hangs ends here, and says where


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture
def namespace() -> str:
    """No other test's: breakers, generations and L1 belong to namespaces."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def backend(redis_server: RedisServer) -> RedisBackend:
    return RedisBackend(redis_server.url)


@pytest.fixture(params=["l1", "redis", "redis-only"])
def layers(request: pytest.FixtureRequest, namespace: str) -> dict[str, Any]:
    """The parameters of a function in L1 alone, in both layers, and in Redis alone."""
    if request.param == "l1":
        return {"backend": None, "namespace": namespace}
    server: RedisServer = request.getfixturevalue("redis_server")
    options: dict[str, Any] = {"backend": RedisBackend(server.url), "namespace": namespace}
    if request.param == "redis-only":
        options["l1_enabled"] = False
    return options


@pytest.fixture
def advance() -> Callable[[float], None]:
    """Pushes the clock of L1 and of the guards ahead; stores do not see it."""
    from cachekit import _native

    return _native._testing.advance_clock
