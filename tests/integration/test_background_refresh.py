"""The refresh behind a caller: what it is given, what it takes over, and how many there are at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from cachekit import L1CacheConfig, cache
from cachekit._background import MOST
from cachekit.backends import RedisBackend
from tests.integration.conftest import Either
from tests.integration.support import LIMIT, Runs, wait_until
from tests.support.redis_servers import RedisServer

TTL = 1000.0
AGEING = 600.0  # past the threshold of 0.5 whatever the jitter, and far from the end
SWR = L1CacheConfig(swr_enabled=True, swr_threshold_ratio=0.5)

Advance = Callable[[float], None]


def test_the_refresh_of_another_process_is_taken_over(
    either: Either, backend: RedisBackend, namespace: str, advance: Advance, redis_server: RedisServer
) -> None:
    """The store has a younger value than L1: it is used, and the function does not run."""
    runs = Runs()
    function = either.cached(lambda x: runs(), backend=backend, namespace=namespace, ttl=TTL, l1=SWR)
    either.call(function, 1)
    advance(AGEING)  # L1 has aged, the store's entry has not: another process has stored it just now
    before = redis_server.commands_processed("get")

    def asked() -> bool:
        assert either.call(function, 1) == 1
        either.settle()
        return redis_server.commands_processed("get") > before

    wait_until("the store was asked", asked)
    for _ in range(5):
        either.settle()
        assert either.call(function, 1) == 1
    assert runs.count == 1


def test_context_variables_reach_the_refresh(either: Either, namespace: str, advance: Advance) -> None:
    from contextvars import ContextVar

    who = ContextVar("who", default="nobody")
    seen: list[str] = []

    def answer(x: int) -> int:
        seen.append(who.get())
        return len(seen)

    function = either.cached(answer, backend=None, namespace=namespace, ttl=TTL, l1=SWR)

    async def as_ada() -> None:
        who.set("ada")
        await function(1)

    if either.is_async:
        either.call(as_ada)
        advance(AGEING)
        either.call(as_ada)
    else:
        token = who.set("ada")
        function(1)
        advance(AGEING)
        function(1)
        who.reset(token)

    def ran() -> bool:
        either.settle()
        return len(seen) == 2

    wait_until("the refresh ran", ran)
    assert seen == ["ada", "ada"]


def test_many_refreshes_at_once_are_bounded(namespace: str, advance: Advance) -> None:
    """More ageing entries than places: none is lost, later hits ask again, and threads do not pile up."""
    release = threading.Event()
    runs = Runs()

    @cache(backend=None, namespace=namespace, ttl=TTL, l1=SWR)
    def answer(x: int) -> int:
        number = runs()
        if number > 200:
            release.wait(LIMIT)
        return number

    for x in range(200):
        answer(x)
    advance(AGEING)
    for x in range(200):
        answer(x)
    assert sum(thread.name == "cachekit-refresh" for thread in threading.enumerate()) <= MOST
    release.set()

    def all_fresh() -> bool:
        for x in range(200):
            answer(x)
        return all(answer.peek(x) > 200 for x in range(200))

    wait_until("every entry is refreshed", all_fresh)
    assert answer.cache_info().misses == 200
