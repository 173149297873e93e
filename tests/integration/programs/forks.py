"""Forks in the middle of something, and uses the cache on both sides.

    forks.py SCENARIO

The environment says what `forked.py` reads. Prints "done" if all went well, in the parent and in its children.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import forked

from tests.integration.support import until, wait_until
from tests.support.resp import RespClient

CHILD_LIMIT = 30


def fork(body: Callable[[], Any]) -> int:
    """A child that does `body` and ends as a program does that was called by `os.fork`."""
    child = os.fork()
    if child:
        return child
    signal.alarm(CHILD_LIMIT)  # whoever hangs dies, and the parent says so
    status = 1
    try:
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(*children: int) -> None:
    for child in children:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == 0, f"a child ended with {status}"


def connections() -> set[str]:
    """This process's TCP sockets."""
    with open("/proc/self/net/tcp") as file:
        tcp = {f"socket:[{line.split()[9]}]" for line in list(file)[1:]}
    seen: set[str] = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            seen.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # the one that listed them
            continue
    return seen & tcp


def fork_with_a_warm_pool() -> None:
    """Both sides read at once through threads and tasks; each through sockets of its own."""
    forked.store_texts()
    forked.serve(1)
    before, ran = connections(), len(forked.runs("text"))

    def child() -> None:
        forked.serve()
        assert connections() - before, "the child made connections of its own"

    children = [fork(child), fork(child)]
    forked.serve()
    wait(*children)
    assert before <= connections(), "the parent has the connections that it had"
    assert len(forked.runs("text")) == ran == forked.TEXTS, "all were replies, none was lost or misread"


def fork_of_a_fork() -> None:
    forked.store_texts()

    def grandchild() -> None:
        forked.serve(1)

    def child() -> None:
        forked.serve(1)
        wait(fork(grandchild))
        forked.serve(1)

    wait(fork(child))
    forked.serve(1)
    assert len(forked.runs("text")) == forked.TEXTS


def _loop_of_the_parent(in_child: Callable[[asyncio.AbstractEventLoop], Any]) -> None:
    forked.store_texts()
    loop = asyncio.new_event_loop()

    async def some() -> None:
        for x in range(forked.TEXTS):
            assert await forked.atext(x) == forked.expected(x)

    loop.run_until_complete(some())
    child = fork(lambda: in_child(loop))
    loop.run_until_complete(some())
    wait(child)
    loop.run_until_complete(some())
    loop.close()
    assert len(forked.runs("atext")) == forked.TEXTS


def fork_beside_a_loop() -> None:
    """The child makes a loop of its own, as the workers of a server do."""
    _loop_of_the_parent(lambda _: forked.serve(1))


def fork_and_go_on_with_the_loop() -> None:
    """The child goes on with the loop that it got from its parent."""

    async def some() -> None:
        for x in range(forked.TEXTS):
            assert await forked.atext(x) == forked.expected(x)

    _loop_of_the_parent(lambda loop: loop.run_until_complete(some()))


def fork_inside_a_task() -> None:
    """The child leaves the parent's tasks behind."""
    forked.store_texts()

    async def main() -> int:
        waiting = [asyncio.ensure_future(forked.aslow_square(x)) for x in range(20)]
        await asyncio.sleep(0)
        child = fork(lambda: forked.serve(1))
        assert await asyncio.gather(*waiting) == [x * x for x in range(20)]
        return child

    wait(asyncio.run(main()))
    assert len(forked.runs("aslow_square")) == 20


def pool(method: str) -> None:
    forked.store_texts()
    forked.worker(1)
    context = multiprocessing.get_context(method)
    with context.Pool(4) as workers:
        seen = workers.map(forked.worker, [x % 20 for x in range(200)], chunksize=1)
        workers.close()
        workers.join()
    for x, (pid, sync_result, async_result, length) in enumerate(seen):
        wanted = forked.expected(x % 20)
        assert (sync_result, async_result, length) == ((x % 20) ** 2, (x % 20) ** 2, len(wanted))
        assert pid != os.getpid()
    assert len(forked.runs("square")) == 20, "the processes share their entries"
    assert len(forked.runs("asquare")) == 20
    assert len(forked.runs("text")) == forked.TEXTS


def pool_by_fork() -> None:
    pool("fork")


def pool_by_spawn() -> None:
    pool("spawn")


def pool_by_forkserver() -> None:
    pool("forkserver")


def preload() -> None:
    """A server warms up, then forks four workers that serve the same requests at once."""
    forked.store_texts()
    assert forked.square(3) == 9
    assert asyncio.run(forked.asquare(3)) == 9

    def serve() -> None:
        async def requests() -> None:
            assert await asyncio.gather(*(forked.aslow_square(x) for x in (7, 8) * 10)) == [49, 64] * 10
            assert await forked.asquare(3) == 9

        threads = [threading.Thread(target=forked.slow_square, args=(x,)) for x in (5, 6) * 10]
        for thread in threads:
            thread.start()
        asyncio.run(requests())
        for thread in threads:
            thread.join()
        assert (forked.slow_square(5), forked.slow_square(6), forked.square(3)) == (25, 36, 9)
        forked.serve(1)

    wait(*(fork(serve) for _ in range(4)))
    serve()
    assert len(forked.runs("text")) == forked.TEXTS
    assert (len(forked.runs("square")), len(forked.runs("asquare"))) == (1, 1), "L1 came along"
    assert (len(forked.runs("slow_square")), len(forked.runs("aslow_square"))) == (2, 2), "one of four workers ran each"


