"""What cachekit relies on in a backend, as tests to run against your own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any
from uuid import uuid4

import pytest

from cachekit import BackendError, cache
from cachekit.backends.base import BaseBackend, LockableBackend, TTLInspectableBackend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class _Contract:
    shortest_ttl = 1
    """Seconds of the shortest life that the store can give an entry."""

    def wait(self, seconds: float) -> None:
        """Lets time pass for the store; a store whose clock a test can move moves it here instead."""
        time.sleep(seconds)

    @pytest.fixture
    def backend(self) -> Any:
        """The backend under test."""
        raise NotImplementedError("give this class a fixture `backend` that returns yours")

    @pytest.fixture
    def key(self) -> str:
        """A key as cachekit makes them, which nothing is stored under."""
        return f"ns:contract:func:app.users.get_user:args:{uuid4().hex}{uuid4().hex}:1s"


class BackendContract(_Contract):
    """The tests that a backend must pass to serve cached functions.

    Inherit from it in a test module, and from the contracts of what else the backend offers, and give
    the fixture ``backend``::

        class TestMyBackend(BackendContract, LockContract):
            @pytest.fixture
            def backend(self):
                return MyBackend("http://localhost:8000")

    Every test uses keys of its own and needs no empty store.
    """

    largest = 1 << 20
    """Bytes of the largest value that is tried."""
    # ---- bytes under keys

    def test_it_has_the_five_methods(self, backend: Any) -> None:
        assert isinstance(backend, BaseBackend)

    def test_nothing_is_stored(self, backend: Any, key: str) -> None:
        assert backend.get(key) is None
        assert backend.exists(key) is False
        assert backend.delete(key) is False

    def test_a_value_comes_back(self, backend: Any, key: str) -> None:
        assert backend.set(key, b"value") is None
        found = backend.get(key)
        assert type(found) is bytes, "get returns bytes, not a buffer or text"
        assert found == b"value"
        assert backend.exists(key) is True
        assert backend.delete(key) is True
        assert backend.delete(key) is False
        assert backend.get(key) is None
        assert backend.exists(key) is False

    def test_a_value_is_replaced(self, backend: Any, key: str) -> None:
        for value in (b"a longer first value", b"short", b""):
            backend.set(key, value)
            assert backend.get(key) == value

    def test_values_of_any_bytes(self, backend: Any, key: str) -> None:
        for value in (b"\0", b"\r\n", b"END\r\n", b"null", b"\xff\xfe", bytes(range(256))):
            backend.set(key, value)
            assert backend.get(key) == value

    def test_values_of_any_size(self, backend: Any, key: str) -> None:
        sizes = [1, 100, (4 << 10) - 1, 4 << 10, (64 << 10) + 1, 1 << 20, 16 << 20, 100 << 20]
        for size in [*(size for size in sizes if size < self.largest), self.largest]:
            value = os.urandom(min(size, 1 << 20)).ljust(size, b"\xa5")
            backend.set(key, value)
            assert backend.get(key) == value, f"{size} bytes came back differently"
        backend.delete(key)

    def test_keys_of_any_text(self, backend: Any, key: str) -> None:
        endings = ["", "/..", "a b", "?x=1&y=2#z", "%2F", "ü✓", "{tag}", "'; --", "\\", "k" * 150]
        keys = [f"default:{uuid4().hex}:{ending}" for ending in endings]
        for each in keys:
            backend.set(each, each.encode())
        for each in keys:
            assert backend.get(each) == each.encode(), f"{each!r} was mixed up with another key"
            assert backend.delete(each) is True

    def test_concurrent_writers(self, backend: Any, key: str) -> None:
        mixed: list[bytes] = []

        def write(writer: int) -> None:
            value = bytes([writer]) * (10 if writer % 2 else 70_000)
            for _ in range(20):
                backend.set(key, value)
                read = backend.get(key)
                if read is None or read != read[:1] * (10 if read[0] % 2 else 70_000):
                    mixed.append(read or b"")

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not mixed, "a reader saw no value, or parts of two"

    # ---- life

    def test_an_entry_ends(self, backend: Any, key: str) -> None:
        ttl = self.shortest_ttl
        backend.set(key, b"short-lived", ttl)
        backend.set(key + "2", b"kept")
        assert backend.get(key) == b"short-lived"
        self.wait(ttl + 1.0)
        assert backend.get(key) is None, "it outlived its ttl"
        assert backend.exists(key) is False
        assert backend.delete(key) is False
        assert backend.get(key + "2") == b"kept"

    def test_storing_again_begins_a_new_life(self, backend: Any, key: str) -> None:
        ttl = self.shortest_ttl
        backend.set(key, b"first", ttl)
        backend.set(key, b"second", ttl + 60)
        backend.set(key + "2", b"first", ttl)
        backend.set(key + "2", b"second")
        self.wait(ttl + 1.0)
        assert backend.get(key) == b"second"
        assert backend.get(key + "2") == b"second", "set without a ttl keeps an entry until it is deleted"

    # ---- health

    def test_health(self, backend: Any) -> None:
        healthy, details = backend.health_check()
        assert healthy is True
        assert isinstance(details["backend_type"], str)
        assert details["latency_ms"] >= 0

    # ---- with cached functions

    def test_two_functions_share_an_entry(self, backend: Any) -> None:
        namespace = uuid4().hex
        runs: list[int] = []

        def function() -> Any:
            @cache(backend=backend, ttl=60, namespace=namespace, l1_enabled=False)
            def load(x: int) -> dict[str, int]:
                runs.append(x)
                return {"x": x}

            return load

        writer, reader = function(), function()
        assert writer(1) == reader(1) == reader(1) == {"x": 1}
        assert runs == [1]
        reader.invalidate_cache(1)
        assert writer(1) == {"x": 1}
        assert runs == [1, 1]
        writer(2)
        reader.cache_clear()
        assert (writer(1), writer(2)) == ({"x": 1}, {"x": 2})
        assert runs == [1, 1, 2, 1, 2]

    def test_tasks_share_an_entry(self, backend: Any) -> None:
        namespace = uuid4().hex
        runs: list[int] = []

        @cache(backend=backend, ttl=60, namespace=namespace, l1_enabled=False)
        async def load(x: int) -> int:
            runs.append(x)
            await asyncio.sleep(0.01)
            return x

        async def use() -> None:
            assert await asyncio.gather(*(load(7) for _ in range(20))) == [7] * 20
            assert await load(7) == 7

        asyncio.run(use())
        assert runs == [7]

    def test_after_a_fork(self, backend: Any, key: str) -> None:
        import multiprocessing

        backend.set(key, b"value", 60)
        context = multiprocessing.get_context("fork")
        found = context.SimpleQueue()
        child = context.Process(target=lambda: found.put(backend.get(key)))
        child.start()
        child.join(20)
        alive = child.is_alive()
        if alive:
            child.kill()
        assert not alive, "the child hangs"
        assert child.exitcode == 0
        assert found.get() == b"value"
        assert backend.get(key) == b"value", "the parent's connection broke"


class OutageContract(_Contract):
    """What a backend does when its store is away. Give the fixture ``unreachable`` too."""

    @pytest.fixture
    def unreachable(self) -> Any:
        """The same kind of backend with no store behind it."""
        raise NotImplementedError("give this class a fixture `unreachable` that returns a backend without a store")

    def test_a_store_that_is_away(self, unreachable: Any, key: str) -> None:
        for operation, arguments in (("get", ()), ("set", (b"value", 60)), ("delete", ()), ("exists", ())):
            with pytest.raises(BackendError) as caught:
                getattr(unreachable, operation)(key, *arguments)
            assert caught.value.is_transient or caught.value.is_timeout, "a store that is away may come back"
        try:
            healthy, _ = unreachable.health_check()
        except BackendError:
            return
        assert healthy is False

    def test_a_function_runs_when_the_store_is_away(self, unreachable: Any) -> None:
        @cache(backend=unreachable, ttl=60, namespace=uuid4().hex)
        def double(x: int) -> int:
            return 2 * x

        assert [double(21), double(21)] == [42, 42]


class TTLContract(_Contract):
    """What a backend that is a `TTLInspectableBackend` does."""

    keeps_forever = True
    """Whether an entry that is stored without a ttl has no end, rather than one that the store chooses."""

    def test_ttl_inspection(self, backend: Any, key: str) -> None:
        assert _is_a(backend, TTLInspectableBackend)

        async def inspect() -> None:
            assert await backend.get_ttl(key) is None
            assert await backend.refresh_ttl(key, 60) is False
            backend.set(key, b"value", 60)
            assert 58 <= (await backend.get_ttl(key) or 0) <= 60
            assert await backend.refresh_ttl(key, 600) is True
            assert 590 <= (await backend.get_ttl(key) or 0) <= 600
            backend.set(key, b"value")
            left = await backend.get_ttl(key)
            assert (left is None) if self.keeps_forever else (left is not None and left > 600)

        asyncio.run(inspect())


class LockContract(_Contract):
    """What a backend that is a `LockableBackend` does."""

    def test_one_holds_the_lock(self, backend: Any, key: str) -> None:
        assert _is_a(backend, LockableBackend)

        async def contend() -> None:
            ours = await _asked(backend, key, 30.0)
            assert ours is not None
            assert await _asked(backend, key, 30.0) is None, "two hold it"
            assert await backend.release_lock(key, "another's id") is False
            assert await _asked(backend, key, 30.0) is None, "another's id released it"
            assert await backend.release_lock(key, ours) is True
            assert await backend.release_lock(key, ours) is False
            async with backend.acquire_lock(key, 30.0) as held:
                assert held is True
                async with backend.acquire_lock(key, 30.0) as again:
                    assert again is False
            async with backend.acquire_lock(key, 30.0) as held:
                assert held is True, "leaving the block did not release it"

        asyncio.run(contend())

    def test_a_lock_is_no_entry(self, backend: Any, key: str) -> None:
        async def hold() -> None:
            lock = await _asked(backend, key, 30.0)
            assert backend.get(key) is None
            backend.set(key, b"value")
            assert backend.get(key) == b"value"
            assert await backend.release_lock(key, str(lock)) is True
            assert backend.get(key) == b"value"

        asyncio.run(hold())

    def test_a_dead_holder_is_not_waited_for(self, backend: Any, key: str) -> None:
        async def outlive() -> None:
            dead = await _asked(backend, key, float(self.shortest_ttl))
            assert dead is not None
            self.wait(self.shortest_ttl + 1.0)
            ours = await _asked(backend, key, 30.0)
            assert ours is not None, "the lease did not end"
            assert await backend.release_lock(key, dead) is False, "a lock that ended released the next one's"
            assert await backend.release_lock(key, ours) is True

        asyncio.run(outlive())


class AsyncContract(_Contract):
    """What a backend with the coroutine methods ``get_async``, ``set_async``, … does."""

    def test_in_tasks(self, backend: Any, key: str) -> None:
        async def use() -> None:
            assert await backend.get_async(key) is None
            assert await backend.exists_async(key) is False
            await backend.set_async(key, b"value", 60)
            assert await backend.get_async(key) == backend.get(key) == b"value"
            assert await backend.exists_async(key) is True
            many = [backend.get_async(key) for _ in range(50)]
            assert await asyncio.gather(*many) == [b"value"] * 50
            reading = asyncio.ensure_future(_task(lambda: backend.get_async(key)))
            await asyncio.sleep(0)
            reading.cancel()
            assert await backend.get_async(key + "2") is None, "a cancelled read's answer went to the next"
            assert await backend.delete_async(key) is True
            assert await backend.delete_async(key) is False
            healthy, _ = await backend.health_check_async()
            assert healthy is True

        asyncio.run(use())
        asyncio.run(use())  # in another loop


def _is_a(backend: Any, protocol: Any) -> bool:
    return isinstance(backend, protocol)


async def _asked(backend: Any, key: str, timeout: float) -> Any:
    """The lock's id, or None; with what ``acquire_lock`` returns awaited."""
    return await backend.acquire_lock(key, timeout)


async def _task(make: Callable[[], Awaitable[Any]]) -> Any:
    return await make()
