"""P14: hits from 8 threads against hits from one, Zipf over 100 000 keys that all lie in L1."""

from __future__ import annotations

import bisect
import functools
import itertools
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence

import cachebox

from benches.context import TTL, Context
from benches.table import OURS, Budget, Line

KEYS = 100_000
CALLS = 1_600_000
THREADS = 8
ZIPF = 0.9


def zipf(count: int, seed: int) -> list[int]:
    """``count`` keys below ``KEYS``, key k drawn with weight (k+1)^-0.9."""
    weights = list(itertools.accumulate((rank + 1) ** -ZIPF for rank in range(KEYS)))
    draw = random.Random(seed).random
    return [min(KEYS - 1, bisect.bisect_left(weights, draw() * weights[-1])) for _ in range(count)]


def number(x: int) -> int:
    return x + 1


def throughput(f: Callable[[int], int], calls: Sequence[Sequence[int]]) -> float:
    """Calls per second when each of ``calls`` is worked off by a thread of its own."""
    start = threading.Barrier(len(calls) + 1)

    def worker(keys: Sequence[int]) -> None:
        start.wait()
        for key in keys:
            f(key)

    threads = [threading.Thread(target=worker, args=(keys,)) for keys in calls]
    for thread in threads:
        thread.start()
    start.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(map(len, calls)) / (time.perf_counter() - started)


def _filled(function: Callable[[int], int]) -> Callable[[int], int]:
    for key in range(KEYS):
        function(key)
    return function


def p14(context: Context) -> list[Line]:
    cached: dict[str, Callable[[int], int]] = {}
    missing: str | None = None
    try:
        from cachekit import cache

        cached[OURS] = _filled(cache(ttl=TTL, namespace="p14", backend=None)(number))
    except ImportError as error:
        missing = str(error)
    cached["lru_cache"] = _filled(functools.lru_cache(maxsize=KEYS)(number))
    cached["cachebox"] = _filled(cachebox.cached(cachebox.TTLCache(KEYS, TTL))(number))

    keys = zipf(CALLS, 14)
    # Whole stretches, not every eighth key: the list's own cache misses are not what is measured.
    share = CALLS // THREADS
    shares = [keys[index * share : (index + 1) * share] for index in range(THREADS)]
    samples: dict[str, list[float]] = {}
    for _ in range(max(3, context.rounds // 2)):
        for name, function in cached.items():
            samples.setdefault(name, []).append(throughput(function, shares))
            samples.setdefault(f"{name}, 1 thread", []).append(throughput(function, [keys]))
    values = {name: statistics.median(found) for name, found in samples.items()}
    budget = Budget(0.9, f"{OURS}, 1 thread", at_least=True)
    work = f"L1 hits from {THREADS} threads, Zipf over 100 k keys"
    return [Line("P14", work, "ops/s", values, budget, missing=missing, samples=samples)]


MEASURES = {"P14": p14}
