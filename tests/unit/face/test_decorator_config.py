"""What may be written after ``@cache``, and what comes of it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from cachekit import (
    BackpressureConfig,
    CircuitBreakerConfig,
    ConfigurationError,
    DecoratorConfig,
    L1CacheConfig,
    MonitoringConfig,
    TimeoutConfig,
    cache,
)
from cachekit.config.decorator import MANAGED
from cachekit.config.folding import fold


def made(preset: str | None = None, **written: Any) -> DecoratorConfig:
    return DecoratorConfig(**fold(preset, written))


def test_defaults() -> None:
    config = DecoratorConfig()
    assert (config.ttl, config.namespace, config.serializer, config.integrity_checking) == (None, None, "default", True)
    assert (config.lock, config.lock_wait, config.copy) == (True, 30.0, "auto")
    assert config.l1 == L1CacheConfig(True, 100, True, 0.5, True, True)
    assert config.circuit_breaker == CircuitBreakerConfig(True, 5, 3, 30.0, 3, ())
    assert config.timeout == TimeoutConfig(True, 1.0, 0.1, 10.0, 1000, 95.0)
    assert config.backpressure == BackpressureConfig(True, 100, 1000, 0.1)
    assert config.monitoring == MonitoringConfig(True, True, True, True)


def test_frozen() -> None:
    config: Any = DecoratorConfig()
    with pytest.raises(AttributeError):
        config.ttl = 5
    with pytest.raises(AttributeError):
        config.l1.enabled = False


@pytest.mark.parametrize("name", ["minimal", "test"])
def test_presets_with_everything_off(name: str) -> None:
    flat = getattr(DecoratorConfig, name)().to_dict()
    off = ["integrity_checking", "swr_enabled", "circuit_breaker", "adaptive_timeout", "backpressure", "collect_stats"]
    off += ["invalidation_enabled", "namespace_index", "enable_tracing", "enable_prometheus_metrics"]
    assert [field for field in off if flat[field]] == []
    assert flat["l1_enabled"]


def test_production_has_everything_on() -> None:
    flat = DecoratorConfig.production(ttl=5).to_dict()
    assert flat["ttl"] == 5
    assert all(flat[field] for field in ("l1_enabled", "circuit_breaker", "adaptive_timeout", "backpressure"))
    assert all(flat[field] for field in ("collect_stats", "enable_tracing", "enable_prometheus_metrics"))


def test_dev_is_without_prometheus_and_broadcasts() -> None:
    flat = DecoratorConfig.dev().to_dict()
    assert not flat["enable_prometheus_metrics"]
    assert not flat["invalidation_enabled"]
    assert flat["swr_enabled"]
    assert flat["collect_stats"]


@pytest.mark.parametrize(
    ("written", "group", "field", "value"),
    [
        ({"l1_enabled": False}, "l1", "enabled", False),
        ({"l1": False}, "l1", "enabled", False),
        ({"l1": L1CacheConfig(max_size_mb=7)}, "l1", "max_size_mb", 7),
        ({"circuit_breaker": False}, "circuit_breaker", "enabled", False),
        (
            {"circuit_breaker_config": CircuitBreakerConfig(failure_threshold=2)},
            "circuit_breaker",
            "failure_threshold",
            2,
        ),
        ({"adaptive_timeout": False}, "timeout", "enabled", False),
        ({"timeout": TimeoutConfig(max=2)}, "timeout", "max", 2),
        ({"timeout": False}, "timeout", "enabled", False),
        ({"backpressure": False}, "backpressure", "enabled", False),
        ({"max_concurrent_requests": 5}, "backpressure", "max_concurrent_requests", 5),
        ({"collect_stats": False}, "monitoring", "collect_stats", False),
        ({"monitoring": False}, "monitoring", "enable_tracing", False),
        ({"enable_prometheus_metrics": False}, "monitoring", "enable_prometheus_metrics", False),
    ],
)
@pytest.mark.parametrize("preset", [None, "production", "dev", "minimal"])
def test_flat_and_nested_forms_fold(
    preset: str | None, written: dict[str, Any], group: str, field: str, value: object
) -> None:
    assert getattr(getattr(made(preset, **written), group), field) == value


def test_flat_names_refine_the_nested_group() -> None:
    config = made(max_concurrent_requests=5, backpressure=BackpressureConfig(queue_size=3))
    assert config.backpressure == BackpressureConfig(max_concurrent_requests=5, queue_size=3)
    config = made(circuit_breaker=True, circuit_breaker_config=CircuitBreakerConfig(failure_threshold=9))
    assert config.circuit_breaker == CircuitBreakerConfig(failure_threshold=9)


@pytest.mark.parametrize(
    "written",
    [
        {"l1_enabled": False, "l1": L1CacheConfig(enabled=True)},
        {"circuit_breaker": False, "circuit_breaker_config": CircuitBreakerConfig(enabled=True)},
        {
            "circuit_breaker": CircuitBreakerConfig(failure_threshold=1),
            "circuit_breaker_config": CircuitBreakerConfig(failure_threshold=2),
        },
        {"adaptive_timeout": True, "timeout": False},
        {"max_concurrent_requests": 5, "backpressure": BackpressureConfig(max_concurrent_requests=6)},
        {"collect_stats": False, "monitoring": MonitoringConfig(collect_stats=True)},
    ],
)
def test_one_field_with_two_values_is_an_error(written: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="given twice"):
        cache(**written)


@pytest.mark.parametrize(
    "written",
    [
        {"l1_enabled": True, "l1": L1CacheConfig(enabled=True, max_size_mb=3)},
        {"l1_enabled": False, "l1": L1CacheConfig(max_size_mb=3)},
        {"max_concurrent_requests": 6, "backpressure": BackpressureConfig(max_concurrent_requests=6)},
        {"circuit_breaker": True, "circuit_breaker_config": None},
    ],
)
def test_the_same_value_twice_is_none(written: dict[str, Any]) -> None:
    made(**written)


def test_presets_take_any_override() -> None:
    config = made("minimal", integrity_checking=True, circuit_breaker=True, l1=L1CacheConfig(max_size_mb=3))
    assert config.integrity_checking
    assert config.circuit_breaker == CircuitBreakerConfig()
    assert config.l1.swr_enabled
    assert not config.backpressure.enabled
    assert made("minimal", l1_enabled=False).l1 == L1CacheConfig(False, 100, False, 0.5, False, False)


def test_fast_mode_is_minimal() -> None:
    assert made(fast_mode=True) == DecoratorConfig.minimal()
    assert made(fast_mode=False) == DecoratorConfig()
    assert made(fast_mode=True, ttl=3).ttl == 3


def test_config_is_a_base_for_what_stands_beside_it() -> None:
    base = DecoratorConfig(ttl=60, namespace="base", l1=L1CacheConfig(max_size_mb=2))
    config = made(config=base, ttl=5, l1_enabled=False)
    assert (config.ttl, config.namespace, config.l1) == (5, "base", L1CacheConfig(enabled=False, max_size_mb=2))
    assert made("minimal", config=DecoratorConfig(ttl=9)).ttl == 9
    assert not made("minimal", config=DecoratorConfig(ttl=9)).integrity_checking
    with pytest.raises(TypeError, match="DecoratorConfig"):
        cache(config={"ttl": 3})  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("written", "near"),
    [("tll", "ttl"), ("namespce", "namespace"), ("circuit_braker", "circuit_breaker"), ("L1_enabled", "l1_enabled")],
)
def test_unknown_names_point_to_the_nearest(written: str, near: str) -> None:
    for preset in (cache, cache.production):
        with pytest.raises(TypeError, match=f"{written}.*did you mean {near!r}"):
            preset(**{written: 1})  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=near):
        DecoratorConfig.production(**{written: 1})


def test_a_name_like_no_other_is_refused_plainly() -> None:
    with pytest.raises(TypeError, match=r"no parameter 'zzzzzz'$"):
        cache(zzzzzz=1)  # type: ignore[call-overload]


ABSENT = {
    "stale_ttl": 5,
    "early_refresh": 1.0,
    "ttl_jitter": 0.1,
    "fail_safe": 60,
    "soft_timeout": 1,
    "hard_timeout": 1,
    "cache_if": bool,
    "cache_errors": {ValueError: 3},
    "tags": ("a",),
    "write_behind": True,
    "pipelined": False,
}


@pytest.mark.parametrize("name", ABSENT)
def test_what_this_version_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not in this version") as caught:
        cache(**{name: ABSENT[name]})  # type: ignore[call-overload]
    assert caught.value.code == "E043"


def test_the_serializer_of_interop_mode_is_named_by_its_operation() -> None:
    with pytest.raises(ConfigurationError, match='give interop="<name>"'):
        cache(serializer="interop")


def test_values_that_ask_for_nothing_are_accepted() -> None:
    made(
        stale_ttl=0,
        early_refresh=0,
        tags=(),
        interop=None,
        cache_if=None,
        cache_errors={},
        write_behind=False,
        pipelined=True,
    )
    made(encryption=False, fail_closed=False, master_key=None)
    made(monitoring=MonitoringConfig(collect_stats=True, enable_tracing=True, enable_structured_logging=True))


def test_io_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="CACHEKIT_API_KEY"):
        cache.io(ttl=300)
    with pytest.raises(ConfigurationError, match="CACHEKIT_API_KEY"):
        DecoratorConfig.io()
    monkeypatch.setenv("CACHEKIT_API_KEY", "ck_test_secret")
    assert DecoratorConfig.io(ttl=300, backend=None) == DecoratorConfig.production(ttl=300, backend=None)
    assert pickle.loads(pickle.dumps(DecoratorConfig.io().backend)) is MANAGED


@pytest.mark.parametrize(
    "written",
    [
        {"ttl": 0},
        {"ttl": -5},
        {"ttl": "soon"},
        {"namespace": ""},
        {"namespace": 5},
        {"namespace": "\ud800"},
        {"version": ""},
        {"version": 1.5},
        {"version": "\ud800"},
        {"version": True},
        {"key": "name"},
        {"ignore": (1,)},
        {"key": str, "ignore": ("a",)},
        {"key": str, "normalize_calls": True},
        {"normalize_calls": 1},
        {"integrity_checking": "yes"},
        {"safe_mode": None},
        {"ttl_refresh_threshold": 1.5},
        {"lock_wait": -1},
        {"lock_wait": float("nan")},
        {"copy": "never"},
        {"serializer": "jason"},
        {"serializer": 5},
        {"deployment_uuid": "\ud800"},
        {"master_key": "\ud800"},
    ],
)
def test_values_out_of_range(written: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        cache(**written)
    assert next(iter(written)) in str(caught.value) or "key" in str(caught.value)


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        (L1CacheConfig, "max_size_mb", 0),
        (L1CacheConfig, "max_size_mb", 1.5),
        (L1CacheConfig, "swr_threshold_ratio", 0.05),
        (L1CacheConfig, "swr_threshold_ratio", 1.1),
        (L1CacheConfig, "enabled", "no"),
        (CircuitBreakerConfig, "failure_threshold", 0),
        (CircuitBreakerConfig, "success_threshold", True),
        (CircuitBreakerConfig, "half_open_requests", 0),
        (CircuitBreakerConfig, "recovery_timeout", 0),
        (CircuitBreakerConfig, "excluded_exceptions", ("ValueError",)),
        (CircuitBreakerConfig, "excluded_exceptions", 5),
        (TimeoutConfig, "initial", 0),
        (TimeoutConfig, "min", 11),
        (TimeoutConfig, "percentile", 101),
        (TimeoutConfig, "window_size", 0),
        (BackpressureConfig, "max_concurrent_requests", 0),
        (BackpressureConfig, "queue_size", -1),
        (BackpressureConfig, "timeout", float("inf")),
        (MonitoringConfig, "collect_stats", 1),
    ],
)
def test_groups_check_their_ranges(group: Any, field: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{group.__name__}.{field}="):
        group(**{field: value})


def test_serializers_by_all_their_names() -> None:
    for name in ("std", "standard", "default"):
        assert made(serializer=name).serializer == "default"
    with pytest.raises(ConfigurationError, match="did you mean 'standard'"):
        made(serializer="standart")


def test_backends_are_objects() -> None:
    with pytest.raises(TypeError, match="RedisBackend"):
        cache(backend="redis://localhost")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="has no get, set"):
        cache(backend=object())  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not the class"):
        cache(backend=dict)  # type: ignore[call-overload]


def test_version_is_part_of_the_namespace() -> None:
    assert made(namespace="users", version=2).stored_namespace == "users:v2"
    assert made(version="b").stored_namespace == "vb"
    assert made(namespace="users").stored_namespace == "users"
    assert made().stored_namespace is None


def test_copies_remember_what_was_given() -> None:
    config = L1CacheConfig(max_size_mb=3)
    for other in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert other == config
        assert other.given == {"max_size_mb"}
    assert L1CacheConfig(True, 5).given == {"enabled", "max_size_mb"}
    assert dataclasses.replace(config, max_size_mb=4) == L1CacheConfig(max_size_mb=4)


def test_to_dict_is_flat() -> None:
    flat = DecoratorConfig(ttl=5).to_dict()
    assert not [value for value in flat.values() if dataclasses.is_dataclass(value)]
    assert (flat["failure_threshold"], flat["queue_size"], flat["backpressure_timeout"]) == (5, 1000, 0.1)
