"""Refreshing entries behind the caller's back, while they are still served."""

from __future__ import annotations

import sys
from copy import deepcopy
from threading import Lock, Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit._native import Core

# Refreshes under way at once in this process; more are left to later hits.
MOST = 32

_lock = Lock()
_running = 0
# The event loop holds its tasks weakly; these must not be collected while they run.
_tasks: set[Any] = set()


def refresh_later(core: Core, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bool:
    """Starts the refresh of a call's entry; False where it must be left to a later hit.

    The arguments are copied: the caller may change its own while the refresh runs.
    """
    global _running
    with _lock:
        if _running >= MOST:
            return False
        _running += 1
    started = False
    try:
        # The object of a method is what it is, not a value.
        held = args[: core._is_method]
        call = (held + deepcopy(args[core._is_method :]), deepcopy(kwargs or {}))
        start = _start_task if core._is_async else _start_thread
        start(core, *call)
        started = True
    except Exception as error:
        _logger().debug("%s: not refreshed in the background: %r", core._name, error)
    finally:
        if not started:
            _ended()
    return started


def _ended(_: object = None) -> None:
    global _running
    with _lock:
        _running -= 1


def _start_thread(core: Core, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    from contextvars import copy_context

    # Daemon: a refresh never keeps the program from ending.
    Thread(target=copy_context().run, args=(_refresh, core, args, kwargs), name="cachekit-refresh", daemon=True).start()


def _refresh(core: Core, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        core._refresh(args, kwargs)
    except Exception as error:
        _failed(core, error)
    finally:
        _ended()


def _start_task(core: Core, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    from asyncio import get_running_loop

    task = get_running_loop().create_task(_arefresh(core, args, kwargs))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    task.add_done_callback(_ended)


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
    global _lock, _running
    _lock = Lock()
    _running = 0
    _tasks.clear()


if sys.platform != "win32":
    from os import register_at_fork

    register_at_fork(after_in_child=_after_fork)
