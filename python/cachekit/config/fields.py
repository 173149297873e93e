"""The settings of a process: one table of names, defaults, ranges and variables.

`CachekitConfig` and the backends' config models take their fields from here, and so does `read`,
which needs no optional library, so that a cached function costs no import of pydantic.
"""

from __future__ import annotations

import os

from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

    from cachekit.config.settings import EnvironmentConfig

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


TOO_LARGE = 1 << 63
"""The least whole number that the engine cannot hold wherever it stands."""


_LONG = 200


class Reader:
    """How values that are more than a number or a word are read: from a variable's text, or as given."""

    expected: str
    """The values allowed, in words."""

    def parse(self, text: str) -> Any:
        """The value that a variable's text stands for; ValueError where it stands for none."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """A given value as it is kept; ValueError where it is not allowed."""
        raise NotImplementedError


class Servers(Reader):
    """Several ``host:port``, as a JSON array in a variable."""

    expected = """'host:port' texts, in a variable as a JSON array like '["mc1:11211", "mc2:11211"]',"""

    def parse(self, text: str) -> tuple[str, ...]:
        from json import loads

        try:
            found = loads(text)
        except RecursionError:
            raise ValueError(text) from None
        if not isinstance(found, list):
            raise ValueError(text)
        return self.check(found)

    def check(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str) or not value:
            raise ValueError(value)
        for server in value:
            if not isinstance(server, str):
                raise ValueError(value)
            if server.startswith("/"):  # a unix socket
                continue
            host, colon, port = server.rpartition(":")
            if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
                raise ValueError(value)
        return tuple(value)


class Keys(Reader):
    """Several keys, in a variable between commas."""

    expected = "hexadecimal keys, in a variable between commas,"

    def parse(self, text: str) -> tuple[Any, ...]:
        return tuple(key.strip() for key in text.split(",") if key.strip())

    def check(self, value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, bytes)) or value is None:
            raise ValueError
        return tuple(value)


class Name(Reader):
    """A text of at most so many bytes; None is none."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.expected = f"text of at most {most} bytes"

    def parse(self, text: str) -> str:
        if len(text.encode(errors="surrogateescape")) > self.most:
            raise ValueError(text)
        return text

    def check(self, value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise ValueError(value)
        return self.parse(value)


TENANT = Name(1024)
"""How tenants may be called."""


class Directory(Reader):
    """Where a directory is: text, or where given also a `pathlib.Path` and what is like it, or bytes."""

    expected = "a path"

    def parse(self, text: str) -> str:
        return text

    def check(self, value: Any) -> str:
        try:
            return os.fsdecode(value)
        except TypeError:
            raise ValueError(value) from None


class Mode(Reader):
    """Permissions: an octal text in a variable, a number where given; the owner has ``least`` at least."""

    def __init__(self, least: int) -> None:
        self.least = least
        self.expected = f"permissions, octal, with at least {least:04o},"

    def parse(self, text: str) -> int:
        return self.check(int(text, 8))

    def check(self, value: Any) -> int:
        if isinstance(value, str):
            value = int(value, 8)
        if isinstance(value, bool) or not isinstance(value, int) or value & ~0o777 or value & self.least != self.least:
            raise ValueError(value)
        return value


class Setting:
    """One setting: how it is called, what it may be, and what it is when nobody says."""

    __slots__ = (
        "_default",
        "above",
        "choices",
        "kind",
        "least",
        "most",
        "name",
        "reader",
        "secret",
        "text",
        "variables",
    )

    def __init__(
        self,
        name: str,
        kind: type,
        default: Any,
        text: str,
        *,
        least: float | None = None,
        above: float | None = None,
        most: float | None = None,
        choices: tuple[str, ...] = (),
        reader: Reader | None = None,
        secret: bool = False,
        prefix: str = "CACHEKIT_",
        also: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.kind = kind
        self._default = default
        self.text = text
        self.least = least
        self.above = above
        self.most = most
        self.choices = choices
        self.reader = reader
        self.secret = secret
        self.variables = (prefix + name.upper(), *also)

    @property
    def default(self) -> Any:
        """The value where nobody says."""
        return self._default() if callable(self._default) else self._default

    @property
    def expected(self) -> str:
        """The values allowed, in words."""
        if self.choices:
            return " or ".join(repr(choice) for choice in self.choices)
        if self.reader is not None:
            return self.reader.expected
        words = {bool: "true or false", int: "a whole number", float: "a number"}.get(self.kind, "text")
        if self.least is not None and self.most is not None:
            return f"{words} from {self.least} to {self.most}"
        if self.least is not None:
            words += f" of at least {self.least}"
        if self.above is not None:
            words += f" above {self.above}"
        if self.most is not None:
            words += f" and up to {self.most}"
        return words

    def parse(self, text: str) -> Any:
        """The value that a variable's text stands for; ValueError where it stands for none."""
        plain = text.strip()
        if self.reader is not None:
            return self.reader.parse(text if self.kind is str else plain)
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
            and (self.most is None or value <= self.most)
            and float("-inf") < value < (TOO_LARGE if self.kind is int else float("inf"))
        ):
            raise ValueError(text)
        return value

    def refused(self, value: object, source: str | None = None) -> ConfigurationError:
        """The error for a value that is not allowed.

        Secrets, what may hold a password and what is long are not repeated in it.
        """
        text = repr(value)
        shown = "" if self.secret or "@" in text or len(text) > _LONG else f"={text}"
        name = source or self.name
        remedy = f"; correct {source} or unset it" if source else ""
        return ConfigurationError(f"{name}{shown} is not valid: {self.expected} is expected{remedy}")


LONGEST = 31_536_000
"""The greatest number of seconds that a timeout may be: a year."""

REDIS = (
    Setting("redis_url", str, "redis://localhost:6379", "Where Redis is.", secret=True, also=("REDIS_URL",)),
    Setting("connection_pool_size", int, 10, "Connections to the backend, at most.", above=0),
    Setting("socket_timeout", float, 1.0, "Seconds that one call may spend on the backend.", above=0, most=LONGEST),
    Setting("socket_connect_timeout", float, 1.0, "Seconds that connecting may take.", above=0, most=LONGEST),
)

_IO_POOL, *_ = (setting for setting in REDIS if setting.name == "connection_pool_size")

CACHEKITIO = (
    Setting("api_url", str, "https://api.cachekit.io", "Where the service is; https only."),
    Setting("api_key", str, None, "The account's key.", secret=True),
    Setting("timeout", float, 5.0, "Seconds that one call may spend on the service.", above=0, most=LONGEST),
    Setting("max_retries", int, 3, "Further attempts after a transient error, within the timeout.", least=0),
    _IO_POOL,
    Setting("allow_custom_host", bool, False, "Take a host of one's own, private addresses included."),
)


def no_api_key(who: str) -> ConfigurationError:
    """The error for `who` needs the key of an account and has none."""
    return ConfigurationError(
        f"{who} needs CACHEKIT_API_KEY, which is not set: set it to the key of your CachekitIO account", "E060"
    )


def _temporary() -> str:
    from os.path import join
    from tempfile import gettempdir

    return join(gettempdir(), "cachekit")


def _of(prefix: str) -> Callable[..., Setting]:
    def setting(*args: Any, **kwargs: Any) -> Setting:
        return Setting(*args, prefix=prefix, **kwargs)

    return setting


_file = _of("CACHEKIT_FILE_")
FILE = (
    _file("cache_dir", str, _temporary, "The directory, made where it is missing.", reader=Directory()),
    _file("max_size_mb", int, 1024, "Mebibytes of all entries together.", least=1, most=1_000_000),
    _file("max_value_mb", int, 100, "Mebibytes of one value, at most half of max_size_mb.", least=1),
    _file("max_entry_count", int, 10_000, "Entries.", least=100, most=1_000_000),
    _file("lock_timeout_seconds", float, 5.0, "Seconds to wait for the store's own lock.", least=0.5, most=30.0),
    _file("permissions", int, 0o600, "Permissions of files.", reader=Mode(0o600)),
    _file("dir_permissions", int, 0o700, "Permissions of the directory.", reader=Mode(0o700)),
)


def fit(values: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """The File settings with `max_value_mb` kept to half of `max_size_mb`.

    A `ConfigurationError` where both were given and do not fit; a default gives way.
    """
    half = max(1, values["max_size_mb"] // 2)
    if values["max_value_mb"] > half:
        if "max_value_mb" in given:
            raise ConfigurationError(
                f"max_value_mb={values['max_value_mb']} is not valid: at most half of "
                f"max_size_mb={values['max_size_mb']} is expected; lower CACHEKIT_FILE_MAX_VALUE_MB or raise "
                "CACHEKIT_FILE_MAX_SIZE_MB"
            )
        values["max_value_mb"] = half
    return values


_memcached = _of("CACHEKIT_MEMCACHED_")
MEMCACHED = (
    _memcached("servers", tuple, ("127.0.0.1:11211",), "The servers.", reader=Servers()),
    _memcached("connect_timeout", float, 2.0, "Seconds that connecting may take.", least=0.1, most=30.0),
    _memcached("timeout", float, 1.0, "Seconds that one call may spend on memcached.", least=0.1, most=30.0),
    _memcached("max_pool_size", int, 10, "Connections to each server.", least=1, most=100),
    _memcached("retry_attempts", int, 2, "Further attempts after a broken connection.", least=0, most=10),
    _memcached("key_prefix", str, "", "What stands before every key."),
    _memcached(
        "max_item_size_bytes", int, 1 << 20, "The largest value that the servers take; 0: not checked.", least=0
    ),
)

PROCESS = (
    *REDIS,
    Setting("default_ttl", int, 3600, "Seconds that an entry lives where the decorator gives no ttl.", above=0),
    Setting("max_value_size", int, 100 << 20, "Bytes of the largest entry stored.", above=0),
    Setting("max_chunk_size_mb", int, 50, "Mebibytes of the largest entry stored; the smaller bound holds.", above=0),
    Setting("enable_compression", bool, True, "Compress with LZ4; off: the same format, literals only."),
    Setting(
        "compression_level", int, None, "1 to 9: LZ4 HC, smaller and slower; unset: the fast LZ4.", least=1, most=9
    ),
    Setting("arrow_compression", str, "zstd", "How tables are compressed.", choices=("zstd", "lz4", "none")),
    Setting("l1_enabled", bool, True, "Keep entries in the process too."),
    Setting("l1_max_size_mb", int, 100, "Mebibytes of L1 per namespace.", least=1),
    Setting("l1_total_mb", int, None, "Mebibytes of all L1s of the process together.", least=1),
    Setting("disabled", bool, False, "Run every decorated function uncached."),
    Setting("master_key", str, None, "Encryption key, hex; see `encryption`.", secret=True),
    Setting("previous_master_keys", tuple, (), "Keys that the master key replaced.", reader=Keys(), secret=True),
    Setting("encryption_fail_closed", bool, False, "Raise for entries that do not decrypt."),
    Setting("deployment_uuid", str, None, "Whose key encrypts where there are no tenants.", reader=TENANT),
    Setting("encryption", str, None, '"all": every function is encrypted.', choices=("all",)),
)

TABLES = (PROCESS, CACHEKITIO, MEMCACHED, FILE)

_hinted = False


def variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment's variables that concern cachekit, by upper-case name; empty ones are unset."""
    environ = os.environ if environ is None else environ
    found: dict[str, str] = {}
    for name in environ:
        upper = name.upper()
        if upper.startswith("CACHEKIT_") or upper == "REDIS_URL":
            value = environ.get(name)  # apart, as `os.environ` decodes each value that it is asked for
            if value:
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


def given(table: tuple[Setting, ...], config: EnvironmentConfig | None) -> dict[str, Any]:
    """The values of a table's settings: those of a model, or for None those of the environment."""
    if config is not None:
        if getattr(config, "table", None) is not table or not hasattr(config, "_plain"):
            raise no_model(table, config)
        return config._plain()
    values, named = read(table, variables())
    return fit(values, named) if table is FILE else values


def no_model(table: tuple[Setting, ...], given: object) -> TypeError:
    """The error for a backend that was given something else than its configuration."""
    examples: dict[tuple[Setting, ...], tuple[str, str]] = {
        REDIS: ("Redis", 'redis_url="redis://localhost:6379/0"'),
        CACHEKITIO: ("CachekitIO", "api_key=key"),
        MEMCACHED: ("Memcached", 'servers=["mc1:11211"]'),
        FILE: ("File", 'cache_dir="/var/cache/myapp"'),
    }
    kind, field = examples[table]
    made = f"{kind}Backend({kind}BackendConfig({field}))"
    return TypeError(f"{kind}Backend takes a {kind}BackendConfig, not a {type(given).__name__}: write {made}")


def _hint(present: dict[str, str]) -> None:
    """Says once which variables look like ours but are not read."""
    global _hinted
    if _hinted:
        return
    known = {name for table in TABLES for setting in table for name in setting.variables if name != "REDIS_URL"}
    misnamed = {name: right for name in os.environ for right in [_meant(name.upper(), known)] if right}
    if misnamed:
        from logging import getLogger

        logger = getLogger("cachekit.config")
        for name, right in misnamed.items():
            logger.warning("E041: %s is not read: set %s", name, right)
    _hinted = True


def _meant(name: str, known: set[str]) -> str | None:
    """The variable that was meant by one which is not read: another prefix, or some letters; None for neither."""
    if name.startswith("CACHE_"):
        right = f"CACHEKIT_{name[6:]}"
        return right if right in known else None
    if not name.startswith("CACHEKIT_") or name in known or name.startswith("CACHEKIT_SERVER_"):
        return None
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, known, n=1, cutoff=0.9)), None)
