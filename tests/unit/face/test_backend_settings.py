"""The settings of each backend: the model, and the reader without pydantic, say the same."""

from __future__ import annotations

from pathlib import Path
from traceback import TracebackException
from typing import Any

import pytest

from cachekit import ConfigurationError, _native
from cachekit.backends.cachekitio import CachekitIOBackend, CachekitIOBackendConfig
from cachekit.backends.file import FileBackend, FileBackendConfig
from cachekit.backends.memcached import MemcachedBackend, MemcachedBackendConfig
from cachekit.backends.redis import RedisBackend, RedisBackendConfig
from cachekit.config import fields
from cachekit.config.fields import Setting

KEY = "ck_test_0123456789abcdef"
MODELS: list[Any] = [RedisBackendConfig, CachekitIOBackendConfig, FileBackendConfig, MemcachedBackendConfig]
EACH = [(model, setting) for model in MODELS for setting in model.table]


@pytest.fixture(autouse=True)
def an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_API_KEY", KEY)


def light(model: Any) -> Any:
    try:
        return fields.given(model.table, None)
    except ConfigurationError as error:
        return str(error)


def heavy(model: Any) -> Any:
    try:
        return fields.given(model.table, model())
    except ConfigurationError as error:
        return str(error)


@pytest.mark.parametrize("model", MODELS)
def test_defaults_agree(model: Any) -> None:
    assert light(model) == heavy(model)
    assert set(model.model_fields) == {setting.name for setting in model.table}


TEXTS = [
    "0",
    "1",
    "7",
    "-3",
    "2.5",
    "true",
    "Off",
    "nonsense",
    "inf",
    "nan",
    " 5 ",
    "0600",
    "0777",
    "12:34",
    "[]",
    "1e300",
]
SERVER_TEXTS = [
    '["mc1:11211", "mc2:11211"]',
    '["mc1"]',
    '["mc1:0"]',
    '["mc1:65536"]',
    '"mc1:11211"',
    '["/run/mc.sock"]',
    "100000",
]


@pytest.mark.parametrize("text", TEXTS + SERVER_TEXTS)
@pytest.mark.parametrize(("model", "setting"), EACH, ids=lambda item: getattr(item, "name", ""))
def test_both_readers_agree(model: Any, setting: Setting, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(setting.variables[0], text)
    quick = light(model)
    assert quick == heavy(model)
    if isinstance(quick, str):
        assert setting.variables[0] in quick
        if not setting.secret and setting.name != "max_value_mb":
            assert repr(text) in quick


def test_the_documented_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "CACHEKIT_FILE_CACHE_DIR": "/tmp/elsewhere",
        "CACHEKIT_FILE_MAX_SIZE_MB": "2048",
        "CACHEKIT_FILE_MAX_VALUE_MB": "200",
        "CACHEKIT_FILE_MAX_ENTRY_COUNT": "5000",
        "CACHEKIT_FILE_LOCK_TIMEOUT_SECONDS": "2.5",
        "CACHEKIT_FILE_PERMISSIONS": "0640",
        "CACHEKIT_FILE_DIR_PERMISSIONS": "0750",
        "CACHEKIT_MEMCACHED_SERVERS": '["mc1:11211", "mc2:11211"]',
        "CACHEKIT_MEMCACHED_KEY_PREFIX": "myapp:",
        "CACHEKIT_API_URL": "https://api.example.org",
        "CACHEKIT_ALLOW_CUSTOM_HOST": "true",
        "CACHEKIT_CONNECTION_POOL_SIZE": "20",
    }.items():
        monkeypatch.setenv(name, value)
    file = fields.given(fields.FILE, None)
    assert file["cache_dir"] == "/tmp/elsewhere"
    assert (file["max_size_mb"], file["max_value_mb"], file["max_entry_count"]) == (2048, 200, 5000)
    assert (file["lock_timeout_seconds"], file["permissions"], file["dir_permissions"]) == (2.5, 0o640, 0o750)
    memcached = fields.given(fields.MEMCACHED, None)
    assert memcached["servers"] == ("mc1:11211", "mc2:11211")
    assert memcached["key_prefix"] == "myapp:"
    io = fields.given(fields.CACHEKITIO, None)
    assert (io["api_url"], io["allow_custom_host"]) == ("https://api.example.org", True)
    assert io["connection_pool_size"] == fields.given(fields.REDIS, None)["connection_pool_size"] == 20


