"""Cached functions where programs put them: methods, web frameworks, partials, tasks, contexts, other event loops."""

# The checker reads this file as Python 3.9's; what came later is guarded where it is used.
# pyright: reportAttributeAccessIssue=false, reportUndefinedVariable=false, reportRedeclaration=false
from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import logging
import os
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from cachekit.config.nested import L1CacheConfig
from tests.integration.kinds import Gate, Kind, ended
from tests.integration.support import Runs, together
from tests.support.redis_servers import RedisServer


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def shared(backend: RedisBackend, namespace: str) -> dict[str, Any]:
    return {"backend": backend, "namespace": namespace}


# --- methods -------------------------------------------------------------------------------------------------------


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


# --- web frameworks ------------------------------------------------------------------------------------------------


async def test_fastapi(layers: dict[str, Any], runs: Runs) -> None:
    import fastapi
    import httpx

    app = fastapi.FastAPI()

    @app.get("/async/{item}")
    @cache(**layers)
    async def read_async(item: int, q: str = "none") -> dict[str, Any]:
        return {"item": item, "q": q, "run": runs()}

    @app.get("/sync/{item}")
    @cache(**layers)
    def read_sync(item: int, q: str = "none") -> dict[str, Any]:
        return {"item": item, "q": q, "run": runs()}

    @cache(**layers)
    async def current_user(token: str) -> dict[str, Any]:
        return {"user": token, "run": runs()}

    @app.get("/depends")
    async def depends(user: Any = fastapi.Depends(current_user)) -> Any:  # noqa: B008 - how it is written
        return user

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

        async def get(path: str) -> Any:
            return (await client.get(path)).json()

        for path in ("/async", "/sync"):
            run = runs.count + 1
            for _ in range(3):
                assert await get(f"{path}/1?q=x") == {"item": 1, "q": "x", "run": run}
            assert await get(f"{path}/2") == {"item": 2, "q": "none", "run": run + 1}
            assert (await client.get(f"{path}/text")).status_code == 422
        assert await get("/depends?token=t") == await get("/depends?token=t") == {"user": "t", "run": runs.count}
        assert (await client.get("/depends")).status_code == 422
        schema = await get("/openapi.json")
        names = [parameter["name"] for parameter in schema["paths"]["/async/{item}"]["get"]["parameters"]]
        assert names == ["item", "q"]
        found = await asyncio.gather(*(get("/async/9") for _ in range(20)))
        assert len({answer["run"] for answer in found}) == 1, "one run for all requests"


