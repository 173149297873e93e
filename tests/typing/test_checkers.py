"""pyright (strict) and mypy (strict) accept the cases, and refuse the lines marked as wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

WRONG = """
from cachekit import cache

@cache(ttl=5)
def f(number: int) -> str:
    return str(number)

f("not a number")
f(1).no_such_attribute
"""


def pyright(home: Path) -> tuple[int, str]:
    program = shutil.which("basedpyright", path=str(Path(sys.executable).parent)) or shutil.which("pyright")
    assert program is not None, "neither basedpyright nor pyright is installed: pip install -r scripts/requirements.txt"
    settings = {
        "include": ["cases"],
        "extraPaths": [str(ROOT / "python")],
        "pythonVersion": "3.9",
        "typeCheckingMode": "strict",
        "enableTypeIgnoreComments": True,
        "reportUnnecessaryTypeIgnoreComment": "error",
        "reportMissingModuleSource": False,
    }
    (home / "pyrightconfig.json").write_text(json.dumps(settings))
    return run(home, program, "--pythonpath", sys.executable)


def mypy(home: Path) -> tuple[int, str]:
    # The installed package, as a user's checker sees it: its own imports are none of the user's business.
    (home / "mypy.ini").write_text("[mypy]\nstrict = True\nexplicit_package_bases = True\nfiles = cases\n")
    return run(home, sys.executable, "-m", "mypy", "--config-file", "mypy.ini")


def run(home: Path, *command: str) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=home, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("checker", [pyright, mypy])
def test_the_cases(checker: Callable[[Path], tuple[int, str]], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tests" / "typing" / "cases", tmp_path / "cases")
    code, output = checker(tmp_path)
    assert code == 0, output


@pytest.mark.slow
@pytest.mark.parametrize("checker", [pyright, mypy])
def test_a_wrong_call_is_seen(checker: Callable[[Path], tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "wrong.py").write_text(WRONG)
    code, output = checker(tmp_path)
    assert code == 1, output
    assert "wrong.py:8" in output
    assert "no_such_attribute" in output
