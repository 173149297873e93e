"""Cached functions of a program, as cloudpickle has them for another process; writes them to standard output."""

from __future__ import annotations

import sys
from typing import Any

import cloudpickle

from cachekit import cache
from cachekit.backends import RedisBackend


@cache(backend=None, namespace="by-value", ttl=7)
def fibonacci(n: int) -> int:
    """Calls itself by the program's name for it."""
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@cache(backend=None)
async def double(n: int) -> int:
    return 2 * n


class Shop:
    @cache(backend=None)
    def price(self, name: str) -> list[str]:
        return [name]

    @staticmethod
    @cache(backend=None)
    def tax(price: int) -> int:
        return price // 5


def adder(more: int) -> Any:
    @cache.secure(backend=None)
    def add(n: int) -> int:
        return n + more

    return add


@cache(backend=RedisBackend("redis://127.0.0.1:1"))
def stored(n: int) -> int:
    return n


@cache.secure(backend=None, master_key="ab" * 32)
def sealed(n: int) -> int:
    return n


def main() -> None:
    for function in (stored, sealed):
        try:
            cloudpickle.dumps(function)
        except TypeError as error:
            print(error, file=sys.stderr)
    functions = {"fibonacci": fibonacci, "double": double, "Shop": Shop, "add": adder(5)}
    sys.stdout.buffer.write(cloudpickle.dumps(functions))


if __name__ == "__main__":
    main()
