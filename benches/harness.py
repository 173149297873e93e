"""Timing: contenders take turns within each round, and the median over the rounds counts.

A contender runs a statement ``number`` times and says how many seconds that took. All contenders of a measure run in
every round, in an order that rotates, so that a slow moment of the machine touches them all.
"""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import time
import timeit
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

ROUND_SECONDS = 0.05
ROUNDS = 15


class Contender(Protocol):
    """One way to do the work: ``run(n)`` does it n times and returns the seconds."""

    name: str

    def run(self, number: int) -> float: ...


class Statement:
    """A Python statement, timed as ``timeit`` does: inlined in a loop, its names local to the loop's function."""

    def __init__(self, name: str, statement: str, names: Mapping[str, Any]) -> None:
        self.name = name
        # As setup, each name becomes a local of timeit's inner function: no global lookups in the loop.
        setup = "; ".join(f"{key} = _names[{key!r}]" for key in names) or "pass"
        self._timer = timeit.Timer(statement, setup, globals={"_names": dict(names)})

    def run(self, number: int) -> float:
        return self._timer.timeit(number)


class AsyncStatement:
    """``await call()`` repeated in one running task of one event loop."""

    def __init__(self, name: str, expression: str, names: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self._loop = loop
        arguments = ", ".join(["_repeat", "_clock", *names])
        space: dict[str, Any] = {}
        source = (
            f"async def _timed({arguments}):\n"
            "    started = _clock()\n"
            "    for _ in _repeat:\n"
            f"        await {expression}\n"
            "    return _clock() - started\n"
        )
        exec(compile(source, f"<{name}>", "exec"), space)
        self._timed: Callable[..., Awaitable[float]] = space["_timed"]
        self._names = dict(names)

    def run(self, number: int) -> float:
        async def task() -> float:
            gc_was_on = gc.isenabled()
            gc.disable()
            try:
                return await self._timed([None] * number, time.perf_counter, **self._names)
            finally:
                if gc_was_on:
                    gc.enable()

        return self._loop.run_until_complete(task())


def calibrate(contender: Contender, seconds: float = ROUND_SECONDS) -> int:
    """How many runs take about ``seconds``."""
    number = 1
    while True:
        taken = contender.run(number)
        if taken >= seconds / 4:
            return max(1, round(number * seconds / taken))
        number *= 4


def interleave(contenders: Sequence[Contender], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds per run of each contender, one sample per round."""
    numbers = {contender.name: calibrate(contender) for contender in contenders}
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    order = list(contenders)
    for _ in range(rounds):
        order.append(order.pop(0))
        for contender in order:
            number = numbers[contender.name]
            samples[contender.name].append(contender.run(number) / number)
    return samples


def medians(samples: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items()}


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; ``ValueError`` on no values."""
    if not values:
        raise ValueError("no values to take a percentile of")
    ranked = sorted(values)
    return ranked[max(1, math.ceil(percent / 100 * len(ranked))) - 1]


async def throughput(get: Callable[[int], Awaitable[object]], tasks: int, keys: int, seconds: float) -> float:
    """Awaited gets per second of ``tasks`` tasks, each on ``keys`` keys of its own, which are numbers."""
    deadline = time.perf_counter() + seconds

    async def worker(first: int) -> int:
        done = 0
        while time.perf_counter() < deadline:
            await get(first + done % keys)
            done += 1
        return done

    started = time.perf_counter()
    done = sum(await asyncio.gather(*(worker(task * keys) for task in range(tasks))))
    return done / (time.perf_counter() - started)
