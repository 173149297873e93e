"""The code blocks of the configuration guide, as printed."""

from __future__ import annotations

import textwrap

import pytest

from cachekit import ConfigurationError, get_settings
from cachekit.config import CachekitConfig
from tests.seeds.support import Counted, run
from tests.support.redis_servers import RedisServer


def test_zero_config_uses_redis(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_REDIS_URL", redis_server.url)
    expensive_computation = Counted({"answer": 42})
    block = """
from cachekit import cache

@cache  # Uses Redis backend by default
def fetch_data():
    return expensive_computation()
"""
    first = run(block, expensive_computation=expensive_computation)
    assert first.fetch_data() == first.fetch_data() == {"answer": 42}
    other_process = run(block, expensive_computation=expensive_computation)
    assert other_process.fetch_data() == {"answer": 42}
    assert len(expensive_computation.calls) == 1
    assert other_process.fetch_data.cache_info().l2_hits == 1


ENVIRONMENT = """
# Redis Connection
CACHEKIT_REDIS_URL=redis://localhost:6379/0
CACHEKIT_CONNECTION_POOL_SIZE=10
CACHEKIT_SOCKET_TIMEOUT=1.0
CACHEKIT_SOCKET_CONNECT_TIMEOUT=1.0

# Cache Behavior
CACHEKIT_DEFAULT_TTL=3600
CACHEKIT_MAX_CHUNK_SIZE_MB=50
CACHEKIT_ENABLE_COMPRESSION=true
CACHEKIT_COMPRESSION_LEVEL=6

# Fallback: REDIS_URL also supported (lower priority)
REDIS_URL=redis://localhost:6379/0

# Logging
LOG_LEVEL=INFO
"""


def test_the_printed_environment_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in ENVIRONMENT.splitlines():
        name, _, value = line.partition("=")
        if value:
            monkeypatch.setenv(name, value)
    settings = get_settings()
    assert settings.redis_url == "redis://localhost:6379/0"
    assert (settings.connection_pool_size, settings.socket_timeout, settings.socket_connect_timeout) == (10, 1.0, 1.0)
    assert (settings.default_ttl, settings.max_chunk_size_mb, settings.enable_compression) == (3600, 50, True)


def test_l1_config() -> None:
    expensive_computation = Counted(5)
    module = run(
        """
from cachekit import cache
from cachekit.config import L1CacheConfig

# Enable SWR (stale-while-revalidate) with custom threshold
@cache(
    l1=L1CacheConfig(  # Correct parameter name is 'l1', not 'l1_config'
        enabled=True,
        max_size_mb=100,
        swr_enabled=True,
        swr_threshold_ratio=0.5,  # Refresh at 50% of TTL
        invalidation_enabled=True,
        namespace_index=True,
    ),
    backend=None
)
def my_function():
    return expensive_computation()  # illustrative - not defined
""",
        expensive_computation=expensive_computation,
    )
    assert module.my_function() == module.my_function() == 5
    assert len(expensive_computation.calls) == 1


def test_intent_presets() -> None:
    module = run(
        """
from cachekit import cache

# Zero overhead - all features disabled
@cache.minimal(backend=None)
def minimal_function():
    pass

# Development - SWR enabled, invalidation disabled
@cache.dev(backend=None)
def dev_function():
    pass

# Production - all features enabled
@cache.production(backend=None)
def prod_function():
    pass

# Testing - deterministic behavior
@cache.test(backend=None)
def test_function():
    pass
"""
    )
    for name in ("minimal", "dev", "prod", "test"):
        function = getattr(module, f"{name}_function")
        assert function() is function() is None
        assert function.cache_info().hits == 1


def test_secure() -> None:
    module = run(
        """
from cachekit import cache

# Secure - encryption + all features
@cache.secure(master_key="a" * 64, backend=None)
def secure_function():
    pass
"""
    )
    assert module.secure_function() is module.secure_function() is None
    assert module.secure_function.cache_info().hits == 1


def test_io_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    io = """
from cachekit import cache

# All production-grade features enabled: L1, circuit breaker, adaptive timeout, monitoring
@cache.io(ttl=300)
def fetch_data(user_id: int):
    return expensive_api_call(user_id)
"""
    with pytest.raises(ConfigurationError, match="CACHEKIT_API_KEY"):
        run(io)
    monkeypatch.setenv("CACHEKIT_API_KEY", "ck_live_your_key_here")
    assert run(io).fetch_data.__name__ == "fetch_data"


def test_local_development() -> None:
    computation = Counted(1)
    module = run(
        '''
from cachekit import cache
# Disable Redis backend, use L1 only
# Set decorator with backend=None
@cache(backend=None, l1_enabled=True)
def local_only_cache():
    """Cached in process memory only, no Redis required."""
    return computation()
''',
        computation=computation,
    )
    assert module.local_only_cache() == module.local_only_cache() == 1
    assert len(computation.calls) == 1


def test_which_url_is_used(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CACHEKIT_REDIS_URL", redis_server.url)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    module = run(
        """
import os
from cachekit import cache

# Check which URL was loaded
print(f"CACHEKIT_REDIS_URL: {os.getenv('CACHEKIT_REDIS_URL')}")
print(f"REDIS_URL: {os.getenv('REDIS_URL')}")

# CACHEKIT_REDIS_URL takes precedence if both are set
@cache()
def test_function():
    return "cached"
"""
    )
    assert module.test_function() == "cached"
    assert module.test_function.check_health()["system"]["status"] == "healthy"
    assert redis_server.url in capsys.readouterr().out


@pytest.mark.parametrize(
    "exports",
    [
        """
export CACHEKIT_REDIS_URL=redis://redis-primary:6379/0
export CACHEKIT_CONNECTION_POOL_SIZE=20
export CACHEKIT_DEFAULT_TTL=3600
export CACHEKIT_ENABLE_COMPRESSION=true
""",
        """
export CACHEKIT_SOCKET_TIMEOUT=5.0
export CACHEKIT_SOCKET_CONNECT_TIMEOUT=5.0
""",
        "export CACHEKIT_MAX_CHUNK_SIZE_MB=10",
    ],
)
def test_printed_exports(exports: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in textwrap.dedent(exports).strip().splitlines():
        name, value = line[len("export ") :].split("=")
        monkeypatch.setenv(name, value)
        field = name[len("CACHEKIT_") :].lower()
        assert str(getattr(CachekitConfig(), field)).lower() == value
