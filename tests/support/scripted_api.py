"""A server of the CachekitIO API that answers what a test tells it to, over HTTP/2 and TLS.

For what the real server does not do: it shows requests as they came, and answers wrongly on purpose.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from tests.support.tls import issue

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


def not_found(request: Request) -> Answer:
    """Stores nothing: reads find nothing, writes succeed, locks are free."""
    if request.path.endswith("/lock"):
        return 200, {}, b'{"lock_id": "00000000000000000000000000000000"}'
    return (404 if request.method in ("GET", "HEAD", "DELETE") else 200), {}, b""


@dataclass
class ScriptedApi:
    """Serves on a free loopback port while it is entered."""

    folder: Path
    answer: Callable[[Request], Answer] = not_found
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> ScriptedApi:
        certificates = issue(self.folder)
        self.authority = certificates.authority
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.certificate, certificates.key)
        self._context.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return  # closed by the end of the test
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as stream:
                self._talk(stream)
        except OSError:
            pass  # the client went away

    def _talk(self, stream: ssl.SSLSocket) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        stream.sendall(connection.data_to_send())
        arriving: dict[int, Request] = {}
        while data := stream.recv(1 << 16):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                    arriving[event.stream_id] = Request(headers[":method"], headers[":path"], headers)
                elif isinstance(event, h2.events.DataReceived):
                    arriving[event.stream_id].body += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    request = arriving.pop(event.stream_id)
                    self.requests.append(request)
                    status, headers, body = self.answer(request)
                    head = [(":status", str(status)), *headers.items()]
                    connection.send_headers(event.stream_id, head, end_stream=not body)
                    if body:
                        connection.send_data(event.stream_id, body, end_stream=True)
            stream.sendall(connection.data_to_send())
