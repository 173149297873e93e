"""P16: Redis is killed, or stops answering, under load: what the callers notice."""

from __future__ import annotations

import sys
import time
from typing import Any

from benches.context import Context
from benches.harness import percentile
from benches.remote import Worker, WorkerError
from benches.table import OURS, Budget, Line, show

HEALTHY_SECONDS = 1.0
LOAD_SECONDS = 6.0
FAULTS = {"killed": "kill", "frozen": "freeze"}


def _play(context: Context, face: str, fault: str) -> dict[str, Any]:
    server = context.own_redis(f"outage-{face}-{fault}")
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
    work = f"Redis {fault} under load, {face}"
    try:
        record = _play(context, face, fault)
    except WorkerError as error:
        missing = str(error).strip().splitlines()[-1]
        return [Line("P16", work, "", {}, Budget(0), missing=missing)]
    calls, broken, opened = record["calls"], record["broken"], record["opened"]
    during = [latency for began, latency in calls if began >= broken]
    note = f"{len(during)} calls since, the worst took {show(max(during), 's')}"
    if record["errors"]:
        note += f", wrong: {record['errors'][0]}"
    errors = Line("P16", f"{work}: errors", "", {OURS: len(record["errors"])}, Budget(0), note=note)
    after = Line("P16", f"{work}: p99, breaker open", "s", {}, Budget(1e-3))
    if opened is None:
        after.missing = "the breaker never opened"
    else:
        healthy = [latency for began, latency in calls if began < broken]
        after.values = {
            OURS: percentile([latency for began, latency in calls if began > opened], 99),
            "p99 while healthy": percentile(healthy, 99),
        }
        after.note = f"open {show(opened - broken, 's')} after the fault"
    return [errors, after]


def p16(context: Context) -> list[Line]:
    return [line for fault in FAULTS for face in ("threads", "tasks") for line in _lines(context, face, fault)]


MEASURES = {"P16": p16}
