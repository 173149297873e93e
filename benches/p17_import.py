"""P17: what importing the decorator and decorating one function add to the start of an interpreter."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from benches.context import PUBLISHED, Context
from benches.table import OURS, Budget, Line

OPTIONAL = ("numpy", "opentelemetry", "orjson", "pandas", "polars", "prometheus_client", "pyarrow", "pydantic", "redis")


# What a program writes. Names load when they are first used, so the bare import alone would flatter.
IMPORT = "from cachekit import cache"
STATEMENT = f"{IMPORT}\n@cache\ndef f(x): return x"


def _seconds(python: str, statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([python, "-I", "-c", statement], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def _optional_imports() -> list[str]:
    """The optional libraries of this environment that the import pulls in."""
    code = f"{STATEMENT}\nimport sys, json; print(json.dumps([m for m in {OPTIONAL!r} if m in sys.modules]))"
    found: list[str] = json.loads(
        subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True).stdout
    )
    return found


def _import_time() -> str:
    """Milliseconds that the interpreter itself counts for the import, without the site's start."""
    run = subprocess.run(
        [sys.executable, "-I", "-X", "importtime", "-c", STATEMENT], check=True, capture_output=True, text=True
    )
    # Own times, summed over what was imported after the site: the cachekit modules and all that they need.
    rows = [line.removeprefix("import time:").split("|") for line in run.stderr.splitlines()[1:]]
    names = [row[2].strip() for row in rows]
    own = sum(int(row[0]) for row in rows[names.index("site") + 1 :])
    return f"-X importtime counts {own / 1000:.1f} ms in {len(rows) - names.index('site') - 1} modules"


def p17(context: Context) -> list[Line]:
    imports = {
        OURS: (sys.executable, STATEMENT),
        "cachetools": (sys.executable, "import cachetools"),
        "cashews": (sys.executable, "import cashews"),
        f"{OURS}, bare import": (sys.executable, IMPORT),
        PUBLISHED: (context.published, STATEMENT),
        f"{PUBLISHED}, bare import": (context.published, IMPORT),
    }
    missing, optional, note = None, [], ""
    try:
        optional, note = _optional_imports(), _import_time()
    except subprocess.CalledProcessError as error:
        imports = {name: how for name, how in imports.items() if not name.startswith(f"{OURS}") or PUBLISHED in name}
        missing = (
            (error.stderr or b"").decode().strip().splitlines()[-1] if isinstance(error.stderr, bytes) else str(error)
        )
    added: dict[str, list[float]] = {name: [] for name in imports}
    for _ in range(context.rounds):
        bare = {python: _seconds(python, "pass") for python in {python for python, _ in imports.values()}}
        for name, (python, statement) in imports.items():
            added[name].append(_seconds(python, statement) - bare[python])
    values = {name: statistics.median(found) for name, found in added.items()}
    line = Line(
        "P17", "import and decorate, over a bare interpreter", "s", values, Budget(25e-3), missing=missing, note=note
    )
    line.samples = added
    libraries = Line("P17", "optional libraries imported with it", "", {}, Budget(0), missing=missing)
    if missing is None:
        libraries.values[OURS] = len(optional)
        libraries.note = ", ".join(optional)
    return [line, libraries]


MEASURES = {"P17": p17}
