"""`CachekitConfig`: the process's settings as a pydantic-settings model."""

from __future__ import annotations

from typing import Any, Literal, Optional

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import Self

from cachekit.config import fields
from cachekit.config.validation import ConfigurationError

_SETTINGS = {setting.name: setting for setting in fields.PROCESS}


def field(name: str) -> Any:
    """The pydantic field of a setting in the shared table."""
    setting = _SETTINGS[name]
    return Field(
        default=setting.default,
        ge=setting.least,
        gt=setting.above,
        description=setting.text,
        validation_alias=AliasChoices(*setting.variables),
    )


class EnvironmentConfig(BaseSettings):
    """Base of the models: fields come from arguments, then from the environment, then from defaults."""

    model_config = SettingsConfigDict(
        env_prefix="CACHEKIT_",
        env_ignore_empty=True,
        case_sensitive=False,
        extra="forbid",
        populate_by_name=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        frozen=True,
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise self._translated(error, values) from None

    @classmethod
    def from_env(cls) -> Self:
        """The settings that the environment gives."""
        return cls()

    @classmethod
    def _translated(cls, error: ValidationError, arguments: dict[str, Any]) -> ConfigurationError:
        """pydantic's error as ours: the first field's name or variable, what is expected, no secret."""
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = str(first["loc"][0]) if first["loc"] else cls.__name__
        name = _names().get(where.upper(), where)
        setting = _SETTINGS.get(name)
        if setting is None:
            from difflib import get_close_matches

            near = get_close_matches(where, cls.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            if where.upper() in (variable[len("CACHEKIT_") :] for variable in fields.NOT_YET):
                hint = ": it is not in this version of cachekit"
            return ConfigurationError(f"{cls.__name__} has no field {where!r}{hint}")
        if name in arguments:
            return setting.refused(arguments[name])
        present = fields.variables()
        for variable in setting.variables:
            if variable in present:
                return setting.refused(present[variable], variable)
        return setting.refused(None)


def _names() -> dict[str, str]:
    """Field names by everything that may stand for them in an error, in upper case."""
    names = {setting.name.upper(): setting.name for setting in fields.PROCESS}
    for setting in fields.PROCESS:
        names.update(dict.fromkeys(setting.variables, setting.name))
    return names


class CachekitConfig(EnvironmentConfig):
    """The settings of a process. `cachekit.configure(CachekitConfig(...))` puts them in force.

    Without that call the environment decides, read at the first use of a cached function; see
    `cachekit.config.fields` for the variables.
    """

    redis_url: str = field("redis_url")
    connection_pool_size: int = field("connection_pool_size")
    socket_timeout: float = field("socket_timeout")
    socket_connect_timeout: float = field("socket_connect_timeout")
    default_ttl: int = field("default_ttl")
    max_value_size: int = field("max_value_size")
    max_chunk_size_mb: int = field("max_chunk_size_mb")
    enable_compression: bool = field("enable_compression")
    l1_enabled: bool = field("l1_enabled")
    l1_max_size_mb: int = field("l1_max_size_mb")
    l1_total_mb: Optional[int] = field("l1_total_mb")  # noqa: UP045 - evaluated by pydantic on 3.9
    disabled: bool = field("disabled")
    master_key: Optional[SecretStr] = field("master_key")  # noqa: UP045
    encryption: Optional[Literal["all"]] = field("encryption")  # noqa: UP045

    def get_safe_repr(self) -> dict[str, Any]:
        """The fields with every secret masked, for logs and support."""
        from cachekit.backends.redis.config import without_password

        shown = self.model_dump()
        shown["redis_url"] = without_password(self.redis_url)
        shown["master_key"] = None if self.master_key is None else "[REDACTED]"
        return shown

    def __repr__(self) -> str:
        return f"CachekitConfig({', '.join(f'{name}={value!r}' for name, value in self.get_safe_repr().items())})"

    __str__ = __repr__
