"""The code blocks of the API reference, as printed; services replaced by local ones."""

# ruff: noqa: E501 - the blocks stand as they are printed

from __future__ import annotations

import inspect
import sys
import types
from datetime import datetime
from typing import Any

import pytest

from tests.seeds.support import Counted, run
from tests.support.redis_servers import RedisServer

SECRET_KEY = "ab" * 32


def test_zero_config_and_manual_control() -> None:
    do_expensive_computation = Counted(7)
    module = run(
        """
from cachekit import cache
# Zero-config: automatic optimization (90% of use cases)
@cache(backend=None)
def expensive_function():
    return do_expensive_computation()
# Intent-based optimization (9% of use cases)
# These are decorator syntax examples showing different presets:
@cache.minimal(backend=None) # Speed-critical: trading, gaming, real-time
def minimal(): return do_expensive_computation()
@cache.production(backend=None) # Reliability-critical: payments, APIs
def production(): return do_expensive_computation()
@cache.secure(master_key=secret_key, backend=None) # Security-critical: PII, medical, financial (requires CACHEKIT_MASTER_KEY env var)
def secure(): return do_expensive_computation()
# Manual control when needed (1% of use cases)
@cache(ttl=3600, namespace="custom", backend=None)
def custom_function():
    return do_expensive_computation()
""",
        do_expensive_computation=do_expensive_computation,
        secret_key=SECRET_KEY,
    )
    for name in ("expensive_function", "minimal", "production", "secure", "custom_function"):
        assert getattr(module, name)() == getattr(module, name)() == 7
    assert len(do_expensive_computation.calls) == 5


def test_every_parameter_by_hand() -> None:
    do_expensive_computation = Counted(7)
    module = run(
        """
from cachekit import cache
from cachekit.config.nested import L1CacheConfig, CircuitBreakerConfig, TimeoutConfig, BackpressureConfig, MonitoringConfig
@cache(
    ttl=3600,
    namespace=None,
    safe_mode=False,
    backend=None,
    # Performance features
    refresh_ttl_on_get=False,
    ttl_refresh_threshold=0.5,
    # Nested configuration groups (see sections below for details)
    l1=L1CacheConfig(enabled=True),
    circuit_breaker=CircuitBreakerConfig(enabled=True),
    timeout=TimeoutConfig(enabled=True),
    backpressure=BackpressureConfig(max_concurrent_requests=100),
    monitoring=MonitoringConfig(collect_stats=True, enable_tracing=True),
)
def your_function(args):
    return do_expensive_computation()
""",
        do_expensive_computation=do_expensive_computation,
    )
    assert module.your_function(1) == module.your_function(1) == 7
    assert len(do_expensive_computation.calls) == 1


FLAT = {
    "ttl": 3600,
    "namespace": "flat",
    "safe_mode": False,
    "pipelined": True,
    "refresh_ttl_on_get": False,
    "ttl_refresh_threshold": 0.5,
    "l1_enabled": True,
    "fast_mode": False,
    "circuit_breaker": True,
    "circuit_breaker_config": None,
    "adaptive_timeout": True,
    "backpressure": True,
    "max_concurrent_requests": 100,
    "collect_stats": True,
    "enable_tracing": True,
    "enable_structured_logging": True,
}


@pytest.mark.parametrize("name", [*FLAT, None])
def test_every_documented_parameter_takes_its_documented_default(name: str | None) -> None:
    from cachekit import cache

    options: Any = FLAT if name is None else {name: FLAT[name]}

    def f(x: int) -> int:
        return x

    assert cache(backend=None, **options)(f)(1) == 1


def test_modern_interface(redis_environment: RedisServer) -> None:
    perform_analysis = Counted(lambda dataset, filters: {"dataset": dataset, "filters": filters})
    module = run(
        '''
from cachekit import cache
# First, set environment variable:
# export REDIS_URL="redis://localhost:6379"
@cache # Auto-detects optimal configuration
def analyze_dataset(dataset_id, filters=None):
    """Analyze large dataset with automatic caching."""
    return perform_analysis(dataset_id, filters)
@cache.production # All reliability features enabled automatically
def critical_business_function():
    return important_computation()
@cache.dev # Development: verbose logging, no Prometheus
def debug_function():
    return process_data()
@cache.test # Testing: deterministic, no protections
def test_cacheable_function():
    return compute_value()
''',
        perform_analysis=perform_analysis,
        important_computation=Counted(1),
        process_data=Counted(2),
        compute_value=Counted(3),
    )
    for _ in range(2):
        assert module.analyze_dataset("d", filters=["a"]) == {"dataset": "d", "filters": ["a"]}
        assert module.critical_business_function() == 1
        assert module.debug_function() == 2
        assert module.test_cacheable_function() == 3
    assert len(perform_analysis.calls) == 1


