"""The health of one decorated function: what its protections do, and whether its backend answers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit.function import Handle


# What a backend with a connection pool tells of it.
_POOL = ("created_connections", "available_connections", "in_use_connections")


def status(handle: Handle) -> dict[str, Any]:
    """`get_health_status()`: what is known without asking the backend."""
    config = handle.config
    namespace = config.stored_namespace
    breaker, backpressure, timeout = _features(handle)
    open_circuit = breaker is not None and breaker["state"] == "OPEN"
    full = backpressure is not None and backpressure["current_requests"] >= backpressure["max_concurrent"]
    healthy = not open_circuit
    return {
        "namespace": namespace,
        "function": f"{handle.module}.{handle.name}",
        "preset": handle.intent,
        "healthy": healthy,
        "overall_healthy": healthy,
        "features_enabled": {
            "circuit_breaker": breaker is not None,
            "adaptive_timeout": timeout is not None,
            "backpressure": backpressure is not None,
            "statistics": config.monitoring.collect_stats,
            "structured_logging": config.monitoring.enable_structured_logging,
        },
        "components": {
            "circuit_breaker": _component(breaker, not open_circuit),
            "load_control": _component(backpressure, not full),
            "metrics": "healthy" if config.monitoring.collect_stats else "disabled",
        },
        "circuit_breaker": breaker,
        "backpressure": backpressure,
        "adaptive_timeout": timeout,
        "encryption": _encryption(handle),
    }


def _encryption(handle: Handle) -> dict[str, Any]:
    """Whether entries are encrypted, and those that were refused, by reason and layer."""
    found = handle.encryption()
    seen = handle.core._security()
    return {
        "enabled": found is not None and found["encrypts"],
        "fail_closed": found is not None and found["fail_closed"],
        "tenant": None if found is None else found["tenant"] or "of each call",
        "config_drift_reads": seen.pop("drift_reads"),
        "decrypt_failures": seen,
    }


def check(handle: Handle) -> dict[str, Any]:
    """`check_health()`: the status, and the backend's own answer. Never raises for a failing backend."""
    backend = _backend(handle)
    if backend is None:
        return _report(handle, None, None)
    try:
        return _report(handle, backend, backend.health_check())
    except Exception as error:
        return _report(handle, backend, (False, {"error": str(error)}))


async def acheck(handle: Handle) -> dict[str, Any]:
    """As `check`, without holding up the event loop."""
    backend = _backend(handle)
    if backend is None:
        return _report(handle, None, None)
    try:
        ask = getattr(backend, "health_check_async", None)
        if ask is not None:
            answer = await ask()
        else:
            import asyncio

            answer = await asyncio.get_running_loop().run_in_executor(None, backend.health_check)
    except Exception as error:
        answer = (False, {"error": str(error)})
    return _report(handle, backend, answer)


def _backend(handle: Handle) -> Any:
    return handle.used_backend if handle.used_backend is not None else handle._resolve_backend()


def _report(handle: Handle, backend: Any, answer: tuple[bool, dict[str, Any]] | None) -> dict[str, Any]:
    mine = status(handle)
    if answer is None:
        system: dict[str, Any] = {"status": "healthy", "backend": None}
        healthy = True
    else:
        healthy, details = answer
        kind = details.get("backend_type", type(backend).__name__)
        system = {"status": "healthy" if healthy else "unhealthy", "backend": {"healthy": healthy, **details}}
        if kind == "redis":
            system["redis_connection"] = "active" if healthy else "inactive"
        pool = {name: details[name] for name in _POOL if name in details}
        if pool:
            system["connection_pool"] = pool
    overall = "unhealthy" if not healthy else "healthy" if mine["healthy"] else "degraded"
    return {
        "status": overall,
        "namespace": mine["namespace"],
        "components": {**mine["components"], "backend": system["status"]},
        "decorator": mine,
        "system": system,
    }


def _component(feature: dict[str, Any] | None, healthy: bool) -> str:
    if feature is None:
        return "disabled"
    return "healthy" if healthy else "unhealthy"


def _features(handle: Handle) -> tuple[dict[str, Any] | None, ...]:
    """The three protections, None where off. In use, those in force: functions of a namespace share them."""
    seen = handle.core._health()
    if seen is None:
        return _at_rest(handle)
    breaker = seen.get("circuit_breaker")
    if breaker is not None:
        breaker["namespace"] = handle.config.stored_namespace
    return breaker, seen.get("backpressure"), seen.get("adaptive_timeout")


def _at_rest(handle: Handle) -> tuple[dict[str, Any] | None, ...]:
    """The protections that the function asks for, where no backend was used yet."""
    config = handle.config
    limits = config.circuit_breaker
    breaker = {
        "state": "CLOSED",
        "failure_count": 0,
        "success_count": 0,
        "half_open_permits": 0,
        "last_failure_time": None,
        "next_attempt": None,
        "config": {
            "failure_threshold": limits.failure_threshold,
            "success_threshold": limits.success_threshold,
            "recovery_timeout": limits.recovery_timeout,
            "half_open_requests": limits.half_open_requests,
        },
        "namespace": config.stored_namespace,
    }
    backpressure = {
        "max_concurrent": config.backpressure.max_concurrent_requests,
        "current_requests": 0,
        "queue_size": config.backpressure.queue_size,
        "queue_depth": 0,
        "rejected_requests": 0,
    }
    timeout = {
        "current_timeout": config.timeout.initial,
        "base_timeout": config.timeout.initial,
        "average_duration": None,
        "samples": 0,
    }
    return (
        breaker if limits.enabled else None,
        backpressure if config.backpressure.enabled else None,
        timeout if config.timeout.enabled else None,
    )
