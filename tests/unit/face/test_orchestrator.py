"""The protections of a namespace, seen together."""

from __future__ import annotations

from typing import Any

from cachekit import cache
from cachekit.config.nested import CircuitBreakerConfig
from cachekit.decorators import FeatureOrchestrator
from tests.unit.face.test_provider import Store


class Away(Store):
    def get(self, key: str) -> bytes | None:
        raise ConnectionError("away")


def test_a_namespace_that_nobody_uses() -> None:
    assert FeatureOrchestrator.__module__ == "cachekit.decorators.orchestrator"
    status = FeatureOrchestrator(namespace="orchestrator.unused").get_health_status()
    assert status["healthy"] is True
    assert status["backends"] == []
    assert status["features_enabled"]["circuit_breaker"] is False
    assert status["statistics"] == {"functions": 0, "hits": 0, "misses": 0, "l1_hits": 0, "l2_hits": 0}


def test_what_functions_share() -> None:
    away: Any = Away()
    breaker = CircuitBreakerConfig(failure_threshold=2)

    @cache(backend=away, namespace="orchestrator.used", circuit_breaker=breaker, ttl=60)
    def one(x: int) -> int:
        return x

    @cache(backend=None, namespace="orchestrator.used", ttl=60)
    def two(x: int) -> int:
        return x

    orchestrator = FeatureOrchestrator("orchestrator.used")
    for x in range(4):
        one(x)
    two(1)
    two(1)
    status = orchestrator.get_health_status()
    assert status["healthy"] is False
    assert status["features_enabled"]["circuit_breaker"] is True
    (backend,) = status["backends"]
    assert backend["circuit_breaker"]["state"] == "OPEN"
    assert backend["circuit_breaker"]["config"]["failure_threshold"] == 2
    assert status["statistics"] == {"functions": 2, "hits": 1, "misses": 5, "l1_hits": 1, "l2_hits": 0}


def test_what_is_left_out() -> None:
    store: Any = Store()

    @cache(backend=store, namespace="orchestrator.less", ttl=60)
    def one(x: int) -> int:
        return x

    one(1)
    less = FeatureOrchestrator("orchestrator.less", circuit_breaker_enabled=False, collect_stats=False)
    status = less.get_health_status()
    assert "statistics" not in status
    assert status["features_enabled"] == {
        "circuit_breaker": False,
        "adaptive_timeout": True,
        "backpressure": True,
        "statistics": False,
    }
    assert set(status["backends"][0]) == {"adaptive_timeout", "backpressure"}
