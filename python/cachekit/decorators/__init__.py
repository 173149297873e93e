"""The decorator."""

from __future__ import annotations

from cachekit._lazy import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.config.decorator import DecoratorConfig
    from cachekit.decorators.decorator import cache
    from cachekit.decorators.orchestrator import FeatureOrchestrator
    from cachekit.decorators.typed import AsyncCachedFunction, CachedFunction

_HOMES = {
    "AsyncCachedFunction": "cachekit.decorators.typed",
    "CachedFunction": "cachekit.decorators.typed",
    "DecoratorConfig": "cachekit.config.decorator",
    "FeatureOrchestrator": "cachekit.decorators.orchestrator",
    "cache": "cachekit.decorators.decorator",
}

__all__ = ["AsyncCachedFunction", "CachedFunction", "DecoratorConfig", "FeatureOrchestrator", "cache"]

__getattr__ = lazy(__name__, _HOMES)
