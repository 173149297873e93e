"""The process's settings: reading them, replacing them, forgetting them."""

from __future__ import annotations

from cachekit.config import effective, fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.config.settings import CachekitConfig

_from_environment: tuple[dict[str, str], CachekitConfig] | None = None


def get_settings() -> CachekitConfig:
    """The settings in force: those given to `configure`, else those of the environment as it is now."""
    global _from_environment
    configured = effective.configured()
    if configured is not None:
        return configured
    present = fields.variables()
    if _from_environment is None or _from_environment[0] != present:
        from cachekit.config.settings import CachekitConfig

        _from_environment = (present, CachekitConfig())
    return _from_environment[1]


def configure(config: CachekitConfig) -> None:
    """Puts `config` in force for the whole process, functions decorated earlier included."""
    from cachekit.config.settings import CachekitConfig

    if not isinstance(config, CachekitConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"configure() takes a CachekitConfig, not {type(config).__name__}")
    effective.replace(config)


def reset_settings() -> None:
    """Forgets `configure` and what was read; the environment is read again at the next use."""
    global _from_environment
    _from_environment = None
    effective.replace(None)
