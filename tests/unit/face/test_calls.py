"""Every way to write one call, found by reading signatures."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekit.calls import MOST_SPELLINGS, CallShape


def spelled(func: Any, *args: Any, **kwargs: Any) -> list[Any]:
    found = CallShape(func).spellings(args, kwargs)
    assert found is not None
    return found


def test_one_parameter() -> None:
    def f(x: int) -> None: ...

    assert spelled(f, 1) == spelled(f, x=1) == [((), {"x": 1}), ((1,), {})]


def test_defaults_may_be_left_out() -> None:
    def f(x: int, y: int = 2) -> None: ...

    calls = spelled(f, 1)
    assert sorted(map(repr, calls)) == sorted(
        map(
            repr,
            [((1,), {}), ((1, 2), {}), ((1,), {"y": 2}), ((), {"x": 1}), ((), {"x": 1, "y": 2})],
        )
    )
    assert calls == spelled(f, x=1, y=2)
    assert ((1,), {}) not in spelled(f, 1, 3)


def test_a_value_of_another_type_is_not_the_default() -> None:
    def f(x: Any = 1) -> None: ...

    assert ((), {}) not in spelled(f, True)
    assert ((), {}) not in spelled(f, 1.0)
    assert ((), {}) in spelled(f, 1)


def test_what_cannot_be_compared_may_be_the_default() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    default = Odd()

    def f(x: Any = default) -> None: ...

    assert ((), {}) in spelled(f, Odd())


def test_positional_only_keyword_only_and_variable() -> None:
    def f(a: int, b: int = 1, *rest: int, c: int = 2, **more: int) -> None: ...

    assert all(args[:2] == (0, 1) for args, _ in spelled(f, 0, 1, 5))
    assert spelled(f, 0, 1, 5, c=2, z=9) == [((0, 1, 5), {"c": 2, "z": 9}), ((0, 1, 5), {"z": 9})]
    only = eval("lambda a, /, b=1: None")
    assert ((0,), {}) in spelled(only, 0)
    assert all(args for args, _ in spelled(only, 0))


def test_a_call_that_does_not_fit_is_refused() -> None:
    def f(x: int) -> None: ...

    for args, kwargs in [((), {}), ((1, 2), {}), ((), {"y": 1})]:
        with pytest.raises(TypeError):
            CallShape(f).spellings(args, kwargs)


def test_too_many_spellings_are_not_listed() -> None:
    names = [f"p{number}" for number in range(12)]
    many = eval(f"lambda {', '.join(f'{name}=0' for name in names)}: None")
    assert CallShape(many).spellings((), {}) is None
    few = eval(f"lambda {', '.join(f'{name}=0' for name in names[:8])}: None")
    found = CallShape(few).spellings((), {})
    assert found is not None
    assert len(found) == 2**9 - 1 <= MOST_SPELLINGS


def test_ignored_parameters_do_not_hold_back_a_spelling() -> None:
    def f(x: int, connection: Any = None) -> None: ...

    assert ((1,), {}) in (CallShape(f, ("connection",)).spellings((1, object()), {}) or [])
    assert CallShape(f, ("conection",)).unknown_parameters() == ["conection"]
    assert CallShape(f, ("connection",)).unknown_parameters() == []


def test_builtins_without_a_signature() -> None:
    shape = CallShape(type)
    assert shape.signature is None
    assert shape.by_kind == ((), 0, (), None, None)
    assert shape.takes_arguments()
    assert shape.has_parameter("soft")
    assert CallShape(type, ("anything",)).unknown_parameters() == []
    assert shape.spellings((1,), {"a": 2}) == [((1,), {"a": 2})]
    assert shape.normalized((1,), {}) == ((1,), {})


def test_the_parameters_of_a_plain_function_are_those_of_its_signature() -> None:
    sources = [
        "",
        "a",
        "a, b=1",
        "a, /",
        "a, /, b",
        "*, k",
        "a, *, k=1",
        "*r",
        "**x",
        "a, *r, k, **x",
        "self, a=1, /, *, j, k",
    ]
    for written in sources:
        func = eval(f"lambda {written}: [local for local in ()]")
        by_attribute = eval(f"lambda {written}: None")
        by_attribute.mark = True
        plain, other = CallShape(func), CallShape(by_attribute)
        assert plain._signature is None
        assert other._signature is not None
        assert plain.by_kind == other.by_kind
        assert plain.takes_arguments() == other.takes_arguments() == bool(written)
        assert str(plain.signature) == str(other.signature) == f"({written})"


def test_a_signature_that_an_attribute_gives_counts() -> None:
    def f(x: int, *, flag: bool = False) -> None: ...

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    assert CallShape(wrapper).by_kind == CallShape(f).by_kind == (("x",), 0, ("flag",), None, None)

    def other(*args: Any) -> None: ...

    other.__signature__ = inspect.signature(f)  # type: ignore[attr-defined]
    assert CallShape(other).positional == ("x",)
    assert CallShape(functools.partial(f, 1)).positional == ()
    assert CallShape(len).by_kind == (("obj",), 1, (), None, None)


values = st.integers(0, 3)


@given(
    required=st.integers(0, 3),
    optional=st.integers(0, 3),
    named=st.integers(0, 2),
    data=st.data(),
)
def test_spellings_are_exactly_the_calls_with_one_meaning(
    required: int, optional: int, named: int, data: st.DataObject
) -> None:
    """Every spelling means the same call, no two are alike, and any way to write the call is among them."""
    names = [f"r{number}" for number in range(required)] + [f"o{number}" for number in range(optional)]
    defaults = [f"o{number}={number}" for number in range(optional)]
    written = [f"r{number}" for number in range(required)] + defaults
    if named:
        written += ["*", *(f"k{number}={number}" for number in range(named))]
    func = eval(f"lambda {', '.join(written)}: None")
    shape = CallShape(func)
    assert shape.signature is not None

    chosen = {name: data.draw(values, name) for name in [*names, *(f"k{number}" for number in range(named))]}
    by_position = data.draw(st.integers(0, len(names)))
    args = tuple(chosen[name] for name in names[:by_position])
    kwargs = {name: value for name, value in chosen.items() if name not in names[:by_position]}
    for name in list(kwargs):
        parameter = shape.signature.parameters[name]
        if parameter.default == kwargs[name] and data.draw(st.booleans()):
            del kwargs[name]

    found = shape.spellings(args, kwargs)
    assert found is not None
    assert (args, kwargs) in found
    assert {repr(shape.normalized(*call)) for call in found} == {repr(shape.normalized(args, kwargs))}
    assert len({repr((args, sorted(kwargs.items()))) for args, kwargs in found}) == len(found)
