"""`cache`, bare, called, and with its presets."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, Callable, overload

    from typing_extensions import Unpack

    from cachekit.decorators.typed import AsyncCachedFunction, CachedFunction, Decorate, OnlyAny, Options, P, R, S


class Preset:
    """``@cache`` or one of its presets: used bare, or called with parameters first."""

    __slots__ = ("_preset",)

    def __init__(self, preset: str | None) -> None:
        self._preset = preset

    if TYPE_CHECKING:
        # A staticmethod is a callable too; it is to stay one.
        @overload
        def __call__(self, func: staticmethod[P, R], /) -> staticmethod[P, R]: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        @overload
        def __call__(self, func: classmethod[S, P, R], /) -> classmethod[S, P, R]: ...
        @overload
        def __call__(self, func: Callable[P, OnlyAny], /, **options: Unpack[Options]) -> CachedFunction[P, Any]: ...
        @overload
        def __call__(  # type: ignore[overload-overlap]
            self, func: Callable[P, Coroutine[Any, Any, R]], /, **options: Unpack[Options]
        ) -> AsyncCachedFunction[P, R]: ...
        @overload
        def __call__(self, func: Callable[P, R], /, **options: Unpack[Options]) -> CachedFunction[P, R]: ...
        @overload
        def __call__(self, func: None = None, /, **options: Unpack[Options]) -> Decorate: ...

    def __call__(self, func: Any = None, /, **options: Any) -> Any:
        """The cached form of `func`; without one, a decorator with these options."""
        from cachekit.config.decorator import DecoratorConfig
        from cachekit.config.folding import fold
        from cachekit.function import decorate

        config = DecoratorConfig(**fold(self._preset, options))
        preset = self._preset
        if preset is None:
            preset = "minimal" if options.get("fast_mode") else "config" if options.get("config") else None
        if preset == "dev":
            _log_everything()
        if func is not None:
            return decorate(func, config, preset)

        def decorator(function: Any) -> Any:
            return decorate(function, config, preset)

        return decorator

    def __repr__(self) -> str:
        return f"<cachekit.cache{f'.{self._preset}' if self._preset else ''}>"


class Cache(Preset):
    """The type of `cache`."""

    __slots__ = ()

    minimal = Preset("minimal")
    """Speed first: every feature off, integrity checking too."""
    production = Preset("production")
    """Every protection and all monitoring."""
    dev = Preset("dev")
    """As production, without Prometheus; logs at DEBUG."""
    test = Preset("test")
    """Deterministic: no protections, no background work, no monitoring."""
    secure = Preset("secure")
    """As production, with every value encrypted in every layer, and an audit log; a master key is required."""
    io = Preset("io")
    """The CachekitIO account that CACHEKIT_API_KEY names; without that variable a `ConfigurationError`."""


cache = Cache(None)
"""Caches a function's results, in this process and in the backend that is configured."""


def _log_everything() -> None:
    """Opens the ``cachekit`` logger for DEBUG records, unless LOG_LEVEL says otherwise."""
    import os

    if not os.environ.get("LOG_LEVEL"):
        import logging

        logging.getLogger("cachekit").setLevel(logging.DEBUG)
