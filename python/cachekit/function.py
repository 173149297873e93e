"""Making the cached function: the native object, and what is attached to it."""

from __future__ import annotations

import sys

from cachekit import _native, encryption, identity, registry
from cachekit import ttl as _ttl
from cachekit.calls import CallShape
from cachekit.config import effective
from cachekit.config.decorator import MANAGED, Unset, get_default_backend
from cachekit.config.nested import MonitoringConfig
from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from typing import Any

    from cachekit.calls import Call
    from cachekit.config.decorator import DecoratorConfig
    from cachekit.info import CacheInfo

# Stands for CACHEKIT_DEFAULT_TTL, which the first call brings with the other settings.
_UNTIL_SETTINGS = 3600.0

# The program itself, and what a spawned worker of multiprocessing calls it.
_MAIN = ("__main__", "__mp_main__")

# What `functools.wraps` copies, and what tells of the parameters.
_OF_FUNCTION = (
    *("__module__", "__name__", "__qualname__", "__doc__", "__type_params__"),
    "__annotate__" if sys.version_info >= (3, 14) else "__annotations__",
    *("__code__", "__defaults__", "__kwdefaults__"),
)

_warned_main = False


def _chosen(serializer: Any) -> Any:
    """What the engine is told of a serializer; None is std."""
    if serializer == "default":
        return None
    from cachekit.serializers.names import chosen

    return chosen(serializer)


def decorate(func: Any, config: DecoratorConfig, preset: str | None) -> Any:
    """The cached form of a function, or of the function within a staticmethod or classmethod."""
    if isinstance(func, staticmethod):
        return staticmethod(decorate(func.__func__, config, preset))  # pyright: ignore[reportUnknownMemberType]
    if isinstance(func, classmethod):
        from cachekit.binding import CachedClassMethod

        return CachedClassMethod(decorate(func.__func__, config, preset))  # pyright: ignore[reportUnknownMemberType]
    identity.check_kind(func)
    return Handle(func, config, preset).cached


