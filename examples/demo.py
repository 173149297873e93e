"""cachekit on real work: parses, counts and indexes the standard library's own sources, then does it again.

    python examples/demo.py [--cold]

The results stay in a directory (CACHEKIT_FILE_CACHE_DIR, or one in the user's cache), so a second run starts warm;
--cold forgets them first. With CACHEKIT_REDIS_URL (or REDIS_URL) set, two processes share results through it as well.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import threading
import time
import tokenize
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cachekit import cache
from cachekit.backends import FileBackend, FileBackendConfig, RedisBackend

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
PACKAGES = ("asyncio", "collections", "concurrent", "email", "html", "http", "importlib", "json", "logging", "urllib")
RUNS: Counter[str] = Counter()  # how often each function's body really ran

# One decorator for all functions. The version is part of every key: other sources, other results.
PYTHON = sys.version.split()[0]
DIRECTORY = os.environ.get("CACHEKIT_FILE_CACHE_DIR") or str(Path.home() / ".cache" / "cachekit-demo")
THROUGH_REDIS = "--through-redis" in sys.argv
shared = RedisBackend() if THROUGH_REDIS else FileBackend(FileBackendConfig(cache_dir=DIRECTORY))
remember = cache(namespace="demo", version=PYTHON, ttl="1d", backend=shared)


@remember
def outline(file: str) -> dict[str, Any]:
    """What a module defines, imports and calls."""
    RUNS["outline"] += 1
    found: dict[str, set[str]] = {"functions": set(), "classes": set(), "imports": set(), "calls": set()}
    for node in ast.walk(ast.parse((LIBRARY / file).read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found["functions"].add(node.name)
        elif isinstance(node, ast.ClassDef):
            found["classes"].add(node.name)
        elif isinstance(node, ast.Import):
            found["imports"].update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found["imports"].add(node.module)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found["calls"].add(node.func.id)
    return {kind: sorted(names) for kind, names in found.items()}


@remember
def token_counts(file: str) -> dict[str, int]:
    """How many tokens of each kind a module has."""
    RUNS["token_counts"] += 1
    with open(LIBRARY / file, "rb") as source:
        return dict(Counter(tokenize.tok_name[token.type] for token in tokenize.tokenize(source.readline)))


@remember
def cross_references(package: str) -> dict[str, list[str]]:
    """Where each class and function of a package is called, file by file."""
    RUNS["cross_references"] += 1
    files = [file for file in sources() if file.startswith(package + "/")]
    callers: dict[str, list[str]] = {name: [] for file in files for name in definitions(file)}
    for file in files:
        for name in outline(file)["calls"]:
            if name in callers:
                callers[name].append(file)
    return callers


@remember
async def fingerprint(file: str) -> str:
    """The SHA-256 of a module, read off the event loop."""
    RUNS["fingerprint"] += 1
    body = await asyncio.to_thread((LIBRARY / file).read_bytes)
    return hashlib.sha256(body).hexdigest()


def definitions(file: str) -> list[str]:
    found = outline(file)
    return [*found["classes"], *found["functions"]]


def sources() -> list[str]:
    """The files that the demo looks at, relative to the library."""
    tops = [path for path in LIBRARY.glob("*.py") if not path.name.startswith("_")][:80]
    inner = [path for package in PACKAGES for path in (LIBRARY / package).rglob("*.py")]
    return sorted(path.relative_to(LIBRARY).as_posix() for path in [*tops, *inner])


async def fingerprints(files: list[str]) -> None:
    for file in files:
        await fingerprint(file)


def work(files: list[str]) -> dict[str, tuple[int, Callable[[], object]]]:
    """Each function's calls: how many, and what makes them."""
    return {
        "outline": (len(files), lambda: [outline(file) for file in files]),
        "token_counts": (len(files), lambda: [token_counts(file) for file in files]),
        "cross_references": (len(PACKAGES), lambda: [cross_references(package) for package in PACKAGES]),
        "fingerprint": (len(files), lambda: asyncio.run(fingerprints(files))),
    }


def timed(files: list[str]) -> dict[str, float]:
    """Seconds per call of each function."""
    took: dict[str, float] = {}
    for name, (calls, run) in work(files).items():
        started = time.perf_counter()
        run()
        took[name] = (time.perf_counter() - started) / calls
    return took


def show(seconds: float) -> str:
    return f"{seconds * 1e3:8.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:8.2f} µs"


def main() -> None:
    files = sources()
    functions: dict[str, Any] = {
        "outline": outline,
        "token_counts": token_counts,
        "cross_references": cross_references,
        "fingerprint": fingerprint,
    }
    if "--forget" in sys.argv:
        asyncio.run(forget_all())
    if "--report" in sys.argv:
        took = timed(files)
        hits = {name: function.cache_info().l2_hits for name, function in functions.items()}
        print(json.dumps({"took": took, "hits": hits, "runs": RUNS}))
        return

    size = sum((LIBRARY / file).stat().st_size for file in files) / 1e6
    print(f"{len(files)} files of Python {PYTHON}'s standard library, {size:.1f} MB of source")
    print(f"results are shared through {DIRECTORY}\n")
    if "--cold" in sys.argv:
        asyncio.run(forget_all())
    first = timed(files)
    cold = sum(RUNS.values()) > 0
    warm = timed(files)
    print(f"{'seconds per call':28}{'cold' if cold else 'directory':>11}{'L1 hit':>13}")
    for name in functions:
        print(f"  {name:26}{show(first[name])}  {show(warm[name])}   {first[name] / warm[name]:8,.0f} times faster")
    if not cold:
        print("\nAn earlier run left its results, so no function ran. Run with --cold to see what they cost.")

    print("\nanother process, which finds the results in the directory")
    tell(another())
    if os.environ.get("CACHEKIT_REDIS_URL") or os.environ.get("REDIS_URL"):
        print("\ntwo more processes, the second of which finds the results of the first in Redis")
        another("--through-redis", "--forget")
        tell(another("--through-redis"))

    ran = stampede()
    print(f"\n20 threads on one cold key: the function ran {'once' if ran == 1 else f'{ran} times'}")
    counts = token_counts(files[0])
    counts.clear()
    print(f"a caller empties its result: the next caller still gets {len(token_counts(files[0]))} kinds of tokens\n")
    for name, function in functions.items():
        info = function.cache_info()
        print(
            f"{name + '.cache_info()':30} hits={info.hits} (L1 {info.l1_hits}, L2 {info.l2_hits}) misses={info.misses}"
        )


async def forget_all() -> None:
    """So that the next pass is a cold one, whatever an earlier run left."""
    for function in (outline, token_counts, cross_references, fingerprint):
        await function.ainvalidate_cache()


def another(*options: str) -> dict[str, Any]:
    """What another process tells of the same work; it has nothing in L1."""
    command = [sys.executable, __file__, "--report", *options]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return told


def tell(told: dict[str, Any]) -> None:
    for name, seconds in told["took"].items():
        ran = told["runs"].get(name, 0)
        print(f"  {name:26}{show(seconds)}   {told['hits'][name]} shared hits, the function ran {ran} times")


def stampede() -> int:
    """How often the function runs when 20 threads ask at once for what nobody has."""
    outline.invalidate_cache("typing.py")
    before = RUNS["outline"]
    gate = threading.Barrier(20)

    def caller() -> None:
        gate.wait()
        outline("typing.py")

    threads = [threading.Thread(target=caller) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return RUNS["outline"] - before


if __name__ == "__main__":
    main()
