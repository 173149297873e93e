"""P16: Redis is killed, or stops answering, under load: what the callers notice."""

from __future__ import annotations

import math
import statistics
import sys
import time
from typing import Any

from benches.context import Context
from benches.harness import percentile
from benches.remote import Worker, WorkerError
from benches.table import OURS, Budget, Line, show

HEALTHY_SECONDS = 1.0
LOAD_SECONDS = 3.5
REPEATS = 3
FAULTS = {"killed": "kill", "frozen": "freeze"}


def _play(context: Context, face: str, fault: str, turn: int) -> dict[str, Any]:
    server = context.own_redis(f"outage-{face}-{fault}-{turn}")
    worker = Worker(sys.executable, "outage.py")
    try:
        worker.ask("prepare", face=face, url=server.url)
        worker.send("load", seconds=LOAD_SECONDS)
        time.sleep(HEALTHY_SECONDS)
        broken = time.monotonic()
        getattr(server, FAULTS[fault])()
        record: dict[str, Any] = worker.receive()
        return {**record, "broken": broken}
    finally:
        worker.close()
        server.stop()


def _lines(context: Context, face: str, fault: str) -> list[Line]:
    work = f"Redis {fault}, {face}"
    try:
        plays = [_play(context, face, fault, turn) for turn in range(REPEATS)]
    except WorkerError as error:
        missing = str(error).strip().splitlines()[-1]
        return [Line("P16", work, "", {}, Budget(0), missing=missing)]
    wrong = [text for play in plays for text in play["errors"]]
    during = [latency for play in plays for latency in _latencies(play, since=play["broken"])]
    note = f"{len(during)} calls since, the worst took {show(max(during), 's')}"
    if wrong:
        note += f", wrong: {wrong[0]}"
    errors = Line("P16", f"{work}: errors to callers", "", {OURS: len(wrong)}, Budget(0), note=note)
    after = Line("P16", f"{work}: p99 while the breaker is open", "s", {}, Budget(1e-3))
    if any(play["opened"] is None for play in plays):
        after.missing = "the breaker never opened"
    else:
        after.values = {
            OURS: statistics.median(percentile(_latencies(play, since=play["opened"]), 99) for play in plays),
            "p99 while healthy": statistics.median(
                percentile(_latencies(play, until=play["broken"]), 99) for play in plays
            ),
        }
        opened = statistics.median(play["opened"] - play["broken"] for play in plays)
        after.note = f"open {show(opened, 's')} after the fault"
    return [errors, after]


def _latencies(play: dict[str, Any], since: float = 0.0, until: float = math.inf) -> list[float]:
    return [latency for began, latency in play["calls"] if since <= began < until]


def p16(context: Context) -> list[Line]:
    return [line for fault in FAULTS for face in ("threads", "tasks") for line in _lines(context, face, fault)]


MEASURES = {"P16": p16}
