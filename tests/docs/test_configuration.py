"""The page about configuration names every setting, with the default and the range that it has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cachekit.config import fields
from cachekit.config.fields import Setting

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (`[A-Z0-9_`, ]+`) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)
ROWS = {names.split("`")[1]: (names, default, values) for names, default, values, _ in ROW.findall(PAGE)}
SETTINGS = {setting.variables[0]: setting for table in fields.TABLES for setting in table}
ELSEWHERE = {"LOG_LEVEL"}


def written(setting: Setting) -> str:
    default: Any = setting.default
    if isinstance(setting.reader, fields.Mode):
        return f"0{default:o}"
    if setting.name == "cache_dir":
        return "cachekit in the system's temporary directory"
    if isinstance(setting.reader, fields.Keys):
        return "–"
    if setting.kind is tuple:
        return '["' + '", "'.join(default) + '"]'
    if setting.kind is bool:
        return str(default).lower()
    return "–" if default in (None, "") else str(default)


@pytest.mark.parametrize("variable", sorted(SETTINGS))
def test_the_page_says_what_is(variable: str) -> None:
    setting = SETTINGS[variable]
    names, default, values = ROWS[variable]
    assert all(f"`{name}`" in names for name in setting.variables)
    assert default == written(setting)
    if setting.kind in (int, float, bool) and setting.reader is None:
        assert values == setting.expected


def test_the_page_says_no_more() -> None:
    assert ROWS.keys() - ELSEWHERE == SETTINGS.keys()
