"""`ConfigurationError`: what was configured wrongly, and how to put it right."""

from __future__ import annotations


class ConfigurationError(ValueError):
    """A parameter, setting or environment variable that cannot be used as given.

    `code` is stable: E001 encryption key missing, E002 encryption key malformed, E040 backend URL
    missing or malformed, E041 variable under a wrong name, E042 any other invalid value, E043
    something that this version does not have.
    """

    code: str

    def __init__(self, message: str, code: str = "E042") -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[str, str]]:
        return type(self), (str(self), self.code)


def __getattr__(name: str) -> object:
    if name == "validate_encryption_config":
        from cachekit.encryption import validate_encryption_config

        return validate_encryption_config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def absent(what: str, remedy: str) -> ConfigurationError:
    """The error for something that this version does not have."""
    return ConfigurationError(f"{what} is not in this version of cachekit: {remedy}", "E043")


def is_text(given: object) -> bool:
    """Whether it is text that UTF-8 can hold, which lone surrogates are not."""
    if not isinstance(given, str):
        return False
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True
