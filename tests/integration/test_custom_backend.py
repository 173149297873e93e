"""Backends of the user's own: any object with the five methods, and what its defects may not do."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachekit import _native, cache
from cachekit.config.nested import CircuitBreakerConfig, L1CacheConfig
from cachekit.serializers import StandardSerializer
from tests.integration.conftest import Either
from tests.integration.support import LIMIT

BUDGET = 1.0  # a custom backend names no timeout of its own
SLACK = 2.0  # for a busy machine
BREAKER = CircuitBreakerConfig(failure_threshold=3, success_threshold=2, recovery_timeout=30.0)


class Memory:
    """Entries in a dict."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.entries.get(key)

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None:
        self.entries[key] = value

    def delete(self, key: str) -> bool:
        return self.entries.pop(key, None) is not None

    def exists(self, key: str) -> bool:
        return key in self.entries

    def health_check(self) -> tuple[bool, dict[str, Any]]:
        return True, {"backend_type": "memory"}


class Raising(Memory):
    """Raises at every read."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error: BaseException | None = error
        self.reads = 0

    def get(self, key: str) -> bytes | None:
        self.reads += 1
        if self.error is not None:
            raise self.error
        return super().get(key)


class Hanging(Memory):
    """Answers no read before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()

    def get(self, key: str) -> bytes | None:
        self.over.wait(LIMIT)
        return super().get(key)


def double_it(x: int) -> int:
    return 2 * x


def state(function: Any) -> str:
    return str(function.get_health_status()["circuit_breaker"]["state"])


def test_a_task_does_not_wait_for_a_backend_that_hangs(namespace: str) -> None:
    backend = Hanging()

    @cache(backend=backend, namespace=namespace)
    async def double(x: int) -> int:
        return 2 * x

    async def main() -> float:
        started = time.perf_counter()
        assert await double(4) == 8
        return time.perf_counter() - started

    try:
        assert asyncio.run(main()) < BUDGET + SLACK
    finally:
        backend.over.set()


def test_functions_of_a_namespace_share_a_breaker(namespace: str, either: Either) -> None:
    backend = Raising(ConnectionError("nobody there"))
    options: dict[str, Any] = {"backend": backend, "namespace": namespace, "circuit_breaker": BREAKER}
    double = either.cached(lambda x: 2 * x, key=lambda x: f"double:{x}", **options)
    triple = either.cached(lambda x: 3 * x, key=lambda x: f"triple:{x}", **options)

    for x in range(3):
        assert either.call(double, x) == 2 * x
    assert state(double) == "OPEN"
    asked = backend.reads
    assert either.call(triple, 5) == 15
    assert state(triple) == "OPEN"
    assert backend.reads == asked


def test_two_backends_have_two_breakers(namespace: str) -> None:
    broken, sound = Raising(ConnectionError("nobody there")), Memory()

    @cache(backend=broken, namespace=namespace, circuit_breaker=BREAKER)
    def double(x: int) -> int:
        return 2 * x

    @cache(backend=sound, namespace=namespace, circuit_breaker=BREAKER)
    def triple(x: int) -> int:
        return 3 * x

    for x in range(4):
        assert (double(x), triple(x)) == (2 * x, 3 * x)
    assert (state(double), state(triple)) == ("OPEN", "CLOSED")
    assert len(sound.entries) >= 4


def test_a_dropped_functions_backend_and_guards_go(namespace: str) -> None:
    backends: list[weakref.ref[Memory]] = []

    def once(x: int) -> None:
        backend = Memory()

        @cache(backend=backend, namespace=namespace, key=str)
        def double(y: int) -> int:
            return 2 * y

        assert double(x) == 2 * x
        backends.append(weakref.ref(backend))

    for x in range(1000):
        once(x)
        if x % 50 == 0:
            gc.collect()
    gc.collect()
    once(1000)
    assert _native._testing.guarded(namespace) < 10
    gc.collect()
    assert sum(backend() is not None for backend in backends) < 10


