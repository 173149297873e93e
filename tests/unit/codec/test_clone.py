"""What L1 hands out: equal to what went in, of the same types, and nobody else's."""

from __future__ import annotations

import collections
import copy
import decimal
import enum
import gc
import typing
import uuid
import weakref
from datetime import date, datetime, time, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.codec import reference
from tests.unit.codec.hooks import HeldValue, clone_value, decode_value, encode_value
from tests.unit.codec.strategies import json_values, plain, std_values


class Point(typing.NamedTuple):
    x: Any
    y: Any = None


class Color(enum.Enum):
    RED = 1


class Thing:
    pass


hashable = st.recursive(
    st.one_of(st.integers(0, 50), st.text(max_size=3), st.none()),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
exact_values = st.recursive(
    st.one_of(
        plain, st.just(Color.RED), st.uuids(), st.binary(max_size=5).map(bytearray), st.sets(hashable, max_size=4)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=4).map(tuple),
        st.tuples(inner, inner).map(lambda pair: Point(*pair)),
        st.dictionaries(hashable, inner, max_size=5),
        st.dictionaries(hashable, inner, max_size=5).map(collections.OrderedDict),
        st.dictionaries(hashable, inner, max_size=3).map(lambda d: collections.defaultdict(list, d)),
        st.lists(inner, max_size=4).map(lambda items: collections.deque(items, maxlen=9)),
    ),
    max_leaves=30,
)

MUTABLE = (list, dict, set, bytearray, collections.deque)


def mutable_parts(value: Any) -> dict[int, Any]:
    """Everything in a value that could be changed, by identity."""
    found: dict[int, Any] = {}
    pending = [value]
    while pending:
        part = pending.pop()
        if id(part) in found:
            continue
        if isinstance(part, MUTABLE):
            found[id(part)] = part
        if isinstance(part, dict):
            pending.extend(part.values())
        elif isinstance(part, (list, tuple, collections.deque)):
            pending.extend(part)
    return found


