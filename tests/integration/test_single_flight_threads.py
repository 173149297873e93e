"""Many threads, one cold key: the function runs once, and whoever waited gets what came of it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from tests.integration.support import LIMIT, Callers, Runs, together, wait_until

CALLERS = 200


def test_two_hundred_threads_run_it_once(layers: dict[str, Any]) -> None:
    runs = Runs()

    @cache(**layers)
    def answer(x: int) -> dict[str, int]:
        callers.arrived.wait(CALLERS)
        return {"run": runs(), "x": x}

    callers = Callers(CALLERS, lambda _: answer(7))
    assert callers.start().join() == [{"run": 1, "x": 7}] * CALLERS
    info = answer.cache_info()
    assert (info.misses, info.hits) == (1, CALLERS - 1)


def test_keys_do_not_wait_for_each_other(layers: dict[str, Any]) -> None:
    """Ten keys, whose functions all wait until all run: they must run side by side."""
    inside = Runs()

    @cache(**layers)
    def answer(x: int) -> int:
        inside()
        inside.wait(10)
        return x * x

    assert together(50, lambda i: answer(i % 10)) == [(i % 10) ** 2 for i in range(50)]
    assert inside.count == 10


def test_an_exception_reaches_every_waiter_and_is_not_cached(layers: dict[str, Any]) -> None:
    runs = Runs()
    raised: list[ValueError] = []

    @cache(**layers)
    def fails(x: int) -> int:
        number = runs()
        callers.arrived.wait(20)
        time.sleep(0.3)  # the others join meanwhile
        raised.append(ValueError(f"run {number}"))
        raise raised[-1]

    callers = Callers(20, lambda _: fails(1))
    came = callers.start().join()
    assert all(type(error) is ValueError for error in came)
    assert runs.count < 20, "nobody joined"
    assert {str(error) for error in came} == {str(error) for error in raised}
    before = runs.count
    with pytest.raises(ValueError, match=f"run {before + 1}"):
        fails(1)
    info = fails.cache_info()
    assert (info.misses, info.currsize or 0) == (runs.count, 0)


def test_waiters_see_the_traceback_of_the_run(namespace: str) -> None:
    @cache(backend=None, namespace=namespace)
    def fails(x: int) -> int:
        callers.arrived.wait(8)
        time.sleep(0.2)
        raise LookupError("the cause of it all")

    callers = Callers(8, lambda _: fails(1))
    for error in callers.start().join():
        frames: list[str] = []
        trace = error.__traceback__
        while trace is not None:
            frames.append(trace.tb_frame.f_code.co_name)
            trace = trace.tb_next
        assert "fails" in frames


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_leader_alone_is_not_delivered_to_joiners(
    layers: dict[str, Any], kind: type[BaseException]
) -> None:
    runs = Runs()

    @cache(**layers)
    def answer(x: int) -> int:
        number = runs()
        callers.arrived.wait(10)
        if number == 1:
            time.sleep(0.2)  # the others join meanwhile
            raise kind()
        return number

    callers = Callers(10, lambda _: answer(1))
    came = callers.start().join()
    ended = [outcome for outcome in came if isinstance(outcome, BaseException)]
    assert [type(error) for error in ended] == [kind]
    assert [outcome for outcome in came if not isinstance(outcome, BaseException)] == [2] * 9
    assert runs.count == 2


def test_a_result_that_cannot_be_stored_makes_each_joiner_run(layers: dict[str, Any]) -> None:
    """What can be used up once belongs to one caller."""
    runs = Runs()

    @cache(**layers)
    def answer(x: int) -> Any:
        runs()
        callers.arrived.wait(12)
        return iter([1, 2, 3])

    callers = Callers(12, lambda _: answer(1))
    assert [list(outcome) for outcome in callers.start().join()] == [[1, 2, 3]] * 12
    assert runs.count == 12


def test_an_unencodable_result_makes_each_joiner_run(backend: RedisBackend, namespace: str) -> None:
    runs = Runs()

    class Opaque:
        def __init__(self) -> None:
            self.owner = threading.get_ident()

    @cache(backend=backend, namespace=namespace)
    def answer(x: int) -> Opaque:
        runs()
        callers.arrived.wait(12)
        time.sleep(0.1)
        return Opaque()

    callers = Callers(12, lambda _: answer(1))
    came = callers.start().join()
    assert len({id(outcome) for outcome in came}) == 12
    assert runs.count == 12


def test_joiners_do_not_share_what_they_may_change(layers: dict[str, Any]) -> None:
    @cache(**layers)
    def answer(x: int) -> dict[str, list[int]]:
        callers.arrived.wait(10)
        time.sleep(0.1)
        return {"items": [1]}

    def change(index: int) -> dict[str, list[int]]:
        mine = answer(1)
        mine["items"].append(index)
        return mine

    callers = Callers(10, change)
    came = callers.start().join()
    assert len({id(value["items"]) for value in came}) == 10
    assert sorted(value["items"][1] for value in came) == list(range(10))
    assert answer(1) == {"items": [1]}


def test_waiting_ends_with_lock_wait(namespace: str) -> None:
    release = threading.Event()
    runs = Runs()

    @cache(backend=None, namespace=namespace, lock_wait=0.2)
    def answer(x: int) -> int:
        number = runs()
        if number == 1:
            release.wait(LIMIT)
        return number

    leader = Callers(1, lambda _: answer(1)).start()
    runs.wait(1)
    started = time.monotonic()
    assert answer(1) == 2
    assert 0.2 <= time.monotonic() - started < 5
    release.set()
    assert leader.join() == [1]


def test_a_waiting_main_thread_takes_signals(namespace: str) -> None:
    """Ctrl-C while another thread computes: KeyboardInterrupt at once, and the leader goes on."""
    import signal

    release = threading.Event()
    runs = Runs()

    @cache(backend=None, namespace=namespace)
    def answer(x: int) -> int:
        runs()
        release.wait(LIMIT)
        return 5

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        leader = Callers(1, lambda _: answer(1)).start()
        runs.wait(1)
        threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1)).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            answer(1)
        assert time.monotonic() - started < 5
    finally:
        signal.signal(signal.SIGUSR1, before)
        release.set()
    assert leader.join() == [5]
    assert answer(1) == 5
    assert runs.count == 1


def test_a_panic_safe_leader_leaves_no_flight_behind(layers: dict[str, Any]) -> None:
    """After any end of a run the key can be filled again."""
    ways: list[Any] = [ValueError(), KeyboardInterrupt(), iter(()), object(), 1]

    @cache(**layers)
    def answer(x: int) -> Any:
        way = ways.pop(0)
        if isinstance(way, BaseException):
            raise way
        return way

    for _ in range(4):
        try:
            answer(1)
        except BaseException:
            pass
        answer.cache_clear()
    started = time.monotonic()
    assert answer(1) == 1
    assert time.monotonic() - started < 5
    wait_until("the value is there", lambda: answer(1) == 1)
