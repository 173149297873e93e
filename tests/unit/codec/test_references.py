"""No reference is kept, and none is dropped that was not taken: also where something fails half-way."""

from __future__ import annotations

import dataclasses
import gc
import sys
import threading
from datetime import date, datetime, timezone
from typing import Any, Callable

import pytest

from tests.unit.codec.hooks import HeldValue, debug_build, decode_value, encode_args, encode_value, key, weigh


@dataclasses.dataclass
class Point:
    x: Any


class Keyed:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __cache_key__(self) -> Any:
        return self.value


class Service:
    pass


def failing(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            function(*args, **kwargs)

    return call


def nested(leaf: Any) -> Any:
    return {"a": [1, {"b": (leaf, "text", [leaf])}], "c": {"d": leaf}, b"bytes": leaf}


STAMP = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
ENCODED = encode_value([nested(5000.5), STAMP, {"key number": 10**12}])
WORK: dict[str, Callable[[Any], Any]] = {
    "encode": lambda leaf: encode_value(nested("leaf")),
    "encode refused": lambda leaf: failing(encode_value)(nested(leaf)),
    "encode a refused key": lambda leaf: failing(encode_value)([{leaf: 1}]),
    "decode": lambda leaf: decode_value(ENCODED),
    "decode refused": lambda leaf: failing(decode_value)(ENCODED[:-1]),
    "decode a refused key": lambda leaf: failing(decode_value)(b"\x92\x81\xa3key\x90\x81\xa3abc\x81\xc0\x01"),
    "decode a refused moment": lambda leaf: failing(decode_value)(b"\x91\x82\xa8__date__\xc3\xa5value\xa1x"),
    "decode new keys": lambda leaf: decode_value(encode_value({f"key {id(leaf)} {n}": n for n in range(50)})),
    "arguments": lambda leaf: key(nested("leaf"), Point([1]), {1, (2,)}, STAMP, date.today(), k=2**80, b={(1,): 2}),
    "arguments refused": lambda leaf: failing(key)(nested(leaf), {leaf: leaf}, k=[leaf]),
    "arguments refused within": lambda leaf: failing(key)(Point({"a": {leaf}}), Keyed([leaf])),
    "a receiver": lambda leaf: encode_args((Service(), 1), method=True),
    "hold": lambda leaf: HeldValue(nested(leaf)),
    "hold and hand out": lambda leaf: HeldValue([nested(leaf), {1}, (bytearray(3), [])]).hand_out(),
    "hold what recurs": lambda leaf: HeldValue([shared := [leaf], shared, {"s": shared}]).hand_out(),
    "hold as decoded": lambda leaf: HeldValue(nested((1.5, STAMP)), exact=False).hand_out(),
    "hold refused": lambda leaf: failing(HeldValue)(nested(leaf), False),
    "weigh": lambda leaf: weigh([nested(leaf), Point(leaf), {1}, Service()]),
}


@pytest.mark.parametrize("work", WORK)
def test_no_reference_is_kept(work: str) -> None:
    run = WORK[work]
    leaf = Service()
    for _ in range(50):
        run(leaf)
    gc.collect()
    references = sys.getrefcount(leaf)
    rounds, growth = 1000, []
    for _ in range(4):
        blocks = sys.getallocatedblocks()
        for _ in range(rounds):
            run(leaf)
        gc.collect()
        growth.append(sys.getallocatedblocks() - blocks)
    assert sys.getrefcount(leaf) == references
    # A leak is a block a round, each time; caches of the interpreter's and of pytest's fill up once.
    assert min(growth) < rounds / 4, growth


CONSTANTS = [None, True, False, (), "", b"", 0, 1.5, "leaf"]


@pytest.mark.parametrize("work", WORK)
def test_shared_objects_keep_their_references(work: str) -> None:
    """A reference dropped too often shows in objects that live for ever, and that only older versions count."""
    run = WORK[work]
    leaf = Service()
    run(leaf)
    before = [sys.getrefcount(constant) for constant in CONSTANTS]
    for _ in range(300):
        run(leaf)
    after = [sys.getrefcount(constant) for constant in CONSTANTS]
    assert all(b - a < 100 for a, b in zip(after, before)), list(zip(CONSTANTS, before, after))


@pytest.mark.parametrize("wrap", ["list", "dict", "tuple", "frozenset", "point"])
def test_the_deepest_nesting_fits_a_small_stack(wrap: str) -> None:
    """Threads of half a megabyte are the default on some systems; overflowing one ends the process.

    That is promised of an optimized build. Frames of a debug build are several times as large, so its thread gets
    more, enough for a nesting that is bounded.
    """
    make: Any = {
        "list": lambda inner: [inner],
        "dict": lambda inner: {"k": inner},
        "tuple": lambda inner: (inner,),
        "frozenset": lambda inner: frozenset([inner]),
        "point": Point,
    }[wrap]
    deep: Any = 1
    for _ in range(512):
        deep = make(deep)
    done: list[str] = []

    def work() -> None:
        key(deep)
        HeldValue([deep]).hand_out()
        weigh(deep)
        if wrap in ("list", "dict", "tuple"):
            decode_value(encode_value(deep))
            HeldValue(deep, exact=False).hand_out()
        done.append(wrap)

    size = threading.stack_size((4096 if debug_build else 512) * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    assert done == [wrap]
