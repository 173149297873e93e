"""Values for the property tests."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

from hypothesis import strategies as st

SENTINELS = ("__datetime__", "__date__", "__time__")

zones = st.one_of(
    st.just(timezone.utc),
    st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(
        lambda offset: timezone(timedelta(seconds=int(offset.total_seconds())))
    ),
)
datetimes = st.datetimes(timezones=st.none() | zones, allow_imaginary=False)
times = st.times(timezones=st.none() | zones)
# A fold without a zone is refused, as the text does not hold it.
moments = st.one_of(datetimes, times).filter(lambda moment: moment.tzinfo or not moment.fold) | st.dates()
integers = st.one_of(st.integers(-40, 300), st.integers(-(2**63), 2**64 - 1))
text = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.text("abc_", max_size=12),
    st.text("a\xe9\u0416\u65e5\U0001f600", max_size=80),
)
plain = st.one_of(st.none(), st.booleans(), integers, st.floats(), text, st.binary(max_size=40))
names = text.filter(lambda name: name not in SENTINELS)


def _nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=6),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(keys, inner, max_size=6),
        ),
        max_leaves=40,
    )


std_values = _nested(st.one_of(plain, moments, st.binary(max_size=9).map(bytearray)), names | st.binary(max_size=9))
json_values = _nested(plain, names)
