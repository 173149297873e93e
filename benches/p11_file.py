"""P11: what the File backend costs: a kilobyte read and stored, and two processes that do both."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diskcache

from benches.context import Context, ours
from benches.harness import Contender, Statement, interleave, medians
from benches.remote import Worker
from benches.table import OURS, Budget, Line

VALUE = os.urandom(1024)
RIVAL = "diskcache"
WINDOW = 1.0


def _open(folder: str) -> Any:
    from cachekit.backends import FileBackend, FileBackendConfig

    return FileBackend(FileBackendConfig(cache_dir=folder))


def _timed(context: Context, folder: str, statement: str, work: str) -> Line:
    keys = [f"bench:{number}" for number in range(1000)]

    def contender(name: str, store: Any, put: Callable[[str, bytes], object]) -> Statement:
        for key in keys:
            put(key, VALUE)
        return Statement(name, statement, {"get": store.get, "put": put, "keys": keys, "value": VALUE})

    def make() -> list[Contender]:
        backend = _open(f"{folder}/ours")
        return [contender(OURS, backend, backend.set)]

    mine, missing = ours(make)
    theirs = diskcache.Cache(f"{folder}/theirs")
    try:
        samples = interleave([*mine, contender(RIVAL, theirs, theirs.set)], context.rounds)
    finally:
        theirs.close()
    per_key = {name: [seconds / len(keys) for seconds in found] for name, found in samples.items()}
    return Line("P11", work, "s", medians(per_key), Budget(0.5, RIVAL), missing=missing, samples=per_key)


def _two_processes(context: Context, folder: str) -> Line:
    samples: dict[str, list[float]] = {OURS: [], RIVAL: []}
    workers = [Worker(sys.executable, "file_store.py") for _ in range(2)]
    try:
        for _ in range(max(3, context.rounds // 3)):
            for name, found in samples.items():
                for number, worker in enumerate(workers):
                    worker.send("mixed", store=name, folder=f"{folder}/{name}-two", seconds=WINDOW, seed=number)
                found.append(sum(worker.receive() for worker in workers))
    finally:
        for worker in workers:
            worker.close()
    values = {name: statistics.median(found) for name, found in samples.items()}
    budget = Budget(3, RIVAL, at_least=True)
    return Line("P11", "2 processes, 1 KB, 80 % reads, 20 % writes", "ops/s", values, budget, samples=samples)


def p11(context: Context) -> list[Line]:
    with tempfile.TemporaryDirectory(prefix="cachekit-bench-") as folder:
        Path(folder).chmod(0o700)
        return [
            _timed(context, folder, "for key in keys: get(key)", "File get, 1 KB, 1,000 keys"),
            _timed(context, folder, "for key in keys: put(key, value)", "File set, 1 KB, 1,000 keys"),
            _two_processes(context, folder),
        ]


MEASURES = {"P11": p11}
