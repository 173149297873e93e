"""`DecoratorConfig`: everything that one decorated function can be told, and the presets."""

from __future__ import annotations

import sys

from cachekit import ttl as _ttl
from cachekit.config.nested import (
    BackpressureConfig,
    CircuitBreakerConfig,
    EncryptionConfig,
    Group,
    L1CacheConfig,
    MonitoringConfig,
    TimeoutConfig,
)
from cachekit.config.validation import ConfigurationError, is_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass
    from typing import Any, Callable, Literal

    from typing_extensions import Self

    from cachekit.backends.base import BaseBackend
    from cachekit.serializers.base import SerializerProtocol
    from cachekit.ttl import TTL
else:
    from cachekit.config.late_dataclasses import dataclass


class Unset:
    """The type of what stands for a backend until the first use."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name.lower()}>"

    def __reduce__(self) -> str:
        return self._name


UNSET = Unset("UNSET")
"""No backend was named: the process's rule picks one."""
MANAGED = Unset("MANAGED")
"""The CachekitIO account that the environment names."""


@dataclass(frozen=True)
class DecoratorConfig(Group):
    """What a decorated function was told. Frozen; `to_dict` flattens it.

    ``@cache(config=c, ...)`` starts from the fields that `c` was given; arguments beside it win.
    """

    ttl: TTL = None
    """Seconds, a timedelta, text ("5m"), callable(result), or FOREVER; None = CACHEKIT_DEFAULT_TTL."""
    namespace: str | None = None
    version: str | int | None = None
    """Part of the namespace; change it when what the code returns changes meaning."""
    key: Callable[..., str] | None = None
    """callable(*args, **kwargs) -> str that replaces the argument part of the key."""
    ignore: tuple[str, ...] = ()
    """Parameters left out of the key."""
    normalize_calls: bool = False
    """One entry for f(1), f(x=1) and f(1, <the default>)."""
    interop: str | None = None
    """The operation's name: interop mode, entries that programs in other languages share."""
    serializer: str | SerializerProtocol = "default"
    """A name, or an object with serialize() and deserialize()."""
    integrity_checking: bool = True
    backend: BaseBackend | Unset | None = UNSET
    """A backend object; None = this process only."""
    safe_mode: bool = False
    """Decode what was encoded before storing it; what does not come back equal is not cached."""
    refresh_ttl_on_get: bool = False
    ttl_refresh_threshold: float = 0.5
    """The part of the ttl below which a hit renews it, 0 to 1."""
    lock: bool = True
    """Take the backend's distributed lock around a computation."""
    lock_wait: float = 30.0
    """Seconds that a caller waits for another's computation before it computes itself."""
    copy: bool | Literal["auto"] = "auto"
    """L1 only: "auto" clones builtin containers, True also opaque objects, False shares."""
    # Frozen: one of each serves every function.
    l1: L1CacheConfig = L1CacheConfig()
    circuit_breaker: CircuitBreakerConfig = CircuitBreakerConfig()
    timeout: TimeoutConfig = TimeoutConfig()
    backpressure: BackpressureConfig = BackpressureConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    encryption: EncryptionConfig = EncryptionConfig()

    def __post_init__(self) -> None:
        if self.ttl is not None and not callable(self.ttl):
            _ttl.seconds(self.ttl)
        self._check_key()
        for name in ("normalize_calls", "integrity_checking", "safe_mode", "refresh_ttl_on_get", "lock"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: True or False is expected")
        _fraction("ttl_refresh_threshold", self.ttl_refresh_threshold, 1.0)
        _fraction("lock_wait", self.lock_wait, float("inf"))
        if self.copy not in ("auto", True, False):
            raise ConfigurationError(f'copy={self.copy!r}: "auto", True or False is expected')
        wanted: Any = self.encryption
        if not isinstance(wanted, EncryptionConfig) and wanted in (None, True, False):
            object.__setattr__(self, "encryption", EncryptionConfig(enabled=wanted))
        self._unwrap()
        if getattr(self.serializer, "enable_integrity_checking", True) is False and not _is_arrow(self.serializer):
            object.__setattr__(self, "integrity_checking", False)
        object.__setattr__(self, "serializer", _serializer(self.serializer, self.interop))
        if self.backend is not None and not isinstance(self.backend, Unset):
            from cachekit.backends.base import require_backend

            require_backend(self.backend)
        if self.interop is not None:
            from cachekit.config import interop

            interop.check(self)
        for name, kind in GROUPS.items():
            if not isinstance(getattr(self, name), kind):
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: a {kind.__name__} is expected")

    def _unwrap(self) -> None:
        """Takes an EncryptionWrapper apart: its serializer, and its keys as this function's encryption.

        The name "encrypted" is one around the default serializer, with the keys that the function has anyway.
        """
        module: Any = sys.modules.get("cachekit.serializers.encryption_wrapper")
        wrapper: Any = self.serializer
        mine: dict[str, Any] = {"enabled": True}
        inner: Any = "default"
        if module is not None and isinstance(wrapper, module.EncryptionWrapper):
            mine, inner = wrapper.as_config(), wrapper.serializer
        elif self.serializer != "encrypted":
            return
        given = {name: getattr(self.encryption, name) for name in self.encryption.given}
        for name in given.keys() & mine.keys():
            if given[name] not in (None, mine[name]):
                raise ConfigurationError(f"{name}= and what serializer= says of it differ: give it once")
        object.__setattr__(self, "encryption", EncryptionConfig(**{**given, **mine}))
        object.__setattr__(self, "serializer", inner)

    def _check_key(self) -> None:
        namespace: Any = self.namespace
        if namespace is not None and (not is_text(namespace) or not namespace.strip()):
            raise ConfigurationError(f"namespace={namespace!r}: a name is expected, or None for none")
        version: Any = self.version
        number = isinstance(version, int) and not isinstance(version, bool)
        if version is not None and not number and (not is_text(version) or not version):
            raise ConfigurationError(f"version={version!r}: a number or a short text is expected")
        ignored: Any = self.ignore
        if isinstance(ignored, str):
            ignored = (ignored,)
        ignored = tuple(ignored)
        if not all(isinstance(name, str) for name in ignored):
            raise ConfigurationError(f"ignore={self.ignore!r}: parameter names are expected")
        object.__setattr__(self, "ignore", ignored)
        if self.key is not None:
            if not callable(self.key):
                raise ConfigurationError(f"key={self.key!r}: a callable(*args, **kwargs) -> str is expected")
            if ignored or self.normalize_calls:
                other = "ignore" if ignored else "normalize_calls"
                raise ConfigurationError(f"{other}= has no effect beside key=, which sees the call itself: drop one")

    @property
    def stored_namespace(self) -> str | None:
        """The namespace that keys carry: `namespace` with `version` folded in."""
        if self.version is None:
            return self.namespace
        return f"v{self.version}" if self.namespace is None else f"{self.namespace}:v{self.version}"

    @classmethod
    def minimal(cls, **overrides: Any) -> Self:
        """Speed first: every feature off, integrity checking too."""
        return cls._preset("minimal", overrides)

    @classmethod
    def production(cls, **overrides: Any) -> Self:
        """Every protection and all monitoring."""
        return cls._preset("production", overrides)

    @classmethod
    def dev(cls, **overrides: Any) -> Self:
        """As production, without Prometheus and invalidation broadcasts; the decorator logs at DEBUG."""
        return cls._preset("dev", overrides)

    @classmethod
    def test(cls, **overrides: Any) -> Self:
        """Deterministic: no protections, no background work, no monitoring."""
        return cls._preset("test", overrides)

    @classmethod
    def secure(cls, **overrides: Any) -> Self:
        """As production, encrypted in every layer, with an audit log; a master key is required."""
        return cls._preset("secure", overrides)

    @classmethod
    def io(cls, **overrides: Any) -> Self:
        """As production; CACHEKIT_API_KEY must be set, whose CachekitIO account is the shared layer."""
        return cls._preset("io", overrides)

    @classmethod
    def _preset(cls, name: str, overrides: dict[str, Any]) -> Self:
        from cachekit.config.folding import fold

        return cls(**fold(name, overrides))

    def to_dict(self) -> dict[str, Any]:
        """The configuration as one flat dictionary."""
        from dataclasses import fields

        flat: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in GROUPS}
        flat.update(l1_enabled=self.l1.enabled, l1_max_size_mb=self.l1.max_size_mb)
        flat.update(swr_enabled=self.l1.swr_enabled, swr_threshold_ratio=self.l1.swr_threshold_ratio)
        flat.update(invalidation_enabled=self.l1.invalidation_enabled, namespace_index=self.l1.namespace_index)
        flat.update({item.name: getattr(self.circuit_breaker, item.name) for item in fields(CircuitBreakerConfig)[1:]})
        flat.update({item.name: getattr(self.monitoring, item.name) for item in fields(MonitoringConfig)})
        flat.update(
            circuit_breaker=self.circuit_breaker.enabled,
            adaptive_timeout=self.timeout.enabled,
            timeout_initial=self.timeout.initial,
            timeout_min=self.timeout.min,
            timeout_max=self.timeout.max,
            timeout_window_size=self.timeout.window_size,
            timeout_percentile=self.timeout.percentile,
            backpressure=self.backpressure.enabled,
            max_concurrent_requests=self.backpressure.max_concurrent_requests,
            queue_size=self.backpressure.queue_size,
            backpressure_timeout=self.backpressure.timeout,
            encryption=self.encryption.enabled,
            master_key=None if self.encryption.master_key is None else "[REDACTED]",
            tenant_extractor=self.encryption.tenant_extractor,
            single_tenant_mode=self.encryption.single_tenant_mode,
            deployment_uuid=self.encryption.deployment_uuid,
            fail_closed=self.encryption.fail_closed,
        )
        return flat


