"""What ``cache_info()`` returns."""

from __future__ import annotations

from typing import NamedTuple


class CacheInfo(NamedTuple):
    """The statistics of one decorated function in this process; exact, never sampled."""

    hits: int
    """Calls answered from the cache, those that joined another caller's run included."""
    misses: int
    """Calls for which the function ran."""
    l1_hits: int
    l2_hits: int
    maxsize: int | None
    """Upper bound of L1 in entries, None where it is bounded in bytes."""
    currsize: int | None
    """Entries in L1 now, None where entries live elsewhere too."""
    l2_avg_latency_ms: float
    """Mean time of a read from the backend, in milliseconds."""
    last_operation_at: float | None
    """Unix time of the last call, None before the first."""
    session_id: str | None = None