def test_manual_configuration() -> None:
    process_data = Counted(lambda name: [name])
    do_expensive_computation = Counted(9)
    module = run(
        """
from cachekit import cache
from cachekit.config.nested import CircuitBreakerConfig, TimeoutConfig, BackpressureConfig, MonitoringConfig
@cache(ttl=1800, namespace="analytics", backend=None)
def explicit_function(dataset_id, filters=None):
    return process_data(f"dataset_{dataset_id}")
# Manual configuration with nested configs for reliability features
@cache(
    ttl=3600,
    namespace="critical_data",
    backend=None,
    circuit_breaker=CircuitBreakerConfig(enabled=True),
    timeout=TimeoutConfig(enabled=True),
    backpressure=BackpressureConfig(enabled=True),
    monitoring=MonitoringConfig(collect_stats=True, enable_structured_logging=True)
)
def critical_business_logic():
    return do_expensive_computation()
""",
        process_data=process_data,
        do_expensive_computation=do_expensive_computation,
    )
    assert module.explicit_function(5) == module.explicit_function(5) == ["dataset_5"]
    assert module.critical_business_logic() == module.critical_business_logic() == 9
    assert (len(process_data.calls), len(do_expensive_computation.calls)) == (1, 1)


def _shape(value: Any) -> Any:
    return {key: _shape(part) for key, part in value.items()} if isinstance(value, dict) else None


