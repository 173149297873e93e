"""The shape of a function's calls: its parameters, and every way to write one and the same call."""

from __future__ import annotations

from itertools import product

TYPE_CHECKING = False
if TYPE_CHECKING:
    from inspect import Parameter, Signature
    from types import CodeType
    from typing import Any, Callable, Optional

    Call = tuple[tuple[Any, ...], dict[str, Any]]

    # Names that go by position, how many of them only so, those that go by name only, ``*``, ``**``.
    ByKind = tuple[tuple[str, ...], int, tuple[str, ...], Optional[str], Optional[str]]

# More spellings than this and invalidation clears the function instead of naming each key.
MOST_SPELLINGS = 1000

_FUNCTION = type(lambda: None)
_VAR_POSITIONAL, _VAR_KEYWORD = 0x04, 0x08


class CallShape:
    """What a function can be called with."""

    __slots__ = ("_by_kind", "_func", "_signature", "ignored")

    def __init__(self, func: Callable[..., Any], ignored: tuple[str, ...] = ()) -> None:
        self.ignored = ignored
        self._func = func
        self._signature: tuple[Signature | None] | None = None
        # An attribute may say that the signature is another (`__wrapped__`, `__signature__`).
        if type(func) is _FUNCTION and not func.__dict__:
            self._by_kind: ByKind | None = _of_code(func.__code__)
        else:
            self._by_kind = _of_signature(self.signature)

    @property
    def signature(self) -> Signature | None:
        """The function's signature; None where Python cannot tell."""
        if self._signature is None:
            from inspect import signature  # much to import, and decorating a plain function goes without

            try:
                self._signature = (signature(self._func),)
            except (ValueError, TypeError):
                self._signature = (None,)
        return self._signature[0]

    @property
    def by_kind(self) -> ByKind:
        """The parameters that are known."""
        return self._by_kind or ((), 0, (), None, None)

    @property
    def positional(self) -> tuple[str, ...]:
        """The parameters that can be given by position."""
        return self.by_kind[0]

    @property
    def is_method(self) -> bool:
        """Whether the first parameter is called ``self`` or ``cls``."""
        return self.positional[:1] in (("self",), ("cls",))

    def takes_arguments(self, bound: bool = False) -> bool:
        """Whether there are parameters, beside that of the object where the function is `bound`."""
        return self._by_kind is None or len(self._names()) > bound

    def has_parameter(self, name: str) -> bool:
        """Whether there is a parameter of that name; unknown ones may be."""
        return self._by_kind is None or name in self._names()

    def unknown_parameters(self) -> list[str]:
        """Names in `ignored` that the function cannot be given."""
        if self._by_kind is None or self._by_kind[-1] is not None:
            return []
        names = self._names()
        return [name for name in self.ignored if name not in names]

    def _names(self) -> list[str]:
        positional, _, keyword_only, rest, extra = self.by_kind
        return [*positional, *keyword_only, *(name for name in (rest, extra) if name is not None)]

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
        ordered = [item for item in parameters if item.kind <= item.POSITIONAL_OR_KEYWORD]
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
        self, later: list[Parameter], named_only: list[Parameter], value: dict[str, Any]
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


def _of_code(code: CodeType) -> ByKind:
    """The parameters of a function with this code, which names them before its other variables."""
    names, by_position = code.co_varnames, code.co_argcount
    end = by_position + code.co_kwonlyargcount
    rest = names[end] if code.co_flags & _VAR_POSITIONAL else None
    extra = names[end + (rest is not None)] if code.co_flags & _VAR_KEYWORD else None
    return names[:by_position], code.co_posonlyargcount, names[by_position:end], rest, extra


def _of_signature(signature: Signature | None) -> ByKind | None:
    if signature is None:
        return None
    named: dict[str, list[str]] = {}
    for item in signature.parameters.values():
        named.setdefault(item.kind.name, []).append(item.name)
    only, either = named.get("POSITIONAL_ONLY", []), named.get("POSITIONAL_OR_KEYWORD", [])
    (rest,), (extra,) = named.get("VAR_POSITIONAL", [None]), named.get("VAR_KEYWORD", [None])
    return (*only, *either), len(only), tuple(named.get("KEYWORD_ONLY", ())), rest, extra


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
