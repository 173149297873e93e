"""Names of a package that are loaded when they are first used (PEP 562)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable


def lazy(package: str, homes: dict[str, str]) -> Callable[[str], object]:
    """The ``__getattr__`` of `package`, whose public names live in the modules that `homes` gives.

    A home is a module, or ``module:attribute`` where the name is another there.
    """

    def __getattr__(name: str) -> object:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        import sys
        from importlib import import_module

        module, _, attribute = home.partition(":")
        value = getattr(import_module(module), attribute or name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
