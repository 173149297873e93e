"""The shape of a function's calls: its parameters, and every way to write one and the same call."""

from __future__ import annotations

import inspect
from itertools import product

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    Call = tuple[tuple[Any, ...], dict[str, Any]]

# More spellings than this and invalidation clears the function instead of naming each key.
MOST_SPELLINGS = 1000

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class CallShape:
    """What a function can be called with. `signature` is None where Python cannot tell."""

    __slots__ = ("ignored", "positional", "signature")

    def __init__(self, func: Callable[..., Any], ignored: tuple[str, ...] = ()) -> None:
        try:
            self.signature: inspect.Signature | None = inspect.signature(func)
        except (ValueError, TypeError):
            self.signature = None
        self.ignored = ignored
        parameters = self.signature.parameters.values() if self.signature is not None else ()
        self.positional = tuple(item.name for item in parameters if item.kind in _POSITIONAL)

    @property
    def is_method(self) -> bool:
        """Whether the first parameter is called ``self`` or ``cls``."""
        return self.positional[:1] in (("self",), ("cls",))

    def by_kind(self) -> tuple[list[str], int, list[str], str | None, str | None]:
        """Names that go by position, how many of them only so, those that go by name only, ``*``, ``**``."""
        parameters = list(self.signature.parameters.values()) if self.signature is not None else []

        def named(kind: Any) -> list[str]:
            return [item.name for item in parameters if item.kind is kind]

        rest, extra = named(inspect.Parameter.VAR_POSITIONAL), named(inspect.Parameter.VAR_KEYWORD)
        return (
            list(self.positional),
            len(named(inspect.Parameter.POSITIONAL_ONLY)),
            named(inspect.Parameter.KEYWORD_ONLY),
            rest[0] if rest else None,
            extra[0] if extra else None,
        )

    def takes_arguments(self, bound: bool = False) -> bool:
        """Whether there are parameters, beside that of the object where the function is `bound`."""
        return self.signature is None or len(self.signature.parameters) > bound

    def has_parameter(self, name: str) -> bool:
        """Whether there is a parameter of that name; unknown ones may be."""
        return self.signature is None or name in self.signature.parameters

    def unknown_parameters(self) -> list[str]:
        """Names in `ignored` that the function cannot be given."""
        if self.signature is None:
            return []
        parameters = self.signature.parameters
        if any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
            return []
        return [name for name in self.ignored if name not in parameters]

    def normalized(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """The call with every argument in its place and defaults filled in, the same for all spellings."""
        if self.signature is None:
            return args, kwargs
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError:  # the call itself is wrong: the function will say so
            return args, kwargs
        bound.apply_defaults()
        return bound.args, bound.kwargs

    def spellings(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Call] | None:
        """Every way to write this call: by position, by name, defaults written out or left out.

        None where there are more than `MOST_SPELLINGS`. A call that does not fit is a TypeError.
        """
        if self.signature is None:
            return [(args, kwargs)]
        given = self.signature.bind(*args, **kwargs).arguments
        parameters = list(self.signature.parameters.values())
        ordered = [item for item in parameters if item.kind in _POSITIONAL]
        named_only = [item for item in parameters if item.kind is item.KEYWORD_ONLY]
        rest: tuple[Any, ...] = ()
        extra: dict[str, Any] = {}
        for item in parameters:
            if item.kind is item.VAR_POSITIONAL:
                rest = given.get(item.name, ())
            elif item.kind is item.VAR_KEYWORD:
                extra = given.get(item.name, {})
        value = {item.name: given.get(item.name, item.default) for item in (*ordered, *named_only)}
        found: list[Call] = []
        # With *args, every ordinary parameter before them stands by position.
        for split in range(len(ordered) if rest else 0, len(ordered) + 1):
            choices = self._tails(ordered[split:], named_only, value)
            if choices is None:
                continue
            count = 1
            for ways in choices:
                count *= len(ways)
            if len(found) + count > MOST_SPELLINGS:
                return None
            head = (*(value[item.name] for item in ordered[:split]), *rest)
            for tail in product(*choices):
                named = {name: value[name] for name in tail if name is not None}
                found.append((head, {**named, **extra}))
        return found

    def _tails(
        self, later: list[inspect.Parameter], named_only: list[inspect.Parameter], value: dict[str, Any]
    ) -> list[tuple[str | None, ...]] | None:
        """For each parameter not given by position, the ways to give it: by name, or (None) not at all."""
        choices: list[tuple[str | None, ...]] = []
        for item in (*later, *named_only):
            by_name = item.kind is not item.POSITIONAL_ONLY
            left_out = item.default is not item.empty and (
                item.name in self.ignored or _same(value[item.name], item.default)
            )
            ways: tuple[str | None, ...] = (*((item.name,) if by_name else ()), *((None,) if left_out else ()))
            if not ways:
                return None
            choices.append(ways)
        return choices


def _same(value: Any, default: Any) -> bool:
    """Whether leaving a parameter out may mean this value; where that cannot be told, it may."""
    if value is default:
        return True
    if type(value) is not type(default):
        return False
    try:
        return bool(value == default)
    except Exception:
        return True
