"""DataFrames of auto where pyarrow is not installed: the protocol's form, or a refusal that names the extra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from cachekit.serializers import AutoSerializer, _tables


@pytest.fixture(autouse=True)
def no_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tables, "has_pyarrow", lambda: False)


FRAMES = {
    "numbers": pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan], "c": np.array([1, 2], dtype="uint8")}),
    "flags": pd.DataFrame({"on": [True, False]}),
    "text": pd.DataFrame({"name": ["ä", ""]}),
    "no rows": pd.DataFrame({"a": np.array([], dtype="int16")}),
}


@pytest.mark.parametrize("integrity", [True, False])
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_plain_columns_come_back(frame: pd.DataFrame, integrity: bool) -> None:
    serializer = AutoSerializer(enable_integrity_checking=integrity)
    payload, metadata = serializer.serialize(frame)
    assert (metadata.format.value, metadata.original_type) == ("msgpack", "dataframe")
    pd.testing.assert_frame_equal(serializer.deserialize(payload, metadata), frame)


def test_what_comes_back_can_be_changed() -> None:
    serializer = AutoSerializer()
    back = serializer.deserialize(*serializer.serialize(FRAMES["numbers"]))
    back.loc[0, "a"] = 7
    assert back["a"].tolist() == [7, 2]


REFUSED: dict[str, tuple[Any, str]] = {
    "times": (pd.DataFrame({"at": pd.date_range("2024-01-01", periods=2)}), "column 'at'"),
    "categories": (pd.DataFrame({"a": pd.Categorical(["x", "y"])}), "column 'a'"),
    "objects": (pd.DataFrame({"a": [{1}, {2}]}), "column 'a'"),
    "missing integers": (pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), "column 'a'"),
    "an index": (pd.DataFrame({"a": [1]}, index=["x"]), "plain index"),
    "named columns": (pd.DataFrame({"a": [1]}).rename_axis(columns="c"), "plain index"),
    "numbers for names": (pd.DataFrame({1: [1]}), "columns are not named"),
    "no columns": (pd.DataFrame(index=range(3)), "without columns"),
    "a name twice": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "columns are not named"),
    "within a dict": ({"table": FRAMES["flags"]}, "needs pyarrow"),
}


@pytest.mark.parametrize(("value", "says"), REFUSED.values(), ids=REFUSED)
def test_anything_else_names_the_extra(value: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says) as caught:
        AutoSerializer().serialize(value)
    assert "pip install 'cachekit[data]'" in str(caught.value)
