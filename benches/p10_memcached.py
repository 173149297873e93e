"""P10: what a hit in memcached costs, with L1 off, over loopback TCP."""

from __future__ import annotations

import socket
import statistics
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiomcache
from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient

from benches.context import TTL, Context, ours
from benches.harness import Contender, Statement, interleave, medians, throughput
from benches.table import OURS, Budget, Line

KEY = "bench:memcached"
VALUE = bytes(range(256)) * 4
WIDTHS = (16, 128)
KEYS_PER_TASK = 4
WINDOW = 0.5


class RawSocket:
    """A get over a plain blocking socket: the least that any Python client must do for a round trip."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._sock = socket.create_connection(address)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = f"mg {KEY} v\r\n".encode()
        self._reply_size = len(f"VA {len(VALUE)}\r\n") + len(VALUE) + 2

    def get(self) -> bytes:
        self._sock.sendall(self._request)
        reply = self._sock.recv(65536)
        while len(reply) < self._reply_size:
            reply += self._sock.recv(65536)
        return reply


def _value(x: int) -> bytes:
    return VALUE


def p10(context: Context) -> list[Line]:
    server = context.memcached
    host, port = server.address
    plain, hashed = Client((host, port), no_delay=True), HashClient([(host, port)], no_delay=True)
    plain.set(KEY, VALUE, noreply=False)

    def backend() -> Any:
        from cachekit.backends.memcached import MemcachedBackend

        return MemcachedBackend(f"memcached://{server.server}")

    def cached() -> list[Contender]:
        from cachekit import cache

        function = cache(ttl=TTL, namespace="p10", backend=backend(), l1_enabled=False)(_value)
        return [Statement(OURS, "f(42)", {"f": function})]

    def bare() -> list[Contender]:
        return [Statement(OURS, "get(key)", {"get": backend().get, "key": KEY})]

    rivals = [
        Statement("pymemcache", "get(key)", {"get": plain.get, "key": KEY}),
        Statement("raw socket", "get()", {"get": RawSocket(server.address).get}),
        Statement("pymemcache HashClient", "get(key)", {"get": hashed.get, "key": KEY}),
    ]
    lines = []
    for work, make in (("memcached hit, 1 KB, L1 off, sync", cached), ("memcached backend's get, 1 KB, sync", bare)):
        mine, missing = ours(make)
        samples = interleave([*mine, *rivals], context.rounds)
        lines.append(
            Line(
                "P10",
                work,
                "s",
                medians(samples),
                Budget(0.6, "pymemcache HashClient"),
                missing=missing,
                samples=samples,
            )
        )
    return [*lines, *context.loop.run_until_complete(_tasks(context))]


async def _tasks(context: Context) -> list[Line]:
    """Hits of many tasks at once, beside an asyncio client and the usual one in threads, with 32 connections each."""
    host, port = context.memcached.address
    names = [f"{KEY}:{number}" for number in range(max(WIDTHS) * KEYS_PER_TASK)]
    encoded = [name.encode() for name in names]
    loop, threads = context.loop, ThreadPoolExecutor(32)
    pooled = PooledClient((host, port), max_pool_size=32, no_delay=True)
    client = aiomcache.Client(host, port, pool_size=32)
    gets: dict[str, Callable[[int], Awaitable[object]]] = {}
    missing: str | None = None
    try:
        from cachekit import cache
        from cachekit.backends.memcached import MemcachedBackend

        async def value(x: int) -> bytes:
            return VALUE

        backend = MemcachedBackend(f"memcached://{context.memcached.server}")
        gets[OURS] = cache(ttl=TTL, namespace="p10", backend=backend, l1_enabled=False)(value)
        for key in range(len(names)):
            await gets[OURS](key)
    except (ImportError, ValueError) as error:
        missing = f"{type(error).__name__}: {error}"
    for name in names:
        pooled.set(name, VALUE, noreply=False)
    gets["aiomcache"] = lambda key: client.get(encoded[key])
    gets["pymemcache in threads"] = lambda key: loop.run_in_executor(threads, pooled.get, names[key])
    lines = []
    try:
        for tasks in WIDTHS:
            samples: dict[str, list[float]] = {name: [] for name in gets}
            for _ in range(max(3, context.rounds // 2)):
                for name, get in gets.items():
                    samples[name].append(await throughput(get, tasks, KEYS_PER_TASK, WINDOW))
            values = {name: statistics.median(found) for name, found in samples.items()}
            budget = Budget(2, "aiomcache", at_least=True)
            work = f"memcached hits, 1 KB, L1 off, {tasks} tasks"
            lines.append(Line("P10", work, "ops/s", values, budget, missing=missing, samples=samples))
    finally:
        await client.close()
        pooled.close()
        threads.shutdown()
    return lines


MEASURES = {"P10": p10}