def test_health(redis_environment: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    module = run(
        """
from cachekit import cache
@cache(ttl=300, namespace="api")
def api_function():
    return "data"
api_function()
# Get health status
health_status = api_function.get_health_status()
print(health_status)
# Perform health check
health_result = api_function.check_health() # api_function = previously decorated function
print(health_result)
"""
    )
    printed = {
        "namespace": "api",
        "features_enabled": {
            "circuit_breaker": True,
            "adaptive_timeout": True,
            "backpressure": True,
            "statistics": True,
            "structured_logging": True,
        },
        "circuit_breaker": {
            "state": "CLOSED",
            "failure_count": 0,
            "success_count": 15,
            "last_failure_time": None,
            "next_attempt": None,
        },
        "backpressure": {"max_concurrent": 100, "current_requests": 2, "rejected_requests": 0},
        "adaptive_timeout": {"current_timeout": 1.2, "base_timeout": 1.0, "average_duration": 0.85},
    }
    status = module.health_status
    for key, part in printed.items():
        assert _shape(part) is None or _shape(part).items() <= _shape(status[key]).items(), key
    assert status["namespace"] == "api"
    assert status["features_enabled"] == printed["features_enabled"]
    assert status["circuit_breaker"]["state"] == "CLOSED"
    assert module.health_result["decorator"].keys() == status.keys()
    assert module.health_result["system"]["status"] == "healthy"
    assert module.health_result["system"]["redis_connection"] == "active"
    assert "CLOSED" in capsys.readouterr().out


async def test_async_functions(redis_environment: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = []

    class Response:
        def json(self) -> dict[str, int]:
            return {"id": 5}

    class AsyncClient:
        async def __aenter__(self) -> AsyncClient:
            return self

        async def __aexit__(self, *exc: object) -> None: ...

        async def get(self, path: str) -> Response:
            requested.append(path)
            return Response()

    httpx: Any = types.ModuleType("httpx")
    httpx.AsyncClient = AsyncClient
    monkeypatch.setitem(sys.modules, "httpx", httpx)
    module = run(
        '''
from cachekit import cache
@cache(ttl=900)
async def fetch_user_data(user_id):
    """Fetch user data with async caching."""
    async with httpx.AsyncClient() as client:
        response = await client.get(f"/api/users/{user_id}")
        return response.json()
''',
        httpx=httpx,
    )
    assert await module.fetch_user_data(5) == await module.fetch_user_data(5) == {"id": 5}
    assert requested == ["/api/users/5"]


def test_standard_serializer(redis_environment: RedisServer) -> None:
    block = """
from cachekit import cache
from datetime import datetime
# StandardSerializer is the default - language-agnostic MessagePack
@cache(ttl=3600)
def compute_results(user_id: int):
    return {
        "id": user_id,
        "timestamp": datetime.now(),
        "data": [1, 2, 3],
        "nested": {"key": "value"}
    }
# Cache is compatible with Python, PHP, JavaScript, Java, etc.
result = compute_results(123) # Multi-language compatible
"""
    first, second = run(block), run(block)
    assert isinstance(first.result["timestamp"], datetime)
    assert second.result == first.result
    assert second.compute_results.cache_info().l2_hits == 1


def test_namespaces_and_versions() -> None:
    module = run(
        """
from cachekit import cache
# V1: StandardSerializer (existing production)
@cache(namespace="user_data:v1", backend=None)
def get_user_data_v1(user_id):
    return {"id": user_id, "name": "Alice"}
# Organize cache keys with namespaces
@cache(namespace="user_data", backend=None)
def get_user_profile(user_id): ...
@cache(namespace="analytics", backend=None)
def get_user_metrics(user_id): ...
# Short TTL for frequently changing data
@cache(ttl=300, backend=None) # 5 minutes
def get_live_prices(): ...
# Long TTL for stable data
@cache(ttl=86400, backend=None) # 24 hours
def get_reference_data(): ...
"""
    )
    assert module.get_user_data_v1(1) == {"id": 1, "name": "Alice"}
    assert module.get_user_data_v1.key_for(1).startswith("ns:user_data:v1:func:")
    assert module.get_user_profile.key_for(1).startswith("ns:user_data:func:")
    assert module.get_user_metrics.key_for(1).startswith("ns:analytics:func:")
    assert module.get_live_prices() is module.get_reference_data() is None


def test_settings() -> None:
    module = run(
        """
from cachekit.config import CachekitConfig
# Load from environment variables (recommended)
config = CachekitConfig()
defaults = config
# Or override specific fields
config = CachekitConfig(
    default_ttl=7200,
    l1_enabled=True,
    l1_max_size_mb=100,
)
"""
    )
    assert module.defaults.redis_url == "redis://localhost:6379"
    assert (module.defaults.default_ttl, module.config.default_ttl) == (3600, 7200)


def test_default_serializer_and_tuples(redis_environment: RedisServer) -> None:
    block = """
from cachekit import cache
# Default (MessagePack) - handles all common cases
@cache
def default_function():
    return {
        'coords': (10.5, 20.3), # Note: tuple converted to list on retrieval
        'data': [1, 2, 3],
        'nested': {'key': 'value'}
    }
"""
    function = run(block).default_function
    assert function()["coords"] == (10.5, 20.3)
    assert function()["coords"] == [10.5, 20.3]
    assert run(block).default_function()["coords"] == [10.5, 20.3]


def test_custom_backend() -> None:
    from tests.unit.face.test_provider import Store

    module = run(
        """
from cachekit import cache
custom_backend = HTTPBackend()
@cache(backend=custom_backend) # Uses custom backend explicitly
def my_function():
    return "result"
""",
        HTTPBackend=Store,
    )
    assert module.my_function() == "result"
    assert module.custom_backend.results()


def test_typed_functions() -> None:
    module = run(
        """
from __future__ import annotations
from typing import Any
from cachekit import cache
@cache(ttl=3600)
def typed_function(data: dict[str, Any]) -> str | int | None:
    return process_data(data)
""",
        process_data=Counted(lambda data: data["value"]),
    )
    assert module.typed_function({"value": 5}) == module.typed_function({"value": 5}) == 5
    assert module.typed_function.cache_info().hits == 1
    assert inspect.signature(module.typed_function).return_annotation == "str | int | None"


def test_redis_unavailable(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Function executes without caching, a warning is logged, no exception is raised to the caller."""
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    module = run("from cachekit import cache\n@cache(l1_enabled=False)\ndef unavailable(x):\n    return x")
    assert [module.unavailable(1) for _ in range(3)] == [1, 1, 1]
    assert caplog.text.count("WARNING") == 1


def test_unserializable_data(redis_environment: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Function result is returned without caching, a warning is logged, no exception is raised to the caller."""
    module = run("from cachekit import cache\n@cache\ndef tags():\n    return {'tags': {1, 2}}")
    assert module.tags() == module.tags() == {"tags": {1, 2}}
    assert module.tags.cache_info().misses == 2
    assert caplog.text.count("WARNING") == 1


def test_the_orchestrator() -> None:
    module = run(
        """
# New modular structure - internal implementation detail
from cachekit.decorators.orchestrator import FeatureOrchestrator

# Orchestrator manages all reliability features (internal use)
# Users should use @cache decorator with nested configs instead
orchestrator = FeatureOrchestrator(
    namespace="api_service",
    circuit_breaker_enabled=True,
    adaptive_timeout_enabled=True,
    collect_stats=True
)
"""
    )
    assert module.orchestrator.get_health_status()["namespace"] == "api_service"
