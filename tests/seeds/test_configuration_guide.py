"""The code blocks of the configuration guide, as printed."""

from __future__ import annotations

import secrets
import shlex
import textwrap
from typing import Any

import pytest

from cachekit import ConfigurationError, get_settings
from cachekit.backends import RedisBackend
from cachekit.backends.cachekitio import CachekitIOBackendConfig
from cachekit.backends.file import FileBackendConfig
from cachekit.backends.memcached import MemcachedBackendConfig
from cachekit.config import CachekitConfig
from tests.seeds.support import Counted, run
from tests.support.cachekit_server import CachekitServer
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


PRINTED_AS_CORRECT = "a1b2c3d4e5f6789012345678901234567890abcdef12345678901234567890"

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


IO = """
import os
from cachekit import cache

os.environ["CACHEKIT_API_KEY"] = "ck_live_your_key_here"

# All production-grade features enabled: L1, circuit breaker, adaptive timeout, monitoring
@cache.io(ttl=300)
def fetch_data(user_id: int):
    return expensive_api_call(user_id)
"""


def test_io(api_environment: CachekitServer) -> None:
    expensive_api_call = Counted(lambda user_id: {"id": user_id})
    block = IO.replace("ck_live_your_key_here", api_environment.key)
    for _ in range(2):
        module = run(block, expensive_api_call=expensive_api_call)
        assert module.fetch_data(1) == module.fetch_data(1) == {"id": 1}
    assert len(expensive_api_call.calls) == 1


def test_io_needs_a_key() -> None:
    with pytest.raises(ConfigurationError, match="CACHEKIT_API_KEY"):
        run("\n".join(line for line in IO.splitlines() if "environ" not in line))


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


API = """
# Required: API key for authentication (ck_live_... format)
CACHEKIT_API_KEY=ck_live_your_key_here

# Optional: API endpoint (default: https://api.cachekit.io)
CACHEKIT_API_URL=https://api.cachekit.io

# Optional: Request timeout in seconds (default: 5.0, must be > 0)
CACHEKIT_TIMEOUT=5.0

# Optional: Maximum retry attempts for transient errors (default: 3, minimum: 0)
CACHEKIT_MAX_RETRIES=3

# Optional: HTTP connection pool size (default: 10, must be > 0)
CACHEKIT_CONNECTION_POOL_SIZE=10

# Optional: Allow custom API hostname - disables SSRF hostname allowlist (default: false)
# Only set to true when pointing at a private test server
CACHEKIT_ALLOW_CUSTOM_HOST=false
"""

FILE = """
# Directory for cache files (default: system temp dir + /cachekit)
CACHEKIT_FILE_CACHE_DIR=/tmp/cachekit

# Maximum total cache size in MB (default: 1024, range: 1-1,000,000)
CACHEKIT_FILE_MAX_SIZE_MB=1024

# Maximum single value size in MB (default: 100, max: 50% of MAX_SIZE_MB)
CACHEKIT_FILE_MAX_VALUE_MB=100

# Maximum number of cache entries (default: 10000, range: 100-1,000,000)
CACHEKIT_FILE_MAX_ENTRY_COUNT=10000

# Lock acquisition timeout in seconds (default: 5.0, range: 0.5-30.0)
CACHEKIT_FILE_LOCK_TIMEOUT_SECONDS=5.0
"""

MEMCACHED = """
# Server list (JSON array format, default: ["127.0.0.1:11211"])
CACHEKIT_MEMCACHED_SERVERS='["mc1:11211", "mc2:11211"]'

# Timeouts
CACHEKIT_MEMCACHED_CONNECT_TIMEOUT=2.0    # Default: 2.0 seconds (range: 0.1-30.0)
CACHEKIT_MEMCACHED_TIMEOUT=1.0             # Default: 1.0 seconds (range: 0.1-30.0)

# Connection pool
CACHEKIT_MEMCACHED_MAX_POOL_SIZE=10        # Default: 10 per server (range: 1-100)
CACHEKIT_MEMCACHED_RETRY_ATTEMPTS=2        # Default: 2 (range: 0-10)

# Optional key prefix for namespace isolation
CACHEKIT_MEMCACHED_KEY_PREFIX="myapp:"     # Default: "" (none)
"""


@pytest.mark.parametrize(
    ("printed", "prefix", "model", "required"),
    [
        (API, "CACHEKIT_", CachekitIOBackendConfig, {"api_key"}),
        (FILE, "CACHEKIT_FILE_", FileBackendConfig, {"cache_dir"}),
        (MEMCACHED, "CACHEKIT_MEMCACHED_", MemcachedBackendConfig, {"servers", "key_prefix"}),
    ],
    ids=["api", "file", "memcached"],
)
def test_a_backends_environment(
    printed: str, prefix: str, model: Any, required: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed is read as it would be from a shell, and each value but those is the default."""
    names: list[str] = []
    for word in shlex.split(printed.replace("/tmp/", "/elsewhere/"), comments=True):
        variable, _, value = word.partition("=")
        monkeypatch.setenv(variable, value)
        names.append(variable[len(prefix) :].lower())
    config = model()
    fields = model.model_fields
    different = {name for name in names if getattr(config, name) != fields[name].get_default(call_default_factory=True)}
    assert different == required
    if model is MemcachedBackendConfig:
        assert (config.servers, config.key_prefix) == (("mc1:11211", "mc2:11211"), "myapp:")


@pytest.mark.parametrize(("key", "remedy"), [("my-secret-key", "hex"), ("abcd1234", "32"), (PRINTED_AS_CORRECT, "31")])
def test_a_wrong_master_key(key: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's last one is printed as correct and is a byte too short."""
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", key)
    with pytest.raises(ConfigurationError, match=remedy) as raised:
        run("from cachekit import cache\n@cache.secure(backend=None)\ndef f(): return 1").f()
    assert key not in str(raised.value)


def test_a_generated_master_key(monkeypatch: pytest.MonkeyPatch, redis_environment: RedisServer) -> None:
    exports = """
export CACHEKIT_MASTER_KEY=$(openssl rand -hex 32)
export CACHEKIT_ENABLE_COMPRESSION=true
export LOG_LEVEL=WARNING
""".replace("$(openssl rand -hex 32)", secrets.token_hex(32))
    for line in exports.strip().splitlines():
        name, value = line[len("export ") :].split("=")
        monkeypatch.setenv(name, value)
    module = run("from cachekit import cache\n@cache.secure\ndef f(): return 'in the clear'")
    assert module.f() == module.f() == "in the clear"
    stored = RedisBackend(redis_environment.url).get(module.f.key_for())
    assert stored
    assert b"in the clear" not in stored


def test_a_wrong_prefix_is_hinted_at(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from cachekit.config import fields

    monkeypatch.setattr(fields, "_hinted", False)
    monkeypatch.setenv("CACHE_REDIS_URL", "redis://elsewhere:6379")
    assert run("from cachekit import cache\n@cache(ttl=5)\ndef hinted(): return 1").hinted() == 1
    assert "CACHEKIT_REDIS_URL" in caplog.text


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
        """
export CACHEKIT_ENABLE_COMPRESSION=true
export CACHEKIT_COMPRESSION_LEVEL=6
""",
    ],
)
def test_printed_exports(exports: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in textwrap.dedent(exports).strip().splitlines():
        name, value = line[len("export ") :].split("=")
        monkeypatch.setenv(name, value)
        field = name[len("CACHEKIT_") :].lower()
        assert str(getattr(CachekitConfig(), field)).lower() == value
