"""Fixtures of the integration tests: a namespace of each test's own, and the layers that a function may have."""

from __future__ import annotations

import asyncio
import functools
import inspect
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from tests.integration.kinds import Kind
from tests.integration.support import Runs
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
def shared(backend: RedisBackend, namespace: str) -> dict[str, Any]:
    """The parameters of a function in L1 and Redis."""
    return {"backend": backend, "namespace": namespace}


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def advance() -> Callable[[float], None]:
    """Pushes the clock of L1 and of the guards ahead; stores do not see it."""
    from cachekit import _native

    return _native._testing.advance_clock


class Either:
    """A function as a blocking and as a coroutine function, so that one test sees both drivers."""

    def __init__(self, is_async: bool) -> None:
        self.is_async = is_async
        self.loop = asyncio.new_event_loop() if is_async else None

    def cached(self, func: Callable[..., Any], **options: Any) -> Any:
        """`func` cached, as one or the other."""
        if not self.is_async:
            return cache(**options)(func)

        @functools.wraps(func)
        async def twin(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return func(*args, **kwargs)

        return cache(**options)(twin)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of a call, awaited where it is to be."""
        if self.loop is None:
            return function(*args, **kwargs)
        return self.loop.run_until_complete(self._awaited(function, args, kwargs))

    async def _awaited(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    def settle(self) -> None:
        """Lets what runs behind the callers end."""
        if self.loop is not None:
            self.loop.run_until_complete(asyncio.sleep(0.005))

    def close(self) -> None:
        if self.loop is not None:
            self.settle()
            self.loop.close()


@pytest.fixture(params=["sync", "async"])
def either(request: pytest.FixtureRequest) -> Iterator[Either]:
    made = Either(request.param == "async")
    yield made
    made.close()
