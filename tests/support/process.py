"""Child processes that tests freeze, thaw and kill, always by pid."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

START_LIMIT = 20.0
STOP_LIMIT = 5.0

_random = random.SystemRandom()  # Tests seed the module's own.


class ServerMissingError(RuntimeError):
    """A server that the test needs is not installed."""


def program(name: str, package: str) -> str:
    """The path of an installed program; ``ServerMissingError`` names the Debian package that holds it."""
    found = shutil.which(name)
    if found is None:
        raise ServerMissingError(
            f"{name} is not on PATH and this test needs the real one: "
            f"run `make test`, which installs it, or `apt-get install {package}`"
        )
    return found


def free_port() -> int:
    """A loopback TCP port that nobody listened on a moment ago.

    It is below those that systems give to outgoing connections (from 32768 on Linux), so that none of these takes it
    before a server starts there, or while it is being restarted.
    """
    while True:
        port = _random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_until(what: str, ready: Callable[[], bool], limit: float = START_LIMIT) -> None:
    """Polls ``ready`` until it is true; ``TimeoutError`` says what did not happen within ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {limit:g} s")
        time.sleep(0.01)


class ServerProcess:
    """A server started from an argument list, its output kept in a log file.

    ``freeze`` is SIGSTOP (the kernel still accepts connections, nobody answers), ``thaw`` SIGCONT, ``kill`` SIGKILL,
    ``start`` brings it back with the same arguments.
    """

    def __init__(self, arguments: Sequence[str], ready: Callable[[], bool], log: Path) -> None:
        self._arguments = list(arguments)
        self._ready = ready
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise RuntimeError(f"{self._arguments[0]} is not running")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        if self.running:
            raise RuntimeError(f"{self._arguments[0]} runs already as pid {self.pid}")
        with self._log.open("ab") as out:
            self._child = subprocess.Popen(
                self._arguments, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        try:
            wait_until(f"{self._arguments[0]} answers", self._answers)
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        if not self.running:
            tail = self._log.read_text(errors="replace")[-800:]
            raise RuntimeError(f"{' '.join(self._arguments)} ended at once:\n{tail}")
        return self._ready()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and waits for the end: connections are reset and the port refuses."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """Ends the server whatever its state; no effect on one that has ended."""
        child = self._child
        if child is None:
            return
        if child.poll() is None:
            os.kill(child.pid, signal.SIGCONT)
            child.terminate()
            try:
                child.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                child.kill()
        self._reap()

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait(STOP_LIMIT)
            self._child = None
