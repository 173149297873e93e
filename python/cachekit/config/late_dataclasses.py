"""`dataclass` and `field` as in ``dataclasses``, which is imported only once somebody looks closer.

Importing it takes, with `inspect` and the methods that it compiles for each class, longer than all
else that decorating a first function needs. What the decorator does with its configuration is to
make it and to read it: `LateDataclass` knows how. For everything else that a dataclass can do
(comparing, showing, `replace`, `fields`, its signature, refusing assignments) the class first
becomes a real one.
"""

from __future__ import annotations

import os
from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, TypeVar

    T = TypeVar("T")

_lock = RLock()


def _renew_lock() -> None:
    global _lock
    _lock = RLock()


if hasattr(os, "register_at_fork"):  # Another thread of the parent may have held it.
    os.register_at_fork(after_in_child=_renew_lock)


class field:  # noqa: N801 - as in `dataclasses`
    """The default of a field, and whether `repr` shows it."""

    __slots__ = ("default", "repr")

    def __init__(self, default: Any, repr: bool = True) -> None:  # noqa: A002 - as in `dataclasses`
        self.default = default
        self.repr = repr


def dataclass(**how: Any) -> Callable[[type[T]], type[T]]:
    """Notes the fields of a `LateDataclass`, each of which has a default, and how it is to be a dataclass."""

    def noted(cls: Any) -> Any:
        fields: dict[str, field] = {}
        for name in cls.__annotations__:
            default = getattr(cls, name)
            fields[name] = default if isinstance(default, field) else field(default)
            setattr(cls, name, fields[name].default)
        cls._fields, cls._how = fields, how
        return cls

    return noted


class _OfDataclass:
    """An attribute that the class has of its own once it is a dataclass."""

    __slots__ = ("_name",)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        real = _real(owner)
        if real is None or self._name not in vars(real):
            who = f"type object {owner.__name__!r}" if instance is None else f"{owner.__name__!r} object"
            raise AttributeError(f"{who} has no attribute {self._name!r}")
        return getattr(owner if instance is None else instance, self._name)


class LateDataclass:
    """Base of the classes that `dataclass` is used on."""

    if TYPE_CHECKING:
        # The fields by name, in their order. Not an annotation that `get_type_hints` would find.
        _fields: dict[str, field]
    else:
        __delattr__ = _OfDataclass()
        __eq__ = _OfDataclass()
        __hash__ = _OfDataclass()
        __repr__ = _OfDataclass()
        __setattr__ = _OfDataclass()
        # What `dataclasses`, `inspect`, `copy.replace` and `match` look at.
        __dataclass_fields__ = _OfDataclass()
        __dataclass_params__ = _OfDataclass()
        __match_args__ = _OfDataclass()
        __replace__ = _OfDataclass()
        __signature__ = _OfDataclass()

        def __init__(self, *args, **kwargs):
            fields = self._fields
            given = {**dict(zip(fields, args)), **kwargs}
            if len(given) < len(args) + len(kwargs) or not given.keys() <= fields.keys():
                _real(type(self)).__init__(self, *args, **kwargs)  # refuses them in Python's own words
            for name, field in fields.items():
                object.__setattr__(self, name, given.get(name, field.default))
            self.__post_init__()


def _real(cls: type) -> Any:
    """The class that `dataclass` was used on, `cls` or one that it extends, as a real dataclass; None where none is."""
    late: Any = next((kind for kind in cls.__mro__ if "_how" in vars(kind)), None)
    if late is None:
        return None
    import dataclasses

    with _lock:
        if "__dataclass_fields__" not in vars(late):
            for name, given in late._fields.items():
                setattr(late, name, dataclasses.field(default=given.default, repr=given.repr))
            dataclasses.dataclass(**late._how)(late)
    return late
