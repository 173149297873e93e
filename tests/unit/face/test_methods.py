"""Methods of every kind, reached in every way."""

from __future__ import annotations

import gc
import inspect
import pickle
import sys
import weakref
from typing import Any

import pytest

from cachekit import cache

calls: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    calls.clear()


class Service:
    def __init__(self, name: str = "a") -> None:
        self.name = name

    @cache(backend=None)
    def method(self, number: int, factor: int = 1) -> str:
        """A method."""
        calls.append((self.name, number))
        return self.name * number * factor

    @cache(backend=None)
    async def asynchronous(self, number: int) -> str:
        calls.append((self.name, number))
        return self.name * number

    @staticmethod
    @cache(backend=None)
    def static(number: int) -> int:
        calls.append(number)
        return number

    @cache(backend=None)
    @staticmethod
    def outer_static(number: int) -> int:
        calls.append(number)
        return number

    @classmethod
    @cache(backend=None)
    def of_class(cls, number: int) -> str:
        calls.append((cls, number))
        return cls.__name__ * number

    @cache(backend=None)
    @classmethod
    def outer_of_class(cls, number: int) -> str:
        calls.append((cls, number))
        return cls.__name__ * number

    @property
    @cache(backend=None)
    def value(self) -> int:
        calls.append(self.name)
        return 5

    @cache(backend=None)
    def nothing(self) -> int:
        calls.append(self.name)
        return 5


class Heir(Service):
    pass


class Keyed:
    def __init__(self, name: str) -> None:
        self.name = name

    def __cache_key__(self) -> str:
        return self.name

    @cache(backend=None)
    def method(self) -> str:
        calls.append(self.name)
        return self.name


def test_each_object_has_its_own_entries() -> None:
    one, two = Service("a"), Service("b")
    assert [one.method(2), one.method(2), two.method(2), two.method(2)] == ["aa", "aa", "bb", "bb"]
    assert calls == [("a", 2), ("b", 2)]


def test_objects_with_a_key_share() -> None:
    assert [Keyed("a").method(), Keyed("a").method(), Keyed("b").method()] == ["a", "a", "b"]
    assert calls == ["a", "b"]


def test_a_bound_method_is_like_one() -> None:
    service = Service()
    bound: Any = service.method
    assert bound(2) == bound(number=2) == "aa"
    assert bound.__self__ is service
    assert bound.__func__ is Service.method
    assert bound.__name__ == "method"
    assert bound.__doc__ == "A method."
    assert bound == service.method
    assert hash(bound) == hash(service.method)
    assert bound != Service().method
    assert bound != 5
    assert str(inspect.signature(bound)) == "(number: 'int', factor: 'int' = 1) -> 'str'"
    assert "Service.method" in repr(bound)
    assert bound.cache_info()[:4] == Service.method.cache_info()[:4]


@pytest.mark.skipif(sys.version_info < (3, 10), reason="inspect looks at the class before 3.10")
def test_a_bound_coroutine_method_is_seen_as_one() -> None:
    assert inspect.iscoroutinefunction(Service().asynchronous)
    assert inspect.iscoroutinefunction(Service.asynchronous)
    assert not inspect.iscoroutinefunction(Service().method)


def test_bound_methods_pickle() -> None:
    service = pickle.loads(pickle.dumps(Keyed("a").method if False else Heir("z").method))
    assert service(1) == "z"


def test_invalidation_through_the_object() -> None:
    one, two = Service("a"), Service("b")
    one.method(1)
    one.method(2)
    two.method(1)
    calls.clear()
    one.method.invalidate_cache(1)
    one.method(1)
    one.method(2)
    two.method(1)
    assert calls == [("a", 1)]
    one.method.invalidate_cache(number=2, factor=1)
    one.method(2)
    assert calls == [("a", 1), ("a", 2)]
    Service.method.invalidate_cache(two, 1)
    two.method(1)
    assert calls[2:] == [("b", 1)]


