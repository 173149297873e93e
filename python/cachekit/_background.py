"""Refreshing entries behind the caller's back, while they are still served."""

from __future__ import annotations

import sys
from copy import deepcopy
from itertools import count
from threading import Lock, Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit._native import Core

# Refreshes under way at once in this process; more are left to later hits.
MOST = 32

_lock = Lock()
# Those under way, by number: the function's engine and the key of the entry that is served meanwhile.
_running: dict[int, tuple[Core, bytes]] = {}
_numbers = count()
# The event loop holds its tasks weakly; these must not be collected while they run.
_tasks: set[Any] = set()


def refresh_later(core: Core, args: tuple[Any, ...], kwargs: dict[str, Any] | None, key: bytes) -> bool:
    """Starts the refresh of a call's entry; False where it must be left to a later hit.

    The arguments are copied: the caller may change its own while the refresh runs.
    """
    with _lock:
        if len(_running) >= MOST:
            return False
        number = next(_numbers)
        _running[number] = (core, key)
    started = False
    try:
        # The object of a method is what it is, not a value.
        held = args[: core._is_method]
        call = (core, held + deepcopy(args[core._is_method :]), deepcopy(kwargs or {}))
        start = _start_task if core._is_async else _start_thread
        start(number, *call)
        started = True
    except Exception as error:
        _logger().debug("%s: not refreshed in the background: %r", core._name, error)
    finally:
        if not started:
            _ended(number)
    return started


def _ended(number: int) -> None:
    # None where a fork came in between and this is the child.
    ended = _running.pop(number, None)
    if ended is not None:
        # However it ended: where the entry is still there, a later hit may ask again.
        core, key = ended
        core._end_refresh(key)


def _start_thread(number: int, core: Core, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    from contextvars import copy_context

    # Daemon: a refresh never keeps the program from ending.
    call = (_refresh, number, core, args, kwargs)
    Thread(target=copy_context().run, args=call, name="cachekit-refresh", daemon=True).start()


def _refresh(number: int, core: Core, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        core._refresh(args, kwargs)
    except Exception as error:
        _failed(core, error)
    finally:
        _ended(number)


def _start_task(number: int, core: Core, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    from asyncio import get_running_loop

    task = get_running_loop().create_task(_arefresh(core, args, kwargs))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    task.add_done_callback(lambda _: _ended(number))


async def _arefresh(core: Core, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    from cachekit._drive import refresh

    try:
        await refresh(core._refresh_call(args, kwargs))
    except Exception as error:
        _failed(core, error)


def _failed(core: Core, error: Exception) -> None:
    _logger().debug("%s: the refresh failed, the entry is served on: %r", core._name, error)


def _logger() -> Any:
    from logging import getLogger

    return getLogger("cachekit.refresh")


def _after_fork() -> None:
    global _lock
    _lock = Lock()
    _tasks.clear()
    under_way = list(_running.values())
    _running.clear()
    for core, key in under_way:
        # Nobody refreshes the entry in this process: a later hit here is to ask again.
        core._end_refresh(key)


if sys.platform != "win32":
    from os import register_at_fork

    register_at_fork(after_in_child=_after_fork)