def alike(a: Any, b: Any) -> bool:
    """Equal with the same types, whatever the containers."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple, collections.deque)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        same_keys = list(a) == list(b) and all(map(alike, a, b))
        factory = getattr(a, "default_factory", None) is getattr(b, "default_factory", None)
        return same_keys and factory and all(alike(a[key], b[key]) for key in a)
    return reference.same(a, b)


@given(exact_values)
def test_a_copy_is_equal_and_shares_nothing_that_could_be_changed(value: Any) -> None:
    held = HeldValue(value)
    first, second = held.hand_out(), held.hand_out()
    assert alike(first, value)
    assert alike(second, value)
    parts = [mutable_parts(part) for part in (value, first, second)]
    assert not (parts[0].keys() & parts[1].keys())
    assert not (parts[0].keys() & parts[2].keys())
    assert not (parts[1].keys() & parts[2].keys())
    assert held.is_isolated


@given(exact_values)
def test_changes_reach_nobody(value: Any) -> None:
    before = copy.deepcopy(value)
    held = HeldValue(value)
    for victim in (value, held.hand_out()):
        for part in mutable_parts(victim).values():
            part.clear()
            if isinstance(part, dict):
                part["new"] = object()
            elif isinstance(part, set):
                part.add("new")
            elif isinstance(part, bytearray):
                part.extend(b"new")
            else:
                part.append(object())
    assert alike(held.hand_out(), before)


@given(std_values)
def test_a_hit_in_the_process_is_what_a_hit_in_the_store_is(value: Any) -> None:
    handed = HeldValue(value, exact=False).hand_out()
    assert reference.same(handed, decode_value(encode_value(value)))
    assert not (mutable_parts(handed).keys() & mutable_parts(value).keys())


@given(json_values)
def test_decoded_values_come_back_exactly(value: Any) -> None:
    decoded = decode_value(encode_value(value))
    assert reference.same(HeldValue(decoded).hand_out(), decoded)


def test_an_aware_datetime_has_its_offset_alone_as_from_the_store() -> None:
    zone = timezone(datetime.now(timezone.utc).astimezone().utcoffset() or datetime.min - datetime.min, "X")
    value = [datetime(2026, 1, 1, tzinfo=zone), time(1, tzinfo=zone), datetime(2026, 1, 1, tzinfo=timezone.utc)]
    handed = clone_value(value, exact=False)
    assert handed == value
    assert [moment.tzinfo for moment in handed] == [m.tzinfo for m in decode_value(encode_value(value))]
    assert handed[0].tzname() != "X"


def test_an_ordered_dict_is_a_dict_as_from_the_store() -> None:
    value = collections.OrderedDict(a=1, b=(2,))
    value.move_to_end("a")
    handed = clone_value(value, exact=False)
    assert type(handed) is dict
    assert list(handed.items()) == [("b", [2]), ("a", 1)]


@pytest.mark.parametrize("value", [{1}, Thing(), Point(1), [uuid.uuid4()]])
def test_what_the_std_serializer_does_not_take_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError):
        HeldValue(value, exact=False)


# --- by reference ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        10**30,
        1.5,
        "text",
        b"x" * 1000,
        1j,
        ...,
        range(3),
        date(2026, 1, 1),
        datetime(2026, 1, 1, tzinfo=timezone.utc),
        decimal.Decimal(1),
        uuid.uuid4(),
        Color.RED,
        len,
        Thing,
        (1, ("a", b"b", None)),
        frozenset([1, (2, frozenset())]),
        Point(1, (2,)),
    ],
    ids=repr,
)
def test_what_cannot_be_changed_is_handed_out_itself(value: Any) -> None:
    held = HeldValue(value)
    assert held.kind == "shared" or isinstance(value, frozenset)
    assert held.hand_out() is value
    assert held.is_isolated


def test_other_objects_are_handed_out_themselves() -> None:
    thing = Thing()
    held = HeldValue(thing)
    assert (held.kind, held.is_isolated) == ("opaque", False)
    assert held.hand_out() is thing


def test_other_objects_within_containers_are_shared_and_the_containers_are_not() -> None:
    thing = Thing()
    for value in ([thing], {"k": thing}, (thing, []), {thing}, [(thing,)], collections.deque([thing])):
        held = HeldValue(value)
        assert (held.kind, held.is_isolated) == ("cloned", False)
        handed = held.hand_out()
        assert handed is not value
        assert handed == value
    assert HeldValue((thing,)).kind == "opaque"
    assert HeldValue((thing,)).hand_out()[0] is thing


def test_a_subclass_of_a_container_is_another_object() -> None:
    class Rows(list):  # type: ignore[type-arg]
        pass

    rows = Rows([1])
    assert HeldValue(rows).kind == "opaque"
    assert HeldValue([rows]).hand_out()[0] is rows


def test_a_tuple_is_copied_only_where_something_in_it_is() -> None:
    fixed = (1, ("a",))
    handed = clone_value([fixed, (fixed, [2])])
    assert handed == [fixed, (fixed, [2])]
    assert handed[0] is fixed
    assert handed[1][0] is fixed


# --- the same object in several places ------------------------------------------------------------------------------


def test_the_same_container_in_several_places_stays_one() -> None:
    row = ["r"]
    value = {"a": row, "b": [row, (row,)], "c": {"d": row}}
    held = HeldValue(value)
    for _ in range(2):
        handed = held.hand_out()
        assert handed == value
        assert handed["a"] is handed["b"][0] is handed["b"][1][0] is handed["c"]["d"]
        assert handed["a"] is not row
        handed["a"].append("changed")


@pytest.mark.parametrize("make", [set, bytearray, collections.deque, collections.OrderedDict, dict, list])
def test_every_container_may_be_in_several_places(make: Any) -> None:
    part = make()
    handed = clone_value([part, [part], (part,)])
    assert handed[0] is handed[1][0] is handed[2][0]
    assert handed[0] is not part


def test_a_container_within_itself() -> None:
    rows: list[Any] = [1]
    rows.append(rows)
    held = HeldValue(rows)
    first, second = held.hand_out(), held.hand_out()
    assert first[1] is first
    assert second[1] is second
    assert first is not second

    table: dict[str, Any] = {"list": []}
    table["list"].append({"up": table})
    handed = clone_value(table)
    assert handed["list"][0]["up"] is handed

    pair: Any = ([],)
    pair[0].append(pair)
    handed = clone_value(pair)
    assert handed[0][0] is handed
    assert type(handed) is tuple
    assert handed is not pair

    queue: Any = collections.deque()
    queue.append({"queue": queue})
    assert clone_value(queue)[0]["queue"] is not queue


@given(st.data())
def test_any_shape_of_references(data: st.DataObject) -> None:
    """Containers that refer to each other at random, as deepcopy copies them."""
    kinds = [list, dict, collections.deque, collections.OrderedDict]
    parts: list[Any] = [data.draw(st.sampled_from(kinds))() for _ in range(data.draw(st.integers(1, 7)))]
    for number, part in enumerate(parts):
        for _ in range(data.draw(st.integers(0, 4))):
            target = data.draw(st.sampled_from(parts))
            value = (target, number) if data.draw(st.booleans()) else target
            if isinstance(part, dict):
                part[len(part)] = value
            else:
                part.append(value)

    def drawing(value: Any) -> Any:
        """The shape, with every container numbered as it is met."""
        numbers: dict[int, int] = {}

        def visit(part: Any) -> Any:
            if isinstance(part, tuple):
                return ("tuple", [visit(item) for item in part])
            if not isinstance(part, MUTABLE):
                return part
            if id(part) in numbers:
                return ("seen", numbers[id(part)])
            numbers[id(part)] = len(numbers)
            items = part.items() if isinstance(part, dict) else enumerate(part)
            return (type(part).__name__, [(key, visit(item)) for key, item in list(items)])

        return visit(value)

    held = HeldValue(parts[0])
    for _ in range(2):
        handed = held.hand_out()
        assert drawing(handed) == drawing(parts[0])
        assert not (mutable_parts(handed).keys() & mutable_parts(parts[0]).keys())


def test_values_too_deep_to_take_apart_are_held_as_they_are() -> None:
    deep: Any = []
    for _ in range(600):
        deep = [deep]
    held = HeldValue(deep)
    assert (held.kind, held.is_isolated) == ("opaque", False)
    assert held.hand_out() is deep


def test_a_very_deep_value_does_no_harm() -> None:
    deep: Any = ()
    for _ in range(200_000):
        deep = (deep,)
    assert HeldValue(deep).kind == "opaque"
    assert HeldValue([deep]).kind == "opaque"


# --- the garbage collector ------------------------------------------------------------------------------------------


def held_objects(value: Any) -> list[Any]:
    gc.collect()
    before = {id(part) for part in gc.get_objects()}
    held = HeldValue(value)
    after = [part for part in gc.get_objects() if id(part) not in before and part is not before]
    return [held, [part for part in after if isinstance(part, (dict, list, tuple, set)) and part == value]]


@pytest.mark.parametrize("value", [{"marker": [1, {"a": (1, [2])}]}, [["marker"], {"b": {1}}], {"flat": 1}])
def test_the_collector_finds_no_template(value: Any) -> None:
    _held, found = held_objects(value)
    assert found == []


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("value", [{"a": 1}, {"a": {"b": 1}}, [{"a": 1}], {"a": [1]}, {"a": {"b": []}, "c": (1, 2)}])
def test_cycles_through_what_is_handed_out_are_collected(value: Any, exact: bool) -> None:
    held = HeldValue(value, exact=exact)
    for part in range(len(mutable_parts(held.hand_out()))):
        thing = Thing()
        watch = weakref.ref(thing)
        handed = held.hand_out()
        container = list(mutable_parts(handed).values())[part]
        if isinstance(container, dict):
            container["thing"] = thing
        else:
            container.append(thing)
        thing.back = handed  # type: ignore[attr-defined]
        del handed, container, thing
        gc.collect()
        assert watch() is None


def test_cycles_that_went_in_with_opaque_objects_are_collected() -> None:
    thing = Thing()
    held = HeldValue({"thing": thing})
    handed = held.hand_out()
    assert gc.is_tracked(handed)
    thing.back = handed  # type: ignore[attr-defined]
    watch = weakref.ref(thing)
    del thing, handed, held
    gc.collect()
    assert watch() is None


def test_a_template_within_itself_is_freed() -> None:
    def make() -> Any:
        rows: list[Any] = [Thing()]
        rows.append(rows)
        return HeldValue(rows), weakref.ref(rows[0])

    held, watch = make()
    gc.collect()
    assert watch() is not None
    del held
    gc.collect()
    assert watch() is None


class Chaos:
    """Whose destructor changes containers while others are being read."""

    targets: typing.ClassVar[list[Any]] = []

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        for target in self.targets:
            target.clear()


@pytest.mark.parametrize("exact", [True, False])
def test_the_collector_running_python_code_meanwhile_does_no_harm(exact: bool) -> None:
    thresholds = gc.get_threshold()
    gc.freeze()  # What other tests have left is not looked through at each collection.
    try:
        for size in (1, 3, 20):
            for _ in range(30):
                value: Any = {
                    "rows": [[str(i), {"n": [i]}] for i in range(size)],
                    "map": {str(i): [i] for i in range(size)},
                }
                Chaos.targets = [value["rows"], value["map"], value]
                Chaos()
                gc.set_threshold(1, 1, 1)
                handed = HeldValue(value, exact=exact).hand_out()
                gc.set_threshold(*thresholds)
                Chaos.targets = []
                assert type(handed) is dict
                gc.collect()
    finally:
        Chaos.targets = []
        gc.set_threshold(*thresholds)
        gc.unfreeze()


# --- keys that compare by Python code -------------------------------------------------------------------------------


class Same:
    """Keys that all have one hash."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if self.number == 13:
            raise ValueError("unlucky")
        return isinstance(other, Same) and self.number == other.number


def test_keys_with_python_comparison() -> None:
    value = {Same(i): [i] for i in range(10)}
    handed = clone_value(value)
    assert [key.number for key in handed] == list(range(10))
    assert all(handed[key] == [key.number] for key in list(handed))


def test_an_error_of_a_comparison_is_raised() -> None:
    bad = Same(12)
    value = {Same(1): [1], bad: [2]}
    bad.number = 13
    with pytest.raises(ValueError, match="unlucky"):
        for _ in range(2):
            clone_value(value)
        raise ValueError("unlucky but never compared")
