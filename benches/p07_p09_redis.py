"""P7 to P9: what a hit in Redis costs, with L1 off, over loopback TCP."""

from __future__ import annotations

import socket
import statistics
from collections.abc import Awaitable, Callable
from typing import Any

import glide
import msgpack
import redis
import redis.asyncio
from redis._parsers import _RESP2Parser

from benches import payloads
from benches.context import PUBLISHED, TTL, Context, ours
from benches.harness import Contender, Statement, interleave, medians, throughput
from benches.table import OURS, Budget, Line
from tests.support.resp import pack

TEXT_KEY, PAGE_KEY = "bench:text", "bench:page"
WINDOW = 0.5
KEYS_PER_TASK = 4
NESTED = payloads.nested()


class RawSocket:
    """GET over a plain blocking socket: the least that any Python client must do for a round trip."""

    def __init__(self, context: Context, key: str, size: int) -> None:
        self._sock = socket.create_connection(context.redis.address)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = pack("GET", key)
        self._reply_size = len(f"${size}\r\n") + size + 2

    def get(self) -> bytes:
        self._sock.sendall(self._request)
        reply = self._sock.recv(65536)
        while len(reply) < self._reply_size:
            reply += self._sock.recv(65536)
        return reply


def _text(x: int) -> str:
    return payloads.SMALL_TEXT


def _page(x: int) -> dict[str, Any]:
    return NESTED


def _fill(context: Context) -> tuple[bytes, bytes]:
    text, page = payloads.packed(payloads.SMALL_TEXT), payloads.packed(NESTED)
    with context.redis.client() as client:
        client.call("SET", TEXT_KEY, text)
        client.call("SET", PAGE_KEY, page)
    return text, page


def _our_function(context: Context, function: Callable[..., Any], space: str) -> Callable[..., Any]:
    from cachekit import cache

    cached: Callable[..., Any] = cache(ttl=TTL, namespace=space, backend=context.backend, l1_enabled=False)(function)
    return cached


def p7(context: Context) -> list[Line]:
    text, _ = _fill(context)
    client = redis.Redis(host="127.0.0.1", port=context.redis.port)
    names = {"get": client.get, "unpackb": msgpack.unpackb, "key": TEXT_KEY}

    def make() -> list[Contender]:
        return [Statement(OURS, "f(42)", {"f": _our_function(context, _text, "p7")})]

    mine, missing = ours(make)
    rivals = [
        Statement("raw socket", "get()", {"get": RawSocket(context, TEXT_KEY, len(text)).get}),
        Statement("redis-py + msgpack", "unpackb(get(key))", names),
        context.published_at("P7"),
    ]
    samples = interleave([*mine, *rivals], context.rounds)
    work, budget = "Redis hit, 100 B, L1 off, sync", Budget(2, "raw socket")
    return [Line("P7", work, "s", medians(samples), budget, missing=missing, samples=samples)]


def p8(context: Context) -> list[Line]:
    _, page = _fill(context)
    client = redis.Redis(host="127.0.0.1", port=context.redis.port)
    pool = redis.ConnectionPool(host="127.0.0.1", port=context.redis.port, parser_class=_RESP2Parser)
    plain = redis.Redis(connection_pool=pool)
    names = {"get": client.get, "unpackb": msgpack.unpackb, "key": PAGE_KEY}

    def make() -> list[Contender]:
        return [Statement(OURS, "f(42)", {"f": _our_function(context, _page, "p8")})]

    mine, missing = ours(make)
    rivals = [
        Statement("redis-py GET undecoded", "get(key)", names),
        Statement("redis-py + msgpack", "unpackb(get(key))", names),
        Statement("redis-py without hiredis, undecoded", "get(key)", {"get": plain.get, "key": PAGE_KEY}),
        Statement("raw socket", "get()", {"get": RawSocket(context, PAGE_KEY, len(page)).get}),
        context.published_at("P8"),
    ]
    samples = interleave([*mine, *rivals], context.rounds)
    work, budget = "Redis hit, 10 KB nested dict, L1 off, sync", Budget(1, "redis-py GET undecoded")
    return [Line("P8", work, "s", medians(samples), budget, missing=missing, samples=samples)]


async def _p9(context: Context) -> list[Line]:
    widths = (16, 128)
    keys = range(max(widths) * KEYS_PER_TASK)
    text = payloads.packed(payloads.SMALL_TEXT)
    with context.redis.client() as admin:
        for key in keys:
            admin.call("SET", f"bench:{key}", text)
    names = [f"bench:{key}" for key in keys]

    address = glide.NodeAddress("127.0.0.1", context.redis.port)
    glide_client = await glide.GlideClient.create(glide.GlideClientConfiguration([address]))
    pool = redis.asyncio.BlockingConnectionPool(host="127.0.0.1", port=context.redis.port, max_connections=32)
    redis_client = redis.asyncio.Redis(connection_pool=pool)
    gets: dict[str, Callable[[int], Awaitable[object]]] = {}

    missing: str | None = None
    try:

        async def text_later(x: int) -> str:
            return payloads.SMALL_TEXT

        ours_later = _our_function(context, text_later, "p9")
        for key in keys:
            await ours_later(key)
        gets[OURS] = ours_later
    except (ImportError, ValueError) as error:
        missing = f"{type(error).__name__}: {error}"
    gets["valkey-glide"] = lambda key: glide_client.get(names[key])
    gets["redis.asyncio"] = lambda key: redis_client.get(names[key])

    lines: list[Line] = []
    for tasks in widths:
        samples: dict[str, list[float]] = {name: [] for name in [*gets, PUBLISHED]}
        for _ in range(max(3, context.rounds // 2)):
            for name, get in gets.items():
                samples[name].append(await throughput(get, tasks, KEYS_PER_TASK, WINDOW))
            samples[PUBLISHED].append(context.published_worker.ask("throughput", tasks=tasks, seconds=WINDOW))
        values = {name: statistics.median(found) for name, found in samples.items()}
        budget = Budget(2, "valkey-glide", at_least=True)
        work = f"Redis hits, 100 B, L1 off, {tasks} tasks"
        lines.append(Line("P9", work, "ops/s", values, budget, missing=missing, samples=samples))
    await glide_client.close()
    await redis_client.aclose()
    await pool.disconnect()
    return lines


def p9(context: Context) -> list[Line]:
    return context.loop.run_until_complete(_p9(context))


MEASURES = {"P7": p7, "P8": p8, "P9": p9}
