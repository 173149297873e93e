"""The ``cachekit`` command that the package installs: a script, and ``python -m cachekit``."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import cachekit
from cachekit import cache
from cachekit.backends import FileBackend, FileBackendConfig
from cachekit.encryption import validate_encryption_config
from tests.support.cachekit_server import CachekitServer

SCRIPT = (str(Path(sys.executable).with_name("cachekit")),)
MODULE = (sys.executable, "-m", "cachekit")


@pytest.fixture(params=[SCRIPT, MODULE], ids=["script", "module"])
def command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The program, as one or the other."""
    found: tuple[str, ...] = request.param
    return found


def run(arguments: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=60, check=False)


def prices(directory: Path) -> None:
    """Stores a result of a decorated function there."""

    @cache(backend=FileBackend(FileBackendConfig(cache_dir=str(directory))), namespace="shop")
    def price(item: int) -> int:
        return item

    price(1)


def test_the_command_is_this_package(command: tuple[str, ...]) -> None:
    done = run([*command, "--version"])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"cachekit {cachekit.__version__}\n", "")
    done = run([*command, "doctr"])
    assert done.returncode == 2
    assert (done.stdout, "Usage: cachekit" in done.stderr) == ("", True)


def test_doctor_tells_what_this_environment_does(command: tuple[str, ...], tmp_path: Path) -> None:
    done = run([*command, "doctor", "--json"], CACHEKIT_FILE_CACHE_DIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["backend"] == "file"
    done = run([*command, "doctor"], CACHEKIT_DEFAULT_TTL="never")
    assert (done.returncode, "problem" in done.stdout) == (3, True)


def test_an_outage_is_told_once_and_not_logged() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}"
        done = run([*MODULE, "doctor"], CACHEKIT_REDIS_URL=url)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.count("redis cannot serve") == 1


PROGRAM = """
from cachekit import FOREVER, cache{more}
print("is imported")
@cache(ttl="1m", namespace="shop", version=2)
def get_price(item): return item
@cache
def load_user(user): return user
@cache.minimal(ttl=FOREVER, backend=None)
def other(item): return item
class Orders:
    @cache(ttl=lambda result: 1, serializer="auto")
    async def balance(self): return 1
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in the current directory."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "web.py").write_text(PROGRAM.replace("{more}", ""))
    monkeypatch.chdir(tmp_path)
    return package


def test_doctor_shows_what_a_program_caches(command: tuple[str, ...], project: Path) -> None:
    variables = {"CACHEKIT_FILE_CACHE_DIR": str(project / "cache"), "CACHEKIT_MASTER_KEY": "c0ffee" * 12}
    done = run([*command, "doctor", "--app", "shop.web", "--json"], **variables)
    assert (done.returncode, done.stderr) == (0, "is imported\n")
    functions = {function.pop("name"): function for function in json.loads(done.stdout)["functions"]}
    balanced = {"intent": "balanced", "by_name": True, "namespace": None, "ttl": "3600 s", "serializer": "default"}
    balanced |= {"encrypted": False, "backend": "file", "problem": None}
    assert functions == {
        "shop.web.get_price": {**balanced, "intent": "fast", "namespace": "shop:v2", "ttl": "60 s"},
        "shop.web.load_user": {**balanced, "intent": "secure", "encrypted": True},
        "shop.web.other": {**balanced, "intent": "minimal", "by_name": False, "ttl": "for ever", "backend": None},
        "shop.web.Orders.balance": {**balanced, "ttl": "by the result", "serializer": "auto"},
    }
    assert not (project / "cache").exists()
    done = run([*command, "doctor", "--app", "shop.web"], **variables)
    assert "shop.web.load_user       secure (by name)" in done.stdout
    assert "c0ffee" not in done.stdout


def test_doctor_tells_what_a_program_sets_in_code(project: Path) -> None:
    more = """, configure, set_default_backend
