"""IO: what a hit of 1 KB costs through the CachekitIO API of a local `cachekit serve`, over loopback TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from benches.context import PUBLISHED, Context
from benches.harness import AsyncStatement, Contender, Statement, interleave, medians
from benches.remote import Remote, Worker
from benches.table import OURS, Budget, Line
from tests.support.cachekit_server import CachekitServer

KEY, VALUE = "bench:io", os.urandom(1024)
WINDOW = 0.5
RIVAL = "httpx[http2]"


def _throughput(loop: asyncio.AbstractEventLoop, get: Callable[[], Awaitable[object]], tasks: int) -> float:
    """Gets per second of so many tasks."""

    async def measure() -> float:
        deadline = time.perf_counter() + WINDOW

        async def worker() -> int:
            done = 0
            while time.perf_counter() < deadline:
                await get()
                done += 1
            return done

        started = time.perf_counter()
        done = sum(await asyncio.gather(*(worker() for _ in range(tasks))))
        return done / (time.perf_counter() - started)

    return loop.run_until_complete(measure())


def _measure(context: Context, server: CachekitServer) -> list[Line]:
    from cachekit.backends.cachekitio import CachekitIOBackend

    # The published package refuses loopback addresses, but not a name that means one.
    url = f"https://{socket.gethostname()}:{server.port}"
    backend = CachekitIOBackend(url, server.key)
    backend.set(KEY, VALUE, 3600)
    headers = {"Authorization": f"Bearer {server.key}"}
    trust = ssl.create_default_context(cafile=str(server.authority))
    client = httpx.Client(http2=True, verify=trust, headers=headers)
    aclient = httpx.AsyncClient(http2=True, verify=trust, headers=headers)
    path = f"{url}/v1/cache/{KEY}"
    worker = Worker(
        context.published,
        "published_io.py",
        CACHEKIT_API_URL=url,
        CACHEKIT_API_KEY=server.key,
        CACHEKIT_ALLOW_CUSTOM_HOST="true",
    )
    try:
        worker.ask("prepare", key=KEY)
        loop = context.loop
        blocking: list[Contender] = [
            Statement(OURS, "get(key)", {"get": backend.get, "key": KEY}),
            Statement(RIVAL, "get(path).content", {"get": client.get, "path": path}),
            Remote(PUBLISHED, worker, "sync"),
        ]
        awaited: list[Contender] = [
            AsyncStatement(OURS, "get(key)", {"get": backend.get_async, "key": KEY}, loop),
            AsyncStatement(RIVAL, "get(path)", {"get": aclient.get, "path": path}, loop),
            Remote(PUBLISHED, worker, "async"),
        ]
        lines: list[Line] = []
        for work, contenders in (("blocking", blocking), ("in one task", awaited)):
            samples = interleave(contenders, context.rounds)
            work = f"CachekitIO hit, 1 KB over TLS, {work}"
            lines.append(Line("IO", work, "s", medians(samples), Budget(0.5, RIVAL), samples=samples))
        gets: dict[str, Callable[[], Awaitable[object]]] = {
            OURS: lambda: backend.get_async(KEY),
            RIVAL: lambda: aclient.get(path),
        }
        samples = {name: [] for name in gets}
        for _ in range(max(3, context.rounds // 2)):
            for name, get in gets.items():
                samples[name].append(_throughput(loop, get, 16))
        values = {name: statistics.median(found) for name, found in samples.items()}
        budget = Budget(2, RIVAL, at_least=True)
        lines.append(Line("IO", "CachekitIO hits, 1 KB over TLS, 16 tasks", "ops/s", values, budget, samples=samples))
        loop.run_until_complete(aclient.aclose())
        return lines
    finally:
        client.close()
        worker.close()


def io(context: Context) -> list[Line]:
    with tempfile.TemporaryDirectory(prefix="cachekit-bench-io-") as folder:
        server = CachekitServer(Path(folder))
        server.start()
        mine = {"CACHEKIT_ALLOW_CUSTOM_HOST": "true", "SSL_CERT_FILE": str(server.authority)}
        before = {name: os.environ.get(name) for name in mine}
        os.environ.update(mine)
        try:
            return _measure(context, server)
        finally:
            server.stop()
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


MEASURES = {"IO": io}
