"""The rule that picks a backend from the environment."""

from __future__ import annotations

import sys

from cachekit.config import effective, fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit.backends.base import BaseBackend

    _Kind = tuple[str, str, tuple[fields.Setting, ...], tuple[str, ...]]

# First match wins; for each: its name, its class, its settings, and the variables that select it.
# REDIS_URL beside CACHEKIT_REDIS_URL is a precedence, not a conflict.
_KINDS = (
    ("CachekitIO", "cachekit.backends.cachekitio.backend:CachekitIOBackend", fields.CACHEKITIO, ("CACHEKIT_API_KEY",)),
    ("Redis", "cachekit.backends.redis.backend:RedisBackend", fields.REDIS, ("CACHEKIT_REDIS_URL", "REDIS_URL")),
    (
        "Memcached",
        "cachekit.backends.memcached.backend:MemcachedBackend",
        fields.MEMCACHED,
        ("CACHEKIT_MEMCACHED_SERVERS",),
    ),
    ("File", "cachekit.backends.file.backend:FileBackend", fields.FILE, ("CACHEKIT_FILE_CACHE_DIR",)),
)

_told_local = False
_told_ambiguous = False


class DefaultBackendProvider:
    """Picks the backend by what is set: CachekitIO, Redis, Memcached, File, or none."""

    def __init__(self) -> None:
        # The backend of each kind that was made last, and the settings that it was made from.
        self._made: dict[str, tuple[tuple[object, ...], BaseBackend]] = {}

    def get_backend(self) -> BaseBackend | None:
        """The backend that the settings name; None where nothing is set. Connects to nothing.

        A setting that cannot be used is a `ConfigurationError` naming the variable. The same settings
        give the same backend.
        """
        present = fields.variables()
        settings = effective.current()
        found = [
            (kind, next((name for name in kind[3] if name in present), "redis_url"))
            for kind in _KINDS
            if not present.keys().isdisjoint(kind[3]) or (kind[0] == "Redis" and "redis_url" in settings.given)
        ]
        if not found:
            _tell_local()
            return None
        if len(found) > 1:
            _tell_ambiguous([variable for _, variable in found])
        return self._backend(found[0][0])

    def get_managed(self) -> BaseBackend:
        """The CachekitIO backend of the account that CACHEKIT_API_KEY names, whatever else is set."""
        return self._backend(_KINDS[0])

    def _backend(self, kind: _Kind) -> BaseBackend:
        name, home, table, _ = kind
        values = effective.current().values if table is fields.REDIS else fields.given(table, None)
        made_from = tuple(values[setting.name] for setting in table)
        made = self._made.get(name)
        if made is None or made[0] != made_from:
            made = self._made[name] = (made_from, _class(home)._zero_config())
        return made[1]


def _class(home: str) -> Any:
    from importlib import import_module

    module, _, name = home.partition(":")
    return getattr(import_module(module), name)


def _tell_local() -> None:
    global _told_local
    if not _told_local:
        _told_local = True
        logging = sys.modules.get("logging")
        if logging is not None:  # never imported: nobody can be listening at INFO
            logging.getLogger("cachekit.backend").info(
                "no backend is configured: results stay in this process (set CACHEKIT_REDIS_URL, "
                "CACHEKIT_MEMCACHED_SERVERS, CACHEKIT_FILE_CACHE_DIR or CACHEKIT_API_KEY to share them)"
            )


def _tell_ambiguous(found: list[str]) -> None:
    global _told_ambiguous
    if not _told_ambiguous:
        _told_ambiguous = True
        from logging import getLogger

        getLogger("cachekit.backend").warning(
            "several backends are configured: %s is used, %s %s ignored",
            found[0],
            ", ".join(found[1:]),
            "is" if len(found) == 2 else "are",
        )
