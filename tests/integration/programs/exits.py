"""Ends in the middle of something that a cached function does.

    exits.py REDIS-HOST REDIS-PORT REDIS-PID NAMESPACE SCENARIO

Prints "leaving" as its last act.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import gc
import os
import signal
import sys
import threading
import time
from typing import Any

from cachekit import cache
from cachekit.backends import RedisBackend
from tests.integration.support import until, wait_until
from tests.support.resp import RespClient

host, port, redis_pid, namespace, scenario = sys.argv[1:]
backend = RedisBackend(f"redis://{host}:{port}/0")
runs: list[int] = []


@cache(backend=backend, namespace=namespace, ttl=60)
def answer(x: int) -> int:
    runs.append(x)
    if x < 0:
        time.sleep(600)
    return x


@cache(backend=backend, namespace=namespace, ttl=60)
async def aanswer(x: int) -> int:
    runs.append(x)
    if x < 0:
        await asyncio.sleep(600)
    return x


@cache(backend=backend, namespace=f"{namespace}-refreshed", ttl=60)
def refreshed(x: int) -> int:
    runs.append(x)
    if len(runs) > 1:
        time.sleep(600)
    return x


@cache(backend=backend, namespace=f"{namespace}-refreshed", ttl=60)
async def arefreshed(x: int) -> int:
    runs.append(x)
    if len(runs) > 1:
        await asyncio.sleep(600)
    return x


def begin(*callers: Any) -> None:
    """Starts threads that do not keep the program from ending."""
    for call in callers:
        threading.Thread(target=call, daemon=True).start()


def flying() -> None:
    """A thread leads a flight, which others wait for or will."""
    begin(*[lambda: answer(-1)] * 20)
    wait_until("one of them runs", lambda: runs == [-1])
    time.sleep(0.1)  # for the others to wait: whether all of them do makes no difference


def freeze() -> None:
    os.kill(int(redis_pid), signal.SIGSTOP)


def make_due(cached: Any) -> None:
    """The next hit of its entry finds that it has been there for three quarters of its life."""
    from cachekit import _native

    _native._testing.advance_clock(45.0)
    with RespClient((host, int(port))) as client:
        assert client.call("EXPIRE", cached.key_for(1), 15) == 1


class CallsAtTheEnd:
    """Is still alive when the interpreter begins to take modules apart."""

    def __del__(self) -> None:
        answer(1)
        answer(2)


def nothing() -> None:
    """Nothing was called."""


def sync_call() -> None:
    assert answer(1) == 1


def async_call() -> None:
    assert asyncio.run(aanswer(1)) == 1


def both_calls() -> None:
    sync_call()
    async_call()


def exit_in_a_task() -> None:
    async def main() -> None:
        await aanswer(1)
        print("leaving", flush=True)
        sys.exit(0)

    asyncio.run(main())


def pending_tasks() -> None:
    """Of each kind: one that leads, some that wait, some that have only been started."""

    async def main() -> None:
        tasks = [asyncio.ensure_future(aanswer(-1)) for _ in range(20)]
        await until("one of them runs", lambda: runs == [-1])
        tasks += [asyncio.ensure_future(aanswer(x)) for x in range(20)]
        assert not any(task.done() for task in tasks)

    asyncio.run(main())


def loop_in_a_thread() -> None:
    """The event loop runs in a thread that ends with the interpreter."""

    async def main() -> None:
        await asyncio.gather(*(aanswer(-1) for _ in range(20)))

    begin(lambda: asyncio.run(main()))
    wait_until("one of them runs", lambda: runs == [-1])


def loop_left_alone() -> None:
    """The loop is neither run to its end nor closed, and a reply of Redis comes when nobody looks."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(aanswer(1))
    keep.append(loop)


def coroutines_left_alone() -> None:
    """They are collected while some lead and some wait, outside of the contexts that they ran in."""

    @cache(backend=None, namespace=namespace)
    async def waits(x: int) -> int:
        runs.append(x)
        await asyncio.get_running_loop().create_future()
        return x

    async def main() -> None:
        for coroutine in [waits(1) for _ in range(20)]:
            contextvars.copy_context().run(coroutine.send, None)

    asyncio.run(main())
    gc.collect()
    assert runs[0] == 1


