"""Cached functions that a process and its children share; the environment says where they are stored."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cachekit import cache
from cachekit.backends.provider import DefaultBackendProvider

if "TEST_REDIS_URL" in os.environ:
    from cachekit.backends import RedisBackend

    backend = RedisBackend(os.environ["TEST_REDIS_URL"])
else:
    backend = DefaultBackendProvider().get_backend()
namespace = os.environ["TEST_NAMESPACE"]
runs_file = Path(os.environ["TEST_RUNS"])

TEXTS = 200
# Sizes from a byte to some packets, so that a reply that went astray would be noticed.
SIZES = [1 + 37 * x % 9000 for x in range(TEXTS)]

gate = threading.Event()
inside = threading.Event()


def note_run(what: str) -> None:
    """Leaves a line with the pid in the file of runs."""
    file = os.open(runs_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{what} {os.getpid()}\n".encode())
    os.close(file)


def runs(what: str) -> list[int]:
    """The pids of the processes that ran it."""
    lines = runs_file.read_text().splitlines() if runs_file.exists() else []
    return [int(line.split()[1]) for line in lines if line.split()[0] == what]


def expected(x: int) -> str:
    return f"{x}:" + chr(97 + x % 26) * SIZES[x]


# Every hit of these two is a reply of Redis. No function here has an adaptive timeout: on a busy machine it would let
# one run where the tests count that none did.
@cache(backend=backend, namespace=f"{namespace}-remote", ttl=60, l1_enabled=False, timeout=False)
def text(x: int) -> str:
    note_run("text")
    return expected(x)


@cache(backend=backend, namespace=f"{namespace}-remote", ttl=60, l1_enabled=False, timeout=False)
async def atext(x: int) -> str:
    note_run("atext")
    return expected(x)


@cache(backend=backend, namespace=namespace, ttl=60, timeout=False)
def square(x: int) -> int:
    note_run("square")
    return x * x


@cache(backend=backend, namespace=namespace, ttl=60, timeout=False)
async def asquare(x: int) -> int:
    note_run("asquare")
    return x * x


@cache(backend=backend, namespace=namespace, ttl=60, timeout=False)
def slow_square(x: int) -> int:
    note_run("slow_square")
    threading.Event().wait(0.3)
    return x * x


@cache(backend=backend, namespace=namespace, ttl=60, timeout=False)
async def aslow_square(x: int) -> int:
    note_run("aslow_square")
    await asyncio.sleep(0.3)
    return x * x


@cache(backend=None, namespace=namespace)
def local_gated(x: int) -> int:
    """Ends when the gate is opened; in a child it is at once."""
    inside.set()
    gate.wait()
    return x


@cache(backend=backend, namespace=namespace, lock=False, timeout=False)
def gated(x: int) -> int:
    inside.set()
    gate.wait()
    return x


@cache(backend=None, namespace=namespace)
async def alocal_gated(x: int) -> int:
    inside.set()
    await asyncio.to_thread(gate.wait)
    return x


@cache(backend=backend, namespace=namespace, timeout=False)
async def agated(x: int) -> int:
    note_run("agated")
    inside.set()
    while not gate.is_set():  # noqa: ASYNC110 -- no thread, which a child would not have
        await asyncio.sleep(0.001)
    return x


@cache(backend=None, namespace=f"{namespace}-refreshed", ttl=60)
def refreshed(x: int) -> int:
    """Its refresh ends when the gate is opened."""
    note_run("refreshed")
    if len(runs("refreshed")) > 1:
        inside.set()
        gate.wait()
    return x


def store_texts() -> None:
    """Puts every text into Redis, through the blocking pool and through the I/O thread."""
    for x in range(TEXTS):
        assert text(x) == expected(x)

    async def astore() -> None:
        assert await asyncio.gather(*map(atext, range(TEXTS))) == list(map(expected, range(TEXTS)))

    asyncio.run(astore())


def serve(rounds: int = 3) -> None:
    """Reads every text from several threads and tasks at once; an error unless all are right."""

    def threads(start: int) -> None:
        for i in range(rounds * TEXTS):
            x = (start * 61 + i) % TEXTS
            assert text(x) == expected(x), x

    async def one(start: int) -> None:
        for i in range(rounds * TEXTS // 4):
            x = (start * 61 + i) % TEXTS
            assert await atext(x) == expected(x), x

    async def tasks() -> None:
        await asyncio.gather(*map(one, range(16)))

    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(threads, start) for start in range(4)]
        jobs.append(pool.submit(lambda: asyncio.run(tasks())))
        for job in jobs:
            job.result()


def worker(x: int) -> tuple[int, int, int, int]:
    """What a pool's worker does: a pid, and results of both kinds of function."""
    return os.getpid(), square(x), asyncio.run(asquare(x)), len(text(x))
