"""Entries exchanged with the published package, through a real Redis.

What one stores, the other finds: under the bare key with an explicit backend, and under the tenant's with the one that
the environment configures. That holds for functions that are keyed by their arguments. Not exchanged are

- entries of functions with ``key=``: the published package puts a prefix of its own before the key;
- entries after a ``cache_clear()`` of ours, on the published side: it does not know that they are to be forgotten.

Entries of interop mode are the same on both sides, byte for byte.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from tests.integration.published import Published
from tests.integration.support import PROGRAMS
from tests.support.redis_servers import RedisServer

pytestmark = pytest.mark.skipif(sys.version_info < (3, 10), reason="the published package needs Python 3.10")
WAYS = pytest.mark.parametrize("explicit", [True, False], ids=["explicit-backend", "zero-config"])
ENCRYPTED = {
    "encryption": True,
    "master_key": "0123456789abcdef" * 4,
    "single_tenant_mode": True,
    "deployment_uuid": "12345678-1234-1234-1234-123456789abc",
}
OPTIONS = pytest.mark.parametrize(
    "options",
    [{}, {"integrity_checking": False}, {"namespace": "the shop"}, ENCRYPTED],
    ids=["default", "integrity-off", "namespace", "encrypted"],
)


@pytest.fixture(scope="module")
def published(_session_redis: RedisServer) -> Iterator[Published]:
    package = Published(_session_redis.url)
    yield package
    package.stop()


@pytest.fixture
def exchanged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module that both sides import under this name."""
    monkeypatch.syspath_prepend(str(PROGRAMS))
    import exchanged  # pyright: ignore[reportMissingImports]

    yield exchanged
    del sys.modules["exchanged"]


