"""A TCP proxy that breaks what passes through it, for tests of what a broken network does to callers."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

HOST = "127.0.0.1"
CHUNK = 65536


class Fault(enum.Enum):
    """What happens to the server's replies."""

    NONE = "none"
    GARBAGE = "garbage"  # random bytes instead of the reply
    CUT = "cut"  # the first `cut_after` bytes of a reply, then the connection closes
    RESET = "reset"  # the first `cut_after` bytes of a reply, then a TCP reset
    DELAY = "delay"  # every reply comes `delay` seconds late
    BLACK_HOLE = "black hole"  # requests are read, nothing ever comes back


class FaultProxy:
    """Listens on ``address`` and forwards to ``target``; ``fault`` may change at any time, open connections included.

    ``refuse()`` closes the listener and all connections (connection refused from then on), ``accept()`` reopens it on
    the same port. ``connections`` counts the accepted ones.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.fault = Fault.NONE
        self.delay = 0.2
        self.cut_after = 3
        self.connections = 0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        return (HOST, self.port)

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        self._thread.start()
        self.accept()

    def accept(self) -> None:
        self._run(self._open())

    def refuse(self) -> None:
        self._run(self._close())

    def stop(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self.port, reuse_address=True)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            replies, upstream = await asyncio.open_connection(*self.target)
            self._writers.add(upstream)
            requests = asyncio.ensure_future(self._forward(reader, upstream))
            await self._answer(replies, writer)
            requests.cancel()
        except (OSError, asyncio.CancelledError):
            pass  # a broken connection is what this proxy is for
        finally:
            for end in (writer, upstream):
                if end is not None:
                    self._writers.discard(end)
                    end.close()

    @staticmethod
    async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _answer(self, replies: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await replies.read(CHUNK):
            fault = self.fault
            if fault is Fault.BLACK_HOLE:
                continue
            if fault is Fault.DELAY:
                await asyncio.sleep(self.delay)
            elif fault is Fault.GARBAGE:
                data = os.urandom(len(data))
            elif fault in (Fault.CUT, Fault.RESET):
                data = data[: self.cut_after]
            writer.write(data)
            await writer.drain()
            if fault is Fault.RESET:
                raw: socket.socket = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if fault in (Fault.CUT, Fault.RESET):
                return
