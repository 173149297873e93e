"""The published package, in an environment of its own, driven as a black box through a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.integration.support import PROGRAMS, ROOT

REQUIREMENTS = ROOT / "benches" / "requirements-published.txt"
INSTALL_LIMIT = 300.0


class PublishedPackageMissingError(RuntimeError):
    """The published package cannot be had here."""


def _home() -> Path:
    """Where environments are kept, by the rule of `scripts/common.sh`."""
    home = Path.home() / ".cache" / "cachekit"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        home = ROOT / "target"
        home.mkdir(exist_ok=True)
    return home


def _wanted() -> str:
    (line,) = (one for one in REQUIREMENTS.read_text().splitlines() if one.startswith("cachekit"))
    return line.partition("==")[2].strip()


def _has(python: Path, version: str) -> bool:
    """Whether it is the interpreter of an environment with that version, and of this Python's version itself."""
    if not python.exists():
        return False
    ask = "import importlib.metadata as m, sys; print(m.version('cachekit'), sys.implementation.cache_tag)"
    said = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=False)
    return said.stdout.split() == [version, sys.implementation.cache_tag]


def interpreter() -> Path:
    """The interpreter of the published package's environment, which is made where there is none."""
    home, version = _home(), _wanted()
    benchmarks, own = home / "published-venv", home / f"published-venv-{sys.implementation.cache_tag}"
    with (home / "published-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for folder in (benchmarks, own):
            if _has(folder / "bin" / "python", version):
                return folder / "bin" / "python"
        python = own / "bin" / "python"
        make = [sys.executable, "-m", "venv", "--clear", str(own)]
        fill = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
        for step in (make, fill):
            done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=INSTALL_LIMIT)
            if done.returncode != 0:
                raise PublishedPackageMissingError(
                    f"these tests need the published cachekit {version}, and `{' '.join(step)}` failed; give pip an "
                    f"index that it can reach (PIP_INDEX_URL), then run them again: {done.stderr[-800:]}"
                )
    return python


class Published:
    """A process that calls the functions of `programs/exchanged.py` through the published package."""

    def __init__(self, redis_url: str) -> None:
        # orjson, pandas and pyarrow come from this process's environment.
        libraries = sysconfig.get_path("platlib")
        foreign = ("CACHEKIT_", "CACHE_", "PYTHONPATH")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self._child = subprocess.Popen(
            [str(interpreter()), str(PROGRAMS / "published.py"), redis_url, libraries],
            env={**environment, "CACHEKIT_REDIS_URL": redis_url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(
        self, function: str, names: Iterable[str], *, explicit: bool, options: dict[str, Any]
    ) -> tuple[list[str], list[str]]:
        """Calls `function` once per case: the cases that ran it, and the values' reprs."""
        request = {"function": function, "options": options, "explicit": explicit, "names": list(names)}
        pipe_in, pipe_out = self._child.stdin, self._child.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        pipe_in.write(f"{json.dumps(request)}\n")
        pipe_in.flush()
        line = pipe_out.readline()
        if not line:
            raise RuntimeError(f"the published package's process ended with {self._child.wait()}; see its stderr above")
        reply = json.loads(line)
        return reply["ran"], reply["values"]

    def stop(self) -> None:
        """Ends the process."""
        try:
            self._child.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()
