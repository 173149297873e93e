"""What type checkers see of decorated functions. Checked, never run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from typing_extensions import assert_type

from cachekit import CacheInfo, DecoratorConfig, L1CacheConfig, cache
from cachekit.decorators import AsyncCachedFunction, CachedFunction


@cache
def bare(number: int, text: str = "", *, flag: bool = False) -> list[str]:
    return [text] * number if flag else []


assert_type(bare(1, "a", flag=True), list[str])
assert_type(bare.cache_info(), CacheInfo)
assert_type(bare.cache_clear(), None)
assert_type(bare.check_health(), dict[str, Any])
assert_type(bare.__wrapped__(1), list[str])
assert_type(bare.refresh(1, "a"), list[str])
assert_type(bare.get_many([1, (2, "b")]), list[list[str]])
assert_type(bare.prefetch(1), bool)
bare.set(["a"], 1)
bare.invalidate_cache(1, soft=True)
bare.refresh("1")  # type: ignore
bare("1")  # type: ignore
bare(1, flag="yes")  # type: ignore
bare.no_such_attribute()  # type: ignore


@cache(ttl=300, namespace="n", l1=L1CacheConfig(max_size_mb=1))
def called(number: int) -> str:
    return str(number)


assert_type(called(number=1), str)
called()  # type: ignore
called.key_for("x")  # type: ignore


@cache()
async def asynchronous(number: int) -> dict[str, int]:
    return {"number": number}


async def use() -> None:
    assert_type(await asynchronous(1), dict[str, int])
    await asynchronous("1")  # type: ignore
    await asynchronous.invalidate_cache(1)
    assert_type(await asynchronous.refresh(1), dict[str, int])
    assert_type(await asynchronous.get_many([1]), list[dict[str, int]])
    await asynchronous.set({}, 1)
    await asynchronous.ainvalidate_cache(1)
    assert_type(await asynchronous.check_health(), dict[str, Any])


@cache
def anything(number: int) -> Any:
    return number


assert_type(anything(1), Any)
anything.invalidate_cache(1)


@cache(ttl=3)
def anything_called(number: int) -> Any:
    return number


assert_type(anything_called(1), Any)


@cache
async def anything_async(number: int) -> Any:
    return number


async def use_anything() -> None:
    assert_type(await anything_async(1), Any)


@cache.production(ttl=timedelta(minutes=5), circuit_breaker=True)
def preset(*numbers: int, **names: str) -> float:
    return sum(numbers) + len(names)


assert_type(preset(1, 2, a="b"), float)
preset("1")  # type: ignore


@cache.minimal
def bare_preset(number: int) -> int:
    return number


assert_type(bare_preset(1), int)


@cache(config=DecoratorConfig.production(ttl=1))
def configured() -> bytes:
    return b""


assert_type(configured(), bytes)

cache(no_such_parameter=1)  # type: ignore
cache(ttl=[1])  # type: ignore


def make(number: int) -> int:
    return number


made = cache(make, ttl=3)
assert_type(made(1), int)


def takes_cached(function: CachedFunction[[int], int]) -> None:
    function.invalidate_cache(3)


takes_cached(made)
takes_cached(make)  # type: ignore


def takes_async(function: AsyncCachedFunction[[int], dict[str, int]]) -> None: ...


takes_async(asynchronous)
