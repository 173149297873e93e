"""Many processes, one cold key: one of them runs the function, whoever dies in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from tests.integration.support import Callers, ended, outcomes, program, until, wait_until
from tests.support.cachekit_server import CachekitServer
from tests.support.memcached_server import MemcachedServer
from tests.support.redis_servers import RedisServer

PROCESSES, CALLERS = 8, 25
LEASE = 3.0
SLACK = 10.0

KINDS = pytest.mark.parametrize("kind", ["threads", "tasks"])


class Fleet:
    """Processes whose callers all wait for a word."""

    def __init__(self, store: str, namespace: str, runs: Path, kind: str, first: float, later: float) -> None:
        arguments = (store, namespace, str(runs), kind, str(CALLERS), str(first), str(later))
        self.runs = runs
        self.children = [program("callers", *arguments) for _ in range(PROCESSES)]
        for child in self.children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n", child.communicate()[1]

    def start(self, children: list[subprocess.Popen[str]]) -> None:
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()

    def runners(self) -> list[int]:
        """The pids of the processes that ran the function, in order."""
        return [int(line) for line in self.runs.read_text().split()] if self.runs.exists() else []


def reports(printed: list[str]) -> list[dict[str, Any]]:
    return [json.loads(text) for text in printed]


@pytest.fixture(params=["redis", "memcached", "file", "cachekitio"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What processes share, as `callers.py` takes it."""
    if request.param == "file":
        return str(tmp_path / "store")
    if request.param == "cachekitio":
        server: CachekitServer = request.getfixturevalue("api_environment")
        return server.url
    if request.param == "memcached":
        memcached: MemcachedServer = request.getfixturevalue("memcached_server")
        return f"memcached://{memcached.server}"
    redis: RedisServer = request.getfixturevalue("redis_server")
    return redis.url


@KINDS
def test_one_of_all_processes_runs_it(store: str, namespace: str, tmp_path: Path, kind: str) -> None:
    fleet = Fleet(store, namespace, tmp_path / "runs", kind, 0.3, 0.3)
    fleet.start(fleet.children)
    seen = reports(ended(fleet.children))
    assert len(fleet.runners()) == 1
    assert [one["outcomes"] for one in seen] == [[{"pid": fleet.runners()[0], "x": 1}] * CALLERS] * PROCESSES
    # Those who waited were woken, and did not wait until their patience of half a minute was over.
    assert max(one["took"] for one in seen) < 0.3 + SLACK


@KINDS
def test_the_holder_is_killed(store: str, namespace: str, tmp_path: Path, kind: str) -> None:
    fleet = Fleet(store, namespace, tmp_path / "runs", kind, 600, 0.2)
    fleet.start(fleet.children)
    wait_until("one of them runs", lambda: len(fleet.runners()) == 1)
    (holder,) = fleet.runners()
    os.kill(holder, signal.SIGKILL)
    killed = time.monotonic()
    (dead,) = [child for child in fleet.children if child.pid == holder]
    dead.communicate()
    others = [child for child in fleet.children if child is not dead]
    seen = reports(ended(others))
    assert time.monotonic() - killed < LEASE + 0.2 + SLACK
    assert len(fleet.runners()) == 2
    assert [one["outcomes"] for one in seen] == [[{"pid": fleet.runners()[1], "x": 1}] * CALLERS] * (PROCESSES - 1)


@KINDS
def test_the_holder_is_frozen(store: str, namespace: str, tmp_path: Path, kind: str) -> None:
    """It renews no longer, so another takes over; when it thaws, its own callers get values too."""
    fleet = Fleet(store, namespace, tmp_path / "runs", kind, 0.6, 0.1)
    fleet.start(fleet.children)
    wait_until("one of them runs", lambda: len(fleet.runners()) == 1)
    (holder,) = fleet.runners()
    os.kill(holder, signal.SIGSTOP)
    try:
        (frozen,) = [child for child in fleet.children if child.pid == holder]
        seen = reports(ended([child for child in fleet.children if child is not frozen]))
        assert len(fleet.runners()) == 2
        assert all(one["outcomes"] == [{"pid": fleet.runners()[1], "x": 1}] * CALLERS for one in seen)
    finally:
        os.kill(holder, signal.SIGCONT)
    (thawed,) = reports(ended([frozen]))
    assert all(isinstance(outcome, dict) for outcome in thawed["outcomes"])


