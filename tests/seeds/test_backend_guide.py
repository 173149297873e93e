"""The code blocks of the backend guide, as printed; services replaced by local ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from cachekit.backends import BaseBackend, RedisBackend
from tests.seeds.support import Counted, run
from tests.support.cachekit_server import CachekitServer
from tests.support.redis_servers import RedisServer
from tests.unit.face.test_provider import Store

PROTOCOL = '''
from typing import Optional, Protocol

class BaseBackend(Protocol):
    """Protocol defining the L2 backend storage contract."""

    def get(self, key: str) -> Optional[bytes]:
        ...

    def set(self, key: str, value: bytes, ttl: Optional[int] = None) -> None:
        ...

    def delete(self, key: str) -> bool:
        ...

    def exists(self, key: str) -> bool:
        ...

    def health_check(self) -> tuple[bool, dict]:
        ...
'''


def test_the_printed_protocol_is_ours() -> None:
    printed = run(PROTOCOL).BaseBackend

    class Own(Store, printed):  # type: ignore[misc, valid-type]
        pass

    assert isinstance(Own(), BaseBackend)
    assert {name for name in vars(printed) if not name.startswith("_")} == {
        name for name in vars(BaseBackend) if not name.startswith("_")
    }


def test_an_explicit_backend_wins(
    api_environment: CachekitServer, redis_environment: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = run(
        """
from cachekit import cache
from cachekit.backends.cachekitio import CachekitIOBackend

custom_backend = CachekitIOBackend()

@cache(backend=custom_backend)  # Uses custom backend explicitly
def explicit_backend():
    return data()
""",
        data=Counted(3),
    )
    monkeypatch.delenv("CACHEKIT_API_KEY")
    assert module.explicit_backend() == 3
    assert module.custom_backend.exists(module.explicit_backend.key_for())
    assert redis_environment.keys() == []


def test_a_default_backend_for_all(tmp_path: Path) -> None:
    data = Counted([1, 2])
    block = """
from cachekit import cache
from cachekit.config.decorator import set_default_backend
from cachekit.backends.file import FileBackend, FileBackendConfig

# Set once at application startup
file_backend = FileBackend(FileBackendConfig(cache_dir="/var/cache/myapp"))
set_default_backend(file_backend)

# All decorators now use file backend — no backend= needed
@cache.minimal(ttl=300)
def fast_lookup():
    return data()

@cache.production(ttl=600)
def critical_function():
    return data()
"""
    for _ in range(2):
        module = run(block.replace("/var/cache", str(tmp_path)), data=data)
        assert module.fast_lookup() == module.critical_function() == [1, 2]
        for function in (module.fast_lookup, module.critical_function):
            assert module.file_backend.exists(function.key_for())
    assert len(data.calls) == 2


@pytest.mark.parametrize("variable", ["CACHEKIT_REDIS_URL", "REDIS_URL"])
def test_detection_from_the_environment(
    variable: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, redis_server.url)
    module = run("from cachekit import cache\n@cache(ttl=60)\ndef f():\n    return 1")
    assert module.f() == 1
    key = module.f.key_for()
    assert key.startswith("t:default:func:guide.f:args:")
    assert RedisBackend(redis_server.url).exists(key)
