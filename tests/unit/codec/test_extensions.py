"""Arguments beyond the protocol's: extension types that tell apart what is different, always with the same bytes."""

from __future__ import annotations

import collections
import dataclasses
import functools
import gc
import itertools
import math
import os
import subprocess
import sys
import typing
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.codec.hooks import content, encode_args, extension, key, numbered_objects, scope


class UserId(str):
    pass


class Cents(int):
    pass


class Kelvin(float):
    pass


class Blob(bytes):
    pass


class Tags(set):  # type: ignore[type-arg]
    pass


class Day(date):
    pass


class Naive(datetime):
    pass


class Rows(list):  # type: ignore[type-arg]
    pass


@dataclasses.dataclass
class Point:
    x: int
    y: Any = 0


@dataclasses.dataclass
class Pixel(Point):
    pass


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int


# Without the site module nothing but what is asked for is imported.
PATHS = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def named(name: str) -> bytes:
    """A class of this module as MessagePack text."""
    return bytes(msgpack.packb(f"{__name__}.{name}") or b"")


# The documented form of each type. A change here changes the keys of what is stored: it loses every such entry.
FORMS: list[tuple[Any, int, bytes]] = [
    ("a\udc80", 1, b"a\xed\xb2\x80"),
    (2**64, 2, b"\x01" + bytes(8)),
    (-(2**63) - 1, 2, b"\xff\x7f" + b"\xff" * 7),
    (2**127, 2, b"\x00\x80" + bytes(15)),
    (1 - 2j, 3, b"\x3f\xf0" + bytes(6) + b"\xc0" + bytes(7)),
    (complex(-0.0, -0.0), 3, bytes(16)),
    (bytearray(b"ab"), 4, b"ab"),
    (set(), 5, b"\x90"),
    ({2, 1}, 5, b"\x92\x01\x02"),
    ({"b", 300}, 5, b"\x92\xa1b\xcd\x01\x2c"),
    (frozenset([(1, 2)]), 6, b"\x91\x92\x01\x02"),
    ({(1, 2): 3, "a": 4}, 7, b"\x92\x01\x02\x03\xa1a\x04"),
    ({1: 2, None: 3}, 7, b"\x01\x02\xc0\x03"),
    (datetime(2026, 1, 31, 1, 2, 3), 8, b"2026-01-31T01:02:03"),
    (datetime(2026, 1, 31, 1, 2, 3, 4), 8, b"2026-01-31T01:02:03.000004"),
    (datetime(2026, 10, 25, 2, 30, fold=1), 8, b"2026-10-25T02:30:00 fold=1"),
    (date(2026, 1, 31), 9, b"2026-01-31"),
    (time(1, 2, 3), 10, b"01:02:03"),
    (time(1, 2, 3, fold=1), 10, b"01:02:03 fold=1"),
    (time(1, 2, 3, tzinfo=timezone.utc), 10, b"01:02:03+00:00"),
    (timedelta(days=-1, seconds=5, microseconds=7), 11, b"\xff\x05\x07"),
    (timedelta.max, 11, b"\xce\x3b\x9a\xc9\xff\xce\x00\x01\x51\x7f\xce\x00\x0f\x42\x3f"),
    (UserId("u"), 12, named("UserId") + b"\xa1u"),
    (Cents(5), 12, named("Cents") + b"\x05"),
    (Cents(2**64), 12, named("Cents") + b"\xc7\x09\x02\x01" + bytes(8)),
    (Kelvin(-0.0), 12, named("Kelvin") + b"\xcb" + bytes(8)),
    (Blob(b"b"), 12, named("Blob") + b"\xc4\x01b"),
    (Tags([1]), 12, named("Tags") + b"\xd5\x05\x91\x01"),
    (Day(2026, 1, 31), 12, named("Day") + b"\xc7\x0a\x092026-01-31"),
    (Naive(2026, 1, 31), 12, named("Naive") + b"\xc7\x13\x082026-01-31T00:00:00"),
    (Point(1, [2]), 13, named("Point") + b"\x82\xa1x\x01\xa1y\x91\x02"),
    (Frozen(1), 13, named("Frozen") + b"\x81\xa1x\x01"),
]


@pytest.mark.parametrize(("argument", "code", "data"), FORMS, ids=lambda part: None)
def test_the_documented_forms(argument: Any, code: int, data: bytes) -> None:
    assert extension(argument) == (code, data)
    assert scope(argument) == "shared"


