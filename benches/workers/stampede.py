"""Many callers of one cold key in this process: how often the function ran, how long each caller waited."""

import asyncio
import os
import signal
import threading
import time

from benches.workers.protocol import serve
from tests.support.resp import RespClient

STATE = {}


class Work:
    """The function's body: counts its runs in Redis, across processes; where asked to, the first run dies."""

    def __init__(self, address, seconds, die):
        self.address, self.seconds, self.die = address, seconds, die

    def begin(self, key):
        with RespClient(self.address) as client:
            run = client.number("INCR", f"runs:{key}")
        if self.die and run == 1:
            time.sleep(self.seconds / 2)
            os.kill(os.getpid(), signal.SIGKILL)


def prepare(library, face, port, seconds, die=False):
    work = Work(("127.0.0.1", port), seconds, die)
    url = f"redis://127.0.0.1:{port}/0"

    def compute(key):
        work.begin(key)
        time.sleep(seconds)
        return [key, "value"]

    async def compute_later(key):
        work.begin(key)
        await asyncio.sleep(seconds)
        return [key, "value"]

    function = compute if face == "threads" else compute_later
    if library == "cashews":
        import cashews

        cashews.cache.setup(url)
        STATE["f"] = cashews.cache(ttl=600, key="stampede:{key}", lock=True)(function)
    elif library == "cachebox":
        import cachebox

        STATE["f"] = cachebox.cached(cachebox.TTLCache(1000, 600))(function)
    else:
        from cachekit import cache
        from cachekit.backends.redis import RedisBackend

        STATE["f"] = cache(ttl=600, namespace="stampede", backend=RedisBackend(url))(function)
    STATE["face"] = face
    STATE["loop"] = asyncio.new_event_loop()
    asyncio.set_event_loop(STATE["loop"])
    return os.getpid()


def _sleep_until(start):
    time.sleep(max(0.0, start - time.monotonic()))


def _call_in_threads(key, callers, start):
    waits, wrong = [0.0] * callers, []
    gate = threading.Barrier(callers)

    def caller(index):
        gate.wait()
        _sleep_until(start)
        began = time.perf_counter()
        try:
            value = STATE["f"](key)
            if value != [key, "value"]:
                wrong.append(repr(value))
        except Exception as error:
            wrong.append(repr(error))
        waits[index] = time.perf_counter() - began

    threads = [threading.Thread(target=caller, args=(index,)) for index in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"waits": waits, "wrong": wrong}


async def _call_in_tasks(key, callers, start, cancel_after=None):
    waits, wrong, cancelled = [], [], []

    async def caller():
        began = time.perf_counter()
        try:
            value = await STATE["f"](key)
            if value != [key, "value"]:
                wrong.append(repr(value))
        except asyncio.CancelledError:
            cancelled.append(1)
        except Exception as error:
            wrong.append(repr(error))
        waits.append(time.perf_counter() - began)

    await asyncio.sleep(max(0.0, start - time.monotonic()))
    tasks = [asyncio.ensure_future(caller()) for _ in range(callers)]
    if cancel_after is not None:
        await asyncio.sleep(cancel_after)
        tasks[0].cancel()
    await asyncio.gather(*tasks)
    return {"waits": waits, "wrong": wrong, "cancelled": len(cancelled)}


def call(key, callers, start, cancel_after=None):
    """Calls the function from ``callers`` callers at the moment ``start`` of the monotonic clock."""
    if STATE["face"] == "threads":
        return _call_in_threads(key, callers, start)
    return STATE["loop"].run_until_complete(_call_in_tasks(key, callers, start, cancel_after))


if __name__ == "__main__":
    serve({"prepare": prepare, "call": call})
