"""``python -m benches``: runs the measures, prints the table, keeps the numbers."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from benches import table
from benches.context import Context
from benches.harness import ROUNDS

MODULES = {
    "p01_p06_hits": ("P1", "P2", "P3", "P4", "P5", "P6"),
    "p07_p09_redis": ("P7", "P8", "P9"),
    "p10_memcached": ("P10",),
    "p11_file": ("P11",),
    "io_client": ("IO",),
    "p12_codec": ("P12",),
    "p13_encryption": ("P13",),
    "p14_threads": ("P14",),
    "p15_stampede": ("P15",),
    "p16_outage": ("P16",),
    "p17_import": ("P17",),
    "p18_memory": ("P18",),
    "serializers": ("S1", "S2", "S3", "S4", "S5", "S6"),
}
IDS = [name for names in MODULES.values() for name in names]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("--published", required=True, help="the interpreter that holds the published package")
    parser.add_argument("--only", default="", help="measures to run, as in P1,P6; all without it")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="interleaved rounds per measure (%(default)s)")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results", help="where the JSON goes")
    options = parser.parse_args()
    wanted = [name.strip().upper() for name in options.only.split(",") if name.strip()] or IDS
    unknown = [name for name in wanted if name not in IDS]
    if unknown:
        parser.error(f"no measure {', '.join(unknown)}: there are {', '.join(IDS)}")
    # One warning per outage is cachekit's promise; the benchmark breaks things on purpose.
    logging.getLogger("cachekit").setLevel(logging.ERROR)

    context = Context(options.published, options.rounds)
    lines: list[table.Line] = []
    try:
        for module, names in MODULES.items():
            for name in (name for name in names if name in wanted):
                print(f"{name} …", end=" ", file=sys.stderr, flush=True)
                started = time.monotonic()
                measure: Callable[[Context], list[table.Line]] = import_module(f"benches.{module}").MEASURES[name]
                lines += measure(context)
                print(f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    finally:
        context.close()
    print(table.render(lines))
    kept = sum(line.verdict == "ok" for line in lines)
    print(f"\n{kept} of {len(lines)} budgets kept; numbers in {table.save(lines, options.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
