"""pyright (strict) and mypy (strict) accept the cases, and refuse the lines marked as wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = sorted((ROOT / "tests" / "typing" / "cases").glob("*.py"))


def script(name: str) -> str | None:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


@pytest.mark.slow
def test_pyright(tmp_path: Path) -> None:
    pyright = script("pyright")
    if pyright is None:
        pytest.skip("pyright is not installed")
    settings = {
        "include": [str(path) for path in CASES],
        "extraPaths": [str(ROOT / "python")],
        "pythonVersion": "3.9",
        "typeCheckingMode": "strict",
        "enableTypeIgnoreComments": True,
        "reportUnnecessaryTypeIgnoreComment": "error",
        "reportMissingModuleSource": False,
    }
    project = tmp_path / "pyrightconfig.json"
    project.write_text(json.dumps(settings))
    run = subprocess.run(
        [pyright, "-p", str(project), "--pythonpath", sys.executable], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 errors" in run.stdout


@pytest.mark.slow
def test_mypy(tmp_path: Path) -> None:
    if script("mypy") is None:
        pytest.skip("mypy is not installed")
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        f"[mypy]\nstrict = True\nwarn_unused_ignores = True\nenable_error_code = \nmypy_path = {ROOT / 'python'}\n"
        f"cache_dir = {tmp_path / 'cache'}\nexplicit_package_bases = True\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(settings), *map(str, CASES)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stdout + run.stderr
