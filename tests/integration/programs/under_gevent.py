"""Cached functions in a process that gevent has patched."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import logging  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402
from gevent import get_hub  # noqa: E402

from cachekit import cache  # noqa: E402
from cachekit.backends import RedisBackend  # noqa: E402

logging.disable(logging.WARNING)
runs = 0


@cache(backend=RedisBackend(sys.argv[1]), namespace="gevent")
def answer(x: int) -> int:
    global runs
    runs += 1
    gevent.sleep(0.05)
    return x


jobs = [gevent.spawn(answer, 1) for _ in range(100)]
gevent.joinall(jobs, timeout=10)
assert [job.value for job in jobs] == [1] * 100, [job.exception for job in jobs if job.exception]
print("100 greenlets served")

pool = get_hub().threadpool
results = [pool.spawn(answer, 2) for _ in range(20)]
assert [result.get(timeout=10) for result in results] == [2] * 20
print("20 pool threads served")

before = runs
assert (answer(1), answer(2)) == (1, 2)
print("hit" if runs == before else "miss")