def test_another_breaker_than_the_one_in_force_is_told_once(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="cachekit")
    backend = Memory()

    def with_threshold(threshold: int) -> Any:
        breaker = CircuitBreakerConfig(failure_threshold=threshold)

        @cache(backend=backend, namespace=namespace, circuit_breaker=breaker, key=lambda x: f"{threshold}:{x}")
        def double(x: int) -> int:
            return 2 * x

        return double

    def told() -> list[str]:
        return [text for text in caplog.messages if "share a circuit breaker" in text]

    functions = [with_threshold(3), with_threshold(3)]
    assert [double(1) for double in functions] == [2, 2]
    assert told() == []
    functions += [with_threshold(7), with_threshold(9)]
    assert [double(1) for double in functions] == [2, 2, 2, 2]
    assert len(told()) == 1, told()
    assert "failure_threshold=3," in told()[0]
    assert "failure_threshold=7," in told()[0]


# --- the life of an entry that the backend cannot tell ----------------------------------------------------------------


class Counting(Memory):
    """Counts the reads of entries."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, key: str) -> bytes | None:
        self.reads += ":args:" in key
        return super().get(key)


def test_what_was_found_is_kept_for_the_rest_of_its_life(
    namespace: str, either: Either, advance: Callable[[float], None]
) -> None:
    backend = Counting()
    no_refresh = L1CacheConfig(swr_enabled=False)
    double = either.cached(double_it, backend=backend, namespace=namespace, ttl=100, l1=no_refresh)
    either.call(double, 4)
    advance(60)
    double._core._reset_backend()  # as another process, whose L1 is empty
    reads = backend.reads
    assert [either.call(double, 4) for _ in range(3)] == [8] * 3
    assert backend.reads == reads + 1
    advance(35)
    assert either.call(double, 4) == 8
    assert backend.reads == reads + 1
    advance(10)
    assert either.call(double, 4) == 8
    assert backend.reads == reads + 2, "its life is over, though this backend holds it on"
    assert either.call(double, 4) == 8
    assert backend.reads == reads + 3, "what has ended by its own word is not kept"


def test_what_says_to_live_longer_is_kept_for_the_functions_own_ttl(
    namespace: str, either: Either, advance: Callable[[float], None]
) -> None:
    """A writer whose clock is ahead makes its entries seem to live long."""
    backend = Counting()
    writer = either.cached(double_it, backend=backend, namespace=namespace, ttl=10_000)
    reader = either.cached(double_it, backend=backend, namespace=namespace, ttl=50)
    either.call(writer, 4)
    reads = backend.reads
    assert [either.call(reader, 4) for _ in range(2)] == [8] * 2
    assert backend.reads == reads + 1
    advance(51)
    either.call(reader, 4)
    assert backend.reads == reads + 2


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Programs that a shell starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_within_a_backend_reaches_the_main_thread(namespace: str) -> None:
    backend = Memory()
    reads = 0

    def get(key: str) -> bytes | None:
        nonlocal reads
        reads += 1
        signal.raise_signal(signal.SIGINT)  # as the terminal's Ctrl-C while the backend is at work
        return None

    backend.get = get  # type: ignore[method-assign]

    @cache(backend=backend, namespace=namespace)
    def double(x: int) -> int:
        return 2 * x

    with pytest.raises(KeyboardInterrupt):
        double(1)
        time.sleep(LIMIT)
    assert reads == 1


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_within_a_serializer_reaches_the_main_thread(namespace: str) -> None:
    class Interrupted:
        def serialize(self, value: Any) -> Any:
            return StandardSerializer().serialize(value)

        def deserialize(self, data: Any, metadata: Any = None) -> Any:
            signal.raise_signal(signal.SIGINT)

    interrupted: Any = Interrupted()

    @cache(backend=Memory(), namespace=namespace, serializer=interrupted, l1_enabled=False)
    def double(x: int) -> int:
        return 2 * x

    assert double(1) == 2
    with pytest.raises(KeyboardInterrupt):
        double(1)
        time.sleep(LIMIT)


def test_an_exit_within_a_backend_is_not_silent(
    namespace: str, monkeypatch: pytest.MonkeyPatch, either: Either
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: seen.append(raised.exc_value))
    backend = Raising(SystemExit("enough"))
    double = either.cached(lambda x: 2 * x, backend=backend, namespace=namespace, key=str)
    assert either.call(double, 4) == 8
    assert [type(error) for error in seen] == [SystemExit]
