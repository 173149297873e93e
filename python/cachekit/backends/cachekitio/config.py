"""`CachekitIOBackendConfig`: the account and the address of a CachekitIO service."""

from __future__ import annotations

from typing import Any, Optional

from pydantic import SecretStr, model_validator

from cachekit.config import fields
from cachekit.config.settings import EnvironmentConfig, field


class CachekitIOBackendConfig(EnvironmentConfig):
    """The account and the address of a CachekitIO service. Fields that are not given come from
    ``CACHEKIT_API_KEY``, ``CACHEKIT_API_URL`` and their like.
    """

    table = fields.CACHEKITIO

    api_url: str = field(fields.CACHEKITIO, "api_url")
    api_key: Optional[SecretStr] = field(fields.CACHEKITIO, "api_key")  # noqa: UP045 - evaluated by pydantic on 3.9
    timeout: float = field(fields.CACHEKITIO, "timeout")
    max_retries: int = field(fields.CACHEKITIO, "max_retries")
    connection_pool_size: int = field(fields.CACHEKITIO, "connection_pool_size")
    allow_custom_host: bool = field(fields.CACHEKITIO, "allow_custom_host")

    @model_validator(mode="after")
    def _has_key(self) -> CachekitIOBackendConfig:
        if self.api_key is None or not self.api_key.get_secret_value():
            raise fields.no_api_key("CachekitIOBackendConfig()")
        return self

    def _plain(self) -> dict[str, Any]:
        values = super()._plain()
        values["api_key"] = self.api_key.get_secret_value() if self.api_key is not None else None
        return values
