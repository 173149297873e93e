"""Who a decorated function is: its name, its kind, whether its name is enough to share entries by."""

from __future__ import annotations

import sys
from weakref import ref

from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any, Callable

_GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200

# Whole words of a function's name; the first list is looked at first.
_SECURITY = frozenset(
    "user auth login password secret token credential session payment card account patient medical ssn pii".split()
)
_FAST = frozenset("get calc calculate compute lookup find count score rank".split())


def check_kind(func: Any) -> None:
    """Raises TypeError or ConfigurationError, with the remedy, for what cannot be cached."""
    if isinstance(func, property):
        raise TypeError("cache cannot wrap a property: put @cache under @property, on the method itself")
    if isinstance(func, type):
        raise TypeError(f"cache decorates functions, not classes: give {func.__name__} a function that makes it")
    if not callable(func):
        raise TypeError(
            f"cache decorates functions; it was given {func!r} (parameters have names: @cache(ttl=300), not "
            "@cache(300))"
        )
    flags = getattr(_code(func), "co_flags", 0)
    if flags & _ASYNC_GENERATOR:
        raise ConfigurationError(
            f"{_name(func)} is an async generator function, which can be consumed only once: cache a coroutine "
            "function that returns a list, [item async for item in ...]"
        )
    if flags & (_GENERATOR | _ITERABLE_COROUTINE):
        raise ConfigurationError(
            f"{_name(func)} is a generator function, which can be consumed only once: cache a function that returns "
            "list(...) of it"
        )
    if not isinstance(getattr(func, "__qualname__", None), str):
        raise TypeError(f"{func!r} has no name to cache it under: wrap it in a function with def, and decorate that")


def is_async(func: Any) -> bool:
    """Whether calling `func` gives a coroutine."""
    flags = getattr(_code(func), "co_flags", 0)
    if flags & _COROUTINE:
        return True
    coroutines = sys.modules.get("asyncio.coroutines")
    marker = getattr(coroutines, "_is_coroutine", None)
    return (marker is not None and getattr(func, "_is_coroutine", None) is marker) or hasattr(
        func, "_is_coroutine_mark"
    )


def local_reason(func: Any) -> str | None:
    """Why entries of `func` may not be shared by its name alone; None where they may."""
    if getattr(func, "__name__", "") == "<lambda>":
        return "it is a lambda, and all lambdas of a scope have one name"
    if getattr(func, "__self__", None) is not None and not isinstance(func.__self__, type(sys)):
        return "it is a bound method, and the object that it belongs to is not part of the key"
    code = _code(func)
    if code is None or not getattr(func, "__closure__", None):
        return None
    names = [name for name, cell in zip(code.co_freevars, func.__closure__) if not _harmless(name, cell, func)]
    if names:
        return f"it closes over {', '.join(names)}, which is not part of the key"
    return None


def intent(name: str) -> str:
    """What the words of a function's name ask for: "secure", "fast" or "balanced"."""
    words = _words(name)
    if words & _SECURITY:
        return "secure"
    return "fast" if words & _FAST else "balanced"


def _words(name: str) -> set[str]:
    """The words of a name, in lower case: ASCII letters, parted by whatever else there is and by capitals."""
    spaced = ""
    for before, letter, after in zip(" " + name, name, name[1:] + " "):
        if not "A" <= letter <= "Z":
            spaced += letter if "a" <= letter <= "z" else " "
        elif "A" <= before <= "Z" and not "a" <= after <= "z":
            spaced += letter
        else:
            spaced += " " + letter
    return set(spaced.lower().split())


_definitions: dict[tuple[str | None, str, str], tuple[CodeType, Any]] = {}


def redefines(func: Any, module: str, qualname: str, namespace: str | None = None) -> bool:
    """Whether a function with other code was decorated under this name before; remembers this one.

    Functions of different namespaces, which versions are part of, share no entries whatever their names.
    """
    code = _code(func)
    if code is None:
        return False
    name = (namespace, module, qualname)
    before = _definitions.get(name)
    try:
        _definitions[name] = (code, ref(func))
    except TypeError:
        return False
    if before is None:
        return False
    earlier = before[1]()
    if before[0] != code:
        return True
    return earlier is not None and earlier is not func and not _same_defaults(earlier, func)


def _same_defaults(one: Any, other: Any) -> bool:
    try:
        return bool(
            getattr(one, "__defaults__", None) == getattr(other, "__defaults__", None)
            and getattr(one, "__kwdefaults__", None) == getattr(other, "__kwdefaults__", None)
        )
    except Exception:  # defaults that cannot be compared, an array for instance, may differ
        return False


def _code(func: Callable[..., Any]) -> CodeType | None:
    code = getattr(func, "__code__", None)
    if code is None:
        call = getattr(type(func), "__call__", None)
        code = getattr(call, "__code__", None)
    return code


def _harmless(name: str, cell: Any, func: Any) -> bool:
    """Cells that say nothing about the result: the class of ``super()``, and the function itself."""
    if name == "__class__":
        return True
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return bool(name == func.__name__)
    return False


def _name(func: Any) -> str:
    return getattr(func, "__qualname__", None) or repr(func)
