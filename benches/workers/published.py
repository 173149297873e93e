"""The published cachekit package (same module name as ours) at the work of P1 to P9, timed in this process."""

import asyncio
import time

from benches import payloads
from benches.harness import AsyncStatement, Statement
from benches.workers.protocol import serve
from cachekit import cache
from cachekit.backends.redis import RedisBackend

LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)
CASES = {}


def prepare(redis_url):
    backend = RedisBackend(redis_url)
    nested = payloads.nested()

    def options(space, **more):
        return {"ttl": 3600, "namespace": f"published-{space}", "backend": backend, **more}

    @cache(**options("p1"))
    def number(x):
        return x + 1

    @cache(**options("p2"))
    def record(x, name, kw=0):
        return {"id": x, "name": name, "kw": kw}

    @cache(**options("p3"))
    def page(x):
        return nested

    @cache(**options("p4"))
    def blob(x):
        return payloads.MEGABYTE

    @cache.secure(master_key="61" * 32, single_tenant_mode=True, **options("p5"))
    def secret(x):
        return x + 1

    @cache(**options("p6"))
    async def later(x):
        return x + 1

    @cache(**options("p7", l1_enabled=False))
    def text(x):
        return payloads.SMALL_TEXT

    @cache(**options("p8", l1_enabled=False))
    def page_from_redis(x):
        return nested

    @cache(**options("p9", l1_enabled=False))
    async def text_later(x):
        return payloads.SMALL_TEXT

    CASES["P1"] = Statement("P1", "f(42)", {"f": number})
    CASES["P2"] = Statement("P2", "f(7, 'abc', kw=3)", {"f": record})
    CASES["P3"] = Statement("P3", "f(42)", {"f": page})
    CASES["P4"] = Statement("P4", "f(42)", {"f": blob})
    CASES["P5"] = Statement("P5", "f(42)", {"f": secret})
    CASES["P6"] = AsyncStatement("P6", "f(42)", {"f": later}, LOOP)
    CASES["P7"] = Statement("P7", "f(42)", {"f": text})
    CASES["P8"] = Statement("P8", "f(42)", {"f": page_from_redis})
    CASES["P9"] = text_later
    return sorted(CASES)


def run(case, number):
    return CASES[case].run(number)


def throughput(tasks, seconds):
    """Operations per second of ``tasks`` tasks that await hits on keys of their own."""

    async def measure():
        f = CASES["P9"]
        await asyncio.gather(*(f(key) for key in range(tasks)))
        deadline = time.perf_counter() + seconds

        async def worker(key):
            done = 0
            while time.perf_counter() < deadline:
                await f(key)
                done += 1
            return done

        started = time.perf_counter()
        done = sum(await asyncio.gather(*(worker(key) for key in range(tasks))))
        return done / (time.perf_counter() - started)

    return LOOP.run_until_complete(measure())


if __name__ == "__main__":
    serve({"prepare": prepare, "run": run, "throughput": throughput})
