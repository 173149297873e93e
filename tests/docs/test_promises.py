"""Every promise of docs/promises.md has witnesses, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([A-Z]\d+) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
WITNESS = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def names_in(file: Path) -> set[str]:
    """The names of the file's test functions; those within classes too."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return {node.name for node in functions if node.name.startswith("test_")}


def test_numbers_belong_to_one_promise_each() -> None:
    numbers = [number for number, _, _ in ROWS]
    assert len(numbers) > 20
    assert len(set(numbers)) == len(numbers)
    table_lines = [line for line in PAGE.splitlines() if re.match(r"\| [A-Z]\d", line)]
    assert len(table_lines) == len(ROWS), "a row that is not understood"


@pytest.mark.parametrize(("number", "witnesses"), [(number, witnesses) for number, _, witnesses in ROWS])
def test_witnesses_exist(number: str, witnesses: str) -> None:
    named = WITNESS.findall(witnesses)
    assert named, f"{number} has no witness"
    assert len(named) == witnesses.count("`") // 2, f"{number}: write `tests/path.py::test_name`"
    for path, test in named:
        file = ROOT / path
        assert file.exists(), f"{number}: {path} does not exist"
        assert test in names_in(file), f"{number}: {path} has no {test}"
