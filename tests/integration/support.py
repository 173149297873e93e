"""What the integration tests share: callers that start together, counters, child processes, a watch on the loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"

# Nothing in these tests takes longer, however busy the machine is.
LIMIT = 30.0


class Runs:
    """Counts how often a function ran, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def __call__(self) -> int:
        """One more; its number, from 1 on."""
        with self._lock:
            self._count += 1
            return self._count

    @property
    def count(self) -> int:
        return self._count

    def wait(self, number: int) -> None:
        """Until there were so many."""
        wait_until(f"{number} runs", lambda: self._count >= number)


def wait_until(what: str, ready: Callable[[], bool], limit: float = LIMIT) -> None:
    """Polls until `ready()`; a TimeoutError says what did not happen."""
    deadline = time.monotonic() + limit
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit:g} s")
        time.sleep(0.002)


async def until(what: str, ready: Callable[[], bool], limit: float = LIMIT) -> None:
    """`wait_until` in a task."""
    deadline = time.monotonic() + limit
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit:g} s")
        await asyncio.sleep(0.002)


class Callers:
    """Threads that call one function at once. Each outcome is a result or the exception that came."""

    def __init__(self, count: int, call: Callable[[int], Any]) -> None:
        self.arrived = Runs()
        self.outcomes: list[Any] = [None] * count
        self._call = call
        self._start = threading.Barrier(count)
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(count)]

    def _run(self, index: int) -> None:
        self._start.wait(LIMIT)
        self.arrived()
        try:
            self.outcomes[index] = self._call(index)
        except BaseException as error:
            self.outcomes[index] = error

    def start(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def join(self, limit: float = LIMIT) -> list[Any]:
        """Every caller's outcome; a TimeoutError where one did not come back."""
        deadline = time.monotonic() + limit
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        hung = sum(thread.is_alive() for thread in self._threads)
        if hung:
            raise TimeoutError(f"{hung} of {len(self._threads)} callers did not come back within {limit:g} s")
        return self.outcomes


def together(count: int, call: Callable[[int], Any], limit: float = LIMIT) -> list[Any]:
    """`count` threads that call at once; their outcomes."""
    return Callers(count, call).start().join(limit)


async def outcomes(*calls: Awaitable[Any], limit: float = LIMIT) -> list[Any]:
    """The calls' results and exceptions, as tasks that run side by side."""
    return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), limit)


class Lag:
    """The longest time for which the event loop did not come round."""

    worst = 0.0

    async def watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.perf_counter() - before)


@contextmanager
def loop_lag() -> Generator[Lag]:
    """Watches the running event loop."""
    lag = Lag()
    task = asyncio.get_running_loop().create_task(lag.watch())
    try:
        yield lag
    finally:
        task.cancel()


# Python's warning at every fork beside threads, from 3.12 on; forking beside threads is what is tested.
FORK_WARNING = "ignore:This process:DeprecationWarning"


def program(name: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts a program of `programs/` in a process of its own, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-W", FORK_WARNING, str(PROGRAMS / f"{name}.py"), *arguments],
        # The package that this process tests, installed or not, is the one that its children import.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def ended(children: Sequence[subprocess.Popen[str]], limit: float = LIMIT) -> list[str]:
    """What the programs printed, once all have ended without a word on stderr."""
    deadline = time.monotonic() + limit
    printed: list[str] = []
    try:
        for child in children:
            out, err = child.communicate(timeout=max(0.1, deadline - time.monotonic()))
            assert child.returncode == 0, f"exit {child.returncode}: {err}"
            assert err == "", err
            printed.append(out)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.communicate()
    return printed


# What a fork must not disturb, whatever the backend.
FORKS = (
    "fork_of_a_fork",
    "fork_beside_a_loop",
    "fork_and_go_on_with_the_loop",
    "fork_inside_a_task",
    "pool_by_fork",
    "pool_by_spawn",
    "preload",
    "fork_during_a_flight",
    "fork_during_an_async_flight",
    "fork_under_load",
)


def forked(scenario: str, folder: Path, namespace: str, **backend: str) -> str:
    """What `programs/forks.py` printed, once it has ended without a word on stderr; variables name its ``backend``.

    A program that hangs is one that has not ended after 50 s; most take well under a second.
    """
    where = {**backend, "TEST_NAMESPACE": namespace, "TEST_RUNS": str(folder / "runs")}
    # On a busy machine a shorter time would let one run where the programs count that none did.
    patience = {"CACHEKIT_SOCKET_TIMEOUT": "20", "CACHEKIT_MEMCACHED_TIMEOUT": "20"}
    (out,) = ended([program("forks", scenario, env={**where, **patience})], 50.0)
    return out
