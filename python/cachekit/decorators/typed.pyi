# ruff: noqa: PYI001, PYI021 - editors show these docstrings; the variables serve `cache` too
"""How decorated functions look to type checkers: the original parameters, and cachekit's attributes."""

from collections.abc import Awaitable, Coroutine, Iterable
from datetime import timedelta
from typing import Any, Callable, Generic, Literal, Protocol, TypedDict, TypeVar, overload

from typing_extensions import Concatenate, ParamSpec, Self

from cachekit.backends.base import BaseBackend
from cachekit.config.decorator import DecoratorConfig
from cachekit.config.nested import (
    BackpressureConfig,
    CircuitBreakerConfig,
    EncryptionConfig,
    L1CacheConfig,
    MonitoringConfig,
    TimeoutConfig,
)
from cachekit.decorators.tenant_context import TenantContextExtractor
from cachekit.info import CacheInfo
from cachekit.serializers import EncryptionWrapper
from cachekit.serializers.base import SerializerProtocol
from cachekit.ttl import Forever

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

class _Attributes:
    """What every decorated function has."""

    __module__: str
    __name__: str
    __qualname__: str

    def cache_info(self) -> CacheInfo: ...
    def get_health_status(self) -> dict[str, Any]: ...

class CachedFunction(_Attributes, Generic[P, R_co]):
    """A cached function: called as before, with attributes to look at and forget what it holds."""

    @property
    def __wrapped__(self) -> Callable[P, R_co]: ...
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    # Checkers look here below @classmethod and @staticmethod too: a first parameter that is the class
    # is bound to it, and a first parameter that the object does not fit is left alone.
    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], T], instance: None, owner: type[S], /
    ) -> CachedFunction[Q, T]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], T], instance: S, owner: type[Any] | None = None, /
    ) -> CachedFunction[Q, T]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], T], instance: S, owner: type[Any] | None = None, /
    ) -> CachedFunction[Q, T]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None, /) -> Self: ...
    def invalidate_cache(self, *args: Any, **kwargs: Any) -> None: ...
    async def ainvalidate_cache(self, *args: Any, **kwargs: Any) -> None: ...
    def cache_clear(self) -> None: ...
    def check_health(self) -> dict[str, Any]: ...
    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str: ...
    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...
    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def set(self, value: Any, /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    def prefetch(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    def get_many(self, calls: Iterable[Any]) -> list[R_co]: ...

class AsyncCachedFunction(_Attributes, Generic[P, R_co]):
    """A cached coroutine function."""

    @property
    def __wrapped__(self) -> Callable[P, Coroutine[Any, Any, R_co]]: ...
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...
    # Checkers look here below @classmethod and @staticmethod too: a first parameter that is the class
    # is bound to it, and a first parameter that the object does not fit is left alone.
    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], Coroutine[Any, Any, T]], instance: None, owner: type[S], /
    ) -> AsyncCachedFunction[Q, T]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> Self: ...
    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], Coroutine[Any, Any, T]], instance: S, owner: type[Any] | None = None, /
    ) -> AsyncCachedFunction[Q, T]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], Coroutine[Any, Any, T]], instance: S, owner: type[Any] | None = None, /
    ) -> AsyncCachedFunction[Q, T]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None, /) -> Self: ...
    def invalidate_cache(self, *args: Any, **kwargs: Any) -> Awaitable[None]: ...
    async def ainvalidate_cache(self, *args: Any, **kwargs: Any) -> None: ...
    def cache_clear(self) -> Awaitable[None]: ...
    async def check_health(self) -> dict[str, Any]: ...
    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str: ...
    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Any: ...
    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    async def set(self, value: Any, /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    def prefetch(self, *args: P.args, **kwargs: P.kwargs) -> bool: ...
    async def get_many(self, calls: Iterable[Any]) -> list[R_co]: ...

class OnlyAny:
    """Nothing returns this: a function that checkers take for returning it returns Any."""

class Decorate(Protocol):
    """What ``cache(...)`` returns: applied to a function, its cached form."""

    # A staticmethod is a callable too; it is to stay one.
    @overload
    def __call__(self, func: staticmethod[P, R], /) -> staticmethod[P, R]: ...  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, func: classmethod[S, P, R], /) -> classmethod[S, P, R]: ...
    @overload
    def __call__(self, func: Callable[P, OnlyAny], /) -> CachedFunction[P, Any]: ...
    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncCachedFunction[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, func: Callable[P, R], /) -> CachedFunction[P, R]: ...

class Options(TypedDict, total=False):
    """The parameters of ``cache`` and of its presets; see `DecoratorConfig` for each."""

    ttl: float | timedelta | str | Forever | Callable[[Any], float | timedelta | str | Forever | None] | None
    namespace: str | None
    version: str | int | None
    key: Callable[..., str] | None
    ignore: tuple[str, ...] | list[str] | str
    normalize_calls: bool
    serializer: str | SerializerProtocol | EncryptionWrapper
    integrity_checking: bool
    backend: BaseBackend | None
    interop: str | None
    safe_mode: bool
    pipelined: bool
    fast_mode: bool
    refresh_ttl_on_get: bool
    ttl_refresh_threshold: float
    lock: bool
    lock_wait: float
    copy: bool | Literal["auto"]
    encryption: EncryptionConfig | bool | None
    master_key: str | bytes | None
    tenant_extractor: TenantContextExtractor | Callable[..., Any] | str | None
    single_tenant_mode: bool
    deployment_uuid: str | None
    fail_closed: bool | None
    l1: L1CacheConfig | bool
    l1_enabled: bool
    circuit_breaker: CircuitBreakerConfig | bool
    circuit_breaker_config: CircuitBreakerConfig | None
    timeout: TimeoutConfig | bool
    adaptive_timeout: bool
    backpressure: BackpressureConfig | bool
    max_concurrent_requests: int
    monitoring: MonitoringConfig | bool
    collect_stats: bool
    enable_tracing: bool
    enable_structured_logging: bool
    enable_prometheus_metrics: bool
    config: DecoratorConfig | None
