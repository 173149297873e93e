"""Turning caching off: ``with cachekit.disabled():`` and ``CACHEKIT_DISABLED=1``."""

from __future__ import annotations

from _thread import allocate_lock

from cachekit import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_lock = allocate_lock()
_depth = 0
_setting = False


class disabled:  # noqa: N801 - reads as a statement: `with cachekit.disabled():`
    """Within the block every decorated function runs uncached, in the whole process.

    Nothing is read and nothing is stored; entries that exist are there again afterwards. Blocks
    may nest and overlap across threads: caching is back when the last one has ended.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        _shift(+1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _shift(-1)


def apply_setting(off: bool) -> None:
    """Takes over the ``CACHEKIT_DISABLED`` setting."""
    global _setting
    with _lock:
        _setting = off
        _native.set_disabled(_setting or _depth > 0)


def _shift(by: int) -> None:
    global _depth
    with _lock:
        _depth += by
        _native.set_disabled(_setting or _depth > 0)
