"""Who a call is for: where a function's tenant comes from."""

from __future__ import annotations

from contextvars import ContextVar

from cachekit.config.validation import ConfigurationError
from cachekit.encryption import tenant_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Protocol

    from cachekit.calls import CallShape

    class TenantContextExtractor(Protocol):
        """Tells the tenant of a call."""

        def extract(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            """The tenant's name: text, a UUID or a number. None or an exception: nobody, and the call runs uncached."""
            ...

else:

    class TenantContextExtractor:
        """Tells the tenant of a call: `extract(args, kwargs)` returns its name."""


_tenant: ContextVar[str | None] = ContextVar("cachekit_tenant", default=None)


class ArgumentNameExtractor(TenantContextExtractor):
    """The tenant is the argument of this name, by name or by position; its default counts too."""

    __slots__ = ("arg_name",)

    def __init__(self, arg_name: str = "tenant_id") -> None:
        if not isinstance(arg_name, str) or not arg_name.isidentifier():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"arg_name={arg_name!r}: the name of a parameter is expected")
        self.arg_name = arg_name

    def extract(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The argument, where it is given by name; a decorated function knows its position too."""
        if self.arg_name not in kwargs:
            raise ValueError(f"the call has no argument {self.arg_name!r}")
        return kwargs[self.arg_name]

    def within(self, shape: CallShape, name: str) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
        """`extract` for calls of this shape. A `ConfigurationError` where they have no such argument."""
        wanted = self.arg_name
        signature = shape.signature
        parameter = signature.parameters.get(wanted) if signature is not None else None
        if (
            parameter is None
            and signature is not None
            and not any(item.kind is item.VAR_KEYWORD for item in signature.parameters.values())
        ):
            raise ConfigurationError(f"tenant_extractor: {name} has no parameter {wanted!r}")
        at = shape.positional.index(wanted) if wanted in shape.positional else None
        default = None if parameter is None or parameter.default is parameter.empty else parameter.default

        def within(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if wanted in kwargs:
                return kwargs[wanted]
            return args[at] if at is not None and at < len(args) else default

        return within

    def __repr__(self) -> str:
        return f"ArgumentNameExtractor({self.arg_name!r})"


class CallableExtractor(TenantContextExtractor):
    """The tenant is what ``function(args, kwargs)`` returns."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> None:
        if not callable(function):
            raise ConfigurationError(f"{function!r}: a callable(args, kwargs) is expected")
        self.function = function

    def extract(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function says of the call."""
        return self.function(args, kwargs)


class ContextVarExtractor(TenantContextExtractor):
    """The tenant is the one that `set_tenant_id` named in the current context (thread or task)."""

    __slots__ = ()

    @classmethod
    def set_tenant_id(cls, tenant_id: Any) -> None:
        """Names the tenant of what follows in this context; None for nobody."""
        _tenant.set(None if tenant_id is None else tenant_name(tenant_id))

    def extract(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The context's tenant."""
        return _tenant.get()


DEFAULT_TENANT_EXTRACTOR = ContextVarExtractor()


def checked(extractor: Any) -> Any:
    """An extractor as the configuration takes it: an object with `extract`, a callable, or a parameter's name."""
    if extractor is None or isinstance(extractor, str):
        return ArgumentNameExtractor(extractor) if isinstance(extractor, str) else None
    if callable(getattr(extractor, "extract", None)) or callable(extractor):
        return extractor
    raise ConfigurationError(
        f"tenant_extractor={extractor!r}: a parameter's name, a callable(*args, **kwargs) or an object with "
        "extract(args, kwargs) is expected"
    )


def bound(extractor: Any, shape: CallShape, name: str) -> Callable[[tuple[Any, ...], dict[str, Any]], str | None]:
    """What the native side asks for the tenant of a call of the function `name`; None means nobody."""
    extract: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    if isinstance(extractor, ArgumentNameExtractor):
        extract = extractor.within(shape, name)
    elif callable(getattr(extractor, "extract", None)):
        extract = extractor.extract
    else:
        extract = lambda args, kwargs: extractor(*args, **kwargs)  # noqa: E731
    return lambda args, kwargs: tenant_name(extract(args, kwargs))
