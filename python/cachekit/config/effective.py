"""The settings in force: those given to `configure`, else those of the environment."""

from __future__ import annotations

from cachekit.config import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit.config.settings import CachekitConfig


class Effective:
    """The process's settings as plain values; `given` names those that somebody set."""

    __slots__ = ("given", "values")

    def __init__(self, values: dict[str, Any], given: set[str]) -> None:
        self.values = values
        self.given = given

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def max_value_bytes(self) -> int:
        """The largest entry that is stored, in bytes."""
        return min(int(self.max_value_size), int(self.max_chunk_size_mb) << 20, MOST)


MOST = (1 << 64) - 1
"""The greatest number of bytes that the engine takes: no limit."""

_configured: CachekitConfig | None = None
_current: tuple[dict[str, str], Effective] | None = None


def current() -> Effective:
    """The settings in force; a `ConfigurationError` names a variable that cannot be used.

    The environment is looked at each time and read anew where it has changed.
    """
    global _current
    present = fields.variables() if _configured is None else {}
    if _current is None or _current[0] != present:
        effective = Effective(*fields.read(fields.PROCESS, present)) if _configured is None else _of(_configured)
        _apply(effective)
        _current = (present, effective)
    return _current[1]


def configured() -> CachekitConfig | None:
    """The instance that `configure` was given."""
    return _configured


def replace(config: CachekitConfig | None) -> None:
    """Makes `config` the settings in force, or the environment's for None; functions look again."""
    global _configured, _current
    from cachekit import registry, switches

    switches.apply_setting(False)  # Calls that run uncached read no settings: they would never learn of these.
    _configured, _current = config, None
    registry.look_again()


def _of(config: CachekitConfig) -> Effective:
    values = {setting.name: getattr(config, setting.name) for setting in fields.PROCESS}
    if values["master_key"] is not None:
        values["master_key"] = values["master_key"].get_secret_value()
    values["previous_master_keys"] = tuple(key.get_secret_value() for key in values["previous_master_keys"])
    return Effective(values, set(config.model_fields_set))


def _apply(effective: Effective) -> None:
    """Puts the process-wide switches where the settings want them."""
    import os

    from cachekit import _native, switches

    switches.apply_setting(effective.disabled)
    total = effective.l1_total_mb
    _native.set_l1_ceiling(MOST if total is None else min(total << 20, MOST))
    level = os.environ.get("LOG_LEVEL", "").upper()
    if level:
        import logging

        logger = logging.getLogger("cachekit")
        try:
            logger.setLevel(level)
        except ValueError:
            logger.warning("LOG_LEVEL=%r is not a level of the logging module; cachekit's log keeps its own", level)