def test_an_invalidation_does_not_warn_of_calls_that_nobody_made(caplog: pytest.LogCaptureFixture) -> None:
    one = Service()
    one.method(1)
    one.method.invalidate_cache(1)
    one.nothing()
    one.nothing.invalidate_cache()
    Service.of_class(1)
    Service.of_class.invalidate_cache(1)
    by_key = cache(backend=None, namespace="silent", key=lambda by_position, /: str(by_position))(lambda number: number)
    by_key(1)
    by_key.invalidate_cache(1)
    of_tenants = cache(backend=None, namespace="silent", tenant_extractor=lambda *args: args[0])(lambda org: org)
    of_tenants("a")
    of_tenants.invalidate_cache("a")
    assert not [record for record in caplog.records if "uncached" in record.message]
    assert (by_key.peek(1), of_tenants.peek("a")) == (None, None)


def test_without_arguments_everything_goes() -> None:
    one, two = Service("a"), Service("b")
    one.method(1)
    two.method(1)
    one.method.invalidate_cache()
    one.method(1)
    two.method(1)
    assert len(calls) == 4
    one.nothing()
    two.nothing()
    calls.clear()
    one.nothing.invalidate_cache()
    one.nothing()
    two.nothing()
    assert calls == ["a"]


def test_looking_through_the_object() -> None:
    service = Service()
    assert service.method.peek(1) is None
    service.method(1)
    assert service.method.peek(1) == "a"
    keyed = Keyed("a")
    assert keyed.method.key_for() == Keyed("a").method.key_for() != Keyed("b").method.key_for()


async def test_coroutine_methods() -> None:
    service = Service()
    assert await service.asynchronous(1) == await service.asynchronous(1) == "a"
    assert len(calls) == 1
    await service.asynchronous.invalidate_cache(1)
    await service.asynchronous(1)
    await service.asynchronous.ainvalidate_cache(1)
    await service.asynchronous(1)
    assert len(calls) == 3
    await service.method.ainvalidate_cache(1)


@pytest.mark.parametrize("name", ["static", "outer_static"])
def test_static_methods(name: str) -> None:
    static = getattr(Service, name)
    static.cache_clear()
    assert [static(1), getattr(Service(), name)(1), getattr(Heir, name)(1)] == [1, 1, 1]
    assert calls == [1]
    getattr(Service(), name).invalidate_cache(1)
    static(1)
    assert calls == [1, 1]


@pytest.mark.parametrize("name", ["of_class", "outer_of_class"])
def test_class_methods(name: str) -> None:
    for _ in range(2):
        assert [getattr(Service, name)(1), getattr(Heir(), name)(1)] == ["Service", "Heir"]
    assert calls == [(Service, 1), (Heir, 1)]
    getattr(Service, name).invalidate_cache(1)
    getattr(Service, name)(1)
    assert calls.count((Service, 1)) == 2


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "of_class",
            marks=pytest.mark.skipif(
                sys.version_info >= (3, 13),
                reason="a classmethod over @cache does not tell its class there: all is forgotten",
            ),
        ),
        "outer_of_class",
    ],
)
def test_invalidation_through_the_class(name: str) -> None:
    getattr(Service, name).cache_clear()
    for owner in (Service, Heir):
        getattr(owner, name)(1)
        getattr(owner, name)(2)
    calls.clear()
    getattr(Service(), name).invalidate_cache(1)
    for owner in (Service, Heir):
        getattr(owner, name)(1)
        getattr(owner, name)(2)
    assert calls == [(Service, 1)]
    assert getattr(Heir, name).key_for(1) != getattr(Service, name).key_for(1)
    assert getattr(Heir, name).peek(2) == "HeirHeir"


def test_properties() -> None:
    service = Service()
    assert service.value == service.value == 5
    assert len(calls) == 1


def test_objects_are_not_kept_alive() -> None:
    service = Service()
    service.method(1)
    gone = weakref.ref(service)
    del service
    gc.collect()
    assert gone() is None


def test_a_new_object_never_gets_an_old_ones_entry() -> None:
    seen = set()
    for number in range(200):
        service = Service(str(number))
        seen.add(service.method(1))
        del service
    assert len(seen) == 200
