"""What a measure yields, and the table that is printed and kept as JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

OURS = "cachekit"
WIDTH = 122


@dataclass(frozen=True)
class Budget:
    """The bound that our value has to keep: a factor of the contender ``base``, or absolute where base is None."""

    bound: float
    base: str | None = None
    at_least: bool = False

    def limit(self, values: Mapping[str, float]) -> float:
        return self.bound if self.base is None else self.bound * values[self.base]

    def kept(self, values: Mapping[str, float]) -> bool:
        limit = self.limit(values)
        return values[OURS] >= limit if self.at_least else values[OURS] <= limit


@dataclass
class Line:
    """One line of the table: a piece of work, what each contender needs for it, and our budget.

    ``values`` are in the unit's base: seconds, operations per second, bytes, or plain counts. ``ours`` says which
    contender is held to the budget where it is not called ``cachekit``. ``missing`` says why there is no value of ours.
    """

    id: str
    work: str
    unit: str
    values: dict[str, float]
    budget: Budget
    ours: str = OURS
    missing: str | None = None
    note: str = ""
    samples: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ours != OURS and self.ours in self.values:
            self.values[OURS] = self.values.pop(self.ours)
            self.note = f"{OURS} is its slowest, {self.ours.removeprefix(OURS).strip() or 'bare'}; {self.note}".rstrip(
                "; "
            )

    @property
    def verdict(self) -> str:
        if OURS not in self.values:
            return "missing"
        return "ok" if self.budget.kept(self.values) else "OVER" if not self.budget.at_least else "UNDER"

    @property
    def ratio(self) -> float | None:
        base = self.budget.base
        if base is None or OURS not in self.values or base not in self.values:
            return None
        return self.values[OURS] / self.values[base]


def show(value: float, unit: str) -> str:
    """A value with three digits and its unit."""
    if unit == "s":
        for scale, name in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
            if value * scale < 1000:
                return f"{value * scale:.3g} {name}"
        return f"{value:.3g} s"
    if unit == "ops/s":
        return f"{value:,.0f}/s".replace(",", " ")
    if unit == "B":
        return f"{value:,.0f} B".replace(",", " ")
    return f"{value:g}" + (f" {unit}" if unit else "")


def render(lines: Iterable[Line]) -> str:
    """The table as text."""
    out = [f"{'':4} {'work':54} {OURS:>10}  {'against':30} {'ratio':>6}  {'budget':9} verdict", "-" * WIDTH]
    for line in lines:
        out.extend(_rows(line))
    return "\n".join(out)


def _rows(line: Line) -> list[str]:
    ours = show(line.values[OURS], line.unit) if OURS in line.values else "–"
    base, sign = line.budget.base, "≥" if line.budget.at_least else "≤"
    if base is None:
        against, bound = "", f"{sign} {show(line.budget.bound, line.unit)}"
    else:
        against = f"{base} {show(line.values[base], line.unit)}" if base in line.values else f"{base} –"
        bound = f"{sign} {line.budget.bound:.3g} ×"
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    rows = [f"{line.id:4} {line.work:54} {ours:>10}  {against:30} {ratio:>6}  {bound:9} {line.verdict}"]
    others = [f"{name} {show(value, line.unit)}" for name, value in line.values.items() if name not in (OURS, base)]
    remarks = [text for text in (line.note, line.missing) if text]
    return rows + [f"{'':6}{text}" for text in _wrapped([*others, *remarks])]


def _wrapped(parts: list[str]) -> list[str]:
    rows: list[str] = []
    for part in parts:
        if rows and len(rows[-1]) + len(part) + 3 <= WIDTH - 6:
            rows[-1] += f" · {part}"
        else:
            rows.append(part)
    return rows


def save(lines: Iterable[Line], folder: Path) -> Path:
    """Writes the lines as JSON under ``folder`` and returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / time.strftime("%Y%m%d-%H%M%S.json")
    body = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "lines": [
            {
                "id": line.id,
                "work": line.work,
                "unit": line.unit,
                "values": line.values,
                "budget": {"bound": line.budget.bound, "base": line.budget.base, "at_least": line.budget.at_least},
                "ratio": line.ratio,
                "verdict": line.verdict,
                "note": line.note,
                "missing": line.missing,
                "samples": line.samples,
            }
            for line in lines
        ],
    }
    target.write_text(json.dumps(body, indent=1))
    return target
