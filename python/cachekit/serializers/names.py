"""The serializers by name."""

from __future__ import annotations

from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit.serializers.base import SerializerProtocol

# Every name, with the frame's canonical one.
NAMES = {
    "std": "default",
    "standard": "default",
    "default": "default",
    "auto": "auto",
    "pythonic": "auto",
    "orjson": "orjson",
    "arrow": "arrow",
    "encrypted": "encrypted",
}

_CLASSES = {
    "default": ("cachekit.serializers.standard", "StandardSerializer"),
    "auto": ("cachekit.serializers.auto", "AutoSerializer"),
    "orjson": ("cachekit.serializers.orjson", "OrjsonSerializer"),
    "arrow": ("cachekit.serializers.arrow", "ArrowSerializer"),
    "encrypted": ("cachekit.serializers.encryption_wrapper", "EncryptionWrapper"),
}


def serializer_class(name: str) -> type[Any]:
    """The class of a serializer's name; ValueError for an unknown one."""
    from importlib import import_module

    canonical = NAMES.get(name)
    if canonical is None:
        from difflib import get_close_matches

        near = get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(NAMES)}"
        raise ValueError(f"serializer {name!r} is unknown: {hint}")
    module, attribute = _CLASSES[canonical]
    found: type[Any] = getattr(import_module(module), attribute)
    return found


def get_serializer(name: str, enable_integrity_checking: bool = True) -> SerializerProtocol:
    """A serializer by name. ValueError for an unknown name, `MissingLibraryError` naming the extra to install.

    "encrypted" is an `EncryptionWrapper` around the default one, with the settings' keys.
    """
    known = serializer_class(name)
    made: SerializerProtocol
    if name == "encrypted":
        made = known(get_serializer("default", enable_integrity_checking))
    else:
        made = known(enable_integrity_checking=enable_integrity_checking)
    return made


def chosen(serializer: Any) -> tuple[Any, ...] | None:
    """What the engine is told of a function's serializer: a canonical name, or an object."""
    if serializer == "default":
        return None
    if isinstance(serializer, str):
        serializer = serializer_class(serializer)()
    from cachekit.serializers.base import NativeSerializer

    if isinstance(serializer, NativeSerializer):
        return serializer._chosen()  # pyright: ignore[reportPrivateUsage]
    return "custom", serializer


def get_available_serializers() -> dict[str, type[Any]]:
    """The class behind every name."""
    return {name: serializer_class(name) for name in NAMES}


def get_serializer_info() -> dict[str, dict[str, Any]]:
    """Of every name: its class, whether it can be used here, and if not, why."""
    found: dict[str, dict[str, Any]] = {}
    for name in NAMES:
        known = serializer_class(name)
        info: dict[str, Any] = {"class": known.__name__, "module": known.__module__, "available": True}
        info["description"] = (known.__doc__ or "").partition("\n")[0]
        try:
            known()
        except ConfigurationError as error:
            info.update(available=False, error=str(error))
        found[name] = info
    return found


def benchmark_serializers(sample: Any = None, repeat: int = 200) -> dict[str, dict[str, float]]:
    """Seconds that each usable serializer takes for a value, and the payload's bytes."""
    from time import perf_counter

    if sample is None:
        sample = {"id": 7, "name": "sample", "tags": ["a", "b"], "scores": [1.5] * 50}
    found: dict[str, dict[str, float]] = {}
    for name, info in get_serializer_info().items():
        if not info["available"] or NAMES[name] in found or name == "encrypted":
            continue  # What encrypts needs a key of the cache.
        serializer = get_serializer(name)
        try:
            payload, metadata = serializer.serialize(sample)
        except TypeError:
            continue  # Not one for such values.
        start = perf_counter()
        for _ in range(repeat):
            serializer.serialize(sample)
        half = perf_counter()
        for _ in range(repeat):
            serializer.deserialize(payload, metadata)
        end = perf_counter()
        found[NAMES[name]] = {
            "serialize": (half - start) / repeat,
            "deserialize": (end - half) / repeat,
            "bytes": len(payload),
        }
    return found
