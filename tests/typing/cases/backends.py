"""What type checkers see of backends and settings. Checked, never run."""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

import cachekit
from cachekit import cache
from cachekit.backends import BaseBackend, LockableBackend, RedisBackend, TTLInspectableBackend
from cachekit.backends.provider import DefaultBackendProvider
from cachekit.cache_handler import get_backend_provider
from cachekit.config import CachekitConfig


class Store:
    def get(self, key: str) -> bytes | None:
        return None

    def set(self, key: str, value: bytes, ttl: int | None = None) -> None: ...

    def delete(self, key: str) -> bool:
        return False

    def exists(self, key: str) -> bool:
        return False

    def health_check(self) -> tuple[bool, dict[str, Any]]:
        return True, {}


store: BaseBackend = Store()
redis: BaseBackend = RedisBackend("redis://localhost:6379")
lockable: LockableBackend = RedisBackend()
inspectable: TTLInspectableBackend = RedisBackend()
cache(backend=Store())
cache(backend=None)
cache(backend="redis://localhost:6379")  # type: ignore
assert_type(DefaultBackendProvider().get_backend(), "BaseBackend | None")
assert_type(get_backend_provider().get_backend(), "BaseBackend | None")
cachekit.set_default_backend(Store())
cachekit.set_default_backend(None)
cachekit.configure(CachekitConfig(default_ttl=60))
with cachekit.disabled():
    pass


async def use(backend: RedisBackend) -> None:
    assert_type(await backend.acquire_lock("key", timeout=5), "str | None")
    async with backend.acquire_lock("key", 5, blocking_timeout=1) as held:
        assert_type(held, bool)
    assert_type(await backend.release_lock("key", "id"), bool)
    assert_type(await backend.get_ttl("key"), "int | None")
    assert_type(await backend.get_async("key"), "bytes | None")
    assert_type(backend.with_timeout(1.0), RedisBackend)
    with backend.lock("key", 5) as got:
        assert_type(got, bool)
