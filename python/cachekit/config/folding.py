"""From what was written after ``@cache`` to the fields of a `DecoratorConfig`.

Three layers, later ones win: the preset, the fields that ``config=`` was given, the arguments.
Flat names (``l1_enabled=False``) fold into their group; a field that one layer sets to two
different values is a TypeError.
"""

from __future__ import annotations

from cachekit.config.decorator import GROUPS, MANAGED, DecoratorConfig
from cachekit.config.nested import (
    BackpressureConfig,
    CircuitBreakerConfig,
    EncryptionConfig,
    Group,
    L1CacheConfig,
    MonitoringConfig,
    TimeoutConfig,
)
from cachekit.config.validation import ConfigurationError, absent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Flat names, and the field of a group that each stands for.
_FLAT = {
    "l1_enabled": ("l1", "enabled"),
    "adaptive_timeout": ("timeout", "enabled"),
    "max_concurrent_requests": ("backpressure", "max_concurrent_requests"),
    "collect_stats": ("monitoring", "collect_stats"),
    "enable_tracing": ("monitoring", "enable_tracing"),
    "enable_structured_logging": ("monitoring", "enable_structured_logging"),
    "enable_prometheus_metrics": ("monitoring", "enable_prometheus_metrics"),
    "master_key": ("encryption", "master_key"),
    "tenant_extractor": ("encryption", "tenant_extractor"),
    "single_tenant_mode": ("encryption", "single_tenant_mode"),
    "deployment_uuid": ("encryption", "deployment_uuid"),
    "fail_closed": ("encryption", "fail_closed"),
}

# What this version does not have: the values that ask for nothing, and what they are about.
_ABSENT: dict[str, tuple[tuple[Any, ...], str]] = {
    "stale_ttl": ((None, 0), "serving past the ttl"),
    "early_refresh": ((None, 0), "early refresh"),
    "ttl_jitter": ((None, 0), "ttl jitter"),
    "fail_safe": ((None, 0, False), "fail-safe serving"),
    "soft_timeout": ((None,), "a soft timeout"),
    "hard_timeout": ((None,), "a hard timeout"),
    "cache_if": ((None,), "a storing condition"),
    "cache_errors": ((None, {}, ()), "caching of exceptions"),
    "tags": ((None, (), []), "tags"),
    "write_behind": ((False,), "write-behind"),
    "pipelined": ((True, None), "an unpipelined mode"),
}

_BARE = DecoratorConfig._fields.keys()
_ALIASES = {"circuit_breaker_config", "fast_mode", "config"}

_QUIET = MonitoringConfig(
    collect_stats=False, enable_tracing=False, enable_structured_logging=False, enable_prometheus_metrics=False
)
_BARE_L1 = L1CacheConfig(swr_enabled=False, invalidation_enabled=False, namespace_index=False)
_OFF: dict[str, Any] = {
    "integrity_checking": False,
    "l1": _BARE_L1,
    "circuit_breaker": CircuitBreakerConfig(enabled=False),
    "timeout": TimeoutConfig(enabled=False),
    "backpressure": BackpressureConfig(enabled=False),
    "monitoring": _QUIET,
}

PRESETS: dict[str, dict[str, Any]] = {
    "minimal": _OFF,
    "test": _OFF,
    "production": {},
    "io": {"backend": MANAGED},
    "secure": {"encryption": EncryptionConfig(enabled=True)},
    "dev": {
        "l1": L1CacheConfig(invalidation_enabled=False, namespace_index=False),
        "monitoring": MonitoringConfig(enable_prometheus_metrics=False),
    },
}


def fold(preset: str | None, written: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the `DecoratorConfig` that `preset` and what was `written` make."""
    _known(written)
    if preset is not None:
        _available(preset)
    values = dict(PRESETS[preset]) if preset is not None else {}
    fast_mode = written.get("fast_mode", False)
    if fast_mode not in (True, False):
        raise TypeError(f"fast_mode={fast_mode!r}: True or False is expected")
    if fast_mode and written.get("interop") is not None:
        raise ConfigurationError("interop= and fast_mode=True exclude each other: drop fast_mode=")
    if fast_mode:
        values.update(PRESETS["minimal"])
    config = written.get("config")
    if config is not None:
        if not isinstance(config, DecoratorConfig):
            raise TypeError(
                f"config={config!r}: a DecoratorConfig is expected, for instance DecoratorConfig.production()"
            )
        values.update({name: getattr(config, name) for name in config.given})
    parts: dict[str, list[dict[str, Any] | Group]] = {}
    for name, value in written.items():
        if name in _ABSENT:
            _refuse_absent(name, value)
        elif name in _FLAT:
            group, field = _FLAT[name]
            parts.setdefault(group, []).append({field: value})
        elif name == "circuit_breaker_config":
            if value is not None:
                parts.setdefault("circuit_breaker", []).append(_group_part("circuit_breaker", name, value))
        elif name in GROUPS:
            if value is not None:
                parts.setdefault(name, []).append(_group_part(name, name, value))
        elif name not in _ALIASES:
            values[name] = value
    for group, given in parts.items():
        values[group] = _merged(group, values.get(group), given)
    return values


def _group_part(group: str, name: str, value: Any) -> dict[str, Any] | Group:
    if isinstance(value, bool):
        return {"enabled": value} if group != "monitoring" else dict.fromkeys(_FLAT_MONITORING, value)
    kind = GROUPS[group]
    if not isinstance(value, kind):
        # A key that was put here by mistake is not shown.
        given = type(value).__name__ if name == "encryption" else repr(value)
        raise TypeError(f"{name}={given}: True, False or a {kind.__name__} is expected")
    return value


_SECRET = ("master_key", "previous_master_keys")

_FLAT_MONITORING = tuple(field for group, field in _FLAT.values() if group == "monitoring")


def _merged(group: str, base: Group | None, parts: list[dict[str, Any] | Group]) -> Group:
    """One group from its `parts`, on top of the layer below unless a whole config replaces that."""
    whole = [part for part in parts if isinstance(part, Group)]
    start = whole[0] if whole else base if base is not None else GROUPS[group]()
    changes: dict[str, Any] = {}
    for part in parts:
        values = {name: getattr(part, name) for name in part.given} if isinstance(part, Group) else part
        for name, value in values.items():
            if name in changes and changes[name] != value:
                shown = "" if name in _SECRET else f", as {changes[name]!r} and as {value!r}"
                raise TypeError(f"{group}.{name} is given twice{shown}: give it once")
            changes[name] = value
    return start.changed(**changes)


def _known(written: dict[str, Any]) -> None:
    known = _BARE | _ALIASES | _FLAT.keys() | _ABSENT.keys()
    for name in written:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"cache() has no parameter {name!r}{hint}")


def _refuse_absent(name: str, value: Any) -> None:
    neutral, what = _ABSENT[name]
    if not any(value is one or (type(value) is type(one) and value == one) for one in neutral):
        raise absent(f"{what} ({name}={value!r})", f"leave {name}= out")


def _available(preset: str) -> None:
    """Refuses a preset that needs a variable which is not set."""
    from cachekit.config import fields as settings

    if preset == "io" and "CACHEKIT_API_KEY" not in settings.variables():
        raise settings.no_api_key("@cache.io()")
