"""Errors: their kinds, their codes, and that they travel between processes."""

from __future__ import annotations

import pickle

import pytest

from cachekit import BackendError, BackendErrorType, CapabilityNotAvailableError, ConfigurationError


@pytest.mark.parametrize("kind", list(BackendErrorType))
def test_kinds(kind: BackendErrorType) -> None:
    error = BackendError("it broke", kind.value, operation="get", key="k" * 100)
    assert error.error_type is kind
    assert error.code in {"E010", "E011", "E060", "E063"}
    asked = [error.is_transient, error.is_permanent, error.is_timeout, error.is_authentication]
    assert asked.count(True) == (0 if kind is BackendErrorType.UNKNOWN else 1)
    assert str(error) == f"it broke (operation: get) (key: {'k' * 60}...)"


def test_pickling() -> None:
    error = pickle.loads(pickle.dumps(BackendError("m", "timeout", OSError("x"), "set", "key", "E050")))
    assert (error.message, error.error_type, error.operation, error.key) == ("m", "timeout", "set", "key")
    assert error.code == "E050"
    missing = pickle.loads(pickle.dumps(CapabilityNotAvailableError("no lock")))
    assert type(missing) is CapabilityNotAvailableError
    assert missing.is_permanent
    wrong = pickle.loads(pickle.dumps(ConfigurationError("bad", "E040")))
    assert (str(wrong), wrong.code) == ("bad", "E040")


def test_causes_are_chained() -> None:
    cause = OSError("refused")
    assert BackendError("m", original_exception=cause).__cause__ is cause


def test_configuration_errors_are_value_errors() -> None:
    assert isinstance(ConfigurationError("bad"), ValueError)
    assert ConfigurationError("bad").code == "E042"
