"""The published package's CachekitIO backend, against the API that the environment names."""

import asyncio

from benches.harness import AsyncStatement, Statement
from benches.workers.protocol import serve
from cachekit.backends.cachekitio import CachekitIOBackend

LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)
CASES = {}


def prepare(key):
    backend = CachekitIOBackend()
    CASES["sync"] = Statement("sync", "get(key)", {"get": backend.get, "key": key})
    CASES["async"] = AsyncStatement("async", "get(key)", {"get": backend.get_async, "key": key}, LOOP)
    return len(backend.get(key))


def run(case, number):
    return CASES[case].run(number)


if __name__ == "__main__":
    serve({"prepare": prepare, "run": run})
