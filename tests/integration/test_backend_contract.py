"""The contract that users get for their own backends: passed by ours and by the worked examples, failed by defects."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cachekit.backends import RedisBackend
from cachekit.backends.cachekitio import CachekitIOBackend
from cachekit.backends.memcached import MemcachedBackend, MemcachedBackendConfig
from cachekit.testing import AsyncContract, BackendContract, LockContract, OutageContract, TTLContract
from examples.custom_backends.dynamodb_backend import DynamoDBBackend
from examples.custom_backends.http_backend import HTTPBackend
from tests.support.cachekit_server import CachekitServer
from tests.support.memcached_server import MemcachedServer
from tests.support.process import free_port
from tests.support.redis_servers import RedisServer

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking beside threads


class TestRedis(BackendContract, OutageContract, TTLContract, LockContract, AsyncContract):
    largest = 100 << 20

    @pytest.fixture
    def backend(self, redis_server: RedisServer) -> Any:
        return RedisBackend(redis_server.url).with_timeout(20.0)

    @pytest.fixture
    def unreachable(self) -> Any:
        return RedisBackend(f"redis://127.0.0.1:{free_port()}")


class TestMemcached(BackendContract, OutageContract, TTLContract, LockContract, AsyncContract):
    largest = (1 << 20) - 1024
    shortest_ttl = 2  # memcached counts whole seconds

    def wait(self, seconds: float) -> None:
        super().wait(seconds + 1.0)

    @pytest.fixture
    def backend(self, memcached_server: MemcachedServer) -> Any:
        return MemcachedBackend(MemcachedBackendConfig(servers=(memcached_server.server,), timeout=20.0))

    @pytest.fixture
    def unreachable(self) -> Any:
        return MemcachedBackend(MemcachedBackendConfig(servers=(f"127.0.0.1:{free_port()}",)))


class TestCachekitIO(BackendContract, OutageContract, TTLContract, LockContract, AsyncContract):
    largest = 20 << 20
    keeps_forever = False

    @pytest.fixture(autouse=True)
    def an_own_host(self, cachekitio_server: CachekitServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CACHEKIT_ALLOW_CUSTOM_HOST", "true")
        monkeypatch.setenv("SSL_CERT_FILE", str(cachekitio_server.authority))

    @pytest.fixture
    def backend(self, cachekitio_server: CachekitServer) -> Any:
        return CachekitIOBackend(cachekitio_server.url, cachekitio_server.key, timeout=20.0)

    @pytest.fixture
    def unreachable(self, cachekitio_server: CachekitServer) -> Any:
        return CachekitIOBackend(f"https://127.0.0.1:{free_port()}", cachekitio_server.key, timeout=1.0)


class Store(BaseHTTPRequestHandler):
    """A store of bytes over HTTP, as the example's text describes it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    entries: dict[str, tuple[bytes, float]]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def _found(self) -> bytes | None:
        value, until = self.entries.get(self.path, (None, 0.0))
        return value if until > time.monotonic() else None

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        found = self._found()
        self._answer(404) if found is None else self._answer(200, found)

    do_HEAD = do_GET  # noqa: N815

    def do_PUT(self) -> None:
        ttl = float(self.headers.get("X-TTL", "inf"))
        value = self.rfile.read(int(self.headers["Content-Length"]))
        self.entries[self.path] = (value, time.monotonic() + ttl)
        self._answer(204)

    def do_DELETE(self) -> None:
        found = self._found()
        self.entries.pop(self.path, None)
        self._answer(404 if found is None else 204)


class TestHTTPExample(BackendContract, OutageContract):
    largest = 20 << 20

    @pytest.fixture
    def backend(self) -> Iterator[Any]:
        handler = type("OwnStore", (Store,), {"entries": {}})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        backend = HTTPBackend(f"http://127.0.0.1:{server.server_port}/cache", timeout=20.0)
        yield backend
        backend.close()
        server.shutdown()
        server.server_close()

    @pytest.fixture
    def unreachable(self) -> Any:
        return HTTPBackend(f"http://127.0.0.1:{free_port()}/cache", timeout=1.0)


class Binary:
    """Bytes as boto3 gives them back."""

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __bytes__(self) -> bytes:
        return self.value


class Items:
    """A table in memory with the answers of DynamoDB's."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}

    def get_item(self, **request: Any) -> dict[str, Any]:
        item = self.items.get(request["Key"]["k"])
        if item is None:
            return {}
        shown = dict(item, v=Binary(item["v"]))
        if "ProjectionExpression" in request:
            del shown["v"]
        return {"Item": shown}

    def put_item(self, **request: Any) -> dict[str, Any]:
        assert len(request["Item"]["v"]) <= 400 * 1024
        self.items[request["Item"]["k"]] = request["Item"]
        return {}

    def delete_item(self, **request: Any) -> dict[str, Any]:
        item = self.items.pop(request["Key"]["k"], None)
        return {} if item is None else {"Attributes": item}


class TestDynamoDBExample(BackendContract, OutageContract):
    largest = 390 << 10
    passed = 0.0

    def wait(self, seconds: float) -> None:
        self.passed += seconds

    @pytest.fixture
    def backend(self) -> Any:
        return DynamoDBBackend(Items(), clock=lambda: time.time() + self.passed)

    @pytest.fixture
    def unreachable(self) -> Any:
        def refused(**request: Any) -> dict[str, Any]:
            raise ConnectionError("could not connect to the endpoint")

        away = Items()
        for request in ("get_item", "put_item", "delete_item"):
            setattr(away, request, refused)
        return DynamoDBBackend(away)


class Immortal(DynamoDBBackend):
    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        super().set(key, value)


class Shouting(DynamoDBBackend):
    def get(self, key: str) -> bytes | None:
        return super().get(key.lower())

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        super().set(key.partition("?")[0], value, ttl)


class Forgetful(DynamoDBBackend):
    def delete(self, key: str) -> bool:
        return super().delete(key) or True


DEFECTS: list[tuple[type[DynamoDBBackend], str]] = [
    (Immortal, "test_an_entry_ends"),
    (Shouting, "test_keys_of_any_text"),
    (Forgetful, "test_a_value_comes_back"),
    (Forgetful, "test_nothing_is_stored"),
]


@pytest.mark.parametrize(("defect", "test"), DEFECTS, ids=lambda item: getattr(item, "__name__", item))
def test_defects_are_found(defect: type[DynamoDBBackend], test: str) -> None:
    contract = TestDynamoDBExample()
    backend = defect(Items(), clock=lambda: time.time() + contract.passed)
    with pytest.raises(AssertionError):
        getattr(contract, test)(backend, "contract:KEY")
