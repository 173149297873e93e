"""P10: what a hit in memcached costs, with L1 off, over loopback TCP."""

from __future__ import annotations

import socket
from typing import Any

from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient

from benches.context import TTL, Context, ours
from benches.harness import Contender, Statement, interleave, medians
from benches.table import OURS, Budget, Line

KEY = "bench:memcached"
VALUE = bytes(range(256)) * 4


class RawSocket:
    """A get over a plain blocking socket: the least that any Python client must do for a round trip."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._sock = socket.create_connection(address)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = f"mg {KEY} v\r\n".encode()
        self._reply_size = len(f"VA {len(VALUE)}\r\n") + len(VALUE) + 2

    def get(self) -> bytes:
        self._sock.sendall(self._request)
        reply = self._sock.recv(65536)
        while len(reply) < self._reply_size:
            reply += self._sock.recv(65536)
        return reply


def _value(x: int) -> bytes:
    return VALUE


def p10(context: Context) -> list[Line]:
    server = context.memcached
    host, port = server.address
    plain, hashed = Client((host, port), no_delay=True), HashClient([(host, port)], no_delay=True)
    plain.set(KEY, VALUE, noreply=False)

    def backend() -> Any:
        from cachekit.backends.memcached import MemcachedBackend

        return MemcachedBackend(f"memcached://{server.server}")

    def cached() -> list[Contender]:
        from cachekit import cache

        function = cache(ttl=TTL, namespace="p10", backend=backend(), l1_enabled=False)(_value)
        return [Statement(OURS, "f(42)", {"f": function})]

    def bare() -> list[Contender]:
        return [Statement(OURS, "get(key)", {"get": backend().get, "key": KEY})]

    rivals = [
        Statement("pymemcache", "get(key)", {"get": plain.get, "key": KEY}),
        Statement("raw socket", "get()", {"get": RawSocket(server.address).get}),
        Statement("pymemcache HashClient", "get(key)", {"get": hashed.get, "key": KEY}),
    ]
    lines = []
    for work, make in (("memcached hit, 1 KB, L1 off, sync", cached), ("memcached backend's get, 1 KB, sync", bare)):
        mine, missing = ours(make)
        samples = interleave([*mine, *rivals], context.rounds)
        lines.append(
            Line(
                "P10",
                work,
                "s",
                medians(samples),
                Budget(0.6, "pymemcache HashClient"),
                missing=missing,
                samples=samples,
            )
        )
    return lines


MEASURES = {"P10": p10}
