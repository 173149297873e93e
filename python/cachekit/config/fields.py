"""The settings of a process: one table of names, defaults, ranges and variables.

`CachekitConfig` and `RedisBackendConfig` take their fields from here, and so does `read`, which
needs no optional library, so that a cached function costs no import of pydantic.
"""

from __future__ import annotations

import os

from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


class Setting:
    """One setting: how it is called, what it may be, and what it is when nobody says."""

    __slots__ = ("above", "choices", "default", "kind", "least", "name", "secret", "text", "variables")

    def __init__(
        self,
        name: str,
        kind: type,
        default: Any,
        text: str,
        *,
        least: int | None = None,
        above: int | None = None,
        choices: tuple[str, ...] = (),
        secret: bool = False,
        also: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.text = text
        self.least = least
        self.above = above
        self.choices = choices
        self.secret = secret
        self.variables = (f"CACHEKIT_{name.upper()}", *also)

    @property
    def expected(self) -> str:
        """The values allowed, in words."""
        if self.choices:
            return " or ".join(repr(choice) for choice in self.choices)
        words = {bool: "true or false", int: "a whole number", float: "a number"}.get(self.kind, "text")
        if self.least is not None:
            words += f" of at least {self.least}"
        if self.above is not None:
            words += f" above {self.above}"
        return words

    def parse(self, text: str) -> Any:
        """The value that a variable's text stands for; ValueError where it stands for none."""
        plain = text.strip()
        if self.kind is bool:
            if plain.lower() in _TRUE:
                return True
            if plain.lower() in _FALSE:
                return False
            raise ValueError(text)
        value: Any = text if self.kind is str else self.kind(plain)
        if self.choices and value not in self.choices:
            raise ValueError(text)
        if self.kind in (int, float) and not (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and float("-inf") < value < float("inf")
        ):
            raise ValueError(text)
        return value

    def refused(self, value: object, source: str | None = None) -> ConfigurationError:
        """The error for a value that is not allowed; secrets and URLs are not repeated in it."""
        shown = "" if self.secret else f"={value!r}"
        name = source or self.name
        remedy = f"; correct {source} or unset it" if source else ""
        return ConfigurationError(f"{name}{shown} is not valid: {self.expected} is expected{remedy}")


REDIS = (
    Setting("redis_url", str, "redis://localhost:6379", "Where Redis is.", secret=True, also=("REDIS_URL",)),
    Setting("connection_pool_size", int, 10, "Connections to the backend, at most.", above=0),
    Setting("socket_timeout", float, 1.0, "Seconds that one call may spend on the backend.", above=0),
    Setting("socket_connect_timeout", float, 1.0, "Seconds that connecting may take.", above=0),
)

PROCESS = (
    *REDIS,
    Setting("default_ttl", int, 3600, "Seconds that an entry lives where the decorator gives no ttl.", above=0),
    Setting("max_value_size", int, 100 << 20, "Bytes of the largest entry stored.", above=0),
    Setting("max_chunk_size_mb", int, 50, "Mebibytes of the largest entry stored; the smaller bound holds.", above=0),
    Setting("enable_compression", bool, True, "Compress with LZ4; off: the same format, literals only."),
    Setting("l1_enabled", bool, True, "Keep entries in the process too."),
    Setting("l1_max_size_mb", int, 100, "Mebibytes of L1 per namespace.", least=1),
    Setting("l1_total_mb", int, None, "Mebibytes of all L1s of the process together.", least=1),
    Setting("disabled", bool, False, "Run every decorated function uncached."),
    Setting("master_key", str, None, "Encryption key, hex; see `encryption`.", secret=True),
    Setting("encryption", str, None, '"all": every function is to be encrypted.', choices=("all",)),
)

# Variables of the documented set that this version does not act on yet.
NOT_YET = ("CACHEKIT_COMPRESSION_LEVEL", "CACHEKIT_PREVIOUS_MASTER_KEYS", "CACHEKIT_ENCRYPTION_FAIL_CLOSED")

# Variables of other parts, known here only so that a wrong prefix can be pointed out.
_ELSEWHERE = ("CACHEKIT_API_KEY", "CACHEKIT_API_URL", "CACHEKIT_MEMCACHED_SERVERS", "CACHEKIT_FILE_CACHE_DIR")

_hinted = False


def variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment's variables that concern cachekit, by upper-case name; empty ones are unset."""
    found: dict[str, str] = {}
    for name, value in (os.environ if environ is None else environ).items():
        upper = name.upper()
        if value and (upper.startswith("CACHEKIT_") or upper == "REDIS_URL"):
            found[upper] = value
    return found


def read(settings: tuple[Setting, ...], present: dict[str, str]) -> tuple[dict[str, Any], set[str]]:
    """The values that the variables `present` give `settings`, and the names of those they give.

    A value that is not allowed is a `ConfigurationError` naming the variable and the remedy.
    """
    values: dict[str, Any] = {}
    given: set[str] = set()
    for setting in settings:
        value = setting.default
        for variable in setting.variables:
            if variable in present:
                try:
                    value = setting.parse(present[variable])
                except ValueError:
                    raise setting.refused(present[variable], variable) from None
                given.add(setting.name)
                break
        values[setting.name] = value
    _hint(present)
    return values, given


def _hint(present: dict[str, str]) -> None:
    """Says once which variables look like ours but are not read."""
    global _hinted
    if _hinted:
        return
    known = {name for setting in PROCESS for name in setting.variables if name.startswith("CACHEKIT_")}
    known.update(NOT_YET, _ELSEWHERE)
    misnamed = {
        name: f"CACHEKIT_{name.upper()[6:]}"
        for name in os.environ
        if name.upper().startswith("CACHE_") and f"CACHEKIT_{name.upper()[6:]}" in known
    }
    ignored = [name for name in NOT_YET if name in present]
    if misnamed or ignored:
        from logging import getLogger

        logger = getLogger("cachekit.config")
        for name, right in misnamed.items():
            logger.warning("E041: %s is not read; cachekit's variables start with CACHEKIT_: set %s", name, right)
        for name in ignored:
            logger.warning("%s has no effect in this version of cachekit", name)
    _hinted = True
