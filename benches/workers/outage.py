"""A steady load on a cached function, L1 off, while someone else breaks its Redis."""

import asyncio
import logging
import os
import threading
import time

from benches.workers.protocol import serve
from cachekit import cache
from cachekit.backends.redis import RedisBackend

CALLERS = 8
PAUSE = 0.01
KEYS = 50
STATE = {}
# One warning per outage is a promise with a test of its own; here it would stand between the rows of the table.
logging.getLogger("cachekit").setLevel(logging.ERROR)


def prepare(face, url):
    def compute(x):
        return x + 1

    async def compute_later(x):
        return x + 1

    function = compute if face == "threads" else compute_later
    STATE["f"] = cache(ttl=600, namespace="outage", backend=RedisBackend(url), l1_enabled=False)(function)
    STATE["face"] = face
    return os.getpid()


def _breaker_is_open():
    return STATE["f"].get_health_status()["circuit_breaker"]["state"] == "OPEN"


class Record:
    """Every call's start and latency in seconds of the monotonic clock, what went wrong, when the breaker opened."""

    def __init__(self):
        self.calls, self.errors, self.opened = [], [], None

    def add(self, began, value, expected):
        self.calls.append((began, time.monotonic() - began))
        if value != expected:
            self.errors.append(f"{value!r} instead of {expected!r}")

    def watch(self, until):
        while time.monotonic() < until and self.opened is None:
            if _breaker_is_open():
                self.opened = time.monotonic()
            time.sleep(0.005)

    def reply(self):
        return {"calls": self.calls, "errors": self.errors, "opened": self.opened}


def load(seconds):
    record = Record()
    until = time.monotonic() + seconds
    watcher = threading.Thread(target=record.watch, args=(until,))
    watcher.start()
    if STATE["face"] == "threads":
        _load_threads(record, until)
    else:
        asyncio.run(_load_tasks(record, until))
    watcher.join()
    return record.reply()


def _load_threads(record, until):
    f = STATE["f"]

    def caller(turn):
        while time.monotonic() < until:
            turn += CALLERS
            began = time.monotonic()
            try:
                value = f(turn % KEYS)
            except Exception as error:
                value = error
            record.add(began, value, turn % KEYS + 1)
            time.sleep(PAUSE)

    threads = [threading.Thread(target=caller, args=(index,)) for index in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def _load_tasks(record, until):
    f = STATE["f"]

    async def caller(turn):
        while time.monotonic() < until:
            turn += CALLERS
            began = time.monotonic()
            try:
                value = await f(turn % KEYS)
            except Exception as error:
                value = error
            record.add(began, value, turn % KEYS + 1)
            await asyncio.sleep(PAUSE)

    await asyncio.gather(*(caller(index) for index in range(CALLERS)))


if __name__ == "__main__":
    serve({"prepare": prepare, "load": load})
