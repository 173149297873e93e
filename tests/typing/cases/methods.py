"""What type checkers see of decorated methods. Checked, never run."""

from __future__ import annotations

from typing_extensions import assert_type

from cachekit import cache


class Service:
    @cache
    def method(self, number: int, *, text: str = "") -> str:
        return text * number

    @cache(ttl=60)
    async def asynchronous(self, number: int) -> bytes:
        return bytes(number)

    @staticmethod
    @cache
    def static(number: int) -> float:
        return float(number)

    @classmethod
    @cache
    def of_class(cls, number: int) -> int:
        return number

    @cache(ttl=5)
    @staticmethod
    def outer_static(number: int) -> float:
        return float(number)

    @cache
    @classmethod
    def outer_of_class(cls, number: int) -> int:
        return number


service = Service()
assert_type(service.method(1, text="a"), str)
assert_type(Service.method(service, 1), str)
service.method("1")  # type: ignore
service.method()  # type: ignore
service.method.invalidate_cache(1)
service.method.key_for(1)
assert_type(Service.static(1), float)
assert_type(service.static(1), float)
Service.static("1")  # type: ignore
assert_type(Service.of_class(1), int)
assert_type(service.of_class(1), int)
assert_type(service.outer_static(1), float)
assert_type(Service.outer_of_class(1), int)


async def use() -> None:
    assert_type(await service.asynchronous(1), bytes)
    await service.asynchronous("1")  # type: ignore
    await service.asynchronous.invalidate_cache(1)
