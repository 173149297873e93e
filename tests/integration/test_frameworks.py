"""Cached functions in web frameworks and task queues."""

# Django and Celery have no types of their own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedFunctionDecorator=false, reportUntypedBaseClass=false

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cachekit import cache
from tests.integration.kinds import Kind
from tests.integration.support import Runs, together


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


@pytest.fixture(scope="session")
def django_app() -> Any:
    """Django with settings of its own; a test's views are the attribute `urlpatterns`."""
    import django
    from django.conf import settings

    urls: Any = types.ModuleType("tests.urls")
    urls.urlpatterns = []
    settings.configure(ALLOWED_HOSTS=["testserver"], ROOT_URLCONF=urls, SECRET_KEY="test")
    django.setup()
    return urls


@pytest.fixture
def routes(django_app: Any) -> Iterator[Callable[..., None]]:
    """Puts views at ``/{name}/{item}``."""
    from django.urls import clear_url_caches, path

    def add(**views: Any) -> None:
        django_app.urlpatterns[:] = [path(f"{name}/<int:item>", view) for name, view in views.items()]
        clear_url_caches()

    yield add
    add()


async def test_django(routes: Any, layers: dict[str, Any], runs: Runs) -> None:
    """What views call is shared by blocking and asynchronous views, on whatever thread Django runs them."""
    from asgiref.sync import sync_to_async
    from django.http import JsonResponse
    from django.test import AsyncClient, Client

    @cache(**layers)
    def price(item: int) -> int:
        return runs()

    def view(request: Any, item: int) -> Any:
        return JsonResponse(price(item), safe=False)

    async def aview(request: Any, item: int) -> Any:
        found = await asyncio.gather(
            *(sync_to_async(price, thread_sensitive=sensitive)(item) for sensitive in (True, False) * 3)
        )
        return JsonResponse(found, safe=False)

    routes(view=view, aview=aview)
    client = AsyncClient()
    assert [(await client.get(path)).json() for path in ("/aview/1", "/view/1")] == [[1] * 6, 1]
    blocking: Any = Client()
    found = await asyncio.to_thread(lambda: [blocking.get(path).json() for path in ("/view/2", "/aview/2")])
    assert found == [2, [2] * 6]
    answers = await asyncio.gather(*(AsyncClient().get(f"/{view}/3") for view in ("view", "aview") * 8))
    assert [answer.json() for answer in answers] == [3, [3] * 6] * 8


async def test_cached_django_views(routes: Any, namespace: str, runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    """A view is cached by its other arguments; with the request among them it runs, and the log says why."""
    from asgiref.sync import iscoroutinefunction
    from django.http import HttpResponse
    from django.test import AsyncClient, Client
    from django.views import View

    layers: dict[str, Any] = {"backend": None, "namespace": namespace, "ignore": ("request",)}
    in_class: dict[str, Any] = {**layers, "ignore": ("self", "request")}

    @cache(**layers)
    def view(request: Any, item: int) -> Any:
        return HttpResponse(b"%d" % runs())

    @cache(**layers)
    async def aview(request: Any, item: int) -> Any:
        return HttpResponse(b"%d" % runs())

    class Page(View):
        @cache(**in_class)
        def get(self, request: Any, item: int) -> Any:
            return HttpResponse(b"%d" % runs())

    @cache(backend=None, namespace=namespace)
    def whole(request: Any, item: int) -> Any:
        return HttpResponse(b"%d" % runs())

    assert (iscoroutinefunction(view), iscoroutinefunction(aview)) == (False, True)
    routes(view=view, aview=aview, page=Page.as_view(), whole=whole)

    def get(path: str) -> int:
        blocking: Any = Client().get
        return int(blocking(path).content)

    def requests() -> list[int]:
        return [get(path) for path in ("/view/1", "/view/1", "/view/2", "/aview/1", "/aview/1", "/page/1", "/page/1")]

    assert await asyncio.to_thread(requests) == [1, 1, 2, 3, 3, 4, 4]
    client = AsyncClient()
    assert [int((await client.get(path)).content) for path in ("/view/1", "/aview/1", "/page/1")] == [1, 3, 4]
    assert caplog.messages == []
    assert await asyncio.to_thread(lambda: [get("/whole/1"), get("/whole/1")]) == [5, 6]
    (said,) = [message for message in caplog.messages if "whole" in message]
    assert "request is of type django" in said
    assert "ignore=" in said


async def test_a_starlette_request_is_no_part_of_a_key(
    namespace: str, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a Mapping, but never taken for one."""
    import httpx
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    @cache(backend=None, namespace=namespace)
    def whole(request: Any) -> Any:
        return JSONResponse(runs())

    @cache(backend=None, namespace=namespace, key=lambda request: request.path_params["item"])
    async def keyed(request: Any) -> Any:
        return JSONResponse(runs())

    app = Starlette(routes=[Route("/whole/{item}", whole), Route("/keyed/{item}", keyed)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        paths = ("/whole/1", "/whole/1", "/keyed/1", "/keyed/1", "/keyed/2")
        assert [(await client.get(path)).json() for path in paths] == [1, 2, 3, 3, 4]
    (said,) = [message for message in caplog.messages if "uncached" in message]
    assert "request is of type starlette.requests.Request" in said


# --- task queues ---------------------------------------------------------------------------------------------------


def test_celery(layers: dict[str, Any], runs: Runs) -> None:
    import celery

    app: Any = celery.Celery("tests", broker="memory://", backend="cache+memory://")
    app.conf.update(task_always_eager=True, task_store_eager_result=True)

    @app.task(shared=False, lazy=False)
    @cache(**layers)
    def add(x: int, y: int) -> int:
        return runs()

    @app.task(bind=True, shared=False, lazy=False, autoretry_for=(OSError,), default_retry_delay=0)
    @cache(**layers, ignore=("self",))
    def flaky(self: Any, x: int) -> int:
        if runs() == 3:
            raise ConnectionError
        return runs.count

    assert add.name.endswith(".add")
    assert [add.delay(1, 2).get(), add.apply_async((1, 2)).get(), add(1, 2), add.delay(2, 2).get()] == [1, 1, 1, 2]
    with pytest.raises(TypeError, match="missing"):
        add.delay(1)
    assert [flaky.delay(1).get() for _ in range(2)] == [4, 4]
