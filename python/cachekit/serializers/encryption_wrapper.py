"""Encryption around any serializer, with AES-256-GCM under a key of the tenant."""

from __future__ import annotations

from cachekit import encryption
from cachekit.config import effective
from cachekit.config.validation import ConfigurationError
from cachekit.serializers.base import SerializationMetadata
from cachekit.serializers.errors import DecryptionAuthenticationError, SuspiciousCacheEntryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cachekit.encryption import Key
    from cachekit.serializers.base import SerializerProtocol

ALGORITHM = "AES-256-GCM"


class EncryptionWrapper:
    """What `serializer` makes, encrypted. As ``serializer=`` of a function it is `encryption=True` with these keys.

    `master_key` is bytes or hexadecimal text; None means CACHEKIT_MASTER_KEY, with the previous keys of
    CACHEKIT_PREVIOUS_MASTER_KEYS. `fail_closed=None` is CACHEKIT_ENCRYPTION_FAIL_CLOSED. With
    `enable_encryption=False` it does nothing, and says so in the log.
    """

    __slots__ = (
        "_fail_closed",
        "_keychain",
        "_master_key",
        "_previous",
        "enable_encryption",
        "serializer",
        "tenant_id",
    )

    cross_sdk_compatible = True

    def __init__(
        self,
        serializer: SerializerProtocol | str | None = None,
        master_key: Key | None = None,
        tenant_id: str = encryption.NO_TENANT,
        enable_encryption: bool = True,
        fail_closed: bool | None = None,
        previous_master_keys: tuple[Key, ...] | list[Key] | None = None,
    ) -> None:
        if serializer is None:
            from cachekit.serializers.standard import StandardSerializer

            serializer = StandardSerializer()
        if serializer == "encrypted" or isinstance(serializer, EncryptionWrapper):
            raise ConfigurationError(
                'EncryptionWrapper encrypts what another serializer makes: give it that one, as in serializer="auto"'
            )
        self.serializer: Any = serializer
        name = encryption.tenant_name(tenant_id)
        if name is None:
            raise ConfigurationError(f"tenant_id={tenant_id!r}: a name is expected")
        self.tenant_id = name
        self.enable_encryption = bool(enable_encryption)
        self._fail_closed = None if fail_closed is None else bool(fail_closed)
        self._master_key = master_key
        self._previous = None if previous_master_keys is None else tuple(previous_master_keys)
        self._keychain: Any = None
        if self.enable_encryption:
            from cachekit.config.nested import EncryptionConfig

            mine = EncryptionConfig(enabled=True, master_key=master_key, previous_master_keys=self._previous)
            self._keychain = encryption.own_keychain(mine) or encryption.process_keychain()
            if self._keychain is None:
                raise encryption.no_key("EncryptionWrapper")
        else:
            from logging import getLogger

            getLogger("cachekit.encryption").warning(
                "EncryptionWrapper(enable_encryption=False): what it serializes is stored in plain"
            )

    def as_config(self) -> dict[str, Any]:
        """The fields of the `EncryptionConfig` that a function with this serializer has."""
        if not self.enable_encryption:
            return {"enabled": False}
        found: dict[str, Any] = {"enabled": True}
        if self._fail_closed is not None:
            found["fail_closed"] = self._fail_closed
        if self._master_key is not None:
            found["master_key"] = self._master_key
        if self._previous is not None:
            found["previous_master_keys"] = self._previous
        if self.tenant_id != encryption.NO_TENANT:
            found["deployment_uuid"] = self.tenant_id
        return found

    @property
    def fail_closed(self) -> bool:
        """Whether an entry of an unknown key is refused although the current key opens it."""
        return effective.current().encryption_fail_closed if self._fail_closed is None else self._fail_closed

    @property
    def is_encryption_enabled(self) -> bool:
        """Whether it encrypts."""
        return self.enable_encryption

    @property
    def hardware_acceleration_enabled(self) -> bool:
        """Whether the processor has instructions for AES."""
        from cachekit import _native

        return _native.has_aes()

    def get_encryption_info(self) -> dict[str, Any]:
        """How it encrypts, for logs and support; no keys."""
        info: dict[str, Any] = {"encryption_enabled": self.enable_encryption, "tenant_id": self.tenant_id}
        if self.enable_encryption:
            info.update(
                algorithm=ALGORITHM,
                key_derivation="HKDF-SHA256",
                key_fingerprint=self._keychain.fingerprint(self.tenant_id),
                hardware_acceleration=self.hardware_acceleration_enabled,
                fail_closed=self.fail_closed,
            )
        return info

    def serialize(self, obj: Any, cache_key: str = "") -> tuple[bytes, SerializationMetadata]:
        """The encrypted payload of a value, bound to `cache_key`, and what its header says."""
        data, plain = self._inner().serialize(obj)
        if not self.enable_encryption:
            return data, plain
        sealed = self._keychain.seal(self._binding(plain, self.tenant_id, cache_key), data)
        metadata = SerializationMetadata(
            plain.serialization_format,
            plain.encoding,
            plain.compressed,
            plain.original_type,
            encrypted=True,
            tenant_id=self.tenant_id,
            encryption_algorithm=ALGORITHM,
            key_fingerprint=self._keychain.fingerprint(self.tenant_id),
        )
        return sealed, metadata

    def deserialize(
        self, data: bytes | memoryview, metadata: SerializationMetadata | None = None, cache_key: str = ""
    ) -> Any:
        """The value of a payload that was encrypted for `cache_key`.

        SuspiciousCacheEntryError for one that says it is not encrypted, DecryptionAuthenticationError for one
        that does not decrypt.
        """
        if not self.enable_encryption:
            return self._inner().deserialize(data, metadata)
        if metadata is None or not metadata.encrypted:
            raise SuspiciousCacheEntryError("the entry says that it is not encrypted, and only encrypted ones are read")
        tenant = metadata.tenant_id or self.tenant_id
        payload = None
        if tenant == self.tenant_id:
            bound, sealed = self._binding(metadata, tenant, cache_key), bytes(data)
            payload = self._keychain.open(bound, sealed, metadata.key_fingerprint, True)
            # Looking at the settings takes longer than decrypting, so only what needs it does.
            if payload is None and not self.fail_closed:
                payload = self._keychain.open(bound, sealed, metadata.key_fingerprint, False)
        if payload is None:
            raise DecryptionAuthenticationError(
                "the payload is not what was encrypted for this key and tenant, or its master key is not configured"
            )
        return self._inner().deserialize(payload, metadata)

    def _inner(self) -> Any:
        inner: Any = self.serializer
        if isinstance(inner, str):
            from cachekit import serializers

            by_name: Any = serializers.get_serializer  # pyright: ignore[reportAttributeAccessIssue]
            inner = self.serializer = by_name(inner)
        return inner

    @staticmethod
    def _binding(metadata: SerializationMetadata, tenant: str, cache_key: Any) -> dict[str, Any]:
        if not isinstance(cache_key, str):
            raise TypeError(f"cache_key={cache_key!r}: text is expected")
        if not cache_key:
            raise ValueError("cache_key is empty: an encrypted payload is bound to the key that it is stored under")
        return {
            "tenant": tenant,
            "key": cache_key,
            "format": metadata.serialization_format.value,
            "compressed": metadata.compressed,
            "original_type": metadata.original_type,
        }

    def __repr__(self) -> str:
        return (
            f"EncryptionWrapper(serializer={self.serializer!r}, tenant_id={self.tenant_id!r}, "
            f"enable_encryption={self.enable_encryption})"
        )