class Handle:
    """The Python half of one cached function: its settings, its backend, its attributes."""

    __slots__ = (
        "_keychain",
        "_local_reason",
        "_tenant_of",
        "cached",
        "config",
        "core",
        "func",
        "intent",
        "is_async",
        "module",
        "name",
        "preset",
        "shape",
        "used_backend",
    )

    def __init__(self, func: Any, config: DecoratorConfig, preset: str | None) -> None:
        self.func = func
        self.module: str = getattr(func, "__module__", None) or ""
        self.name: str = func.__qualname__
        self.config = config
        self.preset = preset
        self.is_async = identity.is_async(func)
        self.shape = CallShape(func, config.ignore)
        unknown = self.shape.unknown_parameters()
        if unknown:
            raise ConfigurationError(f"ignore: {self.name} has no parameter {unknown[0]!r}")
        self._choose_intent()
        self._choose_encryption()
        named = config.namespace or config.version is not None or config.key
        self._local_reason = None if named else identity.local_reason(func)
        self.used_backend: Any = None
        self.cached = _native.cached(func, self._options())
        self.core = self.cached._core
        self._attach()
        registry.functions.add(self.cached)

    # ---- what the native side is told

    def _options(self) -> dict[str, Any]:
        config = self.config
        breaker, timeout, backpressure = config.circuit_breaker, config.timeout, config.backpressure
        if identity.redefines(self.func, self.module, self.name, config.stored_namespace):
            _logger().warning(
                "%s.%s was decorated before with other code: entries stored under its name may be the older one's; "
                "give the new one a version=",
                self.module,
                self.name,
            )
        dynamic = callable(config.ttl)
        return {
            "namespace": config.stored_namespace,
            "module": self.module,
            "qualname": self.name,
            "is_async": self.is_async,
            "method": self.shape.is_method,
            "ttl": _UNTIL_SETTINGS if config.ttl is None else None if dynamic else _ttl.seconds(config.ttl),
            "ttl_func": self._ttl_of if dynamic else None,
            "key": config.key,
            "tenant": self._tenant_of,
            "audit": self.preset == "secure",
            "ignore": config.ignore,
            "parameters": self.shape.by_kind,
            "normalize": self.shape.normalized if config.normalize_calls else None,
            "interop": self._interop() if config.interop is not None else None,
            "l1": config.l1.enabled,
            "l1_max_bytes": config.l1.max_size_mb << 20 if "max_size_mb" in config.l1.given else 0,
            "swr_ratio": config.l1.swr_threshold_ratio if config.l1.swr_enabled else None,
            "serializer": _chosen(config.serializer),
            "integrity": config.integrity_checking,
            "lock": config.lock,
            "lock_wait": float(config.lock_wait),
            "breaker": {
                "failure_threshold": breaker.failure_threshold,
                "success_threshold": breaker.success_threshold,
                "recovery_timeout": float(breaker.recovery_timeout),
                "half_open_requests": breaker.half_open_requests,
            }
            if breaker.enabled
            else None,
            "excluded_exceptions": breaker.excluded_exceptions,
            "backpressure": {
                "max_concurrent_requests": backpressure.max_concurrent_requests,
                "queue_size": backpressure.queue_size,
                "timeout": float(backpressure.timeout),
            }
            if backpressure.enabled
            else None,
            "timeout": {
                "initial": float(timeout.initial),
                "min": float(timeout.min),
                "max": float(timeout.max),
                "window_size": timeout.window_size,
                "percentile": float(timeout.percentile),
            }
            if timeout.enabled
            else None,
            "refresh_ttl": float(config.ttl_refresh_threshold) if config.refresh_ttl_on_get else None,
            "copy": config.copy,
            "safe_mode": config.safe_mode,
            "local_reason": self._local_reason,
            "settings": self._settings,
            "resolve_backend": self._resolve_backend,
        }

    def _interop(self) -> dict[str, Any]:
        from cachekit.config import interop

        def check(tenant: str | None) -> None:
            interop.check_backend(self.used_backend, tenant)

        return {
            "namespace": self.config.namespace,
            "operation": self.config.interop,
            "parameters": interop.parameters(self.shape, self.name),
            "check": check,
        }

    def _settings(self) -> dict[str, Any]:
        """What depends on the process's settings; asked for at the first call, and after a change."""
        now = effective.current()
        l1 = self.config.l1
        l1_max_size_mb = l1.max_size_mb if "max_size_mb" in l1.given else now.l1_max_size_mb
        found: dict[str, Any] = {
            "l1": l1.enabled if "enabled" in l1.given else now.l1_enabled,
            "l1_max_bytes": min(l1_max_size_mb << 20, effective.MOST),
            "max_value_bytes": now.max_value_bytes,
            "compression": now.enable_compression,
            "compression_level": now.compression_level,
            "encryption": self.encryption(),
        }
        if self.config.ttl is None:
            found["ttl"] = float(now.default_ttl)
        return found

    def encryption(self) -> dict[str, Any] | None:
        """What the native side does about encryption; None where there is no key."""
        name = f"{self.module}.{self.name}"
        found = encryption.settings(self.config.encryption, self.intent, self._keychain, name)
        if found is not None and found["encrypts"]:
            self._check_deployment()
        return found

    def _resolve_backend(self) -> Any:
        """The backend of this function by the process's rule; None = this process only."""
        backend = self.config.backend
        if isinstance(backend, Unset):
            from cachekit.cache_handler import get_backend_provider

            provider = get_backend_provider()
            chosen = None if backend is MANAGED else get_default_backend()
            if chosen is None:
                chosen = provider.get_managed() if backend is MANAGED else provider.get_backend()
            backend = chosen
        if backend is not None:
            self._warn_main()
        self.used_backend = backend
        return backend

    def _warn_main(self) -> None:
        global _warned_main
        if self.module in _MAIN and not _warned_main and self.config.stored_namespace is None:
            _warned_main = True
            _logger().warning(
                "%s is defined in __main__: every program's functions of this name share entries; give it a namespace=",
                self.name,
            )

    def _ttl_of(self, result: Any) -> float | None:
        """The seconds that the ttl callable gives a result; None for ever."""
        choose: Any = self.config.ttl
        chosen = choose(result)
        if chosen is None:
            return float(effective.current().default_ttl)
        return _ttl.seconds(chosen)

    def _choose_intent(self) -> None:
        """On bare ``@cache`` the name decides; presets and ``encryption=`` overrule it."""
        if self.preset is not None:
            self.intent = self.preset
            return
        self.intent = "balanced" if self.config.encryption.enabled is not None else identity.intent(self.func.__name__)
        if self.intent == "fast" and "monitoring" not in self.config.given:
            reduced = MonitoringConfig(enable_tracing=False, enable_structured_logging=False)
            self.config = self.config.changed(monitoring=reduced)
        logging = sys.modules.get("logging")
        if logging is not None:  # never imported: nobody can be listening
            logging.getLogger("cachekit.decorator").debug("%s.%s: %s by its name", self.module, self.name, self.intent)

    def _choose_encryption(self) -> None:
        """Readies the key that was given, so that a wrong one is found now, and what tells tenants apart."""
        config = self.config.encryption
        if self.preset == "secure" and config.enabled is False:
            raise ConfigurationError("@cache.secure encrypts: drop encryption=False, or use @cache.production")
        self._keychain = encryption.own_keychain(config)
        if self.preset == "secure" and self._keychain is None and encryption.process_keychain() is None:
            raise encryption.no_key("@cache.secure")
        if config.enabled or self.preset == "secure":
            self._check_deployment()
        self._tenant_of = None
        if config.tenant_extractor is not None:
            from cachekit.decorators.tenant_context import bound

            self._tenant_of = bound(config.tenant_extractor, self.shape, self.name)

    def _check_deployment(self) -> None:
        """Of an interop function that encrypts. Whether one does, the settings may decide only later."""
        if self.config.interop is not None:
            from cachekit.config.interop import check_deployment

            check_deployment(self.config)

    def reduced(self) -> str | tuple[Any, ...]:
        """What cloudpickle stores: the function's name where that finds it, else what decorates it again."""
        found: Any = None if self.module in _MAIN else sys.modules.get(self.module)
        for part in self.name.split("."):
            found = getattr(found, part, None)
        if found is self.cached:
            return self.name
        keys = self.config.encryption
        if keys.master_key is not None or keys.previous_master_keys is not None:
            raise TypeError(
                f"{self.name} is not pickled with its keys: set CACHEKIT_MASTER_KEY in the other process and leave out "
                "master_key= and previous_master_keys=, or import the function from a module there"
            )
        return decorate, (self.func, self.config, self.preset)

    # ---- what callers find on the function

    def _attach(self) -> None:
        cached, func = self.cached, self.func
        for name in _OF_FUNCTION:
            try:
                value = getattr(func, name)
            except AttributeError:
                continue
            setattr(cached, name, value)
        cached.__dict__.update(getattr(func, "__dict__", ()))
        cached.__wrapped__ = func
        cached._handle = self
        for name in (
            "ainvalidate_cache",
            "cache_clear",
            "cache_info",
            "check_health",
            "get_health_status",
            "get_many",
            "invalidate_cache",
            "key_for",
            "peek",
            "prefetch",
            "refresh",
            "set",
        ):
            setattr(cached, name, getattr(self, name))

    def cache_info(self) -> CacheInfo:
        """This function's statistics in this process."""
        from cachekit.info import CacheInfo  # with typing, which no cached call needs

        return CacheInfo(*self.core._info())

    def cache_clear(self) -> Awaitable[None] | None:
        """Forgets every entry of this function, in every layer, and its statistics.

        On a coroutine function the result may be awaited for the backend's part.
        """
        return self.forget(None)

    def invalidate_cache(self, *args: Any, **kwargs: Any) -> Awaitable[None] | None:
        """Forgets the entry of this call, however it was written; without arguments, every entry.

        With ``soft=True`` (not on functions with a parameter of that name) this process serves on what its L1 holds
        until one refresh, which the next call begins, has replaced it. Needs L1's stale-while-revalidate, which is on
        unless it was turned off; without it the entry is simply forgotten.
        On a coroutine function the result may be awaited for the backend's part.
        """
        soft = self.takes_soft(kwargs)
        return self.forget(self.calls(args, kwargs), soft)

    async def ainvalidate_cache(self, *args: Any, **kwargs: Any) -> None:
        """As `invalidate_cache`, for use in a task, on every kind of function."""
        soft = self.takes_soft(kwargs)
        await self.aforget(self.calls(args, kwargs), soft)

    def refresh(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the function for this call, and puts its result in the place of what is cached.

        Until then other callers get what was cached before; they keep it where the function raises. Awaitable on a
        coroutine function.
        """
        if self.is_async:
            return self._areplace(self.func, args, kwargs)
        return self.core._replace(self.func, args, kwargs)

    def set(self, value: Any, /, *args: Any, **kwargs: Any) -> Awaitable[None] | None:
        """Caches `value` as the result of this call, in the place of what is cached and of what is being computed.

        Awaitable on a coroutine function. A call whose arguments have no key is a TypeError.
        """
        self.key_for(*args, **kwargs)  # raises where there is none
        if not self.is_async:
            self.core._replace(lambda *_, **__: value, args, kwargs)
            return None
        return self._aset(value, args, kwargs)

    def prefetch(self, *args: Any, **kwargs: Any) -> bool:
        """Has the result of this call cached in the background, unless this process holds it; returns at once.

        False where so many calls are already prefetched or refreshed that this one was left out. An exception of the
        function is logged at DEBUG and ends it. On a coroutine function it needs a running event loop.
        """
        from cachekit import _background

        return self.peek(*args, **kwargs) is not None or _background.prefetch(self.cached, args, kwargs)

    def get_many(self, calls: Iterable[Any]) -> Any:
        """The results of several calls, in their order: one after another, awaited side by side.

        A call is the tuple of its positional arguments, or else its single argument. The first exception is raised.
        """
        positional: list[tuple[Any, ...]] = [call if isinstance(call, tuple) else (call,) for call in calls]
        if self.is_async:
            return self._aget_many(positional)
        return [self.cached(*args) for args in positional]

    async def _aget_many(self, calls: list[tuple[Any, ...]]) -> list[Any]:
        from asyncio import gather

        return list(await gather(*(self.cached(*args) for args in calls)))

    async def _areplace(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from cachekit._drive import drive

        call = self.core._replace_call(func, args, kwargs)
        return await (func(*args, **kwargs) if call is None else drive(call))

    async def _aset(self, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        async def result(*_: Any, **__: Any) -> Any:
            return value

        await self._areplace(result, args, kwargs)

    def key_for(self, *args: Any, **kwargs: Any) -> str:
        """The key that this call's entry has in the backend."""
        return self.core._key_for(args, kwargs)

    def peek(self, *args: Any, **kwargs: Any) -> Any:
        """What this process holds for this call; None where it holds nothing, whatever the backend has.

        Runs nothing and asks nobody.
        """
        return self.core._lookup(args, kwargs)

    def get_health_status(self) -> dict[str, Any]:
        """What this function's protections are doing now; touches no backend."""
        from cachekit.health import status

        return status(self)

    def check_health(self) -> Any:
        """As `get_health_status`, and asks the backend; awaitable on a coroutine function."""
        from cachekit import health

        return health.acheck(self) if self.is_async else health.check(self)

    # ---- forgetting

    def calls(self, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool = False) -> list[Call] | None:
        """The calls that an invalidation concerns; None for all of the function's."""
        if len(args) == bound and not kwargs and self.shape.takes_arguments(bound):
            return None
        if self.shape.positional[:1] == ("cls",) and not (args and isinstance(args[0], type)):
            return None  # reached through a classmethod that does not tell its class
        if self.config.normalize_calls or self.config.interop is not None:
            return [self.shape.normalized(args, kwargs)]
        return self.shape.spellings(args, kwargs)

    def takes_soft(self, kwargs: dict[str, Any]) -> bool:
        """The ``soft=`` of an invalidation, taken out of its arguments where the function has no such parameter."""
        return not self.shape.has_parameter("soft") and bool(kwargs.pop("soft", False))

    def forget(self, calls: list[Call] | None, soft: bool = False) -> Awaitable[None] | None:
        """Forgets `calls`, or everything for None; at once in L1. Awaitable on a coroutine function."""
        if self.is_async and _in_a_loop():
            return self.aforget(calls, soft)
        if calls is None:
            self.core._clear(soft)
        else:
            self.core._invalidate(calls, soft)
        return _Done() if self.is_async else None

    def aforget(self, calls: list[Call] | None, soft: bool = False) -> Awaitable[None]:
        """`forget` in a task; it starts at once, whether or not it is awaited."""
        return self.core._aclear(soft) if calls is None else self.core._ainvalidate(calls, soft)


class _Done:
    """An awaitable that has nothing left to do."""

    __slots__ = ()

    def __await__(self) -> Any:
        return iter(())


def _in_a_loop() -> bool:
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


def _logger() -> Any:
    from logging import getLogger

    return getLogger("cachekit.decorator")
