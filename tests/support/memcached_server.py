"""A real memcached on a free loopback port."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

from tests.support.process import ServerProcess, free_port, program

HOST = "127.0.0.1"


class MemcachedServer(ServerProcess):
    """One memcached of 64 MB; data is gone after ``kill``."""

    def __init__(self, folder: Path, *, extra: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        arguments = [program("memcached", "memcached"), "-l", HOST, "-p", str(self.port), "-U", "0", "-m", "64"]
        # memcached refuses to run as root unless it is told which user to be.
        arguments += ["-u", getpass.getuser()]
        super().__init__([*arguments, *extra], self._answers_version, folder / f"memcached-{self.port}.log")

    @property
    def address(self) -> tuple[str, int]:
        return (HOST, self.port)

    @property
    def server(self) -> str:
        """``host:port`` as server lists spell it."""
        return f"{HOST}:{self.port}"

    def flush(self) -> None:
        if self._ask(b"flush_all\r\n") != b"OK":
            raise RuntimeError(f"memcached at {self.server} refused flush_all")

    def _answers_version(self) -> bool:
        try:
            return self._ask(b"version\r\n").startswith(b"VERSION")
        except OSError:
            return False

    def _ask(self, command: bytes) -> bytes:
        with socket.create_connection(self.address, 2.0) as sock:
            sock.sendall(command)
            with sock.makefile("rb") as replies:
                return replies.readline().rstrip()
