"""P1 to P6: what a hit in the process costs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import aiocache
import cachebox
import cachetools
import cashews
import moka_py
import msgpack

from benches import payloads
from benches.context import TTL, Context, ours
from benches.harness import AsyncStatement, Contender, Statement, interleave, medians
from benches.table import OURS, Budget, Line

SIZE = 10_000
NESTED = payloads.nested()
PRESETS = ("minimal", "production", "dev", "test")


def number(x: int) -> int:
    return x + 1


def record(x: int, name: str, kw: int = 0) -> dict[str, Any]:
    return {"id": x, "name": name, "kw": kw}


def page(x: int) -> dict[str, Any]:
    return NESTED


def blob(x: int) -> bytes:
    return payloads.MEGABYTE


def _local_rivals(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    return {
        "lru_cache": functools.lru_cache(maxsize=SIZE)(function),
        "cachebox": cachebox.cached(cachebox.TTLCache(SIZE, TTL))(function),
        "moka-py": moka_py.cached(maxsize=SIZE, ttl=TTL)(function),
        "cachetools": cachetools.cached(cachetools.TTLCache(SIZE, TTL))(function),
    }


def _our_presets(context: Context, function: Callable[..., Any], call: str, space: str) -> list[Contender]:
    """The function under the bare decorator and under each preset, with the shared Redis as L2."""
    from cachekit import cache

    made: list[Contender] = []
    for preset in ("", *PRESETS):
        decorator = getattr(cache, preset) if preset else cache
        cached = decorator(ttl=TTL, namespace=f"{space}-{preset or 'bare'}", backend=context.backend)(function)
        made.append(Statement(f"{OURS} {preset}".strip(), call, {"f": cached}))
    return made


def _line(
    context: Context, measure: str, work: str, budget: Budget, contenders: Sequence[Contender], **more: Any
) -> Line:
    """Runs the contenders; where several are ours, the slowest is held to the budget."""
    samples = interleave(contenders, context.rounds)
    values = medians(samples)
    mine = [name for name in values if name.split(" ")[0] == OURS and "0.24" not in name]
    slowest = max(mine, key=values.__getitem__) if mine else OURS
    return Line(measure, work, "s", values, budget, ours=slowest, samples=samples, **more)


def p1(context: Context) -> list[Line]:
    call = "f(42)"
    mine, missing = ours(lambda: _our_presets(context, number, call, "p1"))
    rivals = [Statement(name, call, {"f": f}) for name, f in _local_rivals(number).items()]
    contenders = [*mine, *rivals, context.published_at("P1")]
    work = "L1 hit, f(int), slowest preset, L2 configured"
    return [_line(context, "P1", work, Budget(2, "lru_cache"), contenders, missing=missing)]


def p2(context: Context) -> list[Line]:
    call = "f(7, 'abc', kw=3)"

    def make() -> list[Contender]:
        from cachekit import cache

        return [Statement(OURS, call, {"f": cache(ttl=TTL, namespace="p2", backend=context.backend)(record)})]

    mine, missing = ours(make)
    rivals = [Statement(name, call, {"f": f}) for name, f in _local_rivals(record).items()]
    contenders = [*mine, *rivals, context.published_at("P2")]
    work = "L1 hit, f(int, str, kw=int) → dict, isolated"
    note = "in-process rivals hand out the shared object"
    return [_line(context, "P2", work, Budget(2.5, "lru_cache"), contenders, missing=missing, note=note)]


def p3(context: Context) -> list[Line]:
    packed = payloads.packed(NESTED)

    def make() -> list[Contender]:
        from cachekit import cache

        return [Statement(OURS, "f(42)", {"f": cache(ttl=TTL, namespace="p3", backend=context.backend)(page)})]

    mine, missing = ours(make)
    rivals = [
        Statement("msgpack decode", "unpackb(packed)", {"unpackb": msgpack.unpackb, "packed": packed}),
        context.published_at("P3"),
    ]
    work = f"L1 hit, {len(packed) / 1000:.0f} KB nested dict, isolated"
    return [_line(context, "P3", work, Budget(15 / 163, "msgpack decode"), [*mine, *rivals], missing=missing)]


def p4(context: Context) -> list[Line]:
    call = "f(42)"

    def make() -> list[Contender]:
        from cachekit import cache

        return [Statement(OURS, call, {"f": cache(ttl=TTL, namespace="p4", backend=context.backend)(blob)})]

    mine, missing = ours(make)
    rivals = [Statement(name, call, {"f": f}) for name, f in _local_rivals(blob).items()]
    contenders = [*mine, *rivals, context.published_at("P4")]
    return [_line(context, "P4", "L1 hit, 1 MB bytes", Budget(2, "lru_cache"), contenders, missing=missing)]


def p5(context: Context) -> list[Line]:
    def make() -> list[Contender]:
        from cachekit import cache

        options: dict[str, Any] = {"master_key": "61" * 32, "single_tenant_mode": True, "backend": context.backend}
        secret = cache.secure(ttl=TTL, namespace="p5", **options)(number)
        return [Statement(OURS, "f(42)", {"f": secret})]

    mine, missing = ours(make)
    contenders = [*mine, context.published_at("P5")]
    return [_line(context, "P5", "L1 hit, secure, small value", Budget(1.5e-6), contenders, missing=missing)]


def p6(context: Context) -> list[Line]:
    async def trivial(x: int) -> int:
        return x

    cashews_cache = cashews.Cache()
    cashews_cache.setup("mem://", size=SIZE)
    rivals: dict[str, Callable[..., Any]] = {
        "uncached async def": trivial,
        "moka-py": moka_py.cached(maxsize=SIZE, ttl=TTL)(trivial),
        "cashews": cashews_cache(ttl=TTL, key="p6:{x}")(trivial),
        "aiocache": aiocache.cached(ttl=TTL)(trivial),
    }

    def make() -> list[Contender]:
        from cachekit import cache

        cached = cache(ttl=TTL, namespace="p6", backend=context.backend)(trivial)
        return [AsyncStatement(OURS, "f(42)", {"f": cached}, context.loop)]

    mine, missing = ours(make)
    others = [AsyncStatement(name, "f(42)", {"f": f}, context.loop) for name, f in rivals.items()]
    contenders = [*mine, *others, context.published_at("P6")]
    budget = Budget(1.5, "uncached async def")
    return [_line(context, "P6", "await f(42), L1 hit, one task", budget, contenders, missing=missing)]


MEASURES = {"P1": p1, "P2": p2, "P3": p3, "P4": p4, "P5": p5, "P6": p6}
