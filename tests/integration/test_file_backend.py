"""The File backend under decorated functions: shared by processes, warm at the next start, never in the way."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from cachekit import ConfigurationError, cache
from cachekit.backends import BackendError, FileBackend, FileBackendConfig
from cachekit.backends.provider import DefaultBackendProvider
from cachekit.testing import AsyncContract, BackendContract, LockContract, TTLContract
from tests.integration.support import FORKS, Runs, ended, forked, program, wait_until
from tests.integration.test_single_flight_processes import KINDS, SLACK, Fleet

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking beside threads


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


@pytest.fixture
def backend(directory: str) -> FileBackend:
    return FileBackend(FileBackendConfig(cache_dir=directory)).with_timeout(20.0)


class TestContract(BackendContract, TTLContract, LockContract, AsyncContract):
    largest = 100 << 20

    @pytest.fixture
    def backend(self, backend: FileBackend) -> Any:
        return backend


def test_both_kinds_of_functions_share_entries_with_other_instances(directory: str) -> None:
    runs = Runs()

    def fresh() -> tuple[Any, Any]:
        backend = FileBackend(FileBackendConfig(cache_dir=directory))

        @cache(backend=backend, namespace="file", ttl=60)
        def square(x: int) -> dict[str, int]:
            return {"run": runs(), "square": x * x}

        @cache(backend=backend, namespace="file-async", ttl=60)
        async def asquare(x: int) -> dict[str, int]:
            return {"run": runs(), "square": x * x}

        return square, asquare

    square, asquare = fresh()
    assert square(3) == {"run": 1, "square": 9}
    assert asyncio.run(asquare(3)) == {"run": 2, "square": 9}
    other, aother = fresh()
    assert other(3) == {"run": 1, "square": 9}
    assert asyncio.run(aother(3)) == {"run": 2, "square": 9}
    assert other.cache_info().l2_hits == 1
    other.invalidate_cache(3)
    assert fresh()[0](3)["run"] == 3


@KINDS
def test_a_killed_holder_is_replaced_at_once(directory: str, namespace: str, tmp_path: Path, kind: str) -> None:
    fleet = Fleet(directory, namespace, tmp_path / "runs", kind, 600, 0.2)
    fleet.start(fleet.children)
    wait_until("one of them runs", lambda: len(fleet.runners()) == 1)
    (holder,) = fleet.runners()
    killed = next(child for child in fleet.children if child.pid == holder)
    killed.kill()
    killed.communicate()
    started = time.monotonic()
    ended([child for child in fleet.children if child is not killed])
    assert len(fleet.runners()) == 2
    assert time.monotonic() - started < SLACK


def test_the_next_start_is_warm(directory: str, namespace: str, tmp_path: Path) -> None:
    for _ in range(2):
        child = program("callers", directory, namespace, str(tmp_path / "runs"), "threads", "1", "0", "0")
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
        ended([child])
    assert len((tmp_path / "runs").read_text().split()) == 1


def test_values_of_100_mb(backend: FileBackend) -> None:
    big = os.urandom(1 << 20) * 100
    backend.set("big", big)
    assert backend.get("big") == big

    async def both() -> bytes | None:
        await backend.set_async("abig", big)
        return await backend.get_async("abig")

    assert asyncio.run(both()) == big
    with pytest.raises(BackendError, match="max_value_mb"):
        backend.set("bigger", big + b"!")


def test_the_environment_selects_it(monkeypatch: pytest.MonkeyPatch, directory: str) -> None:
    monkeypatch.setenv("CACHEKIT_FILE_CACHE_DIR", directory)
    monkeypatch.setenv("CACHEKIT_FILE_MAX_ENTRY_COUNT", "123")
    backend = DefaultBackendProvider().get_backend()
    assert isinstance(backend, FileBackend)
    healthy, details = backend.health_check()
    assert healthy
    assert (details["backend_type"], details["directory"], details["max_entries"]) == ("file", directory, 123)


def test_a_directory_that_cannot_be_one_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match="symbolic link"):
        FileBackend(FileBackendConfig(cache_dir=str(tmp_path / "link")))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigurationError, match="written to by others"):
        FileBackend(FileBackendConfig(cache_dir=str(tmp_path / "open")))
    with pytest.raises(ConfigurationError, match="dir_permissions"):
        FileBackend(FileBackendConfig(cache_dir=str(tmp_path / "new"), dir_permissions=0o600))


def test_a_forked_child_shares_the_directory(backend: FileBackend) -> None:
    backend.set("parent", b"1")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if backend.get("parent") == b"1":
                backend.set("child", b"2")
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert backend.get("child") == b"2"


def test_a_stopped_writer_costs_time_and_no_error(directory: str) -> None:
    """Whoever holds the store's own lock and hangs keeps others from storing, not from their results."""
    config = FileBackendConfig(cache_dir=directory, lock_timeout_seconds=0.5)

    @cache(backend=FileBackend(config), namespace="stopped", ttl=60)
    def double(x: int) -> int:
        return 2 * x

    assert double(1) == 2
    lock = Path(directory) / "store-1" / "lock"
    holder = subprocess.Popen(
        ["flock", str(lock), "sh", "-c", "echo held; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        started = time.monotonic()
        assert [double(x) for x in range(2, 6)] == [4, 6, 8, 10]
        assert time.monotonic() - started < SLACK
        with pytest.raises(BackendError, match="busy"):
            FileBackend(config).set("k", b"v")
    finally:
        holder.communicate(b"")
    assert double(7) == 14


@pytest.mark.parametrize("scenario", FORKS)
def test_both_sides_of_a_fork_go_on(directory: str, namespace: str, tmp_path: Path, scenario: str) -> None:
    assert forked(scenario, tmp_path, namespace, CACHEKIT_FILE_CACHE_DIR=directory) == "done\n"


@pytest.mark.parametrize("make", [FileBackend.lock, FileBackend.acquire_lock])
def test_a_wait_for_a_lock_is_a_number_of_seconds(make: Any, tmp_path: Path) -> None:
    backend = FileBackend(FileBackendConfig(cache_dir=str(tmp_path / "store")))
    with pytest.raises(ValueError, match="blocking_timeout must be a number of seconds or None, got nan"):
        make(backend, "k", 5, math.nan)
    with backend.lock("k", 5) as held, backend.lock("k", 5, 0) as other:
        assert (held, other) == (True, False)
