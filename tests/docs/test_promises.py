"""Every promise of docs/promises.md and docs/security.md has witnesses, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("promises.md", "security.md")}
ROWS = {name: re.findall(r"^\| ([A-Z]\d+) \| (.+?) \| (.+?) \|$", page, re.MULTILINE) for name, page in PAGES.items()}
WITNESS = re.compile(r"`((?:tests|crates)/[\w/]+\.(?:py|rs))::(\w+)`")


def names_in(file: Path) -> set[str]:
    """The names of the file's test functions; those within classes too."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".rs":
        return set(re.findall(r"#\[test\]\n(?:\s*#\[.*\]\n)*\s*fn (\w+)\(", text))
    functions = (
        node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    return {node.name for node in functions if node.name.startswith("test_")}


def test_numbers_belong_to_one_promise_each() -> None:
    numbers = [number for rows in ROWS.values() for number, _, _ in rows]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(("page", "fewest"), [("promises.md", 20), ("security.md", 10)])
def test_every_row_is_understood(page: str, fewest: int) -> None:
    table_lines = [line for line in PAGES[page].splitlines() if re.match(r"\| [A-Z]\d", line)]
    assert len(table_lines) == len(ROWS[page]) > fewest


@pytest.mark.parametrize(("number", "witnesses"), [(row[0], row[2]) for rows in ROWS.values() for row in rows])
def test_witnesses_exist(number: str, witnesses: str) -> None:
    named = WITNESS.findall(witnesses)
    assert named, f"{number} has no witness"
    assert len(named) == witnesses.count("`") // 2, f"{number}: write `tests/path.py::test_name`"
    for path, test in named:
        file = ROOT / path
        assert file.exists(), f"{number}: {path} does not exist"
        assert test in names_in(file), f"{number}: {path} has no {test}"
