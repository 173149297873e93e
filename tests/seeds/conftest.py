"""The log level that ``@cache.dev`` sets ends with the test that set it."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def log_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("cachekit"), "level", logging.NOTSET)
