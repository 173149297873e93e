"""The nested groups of a decorator's configuration.

Each is frozen, validates itself, and remembers which fields it was *given*: a field that was not
given takes part in no conflict and may be filled from a preset or from the process's settings.
"""

from __future__ import annotations

from cachekit.config.late_dataclasses import LateDataclass
from cachekit.config.validation import ConfigurationError, is_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass, field
    from typing import Any

    from typing_extensions import Self
else:
    from cachekit.config.late_dataclasses import dataclass, field


class Group(LateDataclass):
    """Base of the configuration dataclasses: records the names of the fields given."""

    given: frozenset[str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        object.__setattr__(self, "given", frozenset(tuple(cls._fields)[: len(args)]).union(kwargs))
        return self

    def changed(self, **values: Any) -> Self:
        """A copy with `values`, in which only what was given before and `values` count as given."""
        kept = {name: getattr(self, name) for name in self.given}
        return type(self)(**{**kept, **values})


@dataclass(frozen=True)
class L1CacheConfig(Group):
    """The layer in this process.

    Where `enabled` or `max_size_mb` is not given, ``CACHEKIT_L1_ENABLED`` and
    ``CACHEKIT_L1_MAX_SIZE_MB`` decide. The size is per namespace; the largest declared one wins.
    """

    enabled: bool = True
    max_size_mb: int = 100
    swr_enabled: bool = True
    """Serve an ageing entry and refresh it behind the caller."""
    swr_threshold_ratio: float = 0.5
    """The part of the TTL after which an entry is ageing, 0.1 to 1.0."""
    invalidation_enabled: bool = True
    namespace_index: bool = True

    def __post_init__(self) -> None:
        _bools(self, "enabled", "swr_enabled", "invalidation_enabled", "namespace_index")
        _number(self, "max_size_mb", least=1, whole=True)
        _number(self, "swr_threshold_ratio", least=0.1, most=1.0)


@dataclass(frozen=True)
class CircuitBreakerConfig(Group):
    """When to leave a failing backend alone, and when to try it again."""

    enabled: bool = True
    failure_threshold: int = 5
    """Transient errors and timeouts in a row that open the circuit."""
    success_threshold: int = 3
    """Successes in HALF_OPEN that close it."""
    recovery_timeout: float = 30.0
    """Seconds from opening to the first new attempt."""
    half_open_requests: int = 3
    """Attempts let through at once in HALF_OPEN."""
    excluded_exceptions: tuple[type[BaseException], ...] = ()
    """Exceptions of a backend that never count as failures."""

    def __post_init__(self) -> None:
        _bools(self, "enabled")
        for name in ("failure_threshold", "success_threshold", "half_open_requests"):
            _number(self, name, least=1, whole=True)
        _number(self, "recovery_timeout", above=0)
        excluded: Any = self.excluded_exceptions
        several = type(excluded) in (tuple, list, set, frozenset)
        kinds: tuple[Any, ...] = tuple(excluded) if several else (excluded,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise _refused(self, "excluded_exceptions", excluded, "a tuple of exception classes")
        object.__setattr__(self, "excluded_exceptions", kinds)


@dataclass(frozen=True)
class TimeoutConfig(Group):
    """The adaptive deadline of one backend operation, in seconds.

    The deadline is the given percentile of the last `window_size` operations × 1.5, within
    [`min`, `max`]; `initial` until ten are known. Storing has a second more for each 16 MiB of the value. Never
    is it above the backend's own timeout.
    """

    enabled: bool = True
    initial: float = 1.0
    min: float = 0.1
    max: float = 10.0
    window_size: int = 1000
    percentile: float = 95.0

    def __post_init__(self) -> None:
        _bools(self, "enabled")
        for name in ("initial", "min", "max"):
            _number(self, name, above=0)
        if self.min > self.max:
            raise _refused(self, "min", self.min, f"a number not above max={self.max}")
        _number(self, "window_size", least=1, whole=True)
        _number(self, "percentile", above=0, most=100)


@dataclass(frozen=True)
class BackpressureConfig(Group):
    """How many backend operations a namespace may have under way; beyond, the function runs."""

    enabled: bool = True
    max_concurrent_requests: int = 100
    queue_size: int = 1000
    """Callers that may wait for a place."""
    timeout: float = 0.1
    """Seconds that a caller waits for one."""

    def __post_init__(self) -> None:
        _bools(self, "enabled")
        _number(self, "max_concurrent_requests", least=1, whole=True)
        _number(self, "queue_size", least=0, whole=True)
        _number(self, "timeout", least=0)


@dataclass(frozen=True)
class MonitoringConfig(Group):
    """What is told about the cache beyond ``cache_info()``, which always counts."""

    collect_stats: bool = True
    enable_tracing: bool = True
    enable_structured_logging: bool = True
    enable_prometheus_metrics: bool = True

    def __post_init__(self) -> None:
        _bools(self, *self._fields)


def _refused(config: object, name: str, value: object, expected: str) -> ConfigurationError:
    return ConfigurationError(f"{type(config).__name__}.{name}={value!r}: {expected} is expected")


def _bools(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, bool):
            raise _refused(config, name, value, "True or False")


def _number(
    config: object,
    name: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    whole: bool = False,
) -> None:
    value = getattr(config, name)
    expected = "a whole number" if whole else "a number"
    if least is not None:
        expected += f" of at least {least}"
    if above is not None:
        expected += f" above {above}"
    if most is not None:
        expected += f", at most {most}" if least is not None or above is not None else f" of at most {most}"
    fits = (
        isinstance(value, int if whole else (int, float))
        and not isinstance(value, bool)
        and (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and float("-inf") < value < float("inf")
    )
    if not fits:
        raise _refused(config, name, value, expected)


@dataclass(frozen=True)
class EncryptionConfig(Group):
    """Whether entries are encrypted, with which key, for whom.

    Keys are text in hexadecimal, or bytes; at least 32 bytes. They are shown nowhere.
    """

    enabled: bool | None = None
    """True encrypts, False never does; None: with a `master_key`, and where the settings or the name ask for it."""
    master_key: str | bytes | None = field(default=None, repr=False)
    """None = CACHEKIT_MASTER_KEY."""
    tenant_extractor: Any = None
    """A parameter's name, a callable(*args, **kwargs), or an object with extract(args, kwargs)."""
    single_tenant_mode: bool = False
    """Says that there is one tenant, which is so without a `tenant_extractor`."""
    deployment_uuid: str | None = None
    """The one tenant's name; None = CACHEKIT_DEPLOYMENT_UUID, else "default"."""
    fail_closed: bool | None = None
    """Raise for an entry that does not decrypt, instead of recomputing; None = CACHEKIT_ENCRYPTION_FAIL_CLOSED."""
    previous_master_keys: tuple[str | bytes, ...] | None = field(default=None, repr=False)
    """Keys that `master_key` replaced, newest first; None = CACHEKIT_PREVIOUS_MASTER_KEYS."""

    def __post_init__(self) -> None:
        for name in ("enabled", "fail_closed"):
            if getattr(self, name) not in (None, True, False):
                raise ConfigurationError(f"{name}={getattr(self, name)!r}: True, False or None is expected")
        _bools(self, "single_tenant_mode")
        if self.tenant_extractor is not None:
            from cachekit.decorators.tenant_context import checked

            if self.single_tenant_mode or self.deployment_uuid is not None:
                other = "single_tenant_mode" if self.single_tenant_mode else "deployment_uuid"
                raise ConfigurationError(f"{other} and tenant_extractor exclude each other: give one of them")
            object.__setattr__(self, "tenant_extractor", checked(self.tenant_extractor))
        uuid: Any = self.deployment_uuid
        if uuid is not None and (not is_text(uuid) or not uuid):
            raise ConfigurationError(f"deployment_uuid={uuid!r}: a name is expected")
        if uuid is not None:
            from cachekit.config.fields import PROCESS

            setting = next(setting for setting in PROCESS if setting.name == "deployment_uuid")
            try:
                setting.parse(uuid)
            except ValueError:
                raise setting.refused(uuid) from None
        for name in ("master_key", "previous_master_keys"):
            object.__setattr__(self, name, _exposed(getattr(self, name)))
        if self.master_key is not None and self.enabled is None:
            object.__setattr__(self, "enabled", True)


def _exposed(key: Any) -> Any:
    """A key without the wrapper that pydantic puts around secrets; of a list, a tuple of them."""
    if isinstance(key, (list, tuple)):
        return tuple(_exposed(one) for one in key)  # pyright: ignore[reportUnknownVariableType]
    reveal = getattr(key, "get_secret_value", None)
    key = key if reveal is None else reveal()
    if key is not None and not isinstance(key, bytes) and not is_text(key):
        raise ConfigurationError(f"a key of type {type(key).__name__}: hexadecimal text or bytes are expected", "E002")
    return key
