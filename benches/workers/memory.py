"""Prints the bytes per entry that 100 000 small cached results add to this process: ``memory.py LIBRARY``."""

import functools
import gc
import os
import sys

ENTRIES = 100_000
TTL = 3600


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def number(x):
    return x + 1


def cached(library):
    if library == "lru_cache":
        return functools.lru_cache(maxsize=ENTRIES * 2)(number)
    if library == "cachebox":
        import cachebox

        return cachebox.cached(cachebox.TTLCache(ENTRIES * 2, TTL))(number)
    if library == "cachetools":
        import cachetools

        return cachetools.cached(cachetools.TTLCache(ENTRIES * 2, TTL))(number)
    from cachekit import cache

    return cache(ttl=TTL, namespace="memory", backend=None)(number)


def main():
    function = cached(sys.argv[1])
    function(0)  # what is set up once is not an entry's
    gc.collect()
    before = resident()
    for key in range(1000, 1000 + ENTRIES):
        function(key)
    gc.collect()
    after = resident()
    # An entry that is gone needs no memory: all of them must still be hits.
    before_hits = function.cache_info().hits if hasattr(function, "cache_info") else None
    for key in range(1000, 1000 + ENTRIES):
        function(key)
    if before_hits is not None and function.cache_info().hits - before_hits < ENTRIES:
        print(f"only {function.cache_info().hits - before_hits} of {ENTRIES} entries were kept", file=sys.stderr)
        return 1
    print((after - before) / ENTRIES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
