"""The process's backend provider."""

from __future__ import annotations

from cachekit.backends.provider import DefaultBackendProvider

_provider: DefaultBackendProvider | None = None


def get_backend_provider() -> DefaultBackendProvider:
    """The provider that functions without a backend of their own ask."""
    global _provider
    if _provider is None:
        _provider = DefaultBackendProvider()
    return _provider
