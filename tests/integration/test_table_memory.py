"""How much memory caching a large table takes: the table, and what is stored of it once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cachekit import cache
from cachekit.backends import BaseBackend, FileBackend, FileBackendConfig, RedisBackend
from cachekit.serializers import ArrowSerializer
from tests.integration.support import PROGRAMS
from tests.support.redis_servers import RedisServer

MEGABYTES = 48
ROWS = 200_000
LIMITS = {"CACHEKIT_MAX_VALUE_SIZE": str(2 * MEGABYTES << 20), "CACHEKIT_MAX_CHUNK_SIZE_MB": str(2 * MEGABYTES)}


def measured(where: str, **options: Any) -> dict[str, int]:
    """What the program found, in a process of its own: a peak is never forgotten."""
    program = [sys.executable, str(PROGRAMS / "table_memory.py"), str(MEGABYTES), where, json.dumps(options)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, env={**os.environ, **LIMITS})
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    assert found["frame"] >= MEGABYTES << 20
    return found


@pytest.mark.parametrize("serializer", ["arrow", "auto"])
def test_a_stored_table_is_in_memory_once_more(tmp_path: Path, serializer: str) -> None:
    found = measured(str(tmp_path), serializer=serializer)
    assert found["peak"] < 1.5 * found["frame"]


def test_so_it_is_on_its_way_to_redis(redis_server: RedisServer) -> None:
    found = measured(redis_server.url, serializer="arrow")
    assert found["peak"] < 1.5 * found["frame"]


def test_encrypted_too(tmp_path: Path) -> None:
    found = measured(str(tmp_path), serializer="arrow", encryption=True, master_key="ab" * 32, single_tenant_mode=True)
    assert found["peak"] < 1.5 * found["frame"]


def test_an_array_too(tmp_path: Path) -> None:
    found = measured(str(tmp_path), serializer="auto", array=True)
    assert found["peak"] < 1.5 * found["frame"]


def test_what_is_not_shared_is_not_copied() -> None:
    found = measured("none", serializer="arrow")
    assert found["peak"] < 0.2 * found["frame"]


def test_a_sink_takes_a_table_in_pieces() -> None:
    found = measured("sink")
    assert found["stored"] > 0.8 * found["frame"]
    assert found["peak"] < 0.5 * found["frame"]


def copied(call: Any) -> int:
    """The bytes that pyarrow allocates for a hit's table."""
    before = pa.total_allocated_bytes()
    table = call()
    copied = pa.total_allocated_bytes() - before
    assert table.nbytes == ROWS * 8
    return copied


@pytest.fixture(params=["file", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BaseBackend:
    if request.param == "file":
        return FileBackend(FileBackendConfig(cache_dir=str(tmp_path)))
    redis: RedisServer = request.getfixturevalue("redis_server")
    return RedisBackend(redis.url)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 8])
def test_tables_are_read_where_they_lie(store: BaseBackend, namespace: str, length: int) -> None:
    """In the file or in this process's memory, whatever the entry is called."""
    options: dict[str, Any] = {
        "namespace": namespace,
        "key": lambda: "k" * length,
        "serializer": ArrowSerializer(compression="none"),
        "ttl": 60,
    }

    def table() -> pa.Table:
        return pa.table({"a": np.arange(ROWS)})

    async def atable() -> pa.Table:
        return table()

    writer = cache(backend=store, **options)(table)
    writer()
    assert copied(writer) < ROWS
    assert copied(cache(backend=store, l1_enabled=False, **options)(table)) < ROWS
    reader = cache(backend=store, **options)(table)
    reader()
    assert copied(reader) < ROWS
    areader = cache(backend=store, **options)(atable)
    asyncio.run(areader())
    assert copied(lambda: asyncio.run(areader())) < ROWS
    assert areader.cache_info().l1_hits == 1
