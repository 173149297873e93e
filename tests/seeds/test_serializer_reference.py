"""The code blocks of the API reference about serializers and encryption, as printed; services replaced by local ones."""

# ruff: noqa: E501 - the blocks stand as they are printed

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import polars as pl
import pytest

from cachekit import cache
from cachekit.backends import RedisBackend
from cachekit.serializers import ArrowSerializer, EncryptionWrapper, OrjsonSerializer
from tests.seeds.support import Counted, run
from tests.support.redis_servers import RedisServer

SECRET_KEY = "ab" * 32


@pytest.fixture
def data_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files that the blocks read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("data/2024-01-01.csv", "data.csv"):
        (tmp_path / name).write_text("item,price\ntea,3.5\nmilk,1.25\n")
    return tmp_path


def test_auto(redis_environment: RedisServer) -> None:
    block = """
from cachekit import cache
from cachekit.serializers import AutoSerializer
import numpy as np
import uuid
# AutoSerializer for Python-specific types (NumPy, UUID, set, etc.)
@cache(serializer="auto", ttl=3600)
def process_numpy_data():
    return {
        "array": np.array([1, 2, 3, 4, 5]),
        "id": uuid.uuid4(),
        "tags": {"python", "caching", "numpy"} # set support
    }
# Only accessible from Python - not compatible with PHP/JS/Java
result = process_numpy_data()
"""
    first, second = run(block), run(block)
    assert second.process_numpy_data.cache_info().l2_hits == 1
    assert isinstance(second.result["id"], uuid.UUID)
    assert second.result["id"] == first.result["id"]
    assert second.result["tags"] == {"python", "caching", "numpy"}
    np.testing.assert_array_equal(second.result["array"], np.array([1, 2, 3, 4, 5]), strict=True)


def test_orjson() -> None:
    fetch_external_api = Counted(lambda endpoint: [endpoint])
    module = run(
        """
from cachekit import cache
from cachekit.serializers import OrjsonSerializer
# OrjsonSerializer for JSON APIs (2-5x faster than stdlib json)
@cache(serializer="orjson", ttl=900, backend=None)
def fetch_api_response(endpoint: str):
    return {
        "status": "success",
        "data": fetch_external_api(endpoint) # illustrative - external API call
    }
# Equivalent to StandardSerializer for language compatibility,
# but optimized for JSON serialization speed
response = fetch_api_response("/users/123")
""",
        fetch_external_api=fetch_external_api,
    )
    assert module.fetch_api_response("/users/123") == module.response
    assert module.response == {"status": "success", "data": ["/users/123"]}
    assert len(fetch_external_api.calls) == 1


def test_arrow(redis_environment: RedisServer, data_files: Path) -> None:
    block = """
from cachekit import cache
from cachekit.serializers import ArrowSerializer
import pandas as pd
# ArrowSerializer for DataFrames (6-23x faster for large data)
@cache(serializer="arrow", ttl=7200, backend=None)
def load_large_dataset(date: str):
    return pd.read_csv(f"data/{date}.csv") # illustrative - file may not exist
# Returns pandas DataFrame directly
df = load_large_dataset("2024-01-01")
# Can also return as polars or pyarrow
@cache(serializer=ArrowSerializer(return_format="polars"), ttl=7200)
def load_polars_data():
    import polars as pl
    return pl.read_csv("data.csv")
"""
    first, second = run(block), run(block)
    pd.testing.assert_frame_equal(first.load_large_dataset("2024-01-01"), first.df)
    assert first.load_large_dataset.cache_info().hits == 1
    assert list(first.df["price"]) == [3.5, 1.25]
    table = first.load_polars_data()
    (data_files / "data.csv").unlink()
    for module in (first, second):
        assert isinstance(module.load_polars_data(), pl.DataFrame)
        assert module.load_polars_data().equals(table)
    assert second.load_polars_data.cache_info().l2_hits == 1


def test_the_parameter() -> None:
    module = run(
        """
# By name (string)
@cache(serializer="std", backend=None) # StandardSerializer (alias)
def std(): return data()
@cache(serializer="auto", backend=None) # AutoSerializer
def auto(): return data()
@cache(serializer="orjson", backend=None) # OrjsonSerializer
def orjson_(): return data()
@cache(serializer="arrow", backend=None) # ArrowSerializer
def arrow(): return data()
# By instance (for configuration)
@cache(serializer=ArrowSerializer(return_format="polars"), backend=None)
def arrow_instance(): return data()
@cache(serializer=OrjsonSerializer(option=orjson.OPT_SORT_KEYS), backend=None)
def orjson_instance(): return data()
# No parameter = default StandardSerializer
@cache(ttl=3600, backend=None) # Uses StandardSerializer automatically
def unnamed(): return data()
""",
        cache=cache,
        ArrowSerializer=ArrowSerializer,
        OrjsonSerializer=OrjsonSerializer,
        orjson=orjson,
        data=lambda: {"b": [1, 2], "a": [3, 4]},
    )
    for name in ("std", "auto", "orjson_", "arrow", "arrow_instance", "orjson_instance", "unnamed"):
        function = getattr(module, name)
        assert function() == function() == {"b": [1, 2], "a": [3, 4]}
        assert function.cache_info().hits == 1