async def test_starlette(layers: dict[str, Any], runs: Runs) -> None:
    import httpx
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    function = Kind("sync").cached(lambda x: runs(), **layers)
    afunction = Kind("async").cached(lambda x: runs(), **layers)

    def endpoint(request: Any) -> Any:
        return JSONResponse(function(request.path_params["x"]))

    async def aendpoint(request: Any) -> Any:
        found = await afunction(request.path_params["x"]), await run_in_threadpool(function, request.path_params["x"])
        return JSONResponse(found)

    app = Starlette(routes=[Route("/async/{x}", aendpoint), Route("/sync/{x}", endpoint)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        paths = ("/sync/1", "/sync/1", "/async/1", "/async/1")
        assert [(await client.get(path)).json() for path in paths] == [1, 1, [2, 1], [2, 1]]


def test_flask(layers: dict[str, Any], runs: Runs) -> None:
    import flask

    app = flask.Flask(__name__)

    @app.route("/item/<int:item>")
    @cache(**layers)
    def read(item: int) -> dict[str, int]:
        return {"item": item, "run": runs()}

    assert app.url_map.bind("test").match("/item/1") == ("read", {"item": 1})
    with app.test_client() as client:
        assert [client.get("/item/1").json for _ in range(3)] == [{"item": 1, "run": 1}] * 3
        assert client.get("/item/2").json == {"item": 2, "run": 2}
        assert client.get("/item/text").status_code == 404

    def request(_: int) -> Any:
        with app.test_client() as client:
            return client.get("/item/3").json

    assert together(16, request) == [{"item": 3, "run": 3}] * 16


# --- partials and wrappers -----------------------------------------------------------------------------------------


async def test_partials(kind: Kind, layers: dict[str, Any], runs: Runs) -> None:
    function = kind.cached(lambda x: runs(), **layers)
    partial = functools.partial(function, factor=3)
    assert [await ended(partial(1)) for _ in range(2)] == [1, 1]
    assert await ended(function(1, factor=3)) == 1
    assert await ended(functools.partial(function, 1, factor=3)()) == 1
    assert inspect.signature(partial).parameters["x"].name == "x"
    # Before 3.12 a marked wrapper of a coroutine function was not always seen as one.
    assert asyncio.iscoroutinefunction(partial.func) is kind.is_async


async def test_wrapped_by_another_decorator(kind: Kind, layers: dict[str, Any], runs: Runs) -> None:
    function = kind.cached(lambda x: runs(), **layers)

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    assert [await ended(wrapper(1)) for _ in range(2)] == [1, 1]
    assert wrapper.__wrapped__ is function
    assert list(inspect.signature(wrapper).parameters) == ["x", "factor"]


# --- tasks ---------------------------------------------------------------------------------------------------------


async def test_gather_and_tasks(layers: dict[str, Any], runs: Runs) -> None:
    function = Kind("async").cached(lambda x: runs(), **layers)
    for _ in range(2):  # misses, then hits
        assert await asyncio.gather(*(function(1) for _ in range(10))) == [1] * 10
        tasks = [asyncio.create_task(function(1)) for _ in range(3)]
        assert await asyncio.gather(*tasks) == [1] * 3
        done, pending = await asyncio.wait([asyncio.ensure_future(function(1)) for _ in range(3)])
        assert [task.result() for task in done] == [1] * 3
        assert not pending
        assert [await next_ for next_ in asyncio.as_completed([function(1), function(1)])] == [1, 1]
        assert await asyncio.wait_for(function(1), 5) == 1
        assert await asyncio.shield(function(1)) == 1
    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(function(1), loop).result(10)) == 1
    assert runs.count == 1


async def test_wait_for_gives_up_alone(layers: dict[str, Any], runs: Runs) -> None:
    gate = Gate()
    function = Kind("async").cached(lambda x: runs(), gate, **layers)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(function(1), 0.05)
    gate.open()
    assert await asyncio.wait_for(function(1), 10) == 2
    assert await asyncio.wait_for(function(1), 10) == 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout and TaskGroup came with 3.11")
async def test_timeout_and_task_groups(layers: dict[str, Any], runs: Runs) -> None:
    gate = Gate()
    function = Kind("async").cached(lambda x: runs(), gate, **layers)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await function(1)
    gate.open()
    async with asyncio.timeout(10):
        assert await function(1) == 2
        assert await function(1) == 2
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(function(x)) for x in (1, 1, 2, 2)]
    assert [task.result() for task in tasks] == [2, 2, 3, 3]

    @cache(**layers)
    async def fails(x: int) -> int:
        raise LookupError(x)

    with pytest.raises(ExceptionGroup) as raised:  # noqa: F821 - a builtin since 3.11
        async with asyncio.TaskGroup() as group:
            group.create_task(fails(1))
    assert isinstance(raised.value.exceptions[0], LookupError)


# --- coroutines ----------------------------------------------------------------------------------------------------


async def warm(function: Any, is_hit: bool) -> None:
    if is_hit:
        await function(1)


