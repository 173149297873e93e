"""A backend over a plain HTTP store: GET, PUT, DELETE and HEAD of ``{url}/{key}``.

The store keeps an entry ``X-TTL`` seconds, without end where the header is absent, and answers 404
for what it does not hold.
"""

from __future__ import annotations

import http.client
import os
import time
from typing import Any
from urllib.parse import quote, urlsplit

from cachekit import BackendError, BackendErrorType


class HTTPBackend:
    """Entries in a store that speaks HTTP. Connections are kept; each step of a call ends within `timeout` seconds."""

    def __init__(self, url: str, timeout: float = 1.0) -> None:
        split = urlsplit(url)
        self._secure = split.scheme == "https"
        self._host = split.netloc
        self._path = split.path.rstrip("/")
        self._timeout = timeout
        self._idle: list[http.client.HTTPConnection] = []
        self._process = os.getpid()

    def get(self, key: str) -> bytes | None:
        status, body = self._call("GET", key)
        return None if status == 404 else body

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        self._call("PUT", key, value, {} if ttl is None else {"X-TTL": str(ttl)})

    def delete(self, key: str) -> bool:
        return self._call("DELETE", key)[0] != 404

    def exists(self, key: str) -> bool:
        return self._call("HEAD", key)[0] != 404

    def health_check(self) -> tuple[bool, dict[str, Any]]:
        start = time.perf_counter()
        try:
            self.exists("health")
        except BackendError as error:
            return False, {"backend_type": "http", "latency_ms": -1.0, "error": str(error)}
        return True, {"backend_type": "http", "latency_ms": (time.perf_counter() - start) * 1e3}

    def _call(
        self, method: str, key: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        # Keys hold whatever a key= function returns: everything but letters and digits is escaped.
        path = f"{self._path}/{quote(key, safe='')}"
        try:
            try:
                status, answer = self._exchange(self._connection(), method, path, body, headers)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # The store may have closed a connection that lay idle. Every method here may be repeated.
                status, answer = self._exchange(self._connection(new=True), method, path, body, headers)
        except TimeoutError as error:
            message = f"no answer within {self._timeout} s"
            raise BackendError(message, BackendErrorType.TIMEOUT, error, method.lower(), key) from error
        except (OSError, http.client.HTTPException) as error:
            raise BackendError(str(error), BackendErrorType.TRANSIENT, error, method.lower(), key) from error
        if status == 404 or 200 <= status < 300:
            return status, answer
        if status in (401, 403):
            kind = BackendErrorType.AUTHENTICATION
        elif status == 429 or status >= 500:
            kind = BackendErrorType.TRANSIENT
        else:
            kind = BackendErrorType.PERMANENT
        raise BackendError(f"the store answered {status}", kind, None, method.lower(), key)

    def _connection(self, new: bool = False) -> http.client.HTTPConnection:
        if self._process != os.getpid():
            # Forked: the connections are the parent's, and are left alone.
            self._process, self._idle = os.getpid(), []
        if self._idle and not new:
            try:
                return self._idle.pop()
            except IndexError:
                pass  # another thread took the last one
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, timeout=self._timeout)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str] | None,
    ) -> tuple[int, bytes]:
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            answer = response.status, response.read()
        except BaseException:
            connection.close()  # what is half read belongs to nobody
            raise
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Closes the connections that lie idle."""
        while self._idle:
            self._idle.pop().close()
