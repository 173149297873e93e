"""Health of a decorated function: the shape that was promised, with true values."""

from __future__ import annotations

from typing import Any

import pytest

from cachekit import cache
from tests.unit.face.test_provider import Store


def made(**options: Any) -> Any:
    @cache(namespace="api", **options)
    def f(x: int) -> int:
        return x

    return f


def test_status_has_the_promised_shape() -> None:
    status = made(backend=None).get_health_status()
    assert status["namespace"] == "api"
    assert status["healthy"] is status["overall_healthy"] is True
    assert status["features_enabled"] == {
        "circuit_breaker": True,
        "adaptive_timeout": True,
        "backpressure": True,
        "statistics": True,
        "structured_logging": True,
    }
    breaker = status["circuit_breaker"]
    assert breaker["state"] == "CLOSED"
    assert (breaker["failure_count"], breaker["last_failure_time"], breaker["next_attempt"]) == (0, None, None)
    assert breaker["config"]["failure_threshold"] == 5
    assert breaker["namespace"] == "api"
    assert {"max_concurrent": 100, "current_requests": 0, "rejected_requests": 0}.items() <= status[
        "backpressure"
    ].items()
    assert {"current_timeout": 1.0, "base_timeout": 1.0}.items() <= status["adaptive_timeout"].items()
    assert status["components"] == {"circuit_breaker": "healthy", "load_control": "healthy", "metrics": "healthy"}


def test_status_with_everything_off() -> None:
    status = made(backend=None, fast_mode=True).get_health_status()
    assert set(status["features_enabled"].values()) == {False}
    assert status["circuit_breaker"] is status["backpressure"] is status["adaptive_timeout"] is None
    assert set(status["components"].values()) == {"disabled"}


def test_check_in_this_process_only() -> None:
    f = made(backend=None)
    report = f.check_health()
    assert report["status"] == "healthy"
    assert report["decorator"] == f.get_health_status()
    assert report["system"] == {"status": "healthy", "backend": None}


class Ill(Store):
    def health_check(self) -> tuple[bool, dict[str, Any]]:
        raise OSError("no route")


class Unwell(Store):
    def health_check(self) -> tuple[bool, dict[str, Any]]:
        return False, {"latency_ms": 1.0, "backend_type": "unwell"}


class Pooled(Store):
    def health_check(self) -> tuple[bool, dict[str, Any]]:
        return True, {"backend_type": "pooled", "created_connections": 3, "in_use_connections": 1}


class Native(Store):
    async def health_check_async(self) -> tuple[bool, dict[str, Any]]:
        return True, {"latency_ms": 1.0, "backend_type": "native async"}


@pytest.mark.parametrize(
    ("backend", "status", "detail"),
    [(Store(), "healthy", "dict"), (Ill(), "unhealthy", "no route"), (Unwell(), "unhealthy", "unwell")],
)
async def test_check_asks_the_backend(backend: Store, status: str, detail: str) -> None:
    @cache(namespace="api", backend=backend)
    async def g() -> int:
        return 1

    for report in (made(backend=backend).check_health(), await g.check_health()):
        assert report["status"] == report["system"]["status"] == report["components"]["backend"] == status
        assert report["system"]["backend"]["healthy"] is (status == "healthy")
        assert detail in report["system"]["backend"].values()


def test_a_pool_is_told_of() -> None:
    pool = made(backend=Pooled()).check_health()["system"]["connection_pool"]
    assert pool == {"created_connections": 3, "in_use_connections": 1}


async def test_check_awaits_where_the_backend_can() -> None:
    @cache(namespace="api", backend=Native())
    async def g() -> int:
        return 1

    assert (await g.check_health())["system"]["backend"]["backend_type"] == "native async"


def test_an_open_circuit_is_seen() -> None:
    class Broken(Store):
        def get(self, key: str) -> bytes | None:
            raise ConnectionError("refused")

    f = made(backend=Broken(), circuit_breaker=True, l1_enabled=False)
    assert [f(1) for _ in range(8)] == [1] * 8
    status = f.get_health_status()
    assert status["circuit_breaker"]["state"] == "OPEN"
    assert status["circuit_breaker"]["last_failure_time"] is not None
    assert status["circuit_breaker"]["next_attempt"] > status["circuit_breaker"]["last_failure_time"]
    assert not status["healthy"]
    assert f.check_health()["status"] == "degraded"


def test_redis(redis_url: str) -> None:
    from cachekit.backends import RedisBackend

    f = made(backend=RedisBackend(redis_url))
    f(1)
    report = f.check_health()
    assert report["status"] == "healthy"
    assert report["system"]["redis_connection"] == "active"
    assert report["system"]["backend"]["latency_ms"] > 0
