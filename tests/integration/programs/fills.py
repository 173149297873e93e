"""A fill through CachekitIO that takes until a line arrives on stdin.

    fills.py NAMESPACE threads|tasks

The environment names the service. Says "computing" from within the function, and what the call gave at the end.
"""

from __future__ import annotations

import asyncio
import sys

from cachekit import cache

namespace, kind = sys.argv[1:]


def compute() -> str:
    print("computing", flush=True)
    sys.stdin.readline()
    return "old"


@cache.io(ttl=60, namespace=namespace, key=str)
def answer(x: int) -> str:
    return compute()


@cache.io(ttl=60, namespace=namespace, key=str)
async def answer_async(x: int) -> str:
    return await asyncio.to_thread(compute)


print(asyncio.run(answer_async(1)) if kind == "tasks" else answer(1))
