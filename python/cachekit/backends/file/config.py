"""`FileBackendConfig`: where a directory of entries is, and how much it may hold."""

from __future__ import annotations

import os
from typing import Annotated, Any, Union

from pydantic import model_validator

from cachekit.config import fields
from cachekit.config.settings import EnvironmentConfig, field, read

Path = Union[str, "os.PathLike[str]"]


class FileBackendConfig(EnvironmentConfig):
    """Where a directory of entries is, and how much it may hold. Fields that are not given come from
    the variables ``CACHEKIT_FILE_*``.
    """

    table = fields.FILE

    cache_dir: Annotated[Path, read(fields.Directory())] = field(fields.FILE, "cache_dir")
    max_size_mb: int = field(fields.FILE, "max_size_mb")
    max_value_mb: int = field(fields.FILE, "max_value_mb")
    max_entry_count: int = field(fields.FILE, "max_entry_count")
    lock_timeout_seconds: float = field(fields.FILE, "lock_timeout_seconds")
    permissions: Annotated[int, read(fields.Mode(0o600))] = field(fields.FILE, "permissions")
    dir_permissions: Annotated[int, read(fields.Mode(0o700))] = field(fields.FILE, "dir_permissions")

    @model_validator(mode="after")
    def _fit(self) -> FileBackendConfig:
        values: dict[str, Any] = {"max_size_mb": self.max_size_mb, "max_value_mb": self.max_value_mb}
        fitting = fields.fit(values, self.model_fields_set)["max_value_mb"]
        object.__setattr__(self, "max_value_mb", fitting)
        return self
