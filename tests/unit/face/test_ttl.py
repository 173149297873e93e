"""Times to live, in every form that a user may write."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta

import pytest

from cachekit import FOREVER, ConfigurationError
from cachekit.ttl import seconds


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (300, 300.0),
        (0.25, 0.25),
        (timedelta(minutes=5, milliseconds=1), 300.001),
        ("90", 90.0),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m 5s", 5405.0),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        ("2D", 172800.0),
        ("1w", 604800.0),
        (1e20, 2.0**63),
        (10**400, 2.0**63),
        (FOREVER, None),
    ],
)
def test_seconds(written: object, meant: float | None) -> None:
    assert seconds(written) == (None if meant is None else pytest.approx(meant))


@pytest.mark.parametrize(
    "written",
    [0, -1, 0.0, float("nan"), float("inf"), True, False, "", "5 minutes", "m", "-5m", "0s", timedelta(0), b"5m", [5]],
)
def test_refused(written: object) -> None:
    with pytest.raises(ConfigurationError, match="ttl=") as caught:
        seconds(written)
    assert repr(written) in str(caught.value)


def test_forever_is_one_object() -> None:
    assert pickle.loads(pickle.dumps(FOREVER)) is FOREVER
    assert copy.deepcopy(FOREVER) is FOREVER
    assert repr(FOREVER) == "cachekit.FOREVER"
