"""The types of decorated functions; see the stub beside. At run time both are the native class."""

from __future__ import annotations


def __getattr__(name: str) -> object:
    if name in ("CachedFunction", "AsyncCachedFunction"):
        from cachekit._native import CachedFunction

        return CachedFunction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
