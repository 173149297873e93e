"""What goes wrong with serializers and encrypted entries."""

from __future__ import annotations

from cachekit.config.validation import ConfigurationError
from cachekit.serializers.base import SerializationError


class EncryptionError(SerializationError):
    """A value could not be encrypted, or an entry not decrypted."""

    code = "E003"


class DecryptionAuthenticationError(EncryptionError):
    """An entry is not what was encrypted: altered, moved from another key or tenant, or of an unknown key.

    Which of them is not said, since whoever can write to the store could learn from it.
    """


class SuspiciousCacheEntryError(SerializationError):
    """A plain entry stands where only encrypted ones are accepted."""

    code = "E003"


class KeyringConfigurationError(ConfigurationError):
    """A master key is malformed, too short, or there twice."""


class MissingLibraryError(ConfigurationError, ImportError):
    """A serializer's library is not installed; the message names the extra that brings it."""
