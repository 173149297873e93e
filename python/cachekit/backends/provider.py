"""The rule that picks a backend from the environment."""

from __future__ import annotations

from cachekit.config import effective, fields
from cachekit.config.validation import absent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit.backends.base import BaseBackend
    from cachekit.backends.redis.backend import RedisBackend

# First match wins. REDIS_URL beside CACHEKIT_REDIS_URL is a precedence, not a conflict.
_SELECTORS = (
    ("CachekitIO", ("CACHEKIT_API_KEY",)),
    ("Redis", ("CACHEKIT_REDIS_URL", "REDIS_URL")),
    ("Memcached", ("CACHEKIT_MEMCACHED_SERVERS",)),
    ("File", ("CACHEKIT_FILE_CACHE_DIR",)),
)

_TENANT = "default"

_told_local = False
_told_ambiguous = False


class DefaultBackendProvider:
    """Picks the backend by what is set: CachekitIO, Redis, Memcached, File, or none."""

    def __init__(self) -> None:
        self._redis: tuple[tuple[object, ...], RedisBackend] | None = None

    def get_backend(self) -> BaseBackend | None:
        """The backend that the settings name; None where nothing is set. Connects to nothing.

        A setting that cannot be used is a `ConfigurationError` naming the variable.
        """
        present = fields.variables()
        settings = effective.current()
        chosen = [(kind, next((name for name in names if name in present), None)) for kind, names in _SELECTORS]
        found = [
            (kind, name or "redis_url")
            for kind, name in chosen
            if name is not None or (kind == "Redis" and "redis_url" in settings.given)
        ]
        if not found:
            _tell_local()
            return None
        if len(found) > 1:
            _tell_ambiguous(found)
        kind, variable = found[0]
        if kind != "Redis":
            raise absent(
                f"the {kind} backend, which {variable} selects,",
                f"unset {variable}, or name a backend with backend= or set_default_backend()",
            )
        return self._redis_backend(settings)

    def _redis_backend(self, settings: effective.Effective) -> BaseBackend:
        from cachekit.backends.redis.backend import RedisBackend

        key = tuple(settings.values[setting.name] for setting in fields.REDIS)
        if self._redis is None or self._redis[0] != key:
            self._redis = (key, RedisBackend._for_tenant(_TENANT))
        return self._redis[1]


def _tell_local() -> None:
    global _told_local
    if not _told_local:
        _told_local = True
        from logging import getLogger

        getLogger("cachekit.backend").info(
            "no backend is configured: results stay in this process (set CACHEKIT_REDIS_URL to share them)"
        )


def _tell_ambiguous(found: list[tuple[str, str]]) -> None:
    global _told_ambiguous
    if not _told_ambiguous:
        _told_ambiguous = True
        from logging import getLogger

        getLogger("cachekit.backend").warning(
            "several backends are configured: %s is used, %s %s ignored",
            found[0][1],
            ", ".join(name for _, name in found[1:]),
            "is" if len(found) == 2 else "are",
        )
