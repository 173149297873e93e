"""A cached method seen through its object: ``obj.method``."""

from __future__ import annotations

from functools import partial
from types import MethodType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable
    from typing import Any

    from cachekit._native import CachedFunction
    from cachekit.function import Handle


class CachedClassMethod(classmethod):  # type: ignore[type-arg]  # not subscriptable on 3.8's heirs at run time
    # Binds as the cached function says, which classmethod itself does on Python 3.9 to 3.12 only.
    __slots__ = ()

    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        cached: CachedFunction = self.__func__  # type: ignore[assignment]
        return BoundCachedMethod(cached, type(instance) if owner is None else owner)


class BoundCachedMethod(partial):  # type: ignore[type-arg]  # not subscriptable on 3.8's heirs at run time
    # Calls the cached function with the object in front, and so do its attributes:
    # obj.method.invalidate_cache(x) concerns the entry of obj.method(x). Its documentation is the method's.
    __slots__ = ()

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.func.__doc__

    @property
    def __func__(self) -> CachedFunction:
        return self.func  # type: ignore[return-value]

    @property
    def __self__(self) -> Any:
        return self.args[0]

    @property
    def __wrapped__(self) -> MethodType:
        return MethodType(self.func.__wrapped__, self.args[0])  # type: ignore[attr-defined]

    @property
    def _handle(self) -> Handle:
        return self.func._handle  # type: ignore[attr-defined, no-any-return]

    def invalidate_cache(self, *args: Any, **kwargs: Any) -> Awaitable[None] | None:
        """Forgets the entry of this call, or every entry of the method when called without arguments."""
        soft = self._handle.takes_soft(kwargs)
        return self._handle.forget(self._calls(args, kwargs), soft)

    async def ainvalidate_cache(self, *args: Any, **kwargs: Any) -> None:
        """As `invalidate_cache`, for use in a task."""
        soft = self._handle.takes_soft(kwargs)
        await self._handle.aforget(self._calls(args, kwargs), soft)

    def key_for(self, *args: Any, **kwargs: Any) -> str:
        """The key that this call's entry has in the backend."""
        return self._handle.key_for(self.args[0], *args, **kwargs)

    def peek(self, *args: Any, **kwargs: Any) -> Any:
        """What is cached for this call, without running the function."""
        return self._handle.peek(self.args[0], *args, **kwargs)

    def refresh(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the method for this call, and puts its result in the place of what is cached."""
        return self._handle.refresh(self.args[0], *args, **kwargs)

    def set(self, value: Any, /, *args: Any, **kwargs: Any) -> Awaitable[None] | None:
        """Caches `value` as the result of this call."""
        return self._handle.set(value, self.args[0], *args, **kwargs)

    def prefetch(self, *args: Any, **kwargs: Any) -> bool:
        """Has the result of this call cached in the background."""
        return self._handle.prefetch(self.args[0], *args, **kwargs)

    def get_many(self, calls: Iterable[Any]) -> Any:
        """The results of several calls, each the tuple of its positional arguments or its single argument."""
        return self._handle.get_many((self.args[0], *(call if isinstance(call, tuple) else (call,))) for call in calls)

    def _calls(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._handle.calls((self.args[0], *args), kwargs, bound=True)

    def __getattr__(self, name: str) -> Any:
        # What else a function has (__code__, …) would describe one that also takes the object.
        if name.startswith("__") and name not in ("__name__", "__qualname__"):
            raise AttributeError(name)
        return getattr(self.func, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoundCachedMethod):
            return NotImplemented
        return self.func is other.func and self.args[0] is other.args[0]

    def __hash__(self) -> int:
        return hash((id(self.func), id(self.args[0])))

    def __repr__(self) -> str:
        return f"<bound cached method {self.func.__qualname__} of {self.args[0]!r}>"
