"""Who encrypts, with which keys, for which tenant: what the decorator and the settings say together."""

from __future__ import annotations

from cachekit import _native
from cachekit.config import effective
from cachekit.config.validation import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    from cachekit.config.nested import EncryptionConfig

    Key = Union[str, bytes]

NO_TENANT = "default"
"""The tenant where nobody names one."""

_MAKE_ONE = "make a key with `openssl rand -hex 32`"

# The chain of the settings' keys, and the keys that it is of.
_of_process: tuple[tuple[Any, ...], _native.Keychain] | None = None


_OF_PARAMETERS = ("master_key", "previous_master_keys")
_OF_PROCESS = ("CACHEKIT_MASTER_KEY", "CACHEKIT_PREVIOUS_MASTER_KEYS")


def keychain(current: Key, previous: tuple[Key, ...], sources: tuple[str, str] = _OF_PARAMETERS) -> _native.Keychain:
    """The chain of these keys; a `KeyringConfigurationError` says what is wrong with one, and never shows it.

    `sources` are the names by which it calls the current key and the previous ones.
    """
    try:
        return _native.Keychain(current, list(previous))
    except ValueError as error:
        wrong = _wrong(error, sources)
    raise wrong


def _wrong(error: ValueError, sources: tuple[str, str]) -> ConfigurationError:
    from cachekit.serializers.errors import KeyringConfigurationError

    of_previous, told = error.args
    return KeyringConfigurationError(f"{sources[of_previous]} {told}", "E002")


def process_keychain() -> _native.Keychain | None:
    """The chain of the keys in the settings; None where there is no master key."""
    global _of_process
    now = effective.current()
    previous = now.previous_master_keys
    if now.master_key is None:
        if previous:
            _check_previous(previous)
        return None
    keys = (now.master_key, *previous)
    if _of_process is None or _of_process[0] != keys:
        _of_process = (keys, keychain(now.master_key, previous, _OF_PROCESS))
    return _of_process[1]


def _check_previous(previous: tuple[Key, ...]) -> None:
    try:
        _native.Keychain.check_previous(list(previous))
        return
    except ValueError as error:
        wrong = _wrong(error, _OF_PROCESS)
    raise wrong


def own_keychain(config: EncryptionConfig) -> _native.Keychain | None:
    """The chain of the key that a function was given; None where it was given none."""
    if config.master_key is None:
        return None
    if config.previous_master_keys is not None:
        return keychain(config.master_key, config.previous_master_keys)
    return keychain(config.master_key, effective.current().previous_master_keys, (_OF_PARAMETERS[0], _OF_PROCESS[1]))


def no_key(who: str) -> ConfigurationError:
    """The error for `who` is to encrypt without a key."""
    return ConfigurationError(f"{who} needs a key: pass master_key= or set CACHEKIT_MASTER_KEY; {_MAKE_ONE}", "E001")


def validate_encryption_config(encryption: bool = False, master_key: Key | None = None) -> None:
    """Checks that encryption could start: a `ConfigurationError` where the key is missing or malformed.

    Does nothing without `encryption`. Without `master_key` the settings' key is checked, and it is
    logged that the key is in the environment, which every child process inherits.
    """
    if not encryption:
        return
    if master_key is not None:
        keychain(master_key, ())
        return
    if process_keychain() is None:
        raise no_key("encryption")
    if effective.configured() is None:
        from logging import getLogger

        getLogger("cachekit.encryption").warning(
            "the master key comes from CACHEKIT_MASTER_KEY, which child processes and crash reports see; where that "
            "matters, read it from a secret store and pass it to cachekit.configure()"
        )


def tenant_name(given: object) -> str | None:
    """A tenant as it is stored: UUIDs in their usual form, numbers in digits; None for what names nobody."""
    from uuid import UUID

    if isinstance(given, UUID):
        return str(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    if not isinstance(given, str) or not given:
        return None
    if len(given) < 32:
        return given
    try:
        usual = str(UUID(given))
    except ValueError:
        return given
    # `UUID` also reads signs, underscores and other scripts' digits: names that are not this UUID's.
    spelled = (usual, usual.replace("-", ""), f"{{{usual}}}", f"urn:uuid:{usual}")
    return usual if given.lower() in spelled else given


def settings(config: EncryptionConfig, intent: str, own: _native.Keychain | None, name: str) -> dict[str, Any] | None:
    """What the native side does about a function's encryption; None where there is no key.

    A `ConfigurationError` where it is to encrypt and there is no key.
    """
    now = effective.current()
    chain = own or process_keychain()
    encrypts = config.enabled
    if encrypts is None:
        encrypts = now.encryption == "all" or (intent == "secure" and chain is not None)
    if chain is None:
        if encrypts:
            raise no_key(name)
        return None
    single = config.tenant_extractor is None
    deployment = config.deployment_uuid or now.deployment_uuid
    return {
        "keychain": chain,
        "encrypts": encrypts,
        "fail_closed": now.encryption_fail_closed if config.fail_closed is None else config.fail_closed,
        "tenant": (tenant_name(deployment) if deployment else NO_TENANT) if single else None,
    }
