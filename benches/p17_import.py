"""P17: what `import cachekit` adds to the start of an interpreter."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from benches.context import PUBLISHED, Context
from benches.table import OURS, Budget, Line

OPTIONAL = ("numpy", "opentelemetry", "orjson", "pandas", "polars", "prometheus_client", "pyarrow", "pydantic", "redis")


def _seconds(python: str, statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([python, "-I", "-c", statement], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def _optional_imports() -> list[str]:
    """The optional libraries of this environment that `import cachekit` pulls in."""
    code = f"import sys, json, cachekit; print(json.dumps([m for m in {OPTIONAL!r} if m in sys.modules]))"
    found: list[str] = json.loads(
        subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True).stdout
    )
    return found


def _import_time() -> str:
    """Milliseconds that the interpreter itself counts for the import, without the site's start."""
    run = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", "-c", "import cachekit"], check=True, capture_output=True, text=True
    )
    line = next(line for line in reversed(run.stderr.splitlines()) if line.rstrip().endswith("| cachekit"))
    return f"-X importtime counts {int(line.split('|')[1]) / 1000:.1f} ms"


def p17(context: Context) -> list[Line]:
    imports = {
        OURS: (sys.executable, "import cachekit"),
        "cachetools": (sys.executable, "import cachetools"),
        "cashews": (sys.executable, "import cashews"),
        PUBLISHED: (context.published, "import cachekit"),
    }
    missing, optional, note = None, [], ""
    try:
        optional, note = _optional_imports(), _import_time()
    except subprocess.CalledProcessError as error:
        del imports[OURS]
        missing = (
            (error.stderr or b"").decode().strip().splitlines()[-1] if isinstance(error.stderr, bytes) else str(error)
        )
    added: dict[str, list[float]] = {name: [] for name in imports}
    for _ in range(context.rounds):
        bare = {python: _seconds(python, "pass") for python in {python for python, _ in imports.values()}}
        for name, (python, statement) in imports.items():
            added[name].append(_seconds(python, statement) - bare[python])
    values = {name: statistics.median(found) for name, found in added.items()}
    line = Line("P17", "import, over a bare interpreter", "s", values, Budget(25e-3), missing=missing, note=note)
    line.samples = added
    libraries = Line("P17", "optional libraries imported with it", "", {}, Budget(0), missing=missing)
    if missing is None:
        libraries.values[OURS] = len(optional)
        libraries.note = ", ".join(optional)
    return [line, libraries]


MEASURES = {"P17": p17}
