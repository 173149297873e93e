"""Times to live: what a user may write for one, and the seconds that it means."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any, Callable, Union

    Duration = Union[int, float, timedelta, str, "Forever"]
    TTL = Union[Duration, Callable[[Any], Union[Duration, None]], None]

# The longest time in seconds, 290 thousand million years: what is longer is as long.
_LONGEST = 2**63

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class Forever:
    """The type of `FOREVER`; there is one instance."""

    __slots__ = ()
    _instance: Forever | None = None

    def __new__(cls) -> Forever:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "cachekit.FOREVER"

    def __reduce__(self) -> str:
        return "FOREVER"


FOREVER = Forever()
"""A ttl that never ends: ``@cache(ttl=cachekit.FOREVER)``."""


def seconds(ttl: object, *, name: str = "ttl") -> float | None:
    """The seconds that a written duration means; None for `FOREVER`.

    Takes seconds, a ``timedelta``, or text such as ``"90s"``, ``"5m"``, ``"1h30m"``, ``"2d"``
    (units ms, s, m, h, d, w; a bare number is seconds). Anything that is not longer than zero and
    finite is a `ConfigurationError`.
    """
    if ttl is FOREVER:
        return None
    if isinstance(ttl, bool):
        raise _refused(name, ttl, "a number of seconds is expected")
    if isinstance(ttl, (int, float)):
        value = float(min(ttl, _LONGEST)) if isinstance(ttl, int) else ttl
    elif isinstance(ttl, str):
        value = _from_text(ttl, name)
    else:
        total = getattr(ttl, "total_seconds", None)
        if total is None:
            raise _refused(name, ttl, 'give seconds, a timedelta, text like "5m", or cachekit.FOREVER')
        value = float(total())
    if not 0.0 < value < float("inf"):
        raise _refused(name, ttl, "it must be longer than zero and finite; for no expiry use cachekit.FOREVER")
    return min(value, float(_LONGEST))


def _from_text(text: str, name: str) -> float:
    from re import findall, fullmatch

    plain = text.strip().lower()
    if fullmatch(r"\d+(\.\d+)?", plain):
        return float(plain)
    if not fullmatch(r"(\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*)+", plain):
        raise _refused(name, text, 'write it like "90s", "5m", "1h30m" or "2d"')
    return sum(float(number) * _UNITS[unit] for number, _, unit in findall(r"(\d+(\.\d+)?)\s*(ms|s|m|h|d|w)", plain))


def _refused(name: str, value: object, why: str) -> Exception:
    from cachekit.config.validation import ConfigurationError

    return ConfigurationError(f"{name}={value!r} is not a time to live: {why}")
