"""A minimal RESP2 client: administers the servers of the tests without the code under test.

Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import socket
import ssl
from typing import Union

Reply = Union[None, int, bytes, list["Reply"]]
Word = Union[str, bytes, int]


class RespError(Exception):
    """An error reply (``-ERR …``) of the server."""


def pack(*words: Word) -> bytes:
    """The bytes of one command."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(parts)


class RespClient:
    """One blocking connection. ``address`` is ``(host, port)`` or the path of a unix socket."""

    def __init__(
        self,
        address: tuple[str, int] | str,
        *,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 5.0,
    ) -> None:
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            sock.connect(address)
        else:
            sock = socket.create_connection(address, timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                sock = tls.wrap_socket(sock, server_hostname=address[0])
        self._sock = sock
        self._file = sock.makefile("rb")
        if password is not None:
            self.call("AUTH", password)

    def call(self, *words: Word) -> Reply:
        """Sends one command and returns its reply; an error reply raises ``RespError``."""
        self._sock.sendall(pack(*words))
        return self._read()

    def text(self, *words: Word) -> str:
        """``call`` for a command whose reply is text."""
        reply = self.call(*words)
        if not isinstance(reply, bytes):
            raise RespError(f"{words[0]!r} replied {reply!r}, not text")
        return reply.decode()

    def number(self, *words: Word) -> int:
        """``call`` for a command whose reply is a number, as an integer or as text."""
        reply = self.call(*words)
        if not isinstance(reply, (int, bytes)):
            raise RespError(f"{words[0]!r} replied {reply!r}, not a number")
        return int(reply)

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def __enter__(self) -> RespClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection in the middle of a reply")
        return line[:-2]

    def _read(self) -> Reply:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RespError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            if length < 0:
                return None
            body = self._file.read(length + 2)
            if len(body) != length + 2:
                raise ConnectionError("the server closed the connection in the middle of a reply")
            return body[:-2]
        if kind == b"*":
            return None if int(rest) < 0 else [self._read() for _ in range(int(rest))]
        raise RespError(f"not a RESP2 reply: {line!r}")
