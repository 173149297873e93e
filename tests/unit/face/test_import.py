"""Importing cachekit: cheap, and never broken by a setting."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import cachekit
import cachekit.backends
import cachekit.config
import cachekit.decorators


def run(code: str, **environment: str) -> str:
    """What a new interpreter prints for `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADED = "import sys; print(*sorted(sys.modules), sep='\\n')"
OPTIONAL = {"asyncio", "pydantic", "pydantic_settings", "typing_extensions", "orjson", "pyarrow", "numpy", "redis"}


# What of the standard library takes long to import.
HEAVY = {"ast", "collections", "dataclasses", "dis", "enum", "functools", "inspect", "json", "logging", "re", "typing"}


def test_importing_loads_nothing_heavy() -> None:
    loaded = set(run(f"import cachekit; {LOADED}").split())
    assert not loaded & (OPTIONAL | HEAVY | {"cachekit._native", "cachekit.config", "cachekit.function"})


@pytest.mark.parametrize(
    "decorated",
    [
        "@cache\ndef f(x): return x",
        "@cache(backend=None)\ndef get_user(x, *args, y=3, **rest): return x\nf = get_user",
        "@cache.production(ttl=300, namespace='n', l1_enabled=True, circuit_breaker=True)\ndef f(x): return x",
    ],
)
def test_decorating_and_calling_a_function_loads_nothing_heavy(decorated: str) -> None:
    # What `site` loads in this environment is not ours.
    loaded = set(run(f"from cachekit import cache\n{decorated}\nassert f(1) == f(1) == 1\n{LOADED}").split())
    assert not (loaded - set(run(LOADED).split())) & (OPTIONAL | HEAVY)


def test_caching_a_function_loads_no_optional_library() -> None:
    code = f"""
from cachekit import cache
@cache(ttl="5m", backend=None)
def f(x): return x
assert f(1) == f(1) == 1
{LOADED}
"""
    assert not set(run(code).split()) & OPTIONAL


@pytest.mark.parametrize(
    "variable",
    [
        "CACHEKIT_DEFAULT_TTL",
        "CACHEKIT_REDIS_URL",
        "CACHEKIT_L1_MAX_SIZE_MB",
        "CACHEKIT_DISABLED",
        "CACHEKIT_ENCRYPTION",
        "CACHEKIT_SOCKET_TIMEOUT",
        "LOG_LEVEL",
    ],
)
@pytest.mark.parametrize("value", ["", "nonsense", "-1", "\x7f"])
def test_no_value_of_a_variable_breaks_import_or_decoration(variable: str, value: str) -> None:
    run(
        "from cachekit import cache\n@cache\ndef f(x): return x\n@cache.production(ttl=3)\ndef g(): ...",
        **{variable: value},
    )


@pytest.mark.parametrize("package", [cachekit, cachekit.config, cachekit.backends, cachekit.decorators])
def test_every_public_name_is_there(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert cachekit.__version__ == version("cachekit")
    assert "cache" in dir(cachekit)
