"""The process's settings: their one table, the environment, `configure`."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

import cachekit
from cachekit import CachekitConfig, ConfigurationError, cache, configure, get_settings, reset_settings
from cachekit.backends.redis import RedisBackendConfig
from cachekit.config import effective, fields
from cachekit.config.fields import PROCESS, Setting

SETTINGS = {setting.name: setting for setting in PROCESS}


def plain(config: CachekitConfig) -> dict[str, Any]:
    values = config.model_dump()
    if values["master_key"] is not None:
        values["master_key"] = values["master_key"].get_secret_value()
    values["previous_master_keys"] = tuple(key.get_secret_value() for key in values["previous_master_keys"])
    return values


def read() -> dict[str, Any]:
    return fields.read(PROCESS, fields.variables())[0]


def test_defaults_agree() -> None:
    assert plain(CachekitConfig()) == read() == {setting.name: setting.default for setting in PROCESS}


def test_every_setting_is_a_field() -> None:
    assert set(CachekitConfig.model_fields) == set(SETTINGS)
    assert set(RedisBackendConfig.model_fields) == {setting.name for setting in fields.REDIS}


TEXTS = ["0", "1", "7", "-3", "2.5", "true", "Off", "yes", "nonsense", "all", "inf", "nan", "1e3", " 5 ", "redis://x"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("setting", PROCESS, ids=lambda setting: setting.name)
def test_both_readers_agree_about_the_environment(setting: Setting, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(setting.variables[0], text)
    try:
        light: Any = read()
    except ConfigurationError as error:
        light = str(error)
    try:
        model: Any = plain(CachekitConfig())
    except ConfigurationError as error:
        model = str(error)
    if isinstance(light, dict) and isinstance(model, dict):
        assert light[setting.name] == model[setting.name]
    assert type(light) is type(model), (light, model)
    if isinstance(light, str):
        assert light == model
        assert setting.variables[0] in light
        assert "unset it" in light


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_empty_is_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTINGS[name].variables[0], "")
    assert plain(CachekitConfig())[name] == read()[name] == SETTINGS[name].default


def test_arguments_beat_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_DEFAULT_TTL", "7")
    monkeypatch.setenv("CACHEKIT_REDIS_URL", "redis://env")
    config = CachekitConfig(default_ttl=9, redis_url="redis://argument")
    assert (config.default_ttl, config.redis_url) == (9, "redis://argument")
    assert RedisBackendConfig(redis_url="redis://argument").redis_url == "redis://argument"
    assert CachekitConfig.from_env().default_ttl == 7


def test_the_fallback_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://fallback")
    assert CachekitConfig().redis_url == read()["redis_url"] == "redis://fallback"
    monkeypatch.setenv("CACHEKIT_REDIS_URL", "redis://first")
    assert CachekitConfig().redis_url == read()["redis_url"] == "redis://first"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("default_ttl", 0),
        ("default_ttl", "soon"),
        ("socket_timeout", math.inf),
        ("socket_timeout", 1e9),
        ("socket_connect_timeout", 31_536_001),
        ("connection_pool_size", -1),
        ("l1_max_size_mb", 0),
        ("encryption", "some"),
    ],
)
def test_arguments_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}={value!r} is not valid"):
        CachekitConfig(**{name: value})


def test_unknown_fields() -> None:
    model: Any = CachekitConfig
    with pytest.raises(ConfigurationError, match="did you mean 'default_ttl'"):
        model(defaul_ttl=3)
    with pytest.raises(ConfigurationError, match="compression_level"):
        model(compression_level=10)
    assert model(compression_level=9).compression_level == 9


def test_secrets_never_show(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = CachekitConfig
    config = model(redis_url="redis://user:hunter2@host:1/0", master_key="ab" * 32)
    for text in (repr(config), str(config), repr(config.get_safe_repr())):
        assert "hunter2" not in text
        assert "abab" not in text
        assert "redis://user:***@host:1/0" in text
    assert "hunter2" not in repr(RedisBackendConfig(redis_url="redis://:hunter2@host"))
    with pytest.raises(ConfigurationError) as caught:
        model(master_key=["hunter2"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://bob:hun/ter2@h:1/0", "redis://bob:***@h:1/0"),
        ("redis://:hun@ter2@h", "redis://:***@h"),
        ("redis://h?db=1&password=hunter2&insecure=true", "redis://h?db=1&password=***&insecure=true"),
        ("redis+sentinel://h/s?sentinel_password=hunter2", "redis+sentinel://h/s?sentinel_password=***"),
        ("redis://h:6379/0?ssl_ca=/a:b", "redis://h:6379/0?ssl_ca=/a:b"),
    ],
)
def test_no_password_of_a_url_shows_wherever_it_stands(url: str, shown: str) -> None:
    assert CachekitConfig(redis_url=url).get_safe_repr()["redis_url"] == shown
    assert repr(shown) in repr(RedisBackendConfig(redis_url=url))


@pytest.mark.parametrize("name", [setting.name for setting in fields.PROCESS if setting.kind is int])
def test_numbers_beyond_the_engines_are_refused_by_their_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = f"CACHEKIT_{name.upper()}"
    monkeypatch.setenv(variable, str(fields.TOO_LARGE))
    with pytest.raises(ConfigurationError, match=f"^{variable}=.* is not valid"):
        effective.current()
    with pytest.raises(ConfigurationError, match=f"^{variable}=.* is not valid"):
        CachekitConfig()


@pytest.mark.parametrize("name", ["l1_total_mb", "l1_max_size_mb", "max_chunk_size_mb", "max_value_size"])
def test_the_greatest_numbers_are_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"CACHEKIT_{name.upper()}", str(fields.TOO_LARGE - 1))

    @cache(backend=None)
    def f() -> int:
        return 1

    assert (f(), f()) == (1, 1)


def test_configure_takes_effect_for_functions_decorated_earlier() -> None:
    calls = []

    @cache(backend=None)
    def f() -> int:
        calls.append(1)
        return len(calls)

    assert (f(), f()) == (1, 1)
    configure(CachekitConfig(l1_enabled=False))
    assert (f(), f()) == (2, 3)
    assert get_settings().l1_enabled is False
    reset_settings()
    assert get_settings().l1_enabled is True
    assert (f(), f()) == (4, 4)
    with pytest.raises(TypeError, match="CachekitConfig"):
        configure({"l1_enabled": False})  # type: ignore[arg-type]


def test_the_settings_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_settings().default_ttl == effective.current().default_ttl == 3600
    monkeypatch.setenv("CACHEKIT_DEFAULT_TTL", "60")
    assert get_settings().default_ttl == effective.current().default_ttl == 60


def test_a_bad_variable_is_raised_at_first_use_and_can_be_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_DEFAULT_TTL", "soon")

    @cache(backend=None)
    def f(x: int) -> int:
        return x

    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"CACHEKIT_DEFAULT_TTL='soon'.*unset it"):
            f(1)
    monkeypatch.setenv("CACHEKIT_DEFAULT_TTL", "60")
    assert f(1) == 1


def test_what_the_decorator_gives_beats_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_L1_ENABLED", "false")
    calls = []

    @cache(backend=None, l1_enabled=True)
    def kept() -> None:
        calls.append("kept")

    @cache.production(backend=None)
    def left() -> None:
        calls.append("left")

    for f in (kept, kept, left, left):
        f()
    assert calls == ["kept", "left", "left"]


def test_disabled_by_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def make(version: str) -> tuple[Any, Any]:
        @cache(namespace="disabled")
        def f(x: int) -> str:
            return version

        @cache(namespace="disabled")
        async def g(x: int) -> str:
            return version

        return f, g

    def thrice(version: str) -> list[str]:
        f, g = make(version)
        return [f(1) for _ in range(3)] + [asyncio.run(g(1)) for _ in range(3)]

    monkeypatch.setenv("CACHEKIT_FILE_CACHE_DIR", str(tmp_path / "warm"))
    assert thrice("old") == ["old"] * 6
    monkeypatch.setenv("CACHEKIT_DISABLED", "1")
    reset_settings()  # as in a new process: the settings were not read yet
    assert thrice("new") == ["new"] * 6
    reset_settings()
    monkeypatch.setenv("CACHEKIT_FILE_CACHE_DIR", str(tmp_path / "empty"))
    assert thrice("new") == ["new"] * 6
    assert not (tmp_path / "empty").exists()
    monkeypatch.delenv("CACHEKIT_DISABLED")
    monkeypatch.setenv("CACHEKIT_FILE_CACHE_DIR", str(tmp_path / "warm"))
    reset_settings()
    assert thrice("new") == ["old"] * 6


def test_disabled_by_variable_in_a_new_process(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; from cachekit import cache\n"
        "@cache(namespace='p')\n"
        "def f(x): return sys.argv[1]\n"
        "@cache(namespace='p')\n"
        "async def g(x): return sys.argv[1]\n"
        "calls = [f(1), f(1)] if sys.argv[2] == 'f' else [asyncio.run(g(1)), asyncio.run(g(1))]\n"
        "print(*calls, end='')"
    )

    def run(version: str, function: str, **variables: str) -> str:
        environment = {**os.environ, "CACHEKIT_FILE_CACHE_DIR": str(tmp_path), **variables}
        command = [sys.executable, "-c", program, version, function]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=60)
        return done.stdout.decode()

    for function in "fg":
        assert run("off", function, CACHEKIT_DISABLED="1") == "off off"
        assert run("old", function) == "old old"
        assert run("new", function, CACHEKIT_DISABLED="1") == "new new"
        assert run("new", function) == "old old"


def test_what_disabled_counts_and_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_DISABLED", "1")
    calls: list[int] = []

    @cache(backend=None)
    def f() -> int:
        calls.append(1)
        return len(calls)

    @cache(backend=None)
    async def g() -> int:
        return f.__wrapped__()

    assert f.refresh() == 1
    assert f() == 2
    assert (f.cache_info().hits, f.cache_info().misses) == (0, 0)
    reset_settings()
    assert asyncio.run(g.refresh()) == 3
    reset_settings()
    assert asyncio.run(g()) == 4
    assert (g.cache_info().hits, g.cache_info().misses) == (0, 0)
    monkeypatch.delenv("CACHEKIT_DISABLED")
    reset_settings()
    assert f() == 5
    assert asyncio.run(g()) == 6


@pytest.mark.parametrize("back", [lambda: configure(CachekitConfig(disabled=False)), reset_settings])
def test_what_was_disabled_comes_back(back: Callable[[], None]) -> None:
    def counting() -> Any:
        calls: list[int] = []

        @cache(backend=None)
        def f() -> int:
            calls.append(1)
            return len(calls)

        return f

    before = counting()
    assert [before(), before()] == [1, 1]
    configure(CachekitConfig(disabled=True))
    assert [before(), before()] == [2, 3]
    between = counting()
    assert [between(), between()] == [1, 2]
    back()
    assert [before(), before()] == [4, 4]
    assert [between(), between()] == [3, 3]
    after = counting()
    assert [after(), after()] == [1, 1]


def test_a_block_stays_disabled_while_the_settings_change() -> None:
    calls: list[int] = []

    @cache(backend=None)
    def f() -> int:
        calls.append(1)
        return len(calls)

    with cachekit.disabled():
        configure(CachekitConfig(disabled=False))
        assert [f(), f()] == [1, 2]
    assert [f(), f()] == [3, 3]


def test_look_alikes_get_a_hint(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(fields, "_hinted", False)
    monkeypatch.setenv("CACHE_REDIS_URL", "redis://secret")
    monkeypatch.setenv("CACHE_SOMETHING_ELSE", "1")
    monkeypatch.setenv("CACHEKIT_SOMETHING_ELSE", "1")
    monkeypatch.setenv("CACHEKIT_MEMCACHED_SERVER", "mc1:11211")
    monkeypatch.setenv("CACHEKIT_SERVER_MAX_VALUE", "1")
    monkeypatch.setenv("CACHEKIT_COMPRESSION_LEVEL", "6")
    read()
    read()
    assert caplog.text.count("CACHEKIT_REDIS_URL") == 1
    assert caplog.text.count("CACHEKIT_MEMCACHED_SERVER is not read: set CACHEKIT_MEMCACHED_SERVERS") == 1
    assert "CACHEKIT_SERVER" not in caplog.text
    assert caplog.text.count("CACHEKIT_COMPRESSION_LEVEL") == 0
    assert "SOMETHING" not in caplog.text
    assert "secret" not in caplog.text


def test_log_level_applies_to_our_logger(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("cachekit")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    effective.current()
    assert logger.level == logging.ERROR
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    reset_settings()
    monkeypatch.setenv("LOG_LEVEL", "chatty")
    effective.current()
    assert logger.level == logging.NOTSET
    assert "CHATTY" in caplog.text


def test_disabled_blocks_nest() -> None:
    calls = []

    @cache(backend=None)
    def f() -> None:
        calls.append(1)

    f()
    with cachekit.disabled():
        f()
        with cachekit.disabled():
            f()
        f()
    f()
    assert len(calls) == 4
