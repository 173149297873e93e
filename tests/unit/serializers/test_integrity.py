"""A payload that was changed in any bit never becomes another value, whichever serializer made it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from cachekit.serializers import (
    ArrowSerializer,
    AutoSerializer,
    OrjsonSerializer,
    SerializationError,
    StandardSerializer,
)

FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
CASES: dict[str, tuple[Any, Any]] = {
    "std": (StandardSerializer(), {"a": [1, 2, "three"]}),
    "auto": (AutoSerializer(), {"a": (1, {2})}),
    "auto, an array": (AutoSerializer(), np.arange(3)),
    "auto, a frame": (AutoSerializer(), FRAME),
    "auto, a series": (AutoSerializer(), pd.Series([1, 2])),
    "orjson": (OrjsonSerializer(), {"a": [1, 2, "three"]}),
    "arrow": (ArrowSerializer(compression="none"), FRAME),
    "arrow, unchecked": (ArrowSerializer(enable_integrity_checking=False, compression="none"), FRAME),
}


@pytest.mark.parametrize("name", CASES)
def test_no_flipped_bit_changes_a_value(name: str) -> None:
    serializer, value = CASES[name]
    payload, metadata = serializer.serialize(value)
    for bit in range(len(payload) * 8):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = serializer.deserialize(bytes(damaged), metadata)
        except SerializationError:
            continue
        # A block may say the same in another way (which earlier bytes are repeated): no harm is done.
        assert name.startswith(("std", "auto")), bit
        assert type(found) is type(value), bit
        assert found.equals(value) if hasattr(value, "equals") else found == value, bit


@pytest.mark.parametrize("name", CASES)
def test_every_cut_is_noticed(name: str) -> None:
    serializer, value = CASES[name]
    payload, metadata = serializer.serialize(value)
    for end in range(0, len(payload), 1 + len(payload) // 100):
        with pytest.raises(SerializationError):
            serializer.deserialize(payload[:end], metadata)