def test_a_changed_serializer(redis_environment: RedisServer) -> None:
    """The function runs and caches with the new one. Keys name the serializer, so the old entry is not even read."""
    before = """
@cache
def get_data():
    return df
"""
    after = """
# AFTER: Switching to ArrowSerializer
@cache(serializer="arrow")
def get_data():
    return df
"""
    df = {"id": [1, 2], "name": ["a", "b"]}
    old = run(before, cache=cache, df=df)
    assert old.get_data() == df
    new = run(after, cache=cache, df=df)
    assert new.get_data() == df
    assert (new.get_data.cache_info().hits, new.get_data.cache_info().misses) == (0, 1)
    assert new.get_data.key_for() != old.get_data.key_for()
    deployed = run(after, cache=cache, df=df)
    assert deployed.get_data() == df
    assert deployed.get_data.cache_info().l2_hits == 1


def test_versions_by_namespace(redis_environment: RedisServer) -> None:
    block = """
# V1: StandardSerializer (existing production)
@cache(namespace="user_data:v1")
def get_user_data_v1(user_id):
    return {"id": user_id, "name": "Alice"}
# V2: ArrowSerializer (new deployment, different namespace)
@cache(serializer="arrow", namespace="user_data:v2")
def get_user_data_v2(user_id):
    return pd.DataFrame({"id": [user_id], "name": ["Alice"]})
"""
    modules = [run(block, cache=cache, pd=pd) for _ in range(2)]
    for module in modules:
        assert module.get_user_data_v1(7) == {"id": 7, "name": "Alice"}
        pd.testing.assert_frame_equal(module.get_user_data_v2(7), pd.DataFrame({"id": [7], "name": ["Alice"]}))
    second = modules[1]
    assert second.get_user_data_v1.cache_info().l2_hits == second.get_user_data_v2.cache_info().l2_hits == 1


def test_encryption() -> None:
    module = run(
        """
from cachekit import cache
from cachekit.serializers import EncryptionWrapper, OrjsonSerializer
# Encrypted MessagePack (use @cache.secure preset)
@cache.secure(master_key=secret_key, backend=None)
def get_user_ssn(user_id: int):
    return {"ssn": "123-45-6789", "dob": "1990-01-01"}
# Encrypted JSON (zero-knowledge API caching)
@cache(serializer=EncryptionWrapper(serializer=OrjsonSerializer(), master_key=bytes.fromhex(secret_key)), backend=None)
def get_api_keys(tenant_id: str):
    return {"api_key": "sk_live_...", "webhook_secret": "whsec_..."}
""",
        secret_key=SECRET_KEY,
    )
    assert module.get_user_ssn(1) == module.get_user_ssn(1) == {"ssn": "123-45-6789", "dob": "1990-01-01"}
    keys = {"api_key": "sk_live_...", "webhook_secret": "whsec_..."}
    assert module.get_api_keys("t") == module.get_api_keys("t") == keys
    assert module.get_user_ssn.cache_info().hits == module.get_api_keys.cache_info().hits == 1


def test_external_data(redis_environment: RedisServer, data_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHEKIT_MASTER_KEY", SECRET_KEY)
    conn = sqlite3.connect(":memory:")
    conn.execute("CREATE TABLE patients (name TEXT, age INTEGER)")
    conn.execute("INSERT INTO patients VALUES ('Ada', 36)")
    names: dict[str, Any] = {"fetch_api": lambda endpoint: {"path": endpoint}, "conn": conn}
    block = """
import pandas as pd
# Fast JSON serialization (API responses, webhooks)
@cache(serializer=OrjsonSerializer(), backend=None)
def get_api_response(endpoint: str):
    return {"status": "success", "data": fetch_api(endpoint)} # external API call
# Zero-copy DataFrame caching (10K+ rows)
@cache(serializer=ArrowSerializer(), backend=None)
def get_large_dataset(date: str):
    return pd.read_csv(f"data/{date}.csv") # file I/O
# Encrypted DataFrames (zero-knowledge ML features)
@cache(serializer=EncryptionWrapper(serializer=ArrowSerializer()))
def get_patient_data(hospital_id: int):
    return pd.read_sql("SELECT * FROM patients", conn) # database query
"""
    names.update(cache=cache, OrjsonSerializer=OrjsonSerializer, ArrowSerializer=ArrowSerializer)
    modules = [run(block, EncryptionWrapper=EncryptionWrapper, **names) for _ in range(2)]
    for module in modules:
        for _ in range(2):
            assert module.get_api_response("/u")["data"] == {"path": "/u"}
            assert list(module.get_large_dataset("2024-01-01")["item"]) == ["tea", "milk"]
            assert list(module.get_patient_data(1)["name"]) == ["Ada"]
        assert module.get_api_response.cache_info().hits == module.get_large_dataset.cache_info().hits == 1
    second = modules[1]
    assert second.get_patient_data.cache_info().l2_hits == 1
    stored = RedisBackend(redis_environment.url).get(second.get_patient_data.key_for(1))
    assert stored
    assert b"Ada" not in stored
    conn.close()
