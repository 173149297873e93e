"""P18: resident memory per small entry, 100 000 entries, each library in a fresh process."""

from __future__ import annotations

import statistics
import subprocess
import sys

from benches.context import PUBLISHED, Context
from benches.remote import WORKERS
from benches.table import OURS, Budget, Line

REPEATS = 3


def _bytes_per_entry(python: str, library: str) -> float:
    run = subprocess.run([python, str(WORKERS / "memory.py"), library], check=False, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr.strip().splitlines()[-1])
    return float(run.stdout)


def p18(context: Context) -> list[Line]:
    values: dict[str, float] = {}
    missing = None
    for name in (OURS, "lru_cache", "cachebox", "cachetools", PUBLISHED):
        python = context.published if name == PUBLISHED else sys.executable
        try:
            values[name] = statistics.median(_bytes_per_entry(python, name) for _ in range(REPEATS))
        except RuntimeError as error:
            if name != OURS:
                raise
            missing = str(error)
    return [Line("P18", "memory per entry, f(int) → int, 100 k of them", "B", values, Budget(250), missing=missing)]


MEASURES = {"P18": p18}
