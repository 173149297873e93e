"""Functions with every serializer, through a real Redis: by name, alias and instance, mixed, changed and damaged."""

from __future__ import annotations

import logging
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from cachekit.serializers import ArrowSerializer, AutoSerializer, OrjsonSerializer, StandardSerializer
from cachekit.serializers.base import SerializationFormat, SerializationMetadata
from tests.integration.support import Runs
from tests.integration.vault import Store, header, with_header
from tests.support.redis_servers import RedisServer


class Reversed:
    """A serializer of a user's: text, backwards."""

    def serialize(self, obj: Any) -> tuple[bytes, SerializationMetadata]:
        if not isinstance(obj, str):
            raise TypeError("only text")
        return obj.encode()[::-1], SerializationMetadata(SerializationFormat.MSGPACK, original_type="text")

    def deserialize(self, data: Any, metadata: Any = None) -> str:
        assert metadata.original_type == "text"
        return bytes(data)[::-1].decode()


class Raw:
    """A serializer of a user's that takes any bytes for a value."""

    cross_sdk_compatible = True

    def serialize(self, obj: Any) -> tuple[bytes, SerializationMetadata]:
        return bytes(obj), SerializationMetadata(SerializationFormat.MSGPACK)

    def deserialize(self, data: Any, metadata: Any = None) -> bytes:
        return bytes(data)


VALUES: dict[str, Any] = {
    "default": {"a": [1, 2]},
    "auto": {"a": (1, {2}), "b": uuid.UUID(int=1), "c": Decimal(1)},
    "orjson": {"a": [1.5, None]},
    "arrow": pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
    "custom": "text",
}
# Each row: what may be mixed, all for the same entries.
SAME: dict[str, list[Any]] = {
    "default": ["std", "standard", "default", StandardSerializer()],
    "auto": ["auto", "pythonic", AutoSerializer()],
    "orjson": ["orjson", OrjsonSerializer()],
    "arrow": ["arrow", ArrowSerializer()],
    "custom": [Reversed(), Reversed()],
}
LETTERS = {"default": "s", "auto": "a", "orjson": "o", "arrow": "w", "custom": "s"}


def equal(one: Any, other: Any) -> bool:
    return one.equals(other) if hasattr(one, "equals") else one == other and type(one) is type(other)


def same(one: Any, other: Any) -> bool:
    return np.array_equal(one, other) if isinstance(other, np.ndarray) else equal(one, other)


class Function:
    """`work` under one name, cached anew with each serializer; counts its runs."""

    def __init__(self, server: RedisServer, value: Any, namespace: str) -> None:
        self._backend, self._value, self._namespace = RedisBackend(server.url), value, namespace
        self.runs = 0

    def cached(self, serializer: Any, **options: Any) -> Any:
        def work() -> Any:
            self.runs += 1
            return self._value

        options = {"l1_enabled": False, "ttl": 60, "namespace": self._namespace, **options}
        return cache(serializer=serializer, backend=self._backend, **options)(work)


@pytest.fixture
def function(redis_server: RedisServer, request: pytest.FixtureRequest) -> Any:
    def make(value: Any) -> Function:
        return Function(redis_server, value, uuid.uuid4().hex)

    return make


@pytest.mark.parametrize("integrity", [True, False])
@pytest.mark.parametrize("name", SAME)
def test_names_aliases_and_instances_share_their_entries(function: Any, name: str, integrity: bool) -> None:
    work = function(VALUES[name])
    for serializer in SAME[name]:
        cached = work.cached(serializer, integrity_checking=integrity)
        assert equal(cached(), VALUES[name])
        assert cached.key_for().endswith(f":{int(integrity)}{LETTERS[name]}")
    assert work.runs == 1


