"""Running a code block as it is printed in the documentation."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


class Counted:
    """A function that the documentation leaves undefined: answers with `answer`, and counts."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *args: Any) -> Any:
        self.calls.append(args)
        return self.answer(*args) if callable(self.answer) else self.answer


def run(block: str, name: str = "guide", **names: Any) -> Any:
    """Executes `block` as a module called `name` in which `names` are defined; returns the module."""
    module: Any = types.ModuleType(name)
    module.__dict__.update(names)
    with importable(name, module):
        exec(compile(block, f"<{name}>", "exec"), module.__dict__)
    return module


async def run_async(block: str, name: str = "guide", **names: Any) -> Any:
    """`run` of a block that awaits outside of functions, as notebooks do."""
    module: Any = types.ModuleType(name)
    module.__dict__.update(names)
    with importable(name, module):
        code = compile(block, f"<{name}>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        awaitable = eval(code, module.__dict__)
        if awaitable is not None:
            await awaitable
    return module


@contextmanager
def importable(name: str, module: types.ModuleType) -> Generator[None]:
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        yield
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
