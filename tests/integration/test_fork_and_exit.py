"""What a fork leaves to the child, and how a program ends in the middle of cached calls.

Forks happen in programs of their own (`programs/forks.py`), as the test process has threads; so do exits.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.support import FORKS, ended, forked, program
from tests.support.redis_servers import RedisServer

# A program that hangs is one that has not ended after this; they take well under a second.
EXIT_LIMIT = 30.0


@pytest.mark.parametrize(
    "scenario",
    [
        *FORKS,
        "fork_with_a_warm_pool",
        "pool_by_forkserver",
        "fork_during_a_flight_with_redis",
        "fork_during_a_refresh",
        "fork_inside_a_cached_function",
        "fork_and_drop_the_tasks",
    ],
)
def test_both_sides_of_a_fork_go_on(redis_server: RedisServer, namespace: str, tmp_path: Path, scenario: str) -> None:
    assert forked(scenario, tmp_path, namespace, TEST_REDIS_URL=redis_server.url) == "done\n"


def test_a_fork_while_redis_is_asked(own_redis: RedisServer, namespace: str, tmp_path: Path) -> None:
    printed = forked("fork_during_a_call_to_redis", tmp_path, namespace, TEST_REDIS_URL=own_redis.url)
    assert printed == "done\n"


def leave(server: RedisServer, namespace: str, scenario: str) -> str:
    """What the program printed, once it has ended without a word on stderr."""
    child = program("exits", "127.0.0.1", str(server.port), str(server.pid), namespace, scenario)
    (out,) = ended([child], EXIT_LIMIT)
    return out


@pytest.mark.parametrize(
    "scenario",
    [
        "nothing",
        "sync_call",
        "async_call",
        "both_calls",
        "exit_in_a_task",
        "pending_tasks",
        "loop_in_a_thread",
        "loop_left_alone",
        "coroutines_left_alone",
        "threads_wait",
        "threads_that_are_waited_for",
        "busy_threads",
        "busy_loop",
        "refresh",
        "async_refresh",
        "restless_refresh",
        "restless_everything",
        "calls_at_exit",
        "calls_while_modules_go",
    ],
)
def test_a_program_ends_at_once_and_in_silence(redis_server: RedisServer, namespace: str, scenario: str) -> None:
    assert leave(redis_server, namespace, scenario) == "leaving\n"


def test_a_forked_child_ends_too(redis_server: RedisServer, namespace: str) -> None:
    assert leave(redis_server, namespace, "a_forked_child_exits") == "leaving\n" * 2


@pytest.mark.parametrize(
    "scenario", ["frozen_threads", "frozen_tasks", "frozen_after_an_async_call", "frozen_invalidation"]
)
def test_a_program_ends_while_redis_is_frozen(own_redis: RedisServer, namespace: str, scenario: str) -> None:
    assert leave(own_redis, namespace, scenario) == "leaving\n"


def test_an_interactive_program_ends(redis_server: RedisServer) -> None:
    """Code from stdin has no file; its end is that of the pipe."""
    code = (
        "import asyncio\n"
        "from cachekit import cache\n"
        "from cachekit.backends import RedisBackend\n"
        f"backend = RedisBackend({redis_server.url!r})\n"
        "@cache(backend=backend, namespace='stdin')\n"
        "async def answer(x): return x\n\n"
        "print(asyncio.run(answer(1)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-"], input=code, capture_output=True, text=True, check=False, timeout=EXIT_LIMIT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
