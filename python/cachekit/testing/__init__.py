"""Help for tests: the contracts that backends must pass. Needs pytest."""

from __future__ import annotations

from cachekit.testing.contract import AsyncContract, BackendContract, LockContract, OutageContract, TTLContract

__all__ = ["AsyncContract", "BackendContract", "LockContract", "OutageContract", "TTLContract"]
