"""A cached method seen through its object: ``obj.method``."""

from __future__ import annotations

from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import Any

    from cachekit._native import CachedFunction
    from cachekit.function import Handle


class BoundCachedMethod(partial):  # type: ignore[type-arg]  # not subscriptable on 3.8's heirs at run time
    """``obj.method``: calls the cached function with the object in front, and so do its attributes.

    ``obj.method.invalidate_cache(x)`` concerns the entry of ``obj.method(x)``.
    """

    __slots__ = ()

    @property
    def __func__(self) -> CachedFunction:
        return self.func  # type: ignore[return-value]

    @property
    def __self__(self) -> Any:
        return self.args[0]

    @property
    def _handle(self) -> Handle:
        return self.func._handle  # type: ignore[attr-defined, no-any-return]

    def invalidate_cache(self, *args: Any, **kwargs: Any) -> Awaitable[None] | None:
        """Forgets the entry of this call, or every entry of the method when called without arguments."""
        return self._handle.forget(self._calls(args, kwargs))

    async def ainvalidate_cache(self, *args: Any, **kwargs: Any) -> None:
        """As `invalidate_cache`, for use in a task."""
        await self._handle.aforget(self._calls(args, kwargs))

    def key_for(self, *args: Any, **kwargs: Any) -> str:
        """The key that this call's entry has in the backend."""
        return self._handle.key_for(self.args[0], *args, **kwargs)

    def peek(self, *args: Any, **kwargs: Any) -> Any:
        """What is cached for this call, without running the function."""
        return self._handle.peek(self.args[0], *args, **kwargs)

    def _calls(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._handle.calls((self.args[0], *args), kwargs, bound=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.func, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoundCachedMethod):
            return NotImplemented
        return self.func is other.func and self.args[0] is other.args[0]

    def __hash__(self) -> int:
        return hash((id(self.func), id(self.args[0])))

    def __repr__(self) -> str:
        return f"<bound cached method {self.func.__qualname__} of {self.args[0]!r}>"
