"""Every decorated function of the process, so that a later change of settings reaches them."""

from __future__ import annotations

from weakref import WeakSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cachekit._native import CachedFunction

functions: WeakSet[CachedFunction] = WeakSet()


def look_again() -> None:
    """Makes each function look for its settings and its backend anew at its next call."""
    for function in list(functions):
        function._core._reset_backend()
