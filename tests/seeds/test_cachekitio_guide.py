"""The code blocks of the CachekitIO backend's page, as printed, against a server of our own."""

from __future__ import annotations

import pytest

from cachekit.backends.cachekitio import CachekitIOBackend
from tests.seeds.support import Counted, run, run_async
from tests.support.cachekit_server import CachekitServer


def square(x: int) -> int:
    return x * x


def test_basic_usage(api_environment: CachekitServer) -> None:
    expensive_computation = Counted(square)
    block = """
from cachekit import cache
from cachekit.backends.cachekitio import CachekitIOBackend

backend = CachekitIOBackend()

@cache(backend=backend)
def cached_function(x):
    return expensive_computation(x)
"""
    first, other_process = (run(block, expensive_computation=expensive_computation) for _ in range(2))
    assert [module.cached_function(3) for module in (first, first, other_process)] == [9, 9, 9]
    assert expensive_computation.calls == [(3,)]
    assert other_process.cached_function.cache_info().l2_hits == 1


def test_explicit_configuration() -> None:
    module = run(
        """
from cachekit.backends.cachekitio import CachekitIOBackend

backend = CachekitIOBackend(
    api_url="https://api.cachekit.io",  # required if not using env
    api_key="ck_live_...",              # required if not using env
    timeout=5.0,                        # optional, default: 5.0 seconds
)
"""
    )
    assert isinstance(module.backend, CachekitIOBackend)
    assert "ck_live" not in repr(module.backend)


def test_the_shorthand(api_environment: CachekitServer) -> None:
    expensive_computation = Counted(square)
    module = run(
        """
from cachekit import cache

# Equivalent to: @cache(backend=CachekitIOBackend())
# @cache.io() creates its own CachekitIOBackend via DecoratorConfig.io()
# and passes it as an explicit backend kwarg — Tier 1 resolution, not magic.
@cache.io(ttl=300, namespace="my-app")
def cached_function(x):
    return expensive_computation(x)
""",
        expensive_computation=expensive_computation,
    )
    assert module.cached_function(4) == module.cached_function(4) == 16
    assert len(expensive_computation.calls) == 1
    assert CachekitIOBackend().exists(module.cached_function.key_for(4))


def test_health_check(api_environment: CachekitServer) -> None:
    module = run(
        """
backend = CachekitIOBackend()
is_healthy, details = backend.health_check()
# details: {"backend_type": "saas", "latency_ms": 12.4, "api_url": "...", "version": "..."}
""",
        CachekitIOBackend=CachekitIOBackend,
    )
    assert module.is_healthy
    assert module.details.keys() >= {"backend_type", "latency_ms", "api_url", "version"}
    assert module.details["backend_type"] == "saas"
    assert module.details["latency_ms"] > 0


async def test_async_support(api_environment: CachekitServer) -> None:
    requested = Counted(square)

    async def fetch_data(x: int) -> int:
        return int(requested(x))

    module = await run_async(
        """
from cachekit import cache
from cachekit.backends.cachekitio import CachekitIOBackend

backend = CachekitIOBackend()

@cache(backend=backend)
async def async_cached_function(x):
    return await fetch_data(x)

# Direct async calls also available:
await backend.set_async(key, value, ttl=60)
got = await backend.get_async(key)
existed = await backend.exists_async(key)
deleted = await backend.delete_async(key)
is_healthy, details = await backend.health_check_async()
""",
        fetch_data=fetch_data,
        key="direct",
        value=b"bytes",
    )
    assert (module.got, module.existed, module.deleted, module.is_healthy) == (b"bytes", True, True, True)
    assert await module.async_cached_function(5) == await module.async_cached_function(5) == 25
    assert requested.calls == [(5,)]


async def test_locking(api_environment: CachekitServer) -> None:
    work = Counted()
    module = await run_async(
        """
backend = CachekitIOBackend()

lock_id = await backend.acquire_lock("my-lock", timeout=5)
if lock_id:
    try:
        work(await backend.acquire_lock("my-lock", timeout=5))
        pass
    finally:
        await backend.release_lock("my-lock", lock_id)
""",
        CachekitIOBackend=CachekitIOBackend,
        work=work,
    )
    assert module.lock_id
    assert work.calls == [(None,)], "nobody else gets it meanwhile"
    assert await module.backend.acquire_lock("my-lock", timeout=5) not in (None, module.lock_id)


async def test_ttl_inspection(api_environment: CachekitServer) -> None:
    CachekitIOBackend().set("my-key", b"bytes", ttl=60)
    module = await run_async(
        """
backend = CachekitIOBackend()

remaining = await backend.get_ttl("my-key")      # seconds remaining, or None
refreshed = await backend.refresh_ttl("my-key", ttl=300)  # update TTL in place
""",
        CachekitIOBackend=CachekitIOBackend,
    )
    assert 50 <= module.remaining <= 60
    assert module.refreshed is True
    assert 290 <= await module.backend.get_ttl("my-key") <= 300


def test_another_timeout(api_environment: CachekitServer) -> None:
    module = run(
        """
backend = CachekitIOBackend()
fast_backend = backend.with_timeout(1.0)  # 1-second timeout variant
""",
        CachekitIOBackend=CachekitIOBackend,
    )
    module.backend.set("k", b"v")
    assert module.fast_backend is not module.backend
    assert module.fast_backend.get("k") == b"v"


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in """
CACHEKIT_API_KEY=ck_live_...          # Required — API key for authentication
CACHEKIT_API_URL=https://api.cachekit.io  # Optional — defaults to api.cachekit.io
CACHEKIT_TIMEOUT=5.0                  # Optional — request timeout in seconds
""".strip().splitlines():
        name, value = line.partition("#")[0].strip().split("=")
        monkeypatch.setenv(name, value)
    from cachekit.backends.cachekitio import CachekitIOBackendConfig

    config = CachekitIOBackendConfig()
    assert config.api_key is not None
    assert config.api_key.get_secret_value() == "ck_live_..."
    assert (config.api_url, config.timeout) == ("https://api.cachekit.io", 5.0)


def test_nothing_but_ciphertext_leaves_the_process(
    api_environment: CachekitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", "ab" * 32)
    fetch_user_from_db = Counted(lambda user_id: {"id": user_id, "diagnosis": "a cold"})
    block = '''
from cachekit import cache
from cachekit.backends.cachekitio import CachekitIOBackend

# Required env: CACHEKIT_MASTER_KEY (hex, min 32 bytes) + CACHEKIT_API_KEY
backend = CachekitIOBackend()

@cache.secure(backend=backend, ttl=3600, namespace="sensitive-data")
def get_user_profile(user_id: str) -> dict:
    """Result is AES-256-GCM encrypted before storage.

    Data flow:
      serialize(result) -> encrypt(HKDF-derived key) -> PUT /v1/cache/{key}
      GET /v1/cache/{key} -> decrypt() -> deserialize() -> return result

    The cachekit.io API sees only encrypted bytes. Zero-knowledge.
    """
    return fetch_user_from_db(user_id)
'''
    first, second = (run(block, fetch_user_from_db=fetch_user_from_db) for _ in range(2))
    profile = {"id": "u1", "diagnosis": "a cold"}
    assert [module.get_user_profile("u1") for module in (first, first, second)] == [profile] * 3
    assert len(fetch_user_from_db.calls) == 1
    stored = first.backend.get(first.get_user_profile.key_for("u1"))
    assert stored
    assert b"cold" not in stored
