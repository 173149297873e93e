"""The hand-kept stub of the native module says what is there."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from cachekit import _native

STUB = Path(_native.__file__).with_name("_native.pyi")
# Attached by the Python half.
ATTACHED = {"CachedFunction": {"__wrapped__", "__name__", "__qualname__", "_handle"}}


def declared(body: list[ast.stmt]) -> set[str]:
    names = {item.name for item in body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    return names | {
        item.target.id for item in body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


TREE = ast.parse(STUB.read_text())
CLASSES = [item for item in TREE.body if isinstance(item, ast.ClassDef)]


def test_the_module() -> None:
    assert declared(TREE.body) <= set(dir(_native))


@pytest.mark.parametrize("declaration", CLASSES, ids=lambda item: item.name)
def test_its_classes(declaration: ast.ClassDef) -> None:
    actual: Any = getattr(_native, declaration.name)
    expected = declared(declaration.body) - ATTACHED.get(declaration.name, set())
    assert expected <= set(dir(actual))


def test_what_the_package_uses_is_declared() -> None:
    backend = next(item for item in CLASSES if item.name == "Backend")
    public = {name for name in dir(_native.Backend) if not name.startswith("_")}
    assert public == {name for name in declared(backend.body) if not name.startswith("_")}