class Ours:
    """As `Published`, for the package under test."""

    def __init__(self, module: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._module = module
        self._url = url
        monkeypatch.setenv("CACHEKIT_REDIS_URL", url)

    def cached(self, function: str, *, explicit: bool, options: dict[str, Any]) -> Any:
        where: dict[str, Any] = {"backend": RedisBackend(self._url)} if explicit else {}
        decorate: Any = cache(ttl=60, l1_enabled=False, **where, **options)
        return decorate(self._module.FUNCTIONS[function])

    def call(
        self, function: str, names: Iterable[str], *, explicit: bool, options: dict[str, Any]
    ) -> tuple[list[str], list[str]]:
        cached = self.cached(function, explicit=explicit, options=options)

        async def all_of_them() -> list[Any]:
            return [await self._module.call(cached, name) for name in names]

        self._module.ran.clear()
        if inspect.iscoroutinefunction(cached.__wrapped__):
            values = asyncio.run(all_of_them())
        else:
            values = [self._module.call(cached, name) for name in names]
        return list(self._module.ran), [self._module.shown(value) for value in values]


@pytest.fixture
def ours(exchanged: Any, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Ours:
    return Ours(exchanged, redis_server.url, monkeypatch)


@pytest.fixture(params=["they-write", "we-write"])
def sides(request: pytest.FixtureRequest, ours: Ours, published: Published) -> tuple[Any, Any]:
    """Who stores, and who is to find."""
    return (published, ours) if request.param == "they-write" else (ours, published)


def entries(server: RedisServer) -> list[str]:
    """The keys of entries: neither of locks nor of what either side keeps beside them."""
    return [key for key in server.keys("*") if ":args:" in key and not key.endswith(":lock")]


@WAYS
@OPTIONS
@pytest.mark.parametrize("function", ["value", "avalue"])
def test_values(
    sides: tuple[Any, Any],
    exchanged: Any,
    redis_server: RedisServer,
    explicit: bool,
    options: dict[str, Any],
    function: str,
) -> None:
    writer, reader = sides
    names = list(exchanged.VALUES)
    wanted = [repr(value) for value in exchanged.VALUES.values()]
    assert writer.call(function, names, explicit=explicit, options=options) == (names, wanted)
    stored = entries(redis_server)
    assert len(stored) == len(names)
    assert all(key.startswith("t:default:") != explicit for key in stored)
    assert reader.call(function, names, explicit=explicit, options=options) == ([], wanted)
    assert entries(redis_server) == stored


@WAYS
def test_arguments(sides: tuple[Any, Any], exchanged: Any, redis_server: RedisServer, explicit: bool) -> None:
    """Each call's entry, and no other's, is found by the other side."""
    writer, reader = sides
    for name in exchanged.CALLS:
        ran, (wanted,) = writer.call("echo", [name], explicit=explicit, options={})
        assert ran == ["echo"], name
        assert reader.call("echo", [name], explicit=explicit, options={}) == ([], [wanted]), name
    assert len(entries(redis_server)) == len(exchanged.CALLS)


def test_functions_of_classes(sides: tuple[Any, Any], exchanged: Any) -> None:
    """Their names have dots."""
    writer, reader = sides
    assert writer.call("Shop.price", ["int"], explicit=True, options={})[0] == ["int"]
    assert reader.call("Shop.price", ["int"], explicit=True, options={}) == ([], [repr(exchanged.VALUES["int"])])


def test_tuples_come_back_as_lists(sides: tuple[Any, Any]) -> None:
    writer, reader = sides
    writer.call("value", ["tuple"], explicit=True, options={})
    assert reader.call("value", ["tuple"], explicit=True, options={}) == ([], ["[1, [2, 3]]"])


def test_an_entry_that_we_forget_is_gone_for_them(ours: Ours, published: Published, exchanged: Any) -> None:
    published.call("value", ["int"], explicit=True, options={})
    ours.cached("value", explicit=True, options={}).invalidate_cache("int")
    assert published.call("value", ["int"], explicit=True, options={})[0] == ["int"]


def test_after_a_clear_we_do_not_find_theirs_of_before(ours: Ours, published: Published) -> None:
    """And ours of after it are found by them."""
    published.call("value", ["int"], explicit=True, options={})
    ours.cached("value", explicit=True, options={}).cache_clear()
    assert ours.call("value", ["int"], explicit=True, options={})[0] == ["int"]
    assert published.call("value", ["int"], explicit=True, options={})[0] == []
    assert ours.call("value", ["int"], explicit=True, options={})[0] == []


def test_entries_of_key_functions_are_not_exchanged(
    ours: Ours, published: Published, redis_server: RedisServer
) -> None:
    """The statement above, kept true."""
    assert published.call("value", ["int"], explicit=True, options={"key": "str"})[0] == ["int"]
    cached = ours.cached("value", explicit=True, options={"key": str})
    assert redis_server.keys("*int") not in ([], [cached.key_for("int")])
    assert ours.call("value", ["int"], explicit=True, options={"key": str})[0] == ["int"]


# ---- interop mode: keys and values are the same to the byte

INTEROP: dict[str, Any] = {"namespace": "shop", "interop": "value"}
OUTSIDE = {"nan", "infinity", "minus-infinity", "bytes-keys"}


def stored(server: RedisServer) -> dict[str, Any]:
    with server.client() as client:
        return {key: client.call("GET", key) for key in server.keys("shop:*") if not key.endswith(":lock")}


def in_order(value: Any) -> Any:
    """Maps are stored in the order of their keys."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    return [in_order(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("function", ["value", "avalue"])
def test_interop_values(sides: tuple[Any, Any], exchanged: Any, redis_server: RedisServer, function: str) -> None:
    writer, reader = sides
    names = [name for name in exchanged.VALUES if name not in OUTSIDE]
    wanted = [repr(in_order(exchanged.VALUES[name])) for name in names]
    given = [repr(exchanged.VALUES[name]) for name in names]
    assert writer.call(function, names, explicit=True, options=INTEROP) == (names, given)
    entries = stored(redis_server)
    assert len(entries) == len(names)
    assert reader.call(function, names, explicit=True, options=INTEROP) == ([], wanted)
    assert stored(redis_server) == entries


def test_interop_entries_are_the_same_bytes(
    ours: Ours, published: Published, exchanged: Any, redis_server: RedisServer
) -> None:
    names = [name for name in exchanged.VALUES if name not in OUTSIDE]
    published.call("value", names, explicit=True, options=INTEROP)
    theirs = stored(redis_server)
    redis_server.flush()
    ours.call("value", names, explicit=True, options=INTEROP)
    assert len(theirs) == len(names)
    assert stored(redis_server) == theirs


def test_interop_arguments(sides: tuple[Any, Any], exchanged: Any, redis_server: RedisServer) -> None:
    """Each call's entry is found by the other side; numbers that are equal are one call."""
    writer, reader = sides
    options = {**INTEROP, "interop": "echo"}
    names = [name for name in exchanged.CALLS if name not in ("nan", "int-as-float")]
    for name in names:
        ran, (wanted,) = writer.call("echo", [name], explicit=True, options=options)
        assert ran == ["echo"], name
        assert reader.call("echo", [name], explicit=True, options=options) == ([], [wanted]), name
    assert len(stored(redis_server)) == len(names)
    assert reader.call("echo", ["int-as-float"], explicit=True, options=options)[0] == []


def test_interop_entries_that_we_clear_are_gone_for_them(ours: Ours, published: Published) -> None:
    published.call("value", ["int", "str"], explicit=True, options=INTEROP)
    function = ours.cached("value", explicit=True, options=INTEROP)
    function("int")
    function.cache_clear()
    assert published.call("value", ["int", "str"], explicit=True, options=INTEROP)[0] == ["int"]


# ---- the other serializers

# Of `VALUES`, what JSON holds as it is. Texts of one character, zero's, the published package does not read, its own
# neither.
JSON = [
    *("none", "true", "false", "int", "largest", "smallest", "float", "negative-zero", "denormal", "str", "empty-str"),
    *("list", "empty-list", "empty-dict", "long-str"),
]
RICH = [
    "set",
    "frozenset",
    "tuple",
    "uuid",
    "deep",
    "array",
    "array-of-floats",
    "array-of-bools",
    "array-without-dimensions",
    "array-in-a-dict",
    "series",
    "series-of-text",
]
FRAMES = ["frame", "frame-with-index", "frame-of-times", "frame-of-categories", "empty-frame", "large-frame"]
OF_AUTO = ["none", "largest", "nan", "str", "bytes", "dict", "datetime", "date", "time", "long-list"]
AROUND = pytest.mark.parametrize(
    ("options", "serializer", "function", "names"),
    [
        (options, *case)
        for options in ({}, {"integrity_checking": False}, ENCRYPTED)
        for case in (
            ("auto", "rich", RICH + FRAMES),
            ("auto", "arich", RICH + FRAMES),
            ("auto", "value", OF_AUTO),
            ("orjson", "value", JSON),
            ("arrow", "rich", FRAMES),
            ("arrow", "arich", FRAMES),
        )
        # The published package encrypts no values of auto. Coroutines differ in nothing but the way to Redis.
        if (options is not ENCRYPTED or case[0] != "auto") and (not options or case[1] != "arich")
    ],
)


@AROUND
def test_serializers(
    sides: tuple[Any, Any],
    exchanged: Any,
    redis_server: RedisServer,
    options: dict[str, Any],
    serializer: str,
    function: str,
    names: list[str],
) -> None:
    """What one stores with a serializer comes back on the other side, of the same types."""
    writer, reader = sides
    made = exchanged.VALUES if function == "value" else {name: exchanged.RICH[name]() for name in names}
    wanted = [exchanged.shown(made[name]) for name in names]
    with_serializer = {**options, "serializer": serializer}
    for name, shown in zip(names, wanted):
        assert writer.call(function, [name], explicit=True, options=with_serializer) == ([name], [shown])
        assert reader.call(function, [name], explicit=True, options=with_serializer) == ([], [shown]), name
    assert len(entries(redis_server)) == len(names)
