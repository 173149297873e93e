"""Methods of every kind over both layers: what is shared by objects, classes and processes."""

# pyright: reportRedeclaration=false

from __future__ import annotations

import logging
from typing import Any

import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from tests.integration.kinds import ended
from tests.integration.support import Runs
from tests.support.redis_servers import RedisServer


def service(layers: dict[str, Any], runs: Runs) -> Any:
    """A class with methods of every kind; each returns its arguments' product and the number of its run."""

    class Service:
        number = 3

        @cache(**layers)
        @staticmethod
        def outer_static(x: int) -> tuple[int, int]:
            return x, runs()

        @staticmethod
        @cache(**layers)
        def inner_static(x: int) -> tuple[int, int]:
            return x, runs()

        @cache(**layers)
        @staticmethod
        async def outer_static_async(x: int) -> tuple[int, int]:
            return x, runs()

        @staticmethod
        @cache(**layers)
        async def inner_static_async(x: int) -> tuple[int, int]:
            return x, runs()

        @cache(**layers)
        @classmethod
        def outer_class(cls, x: int) -> tuple[int, int]:
            return cls.number * x, runs()

        @classmethod
        @cache(**layers)
        def inner_class(cls, x: int) -> tuple[int, int]:
            return cls.number * x, runs()

        @cache(**layers)
        @classmethod
        async def outer_class_async(cls, x: int) -> tuple[int, int]:
            return cls.number * x, runs()

        @classmethod
        @cache(**layers)
        async def inner_class_async(cls, x: int) -> tuple[int, int]:
            return cls.number * x, runs()

    class Heir(Service):
        number = 5

    return Service, Heir


@pytest.mark.parametrize("suffix", ["", "_async"])
@pytest.mark.parametrize("order", ["outer", "inner"])
async def test_static_methods(layers: dict[str, Any], runs: Runs, order: str, suffix: str) -> None:
    base, heir = service(layers, runs)
    name = f"{order}_static{suffix}"
    found = [list(await ended(getattr(owner, name)(2))) for owner in (base, base(), heir, heir(), base)]
    assert found == [[2, 1]] * 5, "one function, however it is reached"
    assert list(await ended(getattr(base, name)(x=3))) == [3, 2]


@pytest.mark.parametrize("suffix", ["", "_async"])
@pytest.mark.parametrize("order", ["outer", "inner"])
async def test_class_methods(namespace: str, runs: Runs, order: str, suffix: str) -> None:
    base, heir = service({"backend": None, "namespace": namespace}, runs)
    name = f"{order}_class{suffix}"
    found = [list(await ended(getattr(owner, name)(2))) for owner in (base, base(), heir, heir(), base)]
    assert found == [[6, 1], [6, 1], [10, 2], [10, 2], [6, 1]], "a class is part of the key, its objects are not"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_an_object_without_a_key_stays_in_the_process(
    is_async: bool,
    redis_server: RedisServer,
    shared: dict[str, Any],
    runs: Runs,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Thing:
        if is_async:

            @cache(**shared)
            async def method(self, x: int) -> int:
                return runs()

        else:

            @cache(**shared)
            def method(self, x: int) -> int:
                return runs()

    one, two = Thing(), Thing()
    assert [await ended(thing.method(1)) for thing in (one, one, two, two)] == [1, 1, 2, 2]
    assert redis_server.keys() == []
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1, said
    assert "in this process only" in said[0]
    assert "__cache_key__" in said[0]
    assert "  " not in said[0], said[0]


class Account:
    """Can be found by its name, as those that processes share must be."""

    number = 7
    runs = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def __cache_key__(self) -> str:
        return self.name

    @cache(namespace="surface")
    def method(self, x: int) -> int:
        Account.runs += 1
        return Account.runs

    @cache(namespace="surface")
    async def amethod(self, x: int) -> int:
        Account.runs += 1
        return Account.runs

    @cache(namespace="surface")
    @classmethod
    def of_class(cls, x: int) -> int:
        Account.runs += 1
        return Account.runs


@pytest.mark.parametrize("name", ["method", "amethod", "of_class"])
async def test_objects_with_a_key_and_classes_share(
    name: str, redis_server: RedisServer, backend: RedisBackend, caplog: pytest.LogCaptureFixture
) -> None:
    import cachekit

    cachekit.set_default_backend(backend)
    Account.runs = 0
    call = Account.__dict__[name]
    function: Any = call.__func__ if isinstance(call, classmethod) else call
    await ended(function.cache_clear())
    found = [await ended(getattr(Account(name_), name)(1)) for name_ in "aabb"]
    assert found == ([1, 1, 1, 1] if name == "of_class" else [1, 1, 2, 2])
    owner = Account if name == "of_class" else Account("a")
    assert redis_server.keys(function.key_for(owner, 1)) != []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
