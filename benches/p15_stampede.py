"""P15: a cold key and many callers at once: in one process, in eight, with the one who computes killed or cancelled."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from benches.context import PUBLISHED, Context
from benches.harness import percentile
from benches.remote import Worker, WorkerError
from benches.table import OURS, Budget, Line

FUNCTION_SECONDS = 0.3
SLACK = 0.05
REPEATS = 3
LEAD_TIME = 0.3


@dataclass
class Outcome:
    """What one stampede came to. ``waits`` are the callers' seconds beyond the function's own."""

    runs: int = 0
    waits: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    cancelled: int = 0


@dataclass(frozen=True)
class Scene:
    """Who calls: ``processes`` × ``callers`` by threads or tasks; ``die`` kills the process that computes first."""

    face: str
    processes: int = 1
    callers: int = 200
    die: bool = False
    cancel_after: float | None = None


def play(context: Context, library: str, scene: Scene, key: str) -> Outcome:
    """One stampede on a key that no layer knows, in fresh processes."""
    python = context.published if library == PUBLISHED else sys.executable
    workers = [Worker(python, "stampede.py") for _ in range(scene.processes)]
    try:
        return _play(context, library, scene, key, workers)
    finally:
        for worker in workers:
            worker.close()


def _play(context: Context, library: str, scene: Scene, key: str, workers: list[Worker]) -> Outcome:
    settings = {"library": library, "face": scene.face, "port": context.redis.port, "seconds": FUNCTION_SECONDS}
    for worker in workers:
        worker.send("prepare", die=scene.die, **settings)
    for worker in workers:
        worker.receive()
    start = time.monotonic() + LEAD_TIME
    for worker in workers:
        worker.send("call", key=key, callers=scene.callers, start=start, cancel_after=scene.cancel_after)
    outcome = Outcome()
    died = 0
    for worker in workers:
        try:
            reply: dict[str, Any] = worker.receive()
        except WorkerError:
            if not scene.die:
                raise
            died += 1
            continue
        outcome.waits += [wait - FUNCTION_SECONDS for wait in reply["waits"]]
        outcome.wrong += reply["wrong"]
        outcome.cancelled += reply.get("cancelled", 0)
    if died > 1:
        outcome.wrong.append(f"{died} processes died")
    with context.redis.client() as client:
        outcome.runs = client.number("GET", f"runs:{key}")
    return outcome


SCENES: list[tuple[str, Scene, tuple[str, ...]]] = [
    ("200 threads", Scene("threads"), (PUBLISHED, "cachebox")),
    ("200 tasks", Scene("tasks"), (PUBLISHED, "cashews")),
    ("8 processes × 25 threads", Scene("threads", 8, 25), (PUBLISHED,)),
    ("8 processes × 25 tasks", Scene("tasks", 8, 25), (PUBLISHED, "cashews")),
]


def _compare(context: Context, label: str, scene: Scene, libraries: tuple[str, ...], bound: int) -> list[Line]:
    runs: dict[str, float] = {}
    waits: dict[str, float] = {}
    missing, notes = None, []
    for library in libraries:
        try:
            plays = [play(context, library, scene, f"{label}/{library}/{turn}") for turn in range(REPEATS)]
        except WorkerError as error:
            if library != OURS:
                raise
            missing = str(error).strip().splitlines()[-1]
            continue
        runs[library] = max(outcome.runs for outcome in plays)
        waits[library] = statistics.median(percentile(outcome.waits, 99) for outcome in plays)
        wrong = [text for outcome in plays for text in outcome.wrong]
        if wrong:
            notes.append(f"{library}: {len(wrong)} wrong answers, as {wrong[0]}")
    note = " · ".join(notes)
    lines = [Line("P15", f"function runs, {label}", "", runs, Budget(bound), missing=missing, note=note)]
    if not scene.die:
        lines.append(Line("P15", f"p99 wait beyond the function, {label}", "s", waits, Budget(SLACK), missing=missing))
    elif OURS in waits:
        lines[0].note = f"p99 wait beyond the function {waits[OURS]:.1f} s"
    return lines


def _cancellation(context: Context) -> Line:
    """Of ten tasks on a cold key, the first, which computes, is cancelled."""
    scene = Scene("tasks", callers=10, cancel_after=FUNCTION_SECONDS / 3)
    seen: dict[str, float] = {}
    missing, note = None, ""
    for library in (OURS, "cashews", PUBLISHED):
        try:
            outcome = play(context, library, scene, f"cancel/{library}")
        except WorkerError as error:
            missing = str(error).strip().splitlines()[-1]
            continue
        seen[library] = outcome.cancelled
        if outcome.wrong:
            note = f"{library}: {len(outcome.wrong)} wrong answers, as {outcome.wrong[0]}"
    work = "tasks of 10 that see the cancellation of one"
    return Line("P15", work, "", seen, Budget(1), missing=missing, note=note)


def p15(context: Context) -> list[Line]:
    lines: list[Line] = []
    for label, scene, rivals in SCENES:
        lines += _compare(context, label, scene, (OURS, *rivals), bound=1)
    killed = Scene("threads", 8, 25, die=True)
    lines += _compare(context, "8 × 25, lock holder killed", killed, (OURS,), bound=2)
    return [*lines, _cancellation(context)]


MEASURES = {"P15": p15}
