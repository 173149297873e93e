"""`FeatureOrchestrator`: the protections and statistics of one namespace, seen together."""

from __future__ import annotations

from cachekit import _native, registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class FeatureOrchestrator:
    """A view of what the functions of a namespace share: breaker, backpressure, adaptive timeout, statistics.

    It switches nothing on or off, which is the decorator's affair; a feature that is left out here is
    left out of what `get_health_status` reports.
    """

    def __init__(
        self,
        namespace: str | None = None,
        *,
        circuit_breaker_enabled: bool = True,
        adaptive_timeout_enabled: bool = True,
        backpressure_enabled: bool = True,
        collect_stats: bool = True,
    ) -> None:
        self.namespace = namespace
        self._wanted = {
            "circuit_breaker": circuit_breaker_enabled,
            "adaptive_timeout": adaptive_timeout_enabled,
            "backpressure": backpressure_enabled,
        }
        self._collects = collect_stats

    def get_health_status(self) -> dict[str, Any]:
        """What the namespace's features are doing now; touches no backend.

        ``backends`` holds one report for each backend that functions of the namespace have used, with
        the keys of a function's own `get_health_status`; ``statistics`` sums their `cache_info`.
        """
        backends = [
            {name: report for name, report in guards.items() if self._wanted[name]}
            for guards in _native.namespace_health(self.namespace)
        ]
        breakers = [report["circuit_breaker"] for report in backends if "circuit_breaker" in report]
        status: dict[str, Any] = {
            "namespace": self.namespace,
            "healthy": all(breaker["state"] != "OPEN" for breaker in breakers),
            "features_enabled": {
                **{name: any(name in report for report in backends) for name in self._wanted},
                "statistics": self._collects,
            },
            "backends": backends,
        }
        if self._collects:
            status["statistics"] = self.get_stats()
        return status

    def get_stats(self) -> dict[str, int]:
        """The hits and misses of the namespace's functions together, in this process."""
        functions = [
            cached._handle
            for cached in list(registry.functions)
            if cached._handle.config.stored_namespace == self.namespace
        ]
        infos = [handle.cache_info() for handle in functions]
        return {
            "functions": len(functions),
            "hits": sum(info.hits for info in infos),
            "misses": sum(info.misses for info in infos),
            "l1_hits": sum(info.l1_hits for info in infos),
            "l2_hits": sum(info.l2_hits for info in infos),
        }

    def __repr__(self) -> str:
        return f"FeatureOrchestrator(namespace={self.namespace!r})"
