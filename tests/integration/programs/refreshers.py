"""One cached function that does as it is told on stdin; every run leaves a line in a file and returns its number.

    refreshers.py URL NAMESPACE RUNS-FILE sync|async

"call" prints the result, "age" pushes L1's clock past the threshold, "wait" prints the result of a refresh (the entry
of the second run) once it is here.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from cachekit import _native, cache
from cachekit.backends import RedisBackend

url, namespace, runs_file, kind = sys.argv[1:]
# On a busy machine a shorter time would let one run where the test counts that none did.
backend = RedisBackend(url).with_timeout(20.0)


def note_run() -> int:
    file = os.open(runs_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{os.getpid()}\n".encode())
    os.close(file)
    return Path(runs_file).read_text().count("\n")


@cache(backend=backend, namespace=namespace, ttl=100, timeout=False)
def function(x: int) -> int:
    run = note_run()
    time.sleep(0.3)
    return run


@cache(backend=backend, namespace=namespace, ttl=100, timeout=False)
async def afunction(x: int) -> int:
    run = note_run()
    await asyncio.sleep(0.3)
    return run


async def main() -> None:
    loop = asyncio.get_running_loop()
    while word := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if word == "call":
            print(await afunction(1) if kind == "async" else function(1), flush=True)
        elif word == "age":
            _native._testing.advance_clock(56)
            print("aged", flush=True)
        else:

            async def hit() -> int:
                return await afunction(1) if kind == "async" else function(1)

            for _ in range(1000):
                if await hit() == 2:
                    break
                await asyncio.sleep(0.01)
            print(await hit(), flush=True)


asyncio.run(main())
