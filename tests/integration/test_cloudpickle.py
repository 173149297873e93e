"""Functions that go to another process by value, as dask, ray and joblib send those of a program."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import types
from typing import Any

import cloudpickle
import pytest

from cachekit import cache
from tests.integration.support import PROGRAMS

KEY = "ab" * 32


@cache(backend=None)
def imported(n: int) -> list[int]:
    return [n]


@pytest.fixture(scope="module")
def sent() -> tuple[dict[str, Any], str]:
    """The functions of the program, and what it says of one that cannot be sent."""
    program = [sys.executable, str(PROGRAMS / "by_value.py")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHEKIT_MASTER_KEY", KEY)
        done = subprocess.run(program, capture_output=True, check=True)
        return pickle.loads(done.stdout), done.stderr.decode()


def test_a_function_arrives_cached_with_its_settings(sent: tuple[dict[str, Any], str]) -> None:
    fibonacci = sent[0]["fibonacci"]
    assert fibonacci(60) == 1548008755920
    assert fibonacci.cache_info().misses == 61
    assert fibonacci(60) == 1548008755920
    assert fibonacci.cache_info().misses == 61
    assert (fibonacci._handle.config.ttl, fibonacci._handle.config.namespace) == (7, "by-value")
    assert fibonacci.__doc__ == "Calls itself by the program's name for it."
    # What it calls itself by is the same function.
    assert fibonacci.__wrapped__.__globals__["fibonacci"] is fibonacci


def test_so_do_coroutine_functions_methods_and_closures(
    sent: tuple[dict[str, Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", KEY)
    found = sent[0]
    double, shop, add = found["double"], found["Shop"](), found["add"]
    assert asyncio.run(double(4)) == asyncio.run(double(4)) == 8
    assert double.cache_info().misses == 1
    assert shop.price("tea") == shop.price("tea") == ["tea"]
    assert shop.price.cache_info().misses == 1
    assert shop.tax(10) == 2
    assert add(1) == add(1) == 6
    assert (add.cache_info().misses, add._handle.preset) == (1, "secure")
    assert add.get_health_status()["encryption"]["enabled"]


def test_backends_and_keys_stay_where_they_are(sent: tuple[dict[str, Any], str]) -> None:
    of_backend, of_keys = sent[1].splitlines()
    assert of_backend.startswith("RedisBackend cannot be pickled")
    assert "set_default_backend()" in of_backend
    assert of_keys.startswith("sealed is not pickled with its keys: set CACHEKIT_MASTER_KEY")


def test_what_can_be_imported_goes_by_its_name() -> None:
    assert cloudpickle.loads(cloudpickle.dumps(imported)) is imported
    assert len(cloudpickle.dumps(imported)) < 100


def test_it_is_a_function_to_everybody_else() -> None:
    assert isinstance(imported, types.FunctionType)
    assert pickle.loads(pickle.dumps(imported)) is imported