def fork_during_a_call_to_redis() -> None:
    """Redis answers nobody for a while; a thread and a task wait for it when the process forks."""
    forked.store_texts()
    host, _, port = os.environ["TEST_REDIS_URL"].removeprefix("redis://").removesuffix("/0").partition(":")
    outcomes: list[str] = []

    async def task() -> None:
        outcomes.append(await forked.atext(8))

    threads = [
        threading.Thread(target=lambda: outcomes.append(forked.text(7))),
        threading.Thread(target=lambda: asyncio.run(task())),
    ]
    with socket.create_connection((host, int(port))) as control:
        control.sendall(b"CLIENT PAUSE 3000 ALL\r\n")
        assert control.recv(100) == b"+OK\r\n"
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        assert outcomes == []
        child = fork(lambda: forked.serve(1))
        for thread in threads:
            thread.join()
    assert sorted(outcomes) == sorted([forked.expected(7), forked.expected(8)])
    wait(child)
    forked.serve(1)
    assert len(forked.runs("text")) == forked.TEXTS, "every call got its reply"


def _fork_during_a_flight(lead: Callable[[], Any], again: Callable[[], Any]) -> None:
    leader = threading.Thread(target=lead)
    leader.start()
    assert forked.inside.wait(CHILD_LIMIT)
    waiter = threading.Thread(target=again)
    waiter.start()
    time.sleep(0.05)

    def child() -> None:
        forked.gate.set()
        started = time.monotonic()
        assert again() == 1
        assert time.monotonic() - started < CHILD_LIMIT / 2, "the child waited for a thread that is not there"
        assert again() == 1

    wait(fork(child))
    assert leader.is_alive()
    assert waiter.is_alive()
    forked.gate.set()
    leader.join(CHILD_LIMIT)
    waiter.join(CHILD_LIMIT)
    assert again() == 1


def fork_during_a_flight() -> None:
    _fork_during_a_flight(lambda: forked.local_gated(1), lambda: forked.local_gated(1))


def fork_during_a_flight_with_redis() -> None:
    _fork_during_a_flight(lambda: forked.gated(1), lambda: forked.gated(1))


def fork_during_an_async_flight() -> None:
    _fork_during_a_flight(
        lambda: asyncio.run(forked.alocal_gated(1)),
        lambda: asyncio.run(forked.alocal_gated(1)),
    )


def fork_inside_a_cached_function() -> None:
    """Parent and child both return from the call that both are in."""
    from cachekit import cache

    children: list[int] = []

    @cache(backend=forked.backend, namespace=f"{forked.namespace}-inside")
    def forks(x: int) -> int:
        children.append(os.fork())
        return x

    assert forks(1) == 1
    assert forks(1) == 1
    assert len(children) == 1
    if children == [0]:
        os._exit(0)
    wait(*children)


def fork_and_drop_the_tasks() -> None:
    """The child throws its picture of the parent's tasks away; their lock is still the parent's."""
    host, _, port = os.environ["TEST_REDIS_URL"].removeprefix("redis://").removesuffix("/0").partition(":")

    def locks() -> Any:
        with RespClient((host, int(port))) as client:
            return client.call("KEYS", f"*{forked.namespace}*:lock")

    async def main() -> None:
        tasks = [asyncio.ensure_future(forked.agated(1)) for _ in range(20)]
        await until("one of them runs", forked.inside.is_set)
        held = locks()
        assert len(held) == 1

        def child() -> None:
            for task in tasks:
                coroutine = task.get_coro()
                assert coroutine is not None
                coroutine.close()
            forked.serve(1)
            assert locks() == held

        wait(fork(child))
        assert locks() == held
        forked.gate.set()
        assert await asyncio.gather(*tasks) == [1] * 20

    forked.store_texts()
    asyncio.run(main())
    assert forked.runs("agated") == [os.getpid()]


def fork_during_a_refresh() -> None:
    """The child starts one of its own, as nobody there does the parent's."""
    from cachekit import _native

    assert forked.refreshed(1) == 1
    _native._testing.advance_clock(45.0)
    assert forked.refreshed(1) == 1
    assert forked.inside.wait(CHILD_LIMIT)
    assert forked.refreshed(1) == 1
    assert forked.runs("refreshed") == [os.getpid()] * 2

    def child() -> None:
        forked.gate.set()
        assert forked.refreshed(1) == 1
        wait_until("the child refreshes", lambda: forked.runs("refreshed").count(os.getpid()) == 1, CHILD_LIMIT / 2)

    wait(fork(child))
    forked.gate.set()


def fork_under_load() -> None:
    """Whatever a thread holds at the moment of the fork, the child is not stuck on it."""
    forked.store_texts()
    stop = threading.Event()
    trouble: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                while not stop.is_set():
                    work()
            except BaseException as error:
                trouble.append(error)

        return run

    async def tasks() -> None:
        for x in range(forked.TEXTS):
            assert await asyncio.gather(forked.atext(x), forked.asquare(x), forked.asquare(x)) == [
                forked.expected(x),
                x * x,
                x * x,
            ]

    def threads() -> None:
        for x in range(forked.TEXTS):
            assert (forked.text(x), forked.square(x)) == (forked.expected(x), x * x)
            forked.square.invalidate_cache(x)

    def child() -> None:
        for x in range(10):
            assert (forked.text(x), forked.square(x)) == (forked.expected(x), x * x)
        asyncio.run(tasks())

    workers = [threading.Thread(target=guarded(work)) for work in (threads, threads, threads)]
    workers.append(threading.Thread(target=guarded(lambda: asyncio.run(tasks()))))
    for worker in workers:
        worker.start()
    try:
        for _ in range(15):
            wait(fork(child), fork(child))
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert trouble == []


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("done", flush=True)
