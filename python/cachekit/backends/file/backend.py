"""`FileBackend`: entries in a directory that the processes of one machine share."""

from __future__ import annotations

from cachekit import _native
from cachekit.backends.engine import EngineBackend
from cachekit.backends.errors import BackendError
from cachekit.config import fields
from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.backends.file.config import FileBackendConfig


class FileBackend(EngineBackend):
    """Stores entries in a directory, for the processes of one machine. Making one opens the directory, and
    makes it where it is missing.

    Takes a `FileBackendConfig`, or nothing: then the variables ``CACHEKIT_FILE_*`` decide, and where they say
    nothing, ``cachekit`` in the system's directory for temporary files. A directory that is no place for
    entries (a symbolic link, another user's, one that others may write to, one on a network) is a
    `ConfigurationError`; other failures are raised as `BackendError`.
    """

    __slots__ = ()

    def __init__(self, config: FileBackendConfig | None = None) -> None:
        settings = fields.given(fields.FILE, config)
        self.key_prefix = ""
        try:
            self._backend = _native.Backend.file(
                cache_dir=settings["cache_dir"],
                max_size_mb=settings["max_size_mb"],
                max_value_mb=settings["max_value_mb"],
                max_entry_count=settings["max_entry_count"],
                lock_timeout=settings["lock_timeout_seconds"],
                permissions=settings["permissions"],
                dir_permissions=settings["dir_permissions"],
            )
        except BackendError as error:
            if error.error_type != "permanent":
                raise
            source = "cache_dir" if config is not None else "CACHEKIT_FILE_CACHE_DIR"
            raise ConfigurationError(f"{source}: {error.message}", "E040") from None
