"""Weights: the memory that really goes when a value goes."""

from __future__ import annotations

import datetime
import gc
import random
import sys
import time
import tracemalloc
from typing import Any, Callable

import pytest

from tests.unit.codec.hooks import HeldValue, decode_value, encode_value, weigh

TEXT = "".join(chr(97 + i % 26) for i in range(2000))


def unique_text(length: int, number: int) -> str:
    return f"{number:08}"[-8:] + TEXT[: length - 8] if length >= 8 else f"{number:08}"


def record(number: int) -> dict[str, Any]:
    return {"id": number + 1000, "text": unique_text(15, number), "tags": [float(number), number + 5000]}


SHAPES: dict[str, Callable[[int], Any]] = {
    "small dict": lambda i: {"id": 10_000 + i, "name": unique_text(20, i), "ok": True},
    "row of numbers": lambda i: [float(i + n) for n in range(50)],
    "integers": lambda i: list(range(10_000 + i, 10_200 + i)),
    "big integers": lambda i: [10**40 + i, 10**80 + i] * 1,
    "text": lambda i: unique_text(1500, i),
    "short texts": lambda i: [unique_text(12, 1000 * i + n) for n in range(40)],
    "unicode": lambda i: "日本" * 100 + str(i),
    "latin": lambda i: "é" * 300 + str(i),
    "bytes": lambda i: bytes(3000) + str(i).encode(),
    "nested": lambda i: {"rows": [record(1000 * i + n) for n in range(20)]},
    "tuple": lambda i: tuple(float(n) for n in range(100)),
    "set": lambda i: {10_000 + 1000 * i + n for n in range(100)},
    "wide dict": lambda i: {f"key {i} {n}": float(n) for n in range(300)},
    "int keys": lambda i: {10_000 * i + n + 1000: float(n) for n in range(60)},
    "bytearray": lambda i: [bytearray(500)],
    "dates": lambda i: [datetime.datetime(2026, 1, 1 + n % 28, second=i % 60) for n in range(20)],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_weight_is_the_memory(shape: str) -> None:
    """What ``tracemalloc`` sees of 100 held values, within a fifth."""
    make = SHAPES[shape]
    make(0)
    HeldValue(make(0)).weigh()
    gc.collect()
    held: list[Any] = [None] * 100
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for i in range(100):
        held[i] = HeldValue(make(i))
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # The Python object around each is the test's own.
    memory -= 100 * sys.getsizeof(held[0])
    weight = sum(value.weigh() for value in held)
    assert 0.8 * memory < weight < 1.25 * memory, (weight, memory)


def test_what_others_keep_anyway_weighs_nothing() -> None:
    shared = "a string of some length that several others hold"
    others = [shared] * 10
    assert weigh(5) == weigh(None) == weigh(True) == weigh("") == weigh(sys.intern("name")) == 0
    assert weigh([shared]) == weigh([None])
    assert len(others) == 10


def test_keys_that_decoding_shares_weigh_little() -> None:
    rows = [decode_value(encode_value({"a shared key of a record": i + 1000, "another": i + 2000})) for i in range(20)]
    assert weigh(rows[5]) < weigh({f"a fresh key of record {i}": i + 1000 for i in range(2)})


def test_a_large_object_in_several_places_counts_once() -> None:
    blob = bytes(100_000)
    assert 100_000 < weigh([blob] * 50) < 110_000
    rows = [float(n) for n in range(1000)]
    assert weigh([rows] * 50) < weigh(rows) + 1000


def test_a_value_within_itself_has_a_weight() -> None:
    rows: list[Any] = [bytes(1000)]
    rows.append(rows)
    assert 1000 < weigh(rows) < 2000


def test_a_large_value_is_estimated_in_bounded_time() -> None:
    row = [1000 + n for n in range(1000)]
    large = [list(row) for _ in range(3000)]
    start = time.process_time()
    weight = weigh(large)
    elapsed = time.process_time() - start
    exact = sum(sys.getsizeof(part) for part in large)
    assert exact < weight < 1.2 * exact
    assert elapsed < 1


class Record:
    def __init__(self, data: Any) -> None:
        self.data = data


class Slotted:
    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data


@pytest.mark.parametrize("make", [Record, Slotted])
def test_an_objects_own_attributes_count(make: Any) -> None:
    assert 50_000 < weigh(make(bytes(50_000))) < 52_000
    assert 50_000 < weigh([make({"nested": [bytes(50_000)]})]) < 52_000


def test_what_an_object_shares_with_the_program_does_not_count() -> None:
    program = Record([Record(bytes(10_000)) for _ in range(100)])
    others = [program] * 10
    assert weigh([Record(program)]) < 1000
    assert len(others) == 10


def test_modules_classes_and_functions_do_not_count() -> None:
    assert weigh([sys, Record, weigh, test_modules_classes_and_functions_do_not_count, Record.__init__]) < 500


class Sized:
    def __init__(self) -> None:
        self.buffer = bytes(10_000)

    def __sizeof__(self) -> int:
        return 77_000


class Broken:
    def __sizeof__(self) -> int:
        raise ValueError


def test_an_objects_own_word_on_its_size() -> None:
    assert 77_000 <= weigh(Sized()) < 77_200
    assert 0 < weigh([Broken()]) < 1000


def test_a_deep_value_does_no_harm() -> None:
    deep: Any = ()
    for _ in range(100_000):
        deep = (deep, 1)
    assert weigh(deep) > 100_000 * 56


def test_random_values_weigh_more_than_their_headers() -> None:
    source = random.Random(5)

    def make(depth: int) -> Any:
        if depth == 0:
            return source.choice([None, 1, 2**40, "x" * source.randint(0, 90), 1.5, b"y" * source.randint(0, 90)])
        if source.random() < 0.5:
            return [make(depth - 1) for _ in range(source.randint(0, 4))]
        return {f"k{i}": make(depth - 1) for i in range(source.randint(0, 4))}

    for _ in range(200):
        value = make(source.randint(0, 4))
        assert weigh(value) <= 4 * sum(map(sys.getsizeof, parts(value)))


def parts(value: Any) -> list[Any]:
    found = [value]
    if isinstance(value, dict):
        for key, item in value.items():
            found += [key, *parts(item)]
    elif isinstance(value, list):
        for item in value:
            found += parts(item)
    return found