def test_the_largest_value_is_half_of_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_FILE_MAX_SIZE_MB", "10")
    assert fields.given(fields.FILE, None)["max_value_mb"] == FileBackendConfig().max_value_mb == 5
    monkeypatch.setenv("CACHEKIT_FILE_MAX_VALUE_MB", "6")
    with pytest.raises(ConfigurationError, match="at most half of max_size_mb=10"):
        fields.given(fields.FILE, None)
    with pytest.raises(ConfigurationError, match="at most half of max_size_mb=10"):
        FileBackendConfig()


@pytest.mark.parametrize("servers", ["mc1:11211", [], ["mc1"], ["mc1:port"], [11211], [":11211"]])
def test_servers_given_wrongly(servers: Any) -> None:
    with pytest.raises(ConfigurationError, match="servers="):
        MemcachedBackendConfig(servers=servers)


def test_a_url_where_servers_are_expected_does_not_show_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_MEMCACHED_SERVERS", "memcached://bob:hunter2@mc1:11211")
    for error in (light(MemcachedBackendConfig), heavy(MemcachedBackendConfig)):
        assert "CACHEKIT_MEMCACHED_SERVERS is not valid" in error
        assert "hunter2" not in error


def test_modes_that_shut_the_owner_out() -> None:
    for mode in (0o400, 0o1777, -1, "abc", True):
        with pytest.raises(ConfigurationError, match="permissions"):
            FileBackendConfig(permissions=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backend", "given"),
    [
        (FileBackend, "/var/cache"),
        (FileBackend, RedisBackendConfig()),
        (MemcachedBackend, ["mc1:11211"]),
        (RedisBackend, 5),
        (RedisBackend, FileBackendConfig()),
        (CachekitIOBackend, 5),
    ],
)
def test_backends_say_what_they_take(backend: Any, given: Any) -> None:
    with pytest.raises(TypeError, match=f"{backend.__name__} takes .*, not a .*: write {backend.__name__}"):
        backend(given)


def test_a_directory_may_be_a_path() -> None:
    assert FileBackendConfig(cache_dir=Path("/var/cache")).cache_dir == "/var/cache"
    with pytest.raises(ConfigurationError, match="cache_dir=5 is not valid: a path is expected"):
        FileBackendConfig(cache_dir=5)  # pyright: ignore[reportArgumentType]


def test_an_account_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHEKIT_API_KEY")
    with pytest.raises(ConfigurationError, match="CACHEKIT_API_KEY, which is not set") as caught:
        CachekitIOBackendConfig()
    assert caught.value.code == "E060"


def test_the_key_never_shows() -> None:
    config = CachekitIOBackendConfig()
    assert KEY not in repr(config) + str(config) + repr(config.model_dump())


def test_no_traceback_of_a_refused_account_shows_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_API_URL", "https://example.org")
    for make in (CachekitIOBackend, lambda: CachekitIOBackend("https://example.org", KEY)):
        with pytest.raises(ConfigurationError, match=r"'example\.org' is not") as caught:
            make()
        shown = "".join(TracebackException.from_exception(caught.value, capture_locals=True).format())
        assert "<CachekitIOBackend without settings>" in shown
        assert KEY not in shown


KINDS = {str: "text", bool: "boolean", int: "integer", float: "number", tuple: "servers"}


@pytest.mark.parametrize("name", ["REDIS", "CACHEKITIO", "FILE", "MEMCACHED", "PROCESS"])
def test_the_rust_face_has_the_same_table(name: str) -> None:
    rows = _native._testing.settings()[name]
    table: tuple[Setting, ...] = getattr(fields, name)
    assert [row[0] for row in rows] == [setting.name for setting in table]
    for setting, (_, variables, (kind, choices), default, numbers, secret) in zip(table, rows):
        assert tuple(variables) == setting.variables
        readers: dict[type, str] = {fields.Mode: "mode", fields.Keys: "keys", fields.Name: "name"}
        read = readers.get(type(setting.reader))
        assert kind == (read or KINDS[setting.kind]), setting.name
        assert tuple(choices) == setting.choices
        least = setting.reader.least if isinstance(setting.reader, fields.Mode) else setting.least
        most = setting.reader.most if isinstance(setting.reader, fields.Name) else setting.most
        assert numbers == (least, setting.above, most), setting.name
        assert secret == setting.secret
        if setting.name != "cache_dir":  # both make it from the system's directory for temporary files
            assert setting.default == (None if default is None else setting.parse(default)), setting.name
