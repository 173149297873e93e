"""Contenders in another interpreter: a worker process that speaks JSON lines over its pipes.

A request is ``{"do": name, …}``, a reply ``{"ok": value}`` or ``{"error": text}``. Workers are scripts in
``benches/workers``; what they time, they time themselves, so the pipe costs nothing of it.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

WORKERS = Path(__file__).parent / "workers"


class WorkerError(RuntimeError):
    """A worker replied with an error, or ended."""


class Worker:
    """One running worker script."""

    def __init__(self, python: str, script: str, **environment: str) -> None:
        self._script = script
        self._child = subprocess.Popen(
            [python, str(WORKERS / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(WORKERS.parent.parent), **environment},
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    def send(self, do: str, **arguments: Any) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._child.stdin.flush()

    def receive(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise WorkerError(f"{self._script} ended with status {self._child.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerError(f"{self._script}: {reply['error']}")
        return reply["ok"]

    def ask(self, do: str, **arguments: Any) -> Any:
        self.send(do, **arguments)
        return self.receive()

    def close(self) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Remote:
    """A contender that a worker times: the worker's ``run`` with this case and a number."""

    def __init__(self, name: str, worker: Worker, case: str) -> None:
        self.name = name
        self._worker = worker
        self._case = case

    def run(self, number: int) -> float:
        return float(self._worker.ask("run", case=self._case, number=number))
