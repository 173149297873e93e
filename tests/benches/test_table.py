"""The benchmark's verdicts: a table that says ok where a budget is broken is worse than none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benches.harness import Statement, calibrate, interleave, medians, percentile
from benches.table import Budget, Line, render, save, show


def line(ours: float, rival: float, budget: Budget) -> Line:
    return Line("P0", "work", "s", {"cachekit": ours, "rival": rival}, budget)


@pytest.mark.parametrize(
    ("ours", "budget", "verdict"),
    [
        (1.9e-6, Budget(2, "rival"), "ok"),
        (2.1e-6, Budget(2, "rival"), "OVER"),
        (2.1e-6, Budget(2, "rival", at_least=True), "ok"),
        (1.9e-6, Budget(2, "rival", at_least=True), "UNDER"),
        (1.9e-6, Budget(2e-6), "ok"),
        (2.1e-6, Budget(2e-6), "OVER"),
    ],
)
def test_verdicts(ours: float, budget: Budget, verdict: str) -> None:
    assert line(ours, 1e-6, budget).verdict == verdict


def test_without_a_value_of_ours_the_verdict_is_missing() -> None:
    found = Line("P0", "work", "s", {"rival": 1.0}, Budget(1, "rival"), missing="not built")
    assert found.verdict == "missing"
    assert "not built" in render([found])


def test_the_named_variant_of_ours_is_held_to_the_budget() -> None:
    values = {"cachekit": 1e-6, "cachekit dev": 3e-6, "rival": 1e-6}
    found = Line("P0", "work", "s", values, Budget(2, "rival"), ours="cachekit dev")
    assert found.verdict == "OVER"
    assert found.ratio == pytest.approx(3)


def test_a_row_shows_ratio_rivals_and_verdict() -> None:
    text = render([Line("P0", "work", "s", {"cachekit": 1e-6, "base": 2e-6, "other": 3e-6}, Budget(1, "base"))])
    assert "0.50" in text
    assert "other 3 µs" in text
    assert text.splitlines()[2].endswith("ok")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(63e-9, "s", "63 ns"), (1.5e-6, "s", "1.5 µs"), (2.0, "s", "2 s"), (22000, "ops/s", "22 000/s"), (1, "", "1")],
)
def test_numbers_are_readable(value: float, unit: str, text: str) -> None:
    assert show(value, unit) == text


def test_percentiles_are_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 99) == 99
    assert percentile(values, 50) == 50
    assert percentile([7.0], 99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_every_contender_is_timed_in_every_round() -> None:
    calls: list[int] = []
    contenders = [Statement("a", "f(1)", {"f": calls.append}), Statement("b", "f(2)", {"f": calls.append})]
    assert calibrate(contenders[0], seconds=0.001) > 1
    samples = interleave(contenders, rounds=3)
    assert {name: len(found) for name, found in samples.items()} == {"a": 3, "b": 3}
    assert all(value > 0 for value in medians(samples).values())


def test_results_are_kept_whole(tmp_path: Path) -> None:
    kept = json.loads(save([line(1.0, 2.0, Budget(1, "rival"))], tmp_path).read_text())
    assert kept["lines"][0]["values"] == {"cachekit": 1.0, "rival": 2.0}
    assert kept["lines"][0]["verdict"] == "ok"