def with_attribute(instance: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(instance, name, value)
    return instance


# Every pair of these is two calls. They differ in type where a function can see that.
DISTINCT: list[Any] = [
    None,
    True,
    1,
    1.0,
    "1",
    b"1",
    bytearray(b"1"),
    1 + 0j,
    2**64,
    -(2**64),
    2**64 + 1,
    {1},
    frozenset([1]),
    [1],
    {1: 1},
    {(1,): 1},
    {(1,): 2},
    {(2,): 1},
    {1: 1, "a": 1},
    {1: 1, "a": 2},
    {frozenset([1]): 1},
    {math.nan: 1},
    {math.nan: 1, 2: 3},
    {"\udc80": 1},
    {2**64: 1},
    "\udc80",
    "\udc81",
    datetime(2026, 1, 1),
    datetime(2026, 1, 1, fold=1),
    datetime(2026, 1, 1, tzinfo=timezone.utc),
    date(2026, 1, 1),
    "2026-01-01",
    time(0),
    time(0, fold=1),
    time(0, tzinfo=timezone.utc),
    timedelta(0),
    timedelta(1),
    timedelta(microseconds=1),
    UserId("1"),
    UserId("2"),
    with_attribute(UserId("1"), site="a"),
    with_attribute(UserId("1"), site="b"),
    Cents(1),
    Kelvin(1),
    Blob(b"1"),
    Tags([1]),
    Day(2026, 1, 1),
    Naive(2026, 1, 1),
    with_attribute(Rows([1]), source="a"),
    with_attribute(Rows([1]), source="b"),
    Point(1),
    Point(2),
    Point(1, 1),
    Pixel(1),
    Frozen(1),
    with_attribute(Point(1), extra=1),
    with_attribute(Point(1), extra=2),
    {"x": 1, "y": 0},
    collections.Counter("aab"),
]


def test_what_is_different_has_different_keys() -> None:
    for a, b in itertools.combinations(DISTINCT, 2):
        if not (isinstance(a, collections.Counter) or isinstance(b, collections.Counter)):
            assert key(a) != key(b), (a, b)


@given(st.sets(st.integers() | st.text(max_size=3) | st.tuples(st.integers(0, 3)), max_size=12), st.randoms())
def test_the_order_of_a_set_does_not_matter(elements: set[Any], random: Any) -> None:
    shuffled = list(elements)
    random.shuffle(shuffled)
    grown = {object() for _ in range(random.randint(0, 50))}
    grown.clear()
    grown.update(shuffled)
    assert key(elements) == key(grown)
    assert key(frozenset(elements)) == key(frozenset(shuffled))


@given(st.integers())
def test_integers_of_any_size_are_told_apart(number: int) -> None:
    assert key(number) != key(number + 1)
    assert key(number) == key(int(str(number)))


def test_keys_are_the_same_in_every_process() -> None:
    program = (
        "import importlib, os, sys;"
        "hooks = importlib.import_module(os.environ.get('CACHEKIT_CODEC_HOOKS', 'cachekit._native'))._testing;"
        "from datetime import date;"
        "print(hooks.encode_args(({'b', 'a', 'c', 3}, {date(2026, 1, 1): {'y', 'x'}, 1: 2}))[0].hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout.strip()
        for seed in (1, 2, 3)
    }
    assert found == {key({"b", "a", "c", 3}, {date(2026, 1, 1): {"y", "x"}, 1: 2}).hex()}


def test_no_library_is_imported() -> None:
    program = (
        "import dataclasses, enum, importlib, os, sys;"
        "hooks = importlib.import_module(os.environ.get('CACHEKIT_CODEC_HOOKS', 'cachekit._native'))._testing;"
        "made = dataclasses.make_dataclass('made', ['x'])(1);"
        "hooks.encode_args((made, {1}, enum.Enum('E', 'A').A)); hooks.HeldValue([made]).hand_out(); hooks.weigh(made);"
        "print(sorted({'numpy', 'pandas', 'pydantic'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, env=PATHS, check=True)
    assert found.stdout.strip() == "[]"


# --- classes --------------------------------------------------------------------------------------------------------


def test_a_class_that_its_name_does_not_reach_counts_in_this_process_only() -> None:
    def make() -> Any:
        @dataclasses.dataclass
        class Local:
            x: int

        return Local

    first, second = make(), make()
    assert scope(first(1)) == "local"
    assert key(first(1)) == key(first(1))
    assert key(first(1)) != key(second(1))


def test_a_class_redefined_under_its_name_is_another() -> None:
    module = sys.modules[__name__]
    original = module.Frozen
    before = key(original(1))
    try:
        replacement = dataclasses.make_dataclass("Frozen", [("x", int)])
        replacement.__module__ = __name__
        module.Frozen = replacement  # type: ignore[misc]
        assert key(replacement(1)) == before
    finally:
        module.Frozen = original  # type: ignore[misc]
    assert key(original(1)) == before
    assert scope(replacement(1)) == "shared"  # examined while the name led to it


def test_changing_a_class_is_noticed() -> None:
    class Late:
        pass

    late = Late()
    with pytest.raises(TypeError):
        key(late)
    Late.__cache_key__ = lambda self: "k"  # type: ignore[attr-defined]
    first = key(late)
    Late.__cache_key__ = lambda self: "other"  # type: ignore[attr-defined]
    assert key(late) != first
    del Late.__cache_key__  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        key(late)


def test_classes_made_as_the_program_runs_are_forgotten() -> None:
    def one(number: int) -> bytes:
        return key(dataclasses.make_dataclass("Made", [("x", int)])(number))

    assert len({one(1) for _ in range(300)}) == 300
    gc.collect()
    before = sum(1 for o in gc.get_objects() if isinstance(o, type) and o.__name__ == "Made")
    assert before == 0


class SlottedText(str):
    __slots__ = ("unit",)


def test_a_subclass_with_state_in_slots_is_refused() -> None:
    with pytest.raises(TypeError, match="__cache_key__"):
        key(with_attribute(SlottedText("1"), unit="m"))


class Plain(str):
    __slots__ = ()


def test_a_subclass_without_state_is_taken() -> None:
    assert extension(Plain("a")) == (12, named("Plain") + b"\xa1a")


def test_cached_properties_are_not_state() -> None:
    @dataclasses.dataclass
    class Circle:
        radius: float

        @functools.cached_property
        def area(self) -> Any:
            return object()

    circle = Circle(1.0)
    before = key(circle)
    assert circle.area is circle.area
    assert key(circle) == before


def test_a_field_that_was_never_set_is_left_out() -> None:
    @dataclasses.dataclass
    class Lazy:
        x: int
        y: int = dataclasses.field(init=False)

    lazy = Lazy(1)
    assert key(lazy) != key(with_attribute(Lazy(1), y=None))
    assert key(lazy) == key(Lazy(1))


def test_class_variables_and_init_variables_are_no_fields() -> None:
    @dataclasses.dataclass
    class Counted:
        x: int
        total: typing.ClassVar[int] = 0
        scale: dataclasses.InitVar[int] = 1

        def __post_init__(self, scale: int) -> None:
            self.scaled = self.x * scale

    assert key(Counted(2, 3)) == key(Counted(2, 3))
    assert key(Counted(2, 3)) != key(Counted(2, 4))


@pytest.mark.skipif(sys.version_info < (3, 10), reason="dataclasses have slots from Python 3.10 on")
def test_a_dataclass_with_slots() -> None:
    made = dataclasses.make_dataclass("Made", [("x", int), ("y", int)], slots=True)  # type: ignore[call-overload]
    assert key(made(1, 2)) == key(made(1, 2))
    assert key(made(1, 2)) != key(made(2, 1))


def test_a_dataclass_within_itself_is_refused() -> None:
    point = Point(1)
    point.y = [point]
    with pytest.raises(TypeError, match="contains itself") as caught:
        key(point)
    assert caught.value.path.startswith("args[0].y[0].y[0]")  # type: ignore[attr-defined]


def test_the_place_in_a_dataclass_is_named() -> None:
    with pytest.raises(TypeError) as caught:
        key({"p": Point(1, [object()])})
    assert caught.value.path == 'args[0]["p"].y[0]'  # type: ignore[attr-defined]


# --- objects with a key of their own --------------------------------------------------------------------------------


class Tenant:
    def __init__(self, name: Any) -> None:
        self.name = name

    def __cache_key__(self) -> Any:
        return self.name


@dataclasses.dataclass
class Document:
    number: int
    body: str

    def __cache_key__(self) -> Any:
        return self.number


def test_an_objects_own_key_counts() -> None:
    assert extension(Tenant("t")) == (34, named("Tenant") + b"\xa1t")
    assert scope(Tenant("t")) == "shared"
    assert key(Document(1, "a")) == key(Document(1, "b"))
    assert key([Tenant("t")]) != key(["t"])


class Zone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else timedelta(0)


def test_a_time_whose_zone_gives_no_offset_is_refused() -> None:
    with pytest.raises(TypeError, match="no offset"):
        key(time(1, tzinfo=Zone()))


def test_interpreter_dicts_with_behaviour_are_dicts() -> None:
    assert key(collections.Counter("aab")) == key({"a": 2, "b": 1})


# --- receivers ------------------------------------------------------------------------------------------------------


class Service:
    @classmethod
    def make(cls) -> None: ...


class Named(Service):
    def __init__(self, name: str) -> None:
        self.name = name

    def __cache_key__(self) -> str:
        return self.name


class Bare:
    __slots__ = ()


class Total(int):
    pass


def receiver(first: Any, *rest: Any, **options: Any) -> tuple[bytes, str]:
    found: tuple[bytes, str] = encode_args((first, *rest), method=True, **options)
    return found


def test_an_object_is_itself_as_long_as_it_lives() -> None:
    first, second = Service(), Service()
    assert receiver(first, 1) == receiver(first, 1)
    assert receiver(first, 1)[0] != receiver(second, 1)[0]
    assert receiver(first, 1)[1] == "local"
    code, data = msgpack.unpackb(receiver(first)[0])[0][0]
    assert code == 32
    assert len(data) == 8


def test_an_objects_number_is_never_used_again() -> None:
    seen: set[bytes] = set()
    addresses: set[int] = set()
    for _ in range(5000):
        service = Service()
        addresses.add(id(service))
        found = receiver(service)[0]
        assert found not in seen
        seen.add(found)
        del service  # Some Pythons make the next one before the name lets go of this one.
    assert len(addresses) < 5000, "addresses were used again, or the test shows nothing"


def test_objects_that_died_are_forgotten() -> None:
    before = numbered_objects()
    keep = []
    for _ in range(20_000):
        keep.append(Service())
        receiver(keep[-1])
        if len(keep) > 10:
            keep.clear()
    assert numbered_objects() < before + 2000


def test_an_object_that_comes_back_to_life_is_no_danger() -> None:
    graveyard: list[Any] = []

    class Phoenix:
        def __del__(self) -> None:
            graveyard.append(self)

    phoenix: Any = Phoenix()
    before = receiver(phoenix)[0]
    del phoenix
    back = graveyard.pop()
    after = receiver(back)[0]
    others = [Service() for _ in range(100)]
    assert all(receiver(other)[0] not in (before, after) for other in others)
    assert receiver(back)[0] == after


def test_a_receiver_with_a_key_of_its_own_counts_everywhere() -> None:
    assert receiver(Named("a"), 1) == receiver(Named("a"), 1)
    assert receiver(Named("a"))[0] != receiver(Named("b"))[0]
    assert receiver(Named("a"))[1] == "shared"


def test_a_class_is_told_by_its_name() -> None:
    encoded, where = receiver(Service, 1)
    assert where == "shared"
    assert msgpack.unpackb(encoded)[0] == [msgpack.ExtType(33, named("Service")), 1]
    assert receiver(Named, 1)[0] != encoded

    class Local:
        pass

    assert receiver(Local)[1] == "local"
    assert receiver(Local)[0] == receiver(Local)[0]


@pytest.mark.parametrize("bad", [Bare(), Total(3), (1, 2), 5, "text"], ids=lambda bad: type(bad).__name__)
def test_a_receiver_whose_life_cannot_be_followed_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="__cache_key__") as caught:
        receiver(bad, positional=["self"])
    assert caught.value.argument == "self"  # type: ignore[attr-defined]


def test_an_ignored_receiver_is_left_out() -> None:
    assert receiver(Bare(), 1, ignore=["self"], positional=["self", "x"]) == (b"\x92\x91\x01\x80", "shared")


def test_only_the_first_argument_is_a_receiver() -> None:
    assert receiver(Service(), Frozen(1))[0].endswith(content(Frozen(1)) + b"\x80")
    assert encode_args((), {"x": 1}, method=True)[0] == key(x=1)
