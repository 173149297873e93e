"""What is let go with a cached function, and with an event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cachekit.backends import RedisBackend
from cachekit.config.nested import L1CacheConfig
from tests.integration.kinds import Kind, ended


@pytest.fixture(autouse=True)
def only_new_garbage() -> Iterator[None]:
    """What other tests have left is not looked through at each collection."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def resident() -> int:
    """Bytes of memory in use by this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("in_redis", [False, True], ids=["l1", "redis"])
async def test_functions_made_in_a_loop_are_collected(
    kind: Kind, in_redis: bool, namespace: str, request: pytest.FixtureRequest
) -> None:
    backend = RedisBackend(request.getfixturevalue("redis_server").url) if in_redis else None
    options = {"backend": backend, "namespace": namespace}
    references: list[weakref.ref[Any]] = []

    async def make(fill: int) -> None:
        function = kind.cached(lambda x: bytes([x]) * fill, **options)
        for x in range(4):
            await ended(function(x))
            await ended(function(x))
        references.append(weakref.ref(function))
        references.append(weakref.ref(function.__wrapped__))

    for _ in range(20):
        await make(100_000)
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_their_entries_go_with_them(kind: Kind, namespace: str) -> None:
    """A megabyte each, in an L1 that has room for a thousand."""
    options = {"backend": None, "namespace": namespace, "l1": L1CacheConfig(max_size_mb=1000)}

    async def make() -> None:
        function = kind.cached(lambda x: bytearray(b"x") * (1 << 20), copy=False, **options)
        await ended(function(1))
        assert function.cache_info().currsize == 1

    for _ in range(5):
        await make()
    gc.collect()
    before = resident()
    for _ in range(60):
        await make()
        gc.collect()
    assert resident() - before < 20 << 20


async def test_values_go_with_the_function(kind: Kind, namespace: str) -> None:
    class Value:
        pass

    values: list[weakref.ref[Value]] = []

    def body(x: int) -> Value:
        value = Value()
        values.append(weakref.ref(value))
        return value

    function: Callable[..., Any] | None = kind.cached(body, backend=None, namespace=namespace)
    assert function is not None
    await ended(function(1))
    gc.collect()
    assert values[0]() is not None
    function = None
    gc.collect()
    assert values[0]() is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loops_that_come_and_go_leave_nothing(backend: RedisBackend, namespace: str) -> None:
    options = {"backend": backend, "namespace": namespace, "l1_enabled": False}
    function = Kind("async").cached(lambda x: x, **options)

    async def work(x: int) -> None:
        await asyncio.gather(*(function(x) for _ in range(20)), *(function(x + 1) for _ in range(20)))

    def rounds(count: int) -> None:
        for x in range(count):
            asyncio.run(work(x % 7))

    rounds(30)
    gc.collect()
    memory, open_ = resident(), descriptors()
    rounds(200)
    gc.collect()
    assert descriptors() <= open_ + 1
    assert resident() - memory < 4 << 20
