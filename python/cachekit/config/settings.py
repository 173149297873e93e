"""`CachekitConfig`: the process's settings as a pydantic-settings model."""

from __future__ import annotations

from typing import Any, Literal, Optional

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
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
    )


class Variables(PydanticBaseSettingsSource):
    """The environment as the table of settings reads it: several variables for one field, empty is unset."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        present = fields.variables()
        names = _SETTINGS[field_name].variables
        return next((present[name] for name in names if name in present), None), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(info, name)[0] for name, info in self.settings_cls.model_fields.items()}
        return {name: text for name, text in found.items() if text is not None}


class EnvironmentConfig(BaseSettings):
    """Base of the models: fields come from arguments, then from the environment, then from defaults."""

    model_config = SettingsConfigDict(
        extra="forbid",
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
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, Variables(settings_cls)

    @classmethod
    def from_env(cls) -> Self:
        """The settings that the environment gives."""
        return cls()

    @classmethod
    def _translated(cls, error: ValidationError, arguments: dict[str, Any]) -> ConfigurationError:
        """pydantic's error as ours: the first field's name or variable, what is expected, no secret."""
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else cls.__name__
        setting = _SETTINGS.get(name)
        if setting is None:
            from difflib import get_close_matches

            near = get_close_matches(name, cls.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            if f"CACHEKIT_{name.upper()}" in fields.NOT_YET:
                hint = ": it is not in this version of cachekit"
            return ConfigurationError(f"{cls.__name__} has no field {name!r}{hint}")
        if name in arguments:
            return setting.refused(arguments[name])
        present = fields.variables()
        for variable in setting.variables:
            if variable in present:
                return setting.refused(present[variable], variable)
        return setting.refused(None)


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