GROUPS: dict[str, type[Group]] = {
    "l1": L1CacheConfig,
    "circuit_breaker": CircuitBreakerConfig,
    "timeout": TimeoutConfig,
    "backpressure": BackpressureConfig,
    "monitoring": MonitoringConfig,
    "encryption": EncryptionConfig,
}

_default_backend: BaseBackend | None = None


def set_default_backend(backend: BaseBackend | None) -> None:
    """Makes `backend` that of every function which names none, earlier ones included; None clears it."""
    global _default_backend
    if backend is not None:
        from cachekit.backends.base import require_backend

        require_backend(backend)
    _default_backend = backend
    from cachekit import registry

    registry.look_again()


def get_default_backend() -> BaseBackend | None:
    """What `set_default_backend` was given."""
    return _default_backend


def _is_arrow(serializer: Any) -> bool:
    """Whether it is an ArrowSerializer, whose checksum is always there."""
    module = sys.modules.get("cachekit.serializers.arrow")
    return module is not None and isinstance(serializer, module.ArrowSerializer)


def _serializer(serializer: Any, operation: Any) -> Any:
    """The canonical name, or the object."""
    if serializer == "default":
        return serializer
    if serializer == "interop" and operation is not None:
        return "default"  # What an interop function has anyway.
    if not isinstance(serializer, str):
        return _serializer_object(serializer)
    from cachekit.serializers.names import NAMES

    canonical = NAMES.get(serializer)
    if canonical is not None:
        return canonical
    if serializer == "interop":
        raise ConfigurationError('serializer="interop" names no operation: leave it out, and give interop="<name>"')
    from difflib import get_close_matches

    near = get_close_matches(serializer, NAMES, n=1)
    hint = f", did you mean {near[0]!r}?" if near else f": known are {', '.join(NAMES)}"
    raise ConfigurationError(f"serializer={serializer!r} is unknown{hint}")


def _serializer_object(serializer: Any) -> Any:
    missing = [name for name in ("serialize", "deserialize") if not callable(getattr(serializer, name, None))]
    if missing or isinstance(serializer, type):
        what = f"has no {missing[0]}()" if missing else "is a class; pass an instance of it"
        raise ConfigurationError(
            f"serializer={serializer!r} {what}: a name, or an object with serialize() and deserialize() is expected"
        )
    module = sys.modules.get("cachekit.serializers.standard")
    if module is not None and type(serializer) is module.StandardSerializer:
        return "default"
    return serializer


def _fraction(name: str, value: object, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= most:
        raise ConfigurationError(f"{name}={value!r}: a number from 0 to {most:g} is expected")
