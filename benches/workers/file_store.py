"""A process that reads and writes a directory's entries, four reads to a write, and says how many it did a second."""

import os
import random
import time

from benches.workers.protocol import serve

KEYS = [f"bench:{number}" for number in range(1000)]
VALUE = os.urandom(1024)


def _open(store, folder):
    if store == "diskcache":
        import diskcache

        return diskcache.Cache(folder)
    from cachekit.backends import FileBackend, FileBackendConfig

    return FileBackend(FileBackendConfig(cache_dir=folder))


def mixed(store, folder, seconds, seed):
    opened = _open(store, folder)
    get, put = opened.get, opened.set
    chosen = random.Random(seed)
    work = [(chosen.choice(KEYS), chosen.random() < 0.2) for _ in range(10_000)]
    for key in KEYS:
        put(key, VALUE)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for key, writes in work[:500]:
            if writes:
                put(key, VALUE)
            else:
                get(key)
        done += 500
    return done / (time.perf_counter() - started)


if __name__ == "__main__":
    serve({"mixed": mixed})
