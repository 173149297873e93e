"""What the measures share: the Redis of the run, the workers, the event loop."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from benches.harness import Contender
from benches.remote import Remote, Worker
from tests.support.memcached_server import MemcachedServer
from tests.support.redis_servers import RedisServer

PUBLISHED = "cachekit 0.24"
TTL = 3600


class Context:
    """One run. ``published`` is the interpreter that holds the published package; ``close`` ends what was started."""

    def __init__(self, published: str, rounds: int) -> None:
        self.published = published
        self.rounds = rounds
        self._folder = tempfile.TemporaryDirectory(prefix="cachekit-bench-")
        self._closers: list[Callable[[], object]] = [self._folder.cleanup]

    @cached_property
    def redis(self) -> RedisServer:
        """The Redis that all measures share and none breaks."""
        return self.own_redis("shared")

    def own_redis(self, name: str) -> RedisServer:
        """A Redis for one measure, stopped at the end of the run whatever became of it."""
        home = Path(self._folder.name) / name
        home.mkdir()
        server = RedisServer(home)
        server.start()
        self._closers.append(server.stop)
        return server

    @cached_property
    def memcached(self) -> MemcachedServer:
        """The memcached that all measures share."""
        home = Path(self._folder.name) / "memcached"
        home.mkdir()
        # One thread, so that no client has a core to itself by the luck of its connection.
        server = MemcachedServer(home, extra=("-t", "1"))
        server.start()
        self._closers.append(server.stop)
        return server

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._closers.append(loop.close)
        return loop

    @cached_property
    def published_worker(self) -> Worker:
        worker = Worker(self.published, "published.py")
        self._closers.append(worker.close)
        worker.ask("prepare", redis_url=self.redis.url)
        return worker

    def published_at(self, case: str) -> Remote:
        return Remote(PUBLISHED, self.published_worker, case)

    @cached_property
    def backend(self) -> Any:
        """Our backend on the shared Redis."""
        from cachekit.backends.redis import RedisBackend

        return RedisBackend(self.redis.url)

    def close(self) -> None:
        for closer in reversed(self._closers):
            closer()
        self._closers.clear()


def ours(make: Callable[[], Sequence[Contender]]) -> tuple[list[Contender], str | None]:
    """Our contenders, or why there are none: the module is not built, or refuses what does not exist yet."""
    try:
        return list(make()), None
    except (ImportError, ValueError) as error:
        return [], f"{type(error).__name__}: {str(error).splitlines()[0]}"
