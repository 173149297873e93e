"""What interop mode asks of the rest of a function's configuration."""

from __future__ import annotations

from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit.calls import CallShape
    from cachekit.config.decorator import DecoratorConfig

_KINDS = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD", "VAR_POSITIONAL", "KEYWORD_ONLY", "VAR_KEYWORD")


def check(config: DecoratorConfig) -> None:
    """Raises for what cannot be beside ``interop=``; its two names are checked where keys are made."""
    operation: Any = config.interop
    if not isinstance(operation, str):
        raise ConfigurationError(f"interop={operation!r}: the operation's name is expected, or None for none")
    if config.namespace is None:
        raise ConfigurationError(
            f"interop={operation!r} needs a namespace, the first part of keys in every language: pass namespace="
        )
    _refuse("version", config.version is not None, "name another operation instead")
    _refuse("key", config.key is not None, "keys are made of the arguments, in every language alike")
    _refuse("backend=None", config.backend is None, "name a backend that programs share, or drop interop=")
    _refuse(
        f"serializer={config.serializer!r}",
        config.serializer != "default",
        "values are plain MessagePack, so leave serializer= out",
    )
    _refuse(
        "tenant_extractor",
        config.encryption.tenant_extractor is not None,
        "entries name no tenant, so use single_tenant_mode=True with a deployment_uuid=",
    )
    if config.backend is not None:
        check_backend(config.backend)


def check_deployment(config: DecoratorConfig) -> None:
    """Raises unless an encrypted interop function names its deployment as every program spells it."""
    import uuid

    from cachekit.config import effective

    given = config.encryption.deployment_uuid or effective.current().deployment_uuid
    if not given:
        raise ConfigurationError(
            "interop= and encryption need a deployment_uuid= (or CACHEKIT_DEPLOYMENT_UUID) that every program shares: "
            "keys are derived from it, and entries do not name it"
        )
    try:
        canonical = str(uuid.UUID(given))
    except ValueError:
        canonical = None
    if given != canonical:
        hint = "" if canonical is None else f", as {canonical}"
        raise ConfigurationError(
            f"interop= and deployment_uuid={given!r}: lower-case hexadecimal with hyphens is expected{hint}, since "
            "other programs derive keys from the text as it is"
        )


def check_backend(backend: Any, tenant: str | None = None) -> None:
    """Raises for a backend that puts something in front of keys, which other programs would not find."""
    prefix: object = f"t:{tenant}:" if tenant is not None else ""
    for name in ("key_prefix", "_key_prefix"):
        prefix = prefix or getattr(backend, name, None)
    if prefix:
        raise ConfigurationError(
            f"interop= and a backend that begins keys with {prefix!r}, under which other programs do not look: "
            f"pass a backend without a prefix, as backend=RedisBackend(url)"
        )


def parameters(shape: CallShape, name: str) -> list[tuple[str, int, tuple[Any] | None, bool]]:
    """Name, kind, default and whether it is ignored of each parameter, in the order of their declaration."""
    if shape.signature is None:
        raise ConfigurationError(f"interop= and {name}, whose parameters Python cannot tell: wrap it in a function")
    return [
        (item.name, _KINDS.index(item.kind.name), None if item.default is item.empty else (item.default,), ignored)
        for item in shape.signature.parameters.values()
        for ignored in (item.name in shape.ignored,)
    ]


def _refuse(what: str, given: bool, remedy: str) -> None:
    if given:
        raise ConfigurationError(f"interop= and {what if '=' in what else f'{what}='} exclude each other: {remedy}")
