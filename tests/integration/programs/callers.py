"""Many callers of one cold key in this process; every run leaves a line with its pid in a file.

    callers.py URL|DIRECTORY NAMESPACE RUNS-FILE threads|tasks COUNT FIRST-RUN-SECONDS LATER-RUN-SECONDS

Says "ready", waits for a line on stdin, then prints the outcomes and the seconds that the slowest caller took.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from cachekit import cache
from cachekit.backends import BaseBackend, FileBackend, FileBackendConfig, MemcachedBackend, RedisBackend
from cachekit.backends.cachekitio import CachekitIOBackend
from tests.integration.support import together

url, namespace, runs_file, kind, count, first, later = sys.argv[1:]
backend: BaseBackend
if url.startswith("/"):
    backend = FileBackend(FileBackendConfig(cache_dir=url))
elif url.startswith("https:"):
    backend = CachekitIOBackend()  # its key comes with its address
else:
    backend = MemcachedBackend(url) if url.startswith("memcached:") else RedisBackend(url)
# On a busy machine a shorter time would let one run where the tests count that none did.
backend = backend.with_timeout(20.0)


def note_run() -> float:
    """Leaves a line; returns how long this run takes."""
    file = os.open(runs_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{os.getpid()}\n".encode())
    os.close(file)
    return float(first) if Path(runs_file).read_text().count("\n") == 1 else float(later)


@cache(backend=backend, namespace=namespace, ttl=60, timeout=False)
def answer(x: int) -> dict[str, int]:
    time.sleep(note_run())
    return {"pid": os.getpid(), "x": x}


@cache(backend=backend, namespace=f"{namespace}-async", ttl=60, timeout=False)
async def aanswer(x: int) -> dict[str, int]:
    await asyncio.sleep(note_run())
    return {"pid": os.getpid(), "x": x}


async def tasks() -> list[Any]:
    return await asyncio.gather(*(aanswer(1) for _ in range(int(count))), return_exceptions=True)


print("ready", flush=True)
sys.stdin.readline()
started = time.monotonic()
outcomes = together(int(count), lambda _: answer(1)) if kind == "threads" else asyncio.run(tasks())
took = time.monotonic() - started
shown = [outcome if isinstance(outcome, dict) else repr(outcome) for outcome in outcomes]
print(json.dumps({"outcomes": shown, "took": took}))