def test_a_long_run_keeps_its_lock(store: str, namespace: str, tmp_path: Path) -> None:
    """A function that runs for longer than the lease: the lease is renewed, nobody takes over."""
    fleet = Fleet(store, namespace, tmp_path / "runs", "threads", LEASE + 1.5, 0.1)
    fleet.start(fleet.children)
    seen = reports(ended(fleet.children))
    assert len(fleet.runners()) == 1
    assert all(len({json.dumps(outcome) for outcome in one["outcomes"]}) == 1 for one in seen)


def foreign_lock(server: RedisServer, key: str, milliseconds: int) -> None:
    """What another process does that computes the entry."""
    with server.client() as client:
        client.call("SET", f"{key}:lock", "another's token", "NX", "PX", milliseconds)


def test_waiting_for_another_process_ends_with_lock_wait(redis_server: RedisServer, namespace: str) -> None:
    @cache(backend=RedisBackend(redis_server.url), namespace=namespace, lock_wait=0.3)
    def answer(x: int) -> int:
        return x

    foreign_lock(redis_server, answer.key_for(1), 60_000)
    started = time.monotonic()
    assert Callers(5, lambda _: answer(1)).start().join() == [1] * 5
    assert 0.3 <= time.monotonic() - started < SLACK


async def test_a_task_that_waits_for_another_process_ends_with_lock_wait(
    redis_server: RedisServer, namespace: str
) -> None:
    @cache(backend=RedisBackend(redis_server.url), namespace=namespace, lock_wait=0.3)
    async def answer(x: int) -> int:
        return x

    foreign_lock(redis_server, answer.key_for(1), 60_000)
    started = time.monotonic()
    assert await outcomes(*(answer(1) for _ in range(5))) == [1] * 5
    assert 0.3 <= time.monotonic() - started < SLACK


def test_without_a_lock_nobody_waits_for_another_process(redis_server: RedisServer, namespace: str) -> None:
    @cache(backend=RedisBackend(redis_server.url), namespace=namespace, lock=False)
    def answer(x: int) -> int:
        return x

    foreign_lock(redis_server, answer.key_for(1), 60_000)
    scripts = redis_server.commands_processed("eval")
    started = time.monotonic()
    assert answer(1) == 1
    assert time.monotonic() - started < SLACK
    assert redis_server.commands_processed("eval") == scripts


def lock_names(server: RedisServer) -> list[str]:
    return server.keys("*:lock")


@pytest.mark.parametrize("ending", [None, ValueError, KeyboardInterrupt])
def test_no_lock_is_left_behind(redis_server: RedisServer, namespace: str, ending: type[BaseException] | None) -> None:
    held: list[list[str]] = []

    @cache(backend=RedisBackend(redis_server.url), namespace=namespace)
    def answer(x: int) -> int:
        held.append(lock_names(redis_server))
        if ending is not None:
            raise ending()
        return x

    with nullcontext() if ending is None else pytest.raises(ending):
        answer(1)
    assert held == [[f"{answer.key_for(1)}:lock"]]
    assert lock_names(redis_server) == []


async def test_a_cancelled_leader_gives_its_lock_back(redis_server: RedisServer, namespace: str) -> None:
    import asyncio

    @cache(backend=RedisBackend(redis_server.url), namespace=namespace)
    async def answer(x: int) -> int:
        await asyncio.sleep(600)
        return x

    task = asyncio.create_task(answer(1))
    await until("it holds the lock", lambda: lock_names(redis_server) != [])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Well before its lease would end.
    await until("the lock is given back", lambda: lock_names(redis_server) == [], LEASE / 2)
