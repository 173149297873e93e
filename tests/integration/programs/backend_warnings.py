"""Prints what `cachekit.backend` logs while a function is called by key. Arguments: memcached or cachekitio, sync or
async, and memcached's server."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from cachekit import cache
from cachekit.backends.cachekitio import CachekitIOBackend
from cachekit.backends.memcached import MemcachedBackend, MemcachedBackendConfig

kind, face, *servers = sys.argv[1:]
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s", level=logging.INFO)
options: dict[str, Any] = {"namespace": "told", "key": lambda x: f"{x} and a space"}
if kind == "memcached":
    options["backend"] = MemcachedBackend(MemcachedBackendConfig(servers=tuple(servers)))
else:
    options.update(backend=CachekitIOBackend(), ttl=40 * 86400)


def double(x: int) -> int:
    return 2 * x


async def double_async(x: int) -> int:
    return 2 * x


if face == "sync":
    cached = cache(**options)(double)
    assert [cached(x) for x in range(3)] == [0, 2, 4]
else:
    cached_async = cache(**options)(double_async)

    async def main() -> None:
        assert [await cached_async(x) for x in range(3)] == [0, 2, 4]

    asyncio.run(main())