def threads_wait() -> None:
    flying()


def busy_threads() -> None:
    """Threads hit, miss and store all the time."""

    def work(start: int) -> None:
        for x in range(start, start + 10**9):
            answer(x)
            answer(start)

    begin(*(lambda start=start: work(start * 10**9) for start in range(8)))
    wait_until("all work", lambda: len(runs) > 100)


def busy_loop() -> None:
    async def work() -> None:
        for start in range(0, 10**9, 50):
            await asyncio.gather(*(aanswer(start + x) for x in range(50)))

    begin(lambda: asyncio.run(work()))
    wait_until("it works", lambda: len(runs) > 100)


def refresh() -> None:
    refreshed(1)
    make_due(refreshed)
    refreshed(1)
    wait_until("the refresh runs", lambda: runs == [1, 1])


def restless_refresh() -> None:
    """The function asks for the GIL again and again while the interpreter shuts down."""

    @cache(backend=backend, namespace=f"{namespace}-refreshed", ttl=60)
    def restless(x: int) -> int:
        runs.append(x)
        while len(runs) > 1:
            time.sleep(0.0001)
        return x

    restless(1)
    make_due(restless)
    restless(1)
    wait_until("the refresh runs", lambda: runs == [1, 1])


def restless_everything() -> None:
    """As above for functions, coroutines and the calls of a backend and of a serializer, in threads of their own."""

    def spin() -> Any:
        runs.append(0)
        while True:
            time.sleep(0.0001)

    class Backend:
        def get(self, key: str) -> Any:
            return spin()

        def set(self, key: str, value: bytes, ttl: Any = None) -> None: ...

        def delete(self, key: str) -> bool:
            return False

        def exists(self, key: str) -> bool:
            return False

        def health_check(self) -> Any:
            return True, {}

    class Serializer:
        def serialize(self, value: Any) -> Any:
            return spin()

        def deserialize(self, data: bytes, metadata: Any = None) -> Any: ...

    async def coroutine() -> Any:
        return spin()

    def named(name: str, **options: Any) -> Any:
        return cache(namespace=f"{namespace}-{name}", **options)

    begin(
        named("function", backend=None)(lambda: spin()),
        named("backend", backend=Backend())(lambda: 1),
        named("serializer", backend=backend, serializer=Serializer())(lambda: 1),
        named("key", backend=None, key=spin)(lambda: 1),
        lambda: asyncio.run(named("coroutine", backend=None)(coroutine)()),
    )
    wait_until("all of them run", lambda: len(runs) == 5)


def async_refresh() -> None:
    async def main() -> None:
        await arefreshed(1)
        make_due(arefreshed)
        await arefreshed(1)
        await until("the refresh runs", lambda: runs == [1, 1])

    asyncio.run(main())


def frozen_threads() -> None:
    answer(1)
    freeze()
    begin(*(lambda x=x: answer(x) for x in range(100, 110)))
    time.sleep(0.05)


def frozen_tasks() -> None:
    async def main() -> None:
        await aanswer(1)
        freeze()
        tasks = [asyncio.ensure_future(aanswer(x)) for x in range(100, 110)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)

    asyncio.run(main())


def frozen_after_an_async_call() -> None:
    asyncio.run(aanswer(1))
    freeze()


def frozen_invalidation() -> None:
    async def main() -> None:
        await aanswer(1)
        freeze()
        keep.append(asyncio.ensure_future(aanswer.ainvalidate_cache(1)))
        aanswer.invalidate_cache(1)

    asyncio.run(main())


def calls_at_exit() -> None:
    atexit.register(lambda: (answer(1), asyncio.run(aanswer(1))))


def calls_while_modules_go() -> None:
    answer(1)
    keep.append(CallsAtTheEnd())


def a_forked_child_exits() -> None:
    both_calls()
    child = os.fork()
    both_calls()
    if child:
        assert os.waitpid(child, 0)[1] == 0


def threads_that_are_waited_for() -> None:
    """Threads that are no daemons are waited for by the interpreter, and answered."""
    threads = [threading.Thread(target=answer, args=(x,)) for x in range(20)]
    for thread in threads:
        thread.start()


keep: list[Any] = []
globals()[scenario]()
print("leaving", flush=True)