@pytest.mark.parametrize("before", SAME)
@pytest.mark.parametrize("after", SAME)
def test_a_changed_serializer_is_explained_once_and_overwrites(
    function: Any, before: str, after: str, caplog: pytest.LogCaptureFixture
) -> None:
    if before == after:
        return
    # `key=` names no serializer, so that both meet under one key.
    key = uuid.uuid4().hex
    old, new = function(VALUES[before]), function(VALUES[after])
    for each in (old, new):
        each._namespace = key
    options = {"key": lambda: key}
    old.cached(SAME[before][0], **options)()
    changed = new.cached(SAME[after][0], **options)
    with caplog.at_level(logging.WARNING, logger="cachekit"):
        for _ in range(3):
            assert equal(changed(), VALUES[after])
    assert new.runs == 1
    said = [record.message for record in caplog.records if "written by serializer" in record.message]
    assert len(said) == 1
    assert before.replace("custom", "Reversed") in said[0]


ENCRYPTED = {"encryption": True, "master_key": "ab" * 32}
# Two values of each form that a payload has, and whether it is in an envelope, behind a checksum, or behind one always.
FORMS: dict[str, tuple[Any, Any, Any, str]] = {
    "default": ("std", {"price": 10}, {"price": 11}, "envelope"),
    "auto": ("auto", {"at": (1, {2})}, {"at": (3,)}, "envelope"),
    "auto-series": ("auto", pd.Series([1]), pd.Series([2]), "envelope"),
    "auto-array": ("auto", np.arange(3), np.arange(4), "checksum"),
    "auto-frame": ("auto", pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]}), "always"),
    "arrow": ("arrow", pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]}), "always"),
    "orjson": ("orjson", {"price": 10}, {"price": 11}, "checksum"),
    "custom": (Raw(), b"old", b"new", "checksum"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encryption", [{}, ENCRYPTED], ids=["plain", "encrypted"])
@pytest.mark.parametrize("l1", [True, False], ids=["l1", "no-l1"])
@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("read", [True, False])
def test_entries_of_the_other_integrity_setting_are_never_taken_for_what_they_are_not(
    function: Any, form: str, encryption: Any, l1: bool, written: bool, read: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """`key=` names no setting, so that both meet under one key: the stored value, or a miss that is explained once."""
    serializer, stored, computed, wrap = FORMS[form]
    old, new = function(stored), function(computed)
    new._namespace = old._namespace
    options: dict[str, Any] = {"key": lambda: "item", "l1_enabled": l1, **encryption}
    old.cached(serializer, integrity_checking=written, **options)()
    reader = new.cached(serializer, integrity_checking=read, **options)
    with caplog.at_level(logging.WARNING, logger="cachekit"):
        values = [reader() for _ in range(3)]
    is_hit = written == read or wrap == "always" or (wrap == "envelope" and written)
    assert all(same(value, stored if is_hit else computed) for value in values)
    assert new.runs == (0 if is_hit else 1)
    assert reader.cache_info().hits == (3 if is_hit else 2)
    said = [
        record.message for record in caplog.records if "overwritten" in record.message or "damaged" in record.message
    ]
    assert len(said) == (0 if is_hit else 1), said
    if wrap == "envelope" and not is_hit:
        assert "written without integrity checking" in said[0]
        assert not any("refused" in record.message for record in caplog.records), "no sign of an attack"


@pytest.mark.parametrize("serializer", ["std", "auto"])
def test_an_envelope_whose_header_does_not_tell_of_it_is_no_value(namespace: str, serializer: str) -> None:
    store, runs = Store(), Runs()
    options: dict[str, Any] = {"key": lambda: "item", "serializer": serializer, "l1_enabled": False}
    cache(backend=store, namespace=namespace, **options)(lambda: "old")()
    key, entry = store.entry()
    said = header(entry)
    del said["m"]["compressed"]
    store.values[key] = with_header(entry, said)
    reader = cache(backend=store, namespace=namespace, integrity_checking=False, **options)(lambda: [runs()])
    assert reader() == reader() == [1]
    store.values[key] = with_header(entry, said)
    checking = cache(backend=store, namespace=namespace, **options)(lambda: [runs()])
    assert checking() == "old", "where it is expected, it need not be told of"


def test_bytes_that_start_as_arrow_files_do_are_a_value_without_a_checksum(function: Any) -> None:
    work = function(b"ARROW1 and more")
    cached = work.cached(Raw(), integrity_checking=False)
    assert [cached(), cached()] == [b"ARROW1 and more"] * 2
    assert work.runs == 1


@pytest.mark.parametrize("serializer", [StandardSerializer, AutoSerializer])
def test_a_serializer_opens_the_envelope_that_metadata_tells_of(serializer: Any) -> None:
    for integrity in (True, False):
        payload, metadata = serializer(enable_integrity_checking=integrity).serialize({"a": 1})
        assert metadata.compressed == integrity
        assert serializer(enable_integrity_checking=False).deserialize(payload, metadata) == {"a": 1}


def test_an_entry_that_names_no_serializer_is_of_the_functions_own(namespace: str) -> None:
    """Old writers say "unknown"."""
    store, runs = Store(), Runs()

    @cache(backend=store, namespace=namespace, l1_enabled=False)
    def load() -> list[int]:
        return [runs()]

    load()
    key, entry = store.entry()
    store.values[key] = with_header(entry, {**header(entry), "s": "unknown"})
    assert load() == [1]


@pytest.mark.parametrize("name", SAME)
def test_l1_gives_what_the_stored_bytes_say_and_shares_nothing(function: Any, name: str) -> None:
    work = function(VALUES[name])
    cached = work.cached(SAME[name][0], l1_enabled=True)
    cached()
    hits = [cached() for _ in range(3)]
    assert work.runs == 1
    assert all(equal(hit, VALUES[name]) for hit in hits)
    if isinstance(hits[0], dict):
        hits[0]["a"] = "changed"
    elif isinstance(hits[0], pd.DataFrame):
        hits[0].iloc[0, 0] = 77
    assert equal(cached(), VALUES[name])
    assert cached.cache_info().l1_hits == 4


@pytest.mark.parametrize("value", [np.arange(5), [np.arange(3)], pd.Series([1, 2]), {"f": pd.DataFrame({"a": [1]})}])
def test_arrays_in_l1_are_nobody_elses(function: Any, value: Any) -> None:
    work = function(value)
    cached = work.cached("auto", l1_enabled=True)
    cached()
    one, other = cached(), cached()
    inside = [hit[0] if isinstance(hit, list) else hit["f"] if isinstance(hit, dict) else hit for hit in (one, other)]
    assert inside[0] is not inside[1]
    if isinstance(inside[0], np.ndarray):
        inside[0][:] = 99
        assert not (inside[1] == 99).any()
    assert work.runs == 1
    assert cached.cache_info().l1_hits == 2
    # As read from the store.
    reader = work.cached("auto", l1_enabled=True)
    assert type(reader()) is type(reader()) is type(one)
    assert (reader.cache_info().l2_hits, reader.cache_info().l1_hits) == (1, 1)


@pytest.mark.parametrize(
    ("serializer", "value", "says"),
    [
        ("auto", {"a": [1, object()]}, r'result["a"][1]'),
        ("orjson", {"a": float("nan")}, r'result["a"]'),
        ("arrow", [1], "result is of type list"),
        (Reversed(), 5, "only text"),
        ("auto", {"__set__": True, "value": []}, "__set__"),
    ],
)
def test_what_cannot_be_stored_is_returned_uncached_and_said_once(
    function: Any, serializer: Any, value: Any, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    work = function(value)
    cached = work.cached(serializer)
    with caplog.at_level(logging.WARNING, logger="cachekit"):
        assert cached() is value
        assert cached() is value
    (record,) = [record for record in caplog.records if "not cached" in record.message]
    assert says in record.message


@pytest.mark.parametrize("name", SAME)
def test_damaged_entries_are_computed_anew(function: Any, name: str, redis_server: RedisServer) -> None:
    work = function(VALUES[name])
    cached = work.cached(SAME[name][0])
    cached()
    backend, key = RedisBackend(redis_server.url), cached.key_for()
    stored = backend.get(key)
    assert stored is not None
    damaged = bytearray(stored)
    damaged[-12] ^= 4
    backend.set(key, bytes(damaged), 60)
    assert equal(cached(), VALUES[name])
    assert work.runs == 2
    assert backend.get(key) == stored


@pytest.mark.parametrize(
    ("serializer", "nested"), [("arrow", None), ("auto", None), ("auto", "frame"), ("auto", "series")]
)
def test_tables_are_checked_where_somebody_else_may_have_written_them(
    serializer: str, nested: str | None, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cachekit._native as native

    checked: list[Any] = []
    monkeypatch.setattr(native, "check_arrow", checked.append)
    store, frame = Store(), VALUES["arrow"]
    table = frame[frame.columns[0]] if nested == "series" else frame

    def function(**options: Any) -> Any:
        def work() -> Any:
            return [table] if nested else table

        return cache(serializer=serializer, backend=store, namespace=namespace, **options)(work)

    def equal(result: Any) -> bool:
        return (result[0] if nested else result).equals(table)

    function()()
    stored = function()  # With an L1 of its own, where nothing is yet.
    for layer in ("from the store", "from L1"):
        assert equal(stored()), layer
        assert len(checked) == 1, layer
    assert (stored.cache_info().l2_hits, stored.cache_info().l1_hits) == (1, 1)
    secret: dict[str, Any] = {"encryption": True, "master_key": "ab" * 32, "single_tenant_mode": True}
    store.values.clear()
    function(**secret)()
    opened = function(l1_enabled=False, **secret)
    assert equal(opened())
    assert opened.cache_info().l2_hits == 1
    assert len(checked) == 1


def test_polars_comes_back_as_polars(function: Any) -> None:
    frame = pl.DataFrame({"a": [1, 2]})
    work = function(frame)
    assert work.cached("arrow")().equals(frame)
    assert isinstance(work.cached("arrow")(), pl.DataFrame)
    assert isinstance(work.cached(ArrowSerializer(return_format="pandas"))(), pd.DataFrame)
    assert work.runs == 1


@pytest.mark.parametrize("serializer", [AutoSerializer, object(), Reversed])
def test_what_is_no_serializer_is_refused_at_decoration(serializer: Any) -> None:
    with pytest.raises(ValueError, match="serializer"):
        cache(serializer=serializer)(lambda: 1)


def test_a_class_with_a_name_of_ours_is_refused() -> None:
    impostor = type("AutoSerializer", (Reversed,), {})()
    with pytest.raises(ValueError, match="rename it"):
        cache(serializer=impostor)(lambda: 1)


def test_safe_mode_reads_back_before_it_stores(function: Any) -> None:
    class Forgetful(Reversed):
        def deserialize(self, data: Any, metadata: Any = None) -> str:
            return "something else"

    work = function("text")
    cached = work.cached(Forgetful(), safe_mode=True)
    assert [cached(), cached()] == ["text", "text"]
    assert work.runs == 2


@pytest.mark.parametrize("level", [1, 9])
def test_a_compression_level_makes_entries_smaller(
    function: Any, level: int, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = [{"id": n, "name": f"item {n % 37}", "price": n * 7 % 100 / 4} for n in range(3000)]
    backend, sizes = RedisBackend(redis_server.url), []
    for setting in (None, str(level)):
        if setting is not None:
            monkeypatch.setenv("CACHEKIT_COMPRESSION_LEVEL", setting)
        work = function(value)
        cached = work.cached("std")
        cached()
        assert cached() == value
        assert work.runs == 1
        stored = backend.get(cached.key_for())
        assert stored is not None
        sizes.append(len(stored))
    assert sizes[1] < sizes[0]