@pytest.fixture(params=[False, True], ids=["miss", "hit"])
def is_hit(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_never_awaited_is_said(layers: dict[str, Any], runs: Runs) -> None:
    """Where the function would have run: a forgotten await is then a bug. The warning names the function."""
    function = Kind("async").cached(lambda x: runs(), **layers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(1)
        gc.collect()
    assert len(caught) == 1, [str(warning.message) for warning in caught]
    assert caught[0].category is RuntimeWarning
    assert "was never awaited" in str(caught[0].message)
    assert runs.count == 0


async def test_awaiting_twice_is_refused(layers: dict[str, Any], runs: Runs, is_hit: bool) -> None:
    function = Kind("async").cached(lambda x: runs(), **layers)
    await warm(function, is_hit)
    coroutine = function(1)
    assert await coroutine == 1
    with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
        await coroutine


async def test_it_is_a_coroutine(layers: dict[str, Any], runs: Runs, is_hit: bool) -> None:
    from collections.abc import Coroutine

    function = Kind("async").cached(lambda x: runs(), **layers)
    await warm(function, is_hit)
    coroutine = function(1)
    assert isinstance(coroutine, Coroutine)
    assert inspect.isawaitable(coroutine)
    assert asyncio.iscoroutine(coroutine)
    coroutine.close()
    coroutine.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
        await coroutine


async def test_throwing_into_one_that_has_not_begun(layers: dict[str, Any], runs: Runs, is_hit: bool) -> None:
    function = Kind("async").cached(lambda x: runs(), **layers)
    await warm(function, is_hit)
    coroutine = function(1)
    with pytest.raises(LookupError, match="thrown"):
        coroutine.throw(LookupError("thrown"))
    with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
        await coroutine
    assert await function(1) == 1


async def test_throwing_into_one_that_runs(namespace: str, runs: Runs) -> None:
    """The function sees it where it waits, as without the cache; the next caller leads."""
    seen: list[BaseException] = []

    @cache(backend=None, namespace=namespace)
    async def function(x: int) -> int:
        if runs() == 1:
            try:
                await asyncio.sleep(60)
            except LookupError as error:
                seen.append(error)
                raise
        return runs.count

    coroutine = function(1)
    coroutine.send(None)
    with pytest.raises(LookupError, match="thrown"):
        coroutine.throw(LookupError("thrown"))
    assert len(seen) == 1
    assert await asyncio.wait_for(function(1), 10) == 2

    closed = function(2)
    other = function(3)
    runs_before = runs.count
    assert await other == runs_before + 1
    closed.close()
    assert await asyncio.wait_for(function(2), 10) == runs_before + 2


# --- context -------------------------------------------------------------------------------------------------------

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


async def test_context_variables_reach_the_function_and_come_back(kind: Kind, layers: dict[str, Any]) -> None:
    def body(x: int) -> str:
        before = user.get()
        user.set(f"set by {x}")
        return before

    function = kind.cached(body, **layers)
    token = user.set("caller")
    try:
        assert await ended(function(1)) == "caller"
        assert user.get() == ("set by 1" if not kind.is_async else user.get())
        user.set("another")
        assert await ended(function(1)) == "caller", "a hit"
        assert user.get() == "another"
    finally:
        user.reset(token)


async def test_each_task_has_its_own_context(layers: dict[str, Any]) -> None:
    function = Kind("async").cached(lambda x: user.get(), **layers)

    async def as_user(x: int) -> str:
        user.set(f"user {x}")
        return await function(x)

    found = await asyncio.gather(*(as_user(x) for x in range(5)))
    assert found == [f"user {x}" for x in range(5)]
    assert user.get() == "nobody"


# --- loops ---------------------------------------------------------------------------------------------------------


async def _work(function: Any, x: int) -> list[Any]:
    return list(await asyncio.gather(*(function(x) for _ in range(20)), *(function(x + 1) for _ in range(20))))


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is for POSIX")
def test_uvloop(layers: dict[str, Any], runs: Runs) -> None:
    import uvloop

    function = Kind("async").cached(lambda x: runs(), **layers)
    for round_ in range(3):
        loop = uvloop.new_event_loop()
        try:
            found = loop.run_until_complete(_work(function, 1))
            assert found == [found[0]] * 20 + [found[-1]] * 20
            loop.run_until_complete(function.ainvalidate_cache(1))
        finally:
            loop.close()
        assert runs.count == 2 + round_
    assert function.peek(1) is None


def resident() -> int:
    """Bytes of memory in use by this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loops_that_come_and_go_leave_nothing(shared: dict[str, Any], runs: Runs) -> None:
    function = Kind("async").cached(lambda x: runs(), **{**shared, "l1_enabled": False})

    def rounds(count: int) -> None:
        for x in range(count):
            asyncio.run(_work(function, x % 7))

    rounds(30)
    gc.collect()
    memory, open_ = resident(), descriptors()
    rounds(200)
    gc.collect()
    assert descriptors() <= open_ + 1
    assert resident() - memory < 4 << 20


# --- garbage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_redis", [False, True], ids=["l1", "redis"])
async def test_functions_made_in_a_loop_are_collected(
    kind: Kind, in_redis: bool, namespace: str, request: pytest.FixtureRequest
) -> None:
    backend = RedisBackend(request.getfixturevalue("redis_server").url) if in_redis else None
    options = {"backend": backend, "namespace": namespace}
    references: list[weakref.ref[Any]] = []

    async def make(fill: int) -> None:
        function = kind.cached(lambda x: bytes([x]) * fill, **options)
        for x in range(4):
            await ended(function(x))
            await ended(function(x))
        references.append(weakref.ref(function))
        references.append(weakref.ref(function.__wrapped__))

    for _ in range(20):
        await make(100_000)
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_their_entries_go_with_them(kind: Kind, namespace: str) -> None:
    """A megabyte each, in an L1 that has room for a thousand."""
    options = {"backend": None, "namespace": namespace, "l1": L1CacheConfig(max_size_mb=1000)}

    async def make() -> None:
        function = kind.cached(lambda x: bytearray(b"x") * (1 << 20), copy=False, **options)
        await ended(function(1))
        assert function.cache_info().currsize == 1

    for _ in range(5):
        await make()
    gc.collect()
    before = resident()
    for _ in range(60):
        await make()
        gc.collect()
    assert resident() - before < 20 << 20


async def test_values_go_with_the_function(kind: Kind, namespace: str) -> None:
    class Value:
        pass

    values: list[weakref.ref[Value]] = []

    def body(x: int) -> Value:
        value = Value()
        values.append(weakref.ref(value))
        return value

    function: Callable[..., Any] | None = kind.cached(body, backend=None, namespace=namespace)
    assert function is not None
    await ended(function(1))
    gc.collect()
    assert values[0]() is not None
    function = None
    gc.collect()
    assert values[0]() is None
