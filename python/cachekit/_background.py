"""Filling entries behind the caller's back: refreshes of those that are still served, and prefetches."""

from __future__ import annotations

import sys
from copy import deepcopy
from itertools import count
from threading import Lock, Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit._native import Core

# Calls under way at once in this process; further refreshes are left to later hits.
MOST = 32

_lock = Lock()
# Those under way, by number: the function's engine and the key of the entry that is served meanwhile.
_running: dict[int, tuple[Core, bytes]] = {}
_numbers = count()
# The event loop holds its tasks weakly; these must not be collected while they run.
_tasks: set[Any] = set()


def refresh_later(core: Core, args: tuple[Any, ...], kwargs: dict[str, Any] | None, key: bytes) -> bool:
    """Starts the refresh of a call's entry; False where it must be left to a later hit."""
    return _begin(core, key, _arefresh if core._is_async else _refresh, args, kwargs or {}, core)


def prefetch(cached: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Starts a call whose result nobody waits for; False where too many are under way."""
    core = cached._core
    if core._is_async:
        from asyncio import get_running_loop

        get_running_loop()  # raises where there is none, as the caller must know
    return _begin(core, b"", cached, args, kwargs)


def _begin(core: Core, key: bytes, work: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *first: Any) -> bool:
    """Has ``work(*first, *args, **kwargs)`` done in a thread or a task; False where it cannot be now.

    The arguments are copied: the caller may change its own meanwhile.
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
        call = (*first, *held, *deepcopy(args[core._is_method :])), deepcopy(kwargs)
        start = _start_task if core._is_async else _start_thread
        start(number, core, work, *call)
        started = True
    except Exception as error:
        _logger().debug("%s: nothing done in the background: %r", core._name, error)
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


def _start_thread(number: int, core: Core, work: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    from contextvars import copy_context

    # Daemon: what nobody waits for never keeps the program from ending.
    call = (_run, number, core, work, args, kwargs)
    Thread(target=copy_context().run, args=call, name="cachekit-refresh", daemon=True).start()


def _run(number: int, core: Core, work: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        work(*args, **kwargs)
    except Exception as error:
        _failed(number, core, error)
    finally:
        _ended(number)


def _start_task(number: int, core: Core, work: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    from asyncio import get_running_loop

    task = get_running_loop().create_task(_arun(number, core, work, args, kwargs))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    task.add_done_callback(lambda _: _ended(number))


async def _arun(number: int, core: Core, work: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        await work(*args, **kwargs)
    except Exception as error:
        _failed(number, core, error)


def _refresh(core: Core, /, *args: Any, **kwargs: Any) -> None:
    core._refresh(args, kwargs)


async def _arefresh(core: Core, /, *args: Any, **kwargs: Any) -> None:
    from cachekit._drive import refresh

    await refresh(core._refresh_call(args, kwargs))


def _failed(number: int, core: Core, error: Exception) -> None:
    _, key = _running.get(number, (core, b""))
    what = "refresh failed, the entry is served on" if key else "prefetch failed"
    _logger().debug("%s: the %s: %r", core._name, what, error)


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
