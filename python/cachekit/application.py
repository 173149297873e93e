"""What ``cachekit doctor --app`` tells of a program: the functions that it decorates, and what they are given."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback

from cachekit import encryption, registry
from cachekit.config import effective
from cachekit.config.decorator import MANAGED, Unset, get_default_backend
from cachekit.config.validation import ConfigurationError
from cachekit.ttl import seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit.function import Handle


def describe(module: str) -> dict[str, Any]:
    """The functions that are decorated once `module` is imported, and what its code sets for all of them.

    The import runs the module; what that prints goes to standard error. An ``ImportError`` says why it failed.
    """
    sys.path.insert(0, os.getcwd())  # as `python -m` finds modules; a script finds them beside itself
    try:
        with contextlib.redirect_stdout(sys.stderr):
            importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise ImportError(f"{module} cannot be imported: {type(error).__name__}: {error}{_place(error)}") from error
    default = get_default_backend()
    handles = sorted((cached._handle for cached in registry.functions), key=lambda handle: (handle.module, handle.name))
    return {
        "functions": [_function(handle) for handle in handles],
        "default_backend": None if default is None else type(default).__name__,
        "configured": effective.configured() is not None,
    }


def _place(error: BaseException) -> str:
    """Where the module's own code failed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    ours = [frame for frame in frames if frame.filename not in (__file__, importlib.__file__)]
    return f" ({ours[-1].filename}:{ours[-1].lineno})" if ours else ""


def _function(handle: Handle) -> dict[str, Any]:
    config = handle.config
    found: dict[str, Any] = {
        "name": f"{handle.module}.{handle.name}",
        "intent": handle.intent,
        "by_name": handle.preset is None and config.encryption.enabled is None,
        "namespace": config.stored_namespace,
        "ttl": None,
        "serializer": config.serializer if isinstance(config.serializer, str) else type(config.serializer).__name__,
        "encrypted": None,
        "backend": _backend(handle),
        "problem": None,
    }
    try:
        found["ttl"] = _ttl(config.ttl)
        settings = encryption.settings(config.encryption, handle.intent, handle._keychain, found["name"])
        found["encrypted"] = settings is not None and settings["encrypts"]
    except ConfigurationError as error:
        found["problem"] = str(error)
    return found


def _ttl(ttl: Any) -> str:
    if ttl is None:
        ttl = effective.current().default_ttl
    if callable(ttl):
        return "by the result"
    known = seconds(ttl)
    return "for ever" if known is None else f"{known:g} s"


def _backend(handle: Handle) -> str | None:
    """Where the entries are shared; None for the backend that the environment chooses, "" for nowhere."""
    backend = handle.config.backend
    if handle._local_reason is not None:
        return ""
    if backend is MANAGED:
        return "CachekitIOBackend"
    if isinstance(backend, Unset):
        backend = get_default_backend()
        return None if backend is None else type(backend).__name__
    return "" if backend is None else type(backend).__name__
