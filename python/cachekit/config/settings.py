"""`CachekitConfig`: the process's settings as a pydantic-settings model."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Optional

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from typing_extensions import Self

from cachekit.config import fields
from cachekit.config.validation import ConfigurationError


def find(table: tuple[fields.Setting, ...], name: str) -> fields.Setting:
    """The setting of that name; KeyError where the table has none."""
    for setting in table:
        if setting.name == name:
            return setting
    raise KeyError(name)


def field(table: tuple[fields.Setting, ...], name: str) -> Any:
    """The pydantic field of a setting in one of the shared tables."""
    setting = find(table, name)
    return Field(
        default_factory=lambda: setting.default,
        ge=setting.least,
        gt=setting.above,
        le=setting.most,
        lt=fields.TOO_LARGE if setting.kind is int and setting.reader is None else None,
        description=setting.text,
    )


def read(reader: fields.Reader) -> Any:
    """The annotation that has a field's value checked by a table's reader."""
    return BeforeValidator(lambda value: reader.parse(value) if isinstance(value, str) else reader.check(value))


class Variables(PydanticBaseSettingsSource):
    """The environment as the table of settings reads it: several variables for one field, empty is unset."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        present = fields.variables()
        names = find(getattr(self.settings_cls, "table"), field_name).variables  # noqa: B009
        return next((present[name] for name in names if name in present), None), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(info, name)[0] for name, info in self.settings_cls.model_fields.items()}
        return {name: text for name, text in found.items() if text is not None}


class EnvironmentConfig(BaseSettings):
    """Base of the models: fields come from arguments, then from the environment, then from defaults."""

    table: ClassVar[tuple[fields.Setting, ...]] = fields.PROCESS
    """Where the fields' names, defaults, ranges and variables are."""

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

    def _plain(self) -> dict[str, Any]:
        """The fields as the engine takes them, secrets in the open."""
        return {setting.name: getattr(self, setting.name) for setting in self.table}

    @classmethod
    def _translated(cls, error: ValidationError, arguments: dict[str, Any]) -> ConfigurationError:
        """pydantic's error as ours: the first field's name or variable, what is expected, no secret."""
        first = error.errors(include_url=False, include_input=False)[0]
        own = first.get("ctx", {}).get("error")
        if isinstance(own, ConfigurationError):
            return own
        name = str(first["loc"][0]) if first["loc"] else cls.__name__
        try:
            setting = find(cls.table, name)
        except KeyError:
            from difflib import get_close_matches

            near = get_close_matches(name, cls.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return ConfigurationError(f"{cls.__name__} has no field {name!r}{hint}")
        if name in arguments:
            return setting.refused(arguments[name])
        present = fields.variables()
        for variable in setting.variables:
            if variable in present:
                return setting.refused(present[variable], variable)
        return setting.refused(None)


MAX_PREVIOUS_MASTER_KEYS = 3
"""The most previous keys beside a master key."""


class CachekitConfig(EnvironmentConfig):
    """The settings of a process. `cachekit.configure(CachekitConfig(...))` puts them in force.

    Without that call the environment decides, read at the first use of a cached function; see
    `cachekit.config.fields` for the variables.
    """

    redis_url: str = field(fields.PROCESS, "redis_url")
    connection_pool_size: int = field(fields.PROCESS, "connection_pool_size")
    socket_timeout: float = field(fields.PROCESS, "socket_timeout")
    socket_connect_timeout: float = field(fields.PROCESS, "socket_connect_timeout")
    default_ttl: int = field(fields.PROCESS, "default_ttl")
    max_value_size: int = field(fields.PROCESS, "max_value_size")
    max_chunk_size_mb: int = field(fields.PROCESS, "max_chunk_size_mb")
    enable_compression: bool = field(fields.PROCESS, "enable_compression")
    compression_level: Optional[int] = field(fields.PROCESS, "compression_level")  # noqa: UP045
    arrow_compression: Literal["zstd", "lz4", "none"] = field(fields.PROCESS, "arrow_compression")
    l1_enabled: bool = field(fields.PROCESS, "l1_enabled")
    l1_max_size_mb: int = field(fields.PROCESS, "l1_max_size_mb")
    l1_total_mb: Optional[int] = field(fields.PROCESS, "l1_total_mb")  # noqa: UP045 - evaluated by pydantic on 3.9
    disabled: bool = field(fields.PROCESS, "disabled")
    master_key: Optional[SecretStr] = field(fields.PROCESS, "master_key")  # noqa: UP045
    previous_master_keys: Annotated[tuple[SecretStr, ...], read(fields.Keys())] = field(
        fields.PROCESS, "previous_master_keys"
    )
    encryption_fail_closed: bool = field(fields.PROCESS, "encryption_fail_closed")
    deployment_uuid: Annotated[Optional[str], read(fields.TENANT)] = field(  # noqa: UP045
        fields.PROCESS, "deployment_uuid"
    )
    encryption: Optional[Literal["all"]] = field(fields.PROCESS, "encryption")  # noqa: UP045

    def get_safe_repr(self) -> dict[str, Any]:
        """The fields with every secret masked, for logs and support."""
        from cachekit.backends.redis.config import without_password

        shown = self.model_dump()
        shown["redis_url"] = without_password(self.redis_url)
        shown["master_key"] = None if self.master_key is None else "[REDACTED]"
        shown["previous_master_keys"] = ["[REDACTED]"] * len(self.previous_master_keys)
        return shown

    def __repr__(self) -> str:
        if "master_key" not in self.__dict__:  # validation has failed, and a debugger or a log shows what is left
            return "CachekitConfig(<not valid>)"
        return f"CachekitConfig({', '.join(f'{name}={value!r}' for name, value in self.get_safe_repr().items())})"

    __str__ = __repr__
