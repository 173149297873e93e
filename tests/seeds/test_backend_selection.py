"""The report on zero configuration: its code block, as printed, and its edge cases; services replaced by local ones."""

from __future__ import annotations

import pytest

from cachekit import ConfigurationError, set_default_backend
from cachekit.backends import RedisBackend
from cachekit.backends.cachekitio import CachekitIOBackend
from cachekit.backends.provider import DefaultBackendProvider
from tests.seeds.support import Counted, run
from tests.support.cachekit_server import CachekitServer
from tests.support.redis_servers import RedisServer
from tests.unit.face.test_provider import Store

BLOCK = """
import os
os.environ["CACHEKIT_API_KEY"] = "ck_live_..."
@cache.production(ttl=300)
def get_product(product_id: str) -> dict: return {"id": product_id}
# Auto-detects CachekitIO from CACHEKIT_API_KEY
"""


def test_a_key_is_enough(
    api_environment: CachekitServer,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a Redis beside it too, which is then named in a warning, without its address."""
    from cachekit import cache
    from cachekit.backends import provider

    monkeypatch.setattr(provider, "_told_ambiguous", False)
    monkeypatch.setenv("CACHEKIT_REDIS_URL", redis_server.url)
    module = run(BLOCK.replace("ck_live_...", api_environment.key), cache=cache)
    assert module.get_product("p") == {"id": "p"}
    assert CachekitIOBackend().exists(module.get_product.key_for("p"))
    assert redis_server.keys() == []
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "CACHEKIT_API_KEY" in said
    assert "CACHEKIT_REDIS_URL" in said
    assert redis_server.url not in said
    assert api_environment.key not in said


def test_the_same_code_moves_by_the_environment(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from cachekit import cache

    monkeypatch.setenv("REDIS_URL", redis_server.url)
    block = "\n".join(line for line in BLOCK.splitlines() if "os" not in line)
    module = run(block, cache=cache)
    assert module.get_product("p") == {"id": "p"}
    assert RedisBackend(redis_server.url).exists(module.get_product.key_for("p"))


def test_nothing_set_is_l1_only() -> None:
    assert DefaultBackendProvider().get_backend() is None


def test_io_fails_fast_without_a_key() -> None:
    with pytest.raises(ConfigurationError, match="CACHEKIT_API_KEY"):
        run("from cachekit import cache\n@cache.io()\ndef f(): return 1")


@pytest.mark.parametrize("how", ["explicit", "default"])
def test_what_the_program_says_comes_before_the_environment(how: str, api_environment: CachekitServer) -> None:
    store = Store()
    if how == "default":
        set_default_backend(store)
    data = Counted(1)
    options = "backend=store" if how == "explicit" else ""
    module = run(
        f"from cachekit import cache\n@cache.production({options})\ndef f(): return data()", store=store, data=data
    )
    assert module.f() == module.f() == 1
    assert len(store.results()) == 1