from cachekit.backends import FileBackend, FileBackendConfig
from cachekit.config import CachekitConfig
configure(CachekitConfig(default_ttl=7))
set_default_backend(FileBackend(FileBackendConfig(cache_dir="nowhere")))
@cache(encryption=True)
def sealed(item): return item
"""
    (project / "web.py").write_text(PROGRAM.replace("{more}", more))
    done = run([*SCRIPT, "doctor", "--app", "shop.web", "--json"])
    report = json.loads(done.stdout)
    assert (done.returncode, report["well"]) == (3, False)
    functions = {function.pop("name"): function for function in report["functions"]}
    assert (functions["shop.web.load_user"]["ttl"], functions["shop.web.load_user"]["backend"]) == (
        "7 s",
        "FileBackend",
    )
    sealed = functions["shop.web.sealed"]
    assert (sealed["encrypted"], "CACHEKIT_MASTER_KEY" in sealed["problem"]) == (None, True)
    told = [(finding["level"], finding["finding"]) for finding in report["findings"]]
    assert [level for level, finding in told if "shop.web.sealed" in finding] == ["problem"]
    assert sum("configure()" in finding or "set_default_backend()" in finding for _, finding in told) == 2


@pytest.mark.parametrize(
    ("code", "expected"),
    [("import nixda", "ModuleNotFoundError"), ("raise SystemExit(0)", "SystemExit"), ("1 / 0", "web.py:1)")],
)
def test_a_program_that_cannot_be_imported_is_told_in_a_line(project: Path, code: str, expected: str) -> None:
    (project / "web.py").write_text(code)
    done = run([*SCRIPT, "doctor", "--app", "shop.web"])
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("cachekit: shop.web cannot be imported: ")
    assert expected in done.stderr


def test_inspect_finds_what_functions_have_stored(tmp_path: Path) -> None:
    prices(tmp_path)
    done = run([*SCRIPT, "inspect", str(tmp_path), "--json", "--kind", "value"])
    assert (done.returncode, done.stderr) == (0, "")
    [entry] = json.loads(done.stdout)["entries"]
    assert entry["namespace"] == "shop"
    assert entry["function"].endswith("price")


def test_a_directory_may_have_any_name(tmp_path: Path) -> None:
    directory = os.fsencode(tmp_path) + b"/caf\xe9"
    done = subprocess.run([*map(os.fsencode, SCRIPT), b"inspect", directory], capture_output=True, check=False)
    assert (done.returncode, b"caf" in done.stderr) == (1, True)
    assert b"Traceback" not in done.stderr


def test_keygen_makes_a_key_that_is_accepted(command: tuple[str, ...]) -> None:
    done = run([*command, "keygen"])
    key = done.stdout.removesuffix("\n")
    assert (done.returncode, len(key)) == (0, 64)
    validate_encryption_config(True, key)


@pytest.mark.parametrize("name", ["serve", "keys"])
def test_the_server_is_elsewhere(name: str) -> None:
    done = run([*SCRIPT, name, "--listen", "127.0.0.1:0"])
    assert (done.returncode, done.stdout) == (1, "")
    assert "cargo install" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    prices(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*SCRIPT, "inspect", str(tmp_path)], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_output_that_cannot_be_written_is_an_error() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*SCRIPT, "keygen"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, b"No space left" in done.stderr) == (1, True)


def test_ctrl_c_ends_a_command_that_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            **os.environ,
            "CACHEKIT_REDIS_URL": f"redis://127.0.0.1:{silent.getsockname()[1]}",
            "CACHEKIT_SOCKET_TIMEOUT": "300",
        }
        with subprocess.Popen([*SCRIPT, "doctor"], env=environment, stderr=subprocess.PIPE) as child:
            connection, _ = silent.accept()
            with connection:
                connection.recv(1)  # it asks, and gets no answer
                child.send_signal(signal.SIGINT)
                _, said = child.communicate(timeout=20)
    assert (child.returncode, said) == (-signal.SIGINT, b"")


def test_top_watches_a_server(cachekitio_server: CachekitServer) -> None:
    variables = {"SSL_CERT_FILE": str(cachekitio_server.authority)}
    done = run([*SCRIPT, "top", cachekitio_server.url, "--once", "--json", "--interval", "0.1"], **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["server"]["entries"] >= 0


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'cachekit_server_requests_total{operation="get",status="200"} 3\n')

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def metrics() -> Iterator[str]:
    """The URL of an endpoint that always says the same."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Terminal:
    """A terminal of 8 lines of 30 columns, and what a program shows on it."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 30, 0, 0))
        self.shown = b""

    def wait(self, text: bytes) -> None:
        """Until the program has shown it."""
        while text not in self.shown:
            self.shown += os.read(self.master, 4096)

    @property
    def modes(self) -> object:
        return termios.tcgetattr(self.slave)


@contextmanager
def watched(url: str) -> Generator[tuple[Terminal, subprocess.Popen[bytes]]]:
    terminal = Terminal()
    before = terminal.modes
    arguments = [*SCRIPT, "top", url, "--interval", "0.1"]
    try:
        with subprocess.Popen(arguments, stdin=terminal.slave, stdout=terminal.slave, stderr=subprocess.PIPE) as child:
            terminal.wait(b"get")
            assert terminal.modes != before
            yield terminal, child
            _, said = child.communicate(timeout=20)
        assert (child.returncode, said) == (0, b"")
        terminal.wait(b"\x1b[?1049l")  # the screen as it was
        assert terminal.modes == before
    finally:
        os.close(terminal.master)
        os.close(terminal.slave)


def test_top_draws_in_a_terminal_until_q(metrics: str) -> None:
    with watched(metrics) as (terminal, _):
        os.write(terminal.master, b"xq")
    assert terminal.shown.startswith(b"\x1b[?1049h")
    drawn = terminal.shown.decode().split("\x1b[H")[-1]
    lines = re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", drawn).split("\r\n")
    assert lines[2].startswith("OPERATION  CALLS/S")
    assert (len(lines), max(map(len, lines))) == (4, 30)


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM], ids=["interrupt", "terminate"])
def test_top_leaves_the_terminal_as_it_was(metrics: str, ended_by: signal.Signals) -> None:
    with watched(metrics) as (_, child):
        child.send_signal(ended_by)
