use super::{MAX_PREVIOUS, MAX_TENANT_BYTES, MIN_KEY_BYTES, NONCE_LEN, TAG_LEN};

/// Why master keys cannot be used. Never quotes a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Something else than hexadecimal digits, or an odd number of them.
    #[error(
        "is not hexadecimal: write an even number of digits 0-9 and a-f, as `openssl rand -hex 32` does"
    )]
    NotHex,
    /// Fewer bytes than [`MIN_KEY_BYTES`].
    #[error(
        "has {bytes} bytes and needs at least {MIN_KEY_BYTES}: make one with `openssl rand -hex 32`"
    )]
    Short {
        /// The bytes that it has.
        bytes: usize,
    },
    /// More previous keys than [`MAX_PREVIOUS`].
    #[error("has {count} previous keys, at most {MAX_PREVIOUS} are kept: drop the oldest")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// A previous key that is the current one, or is there twice.
    #[error(
        "has the same key twice: previous keys are those that the current one has replaced, each once"
    )]
    Repeated,
    /// Built without the feature `encryption`.
    #[error(
        "cannot be used: this program was built without the feature \"encryption\" of cachekit-cache"
    )]
    LeftOut,
}

/// Why a tenant has no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// The name is empty.
    #[error("the tenant is empty")]
    Empty,
    /// The name is longer than [`MAX_TENANT_BYTES`].
    #[error("the tenant has {bytes} bytes, at most {MAX_TENANT_BYTES} are allowed")]
    Long {
        /// The bytes that it has.
        bytes: usize,
    },
}

/// Why a payload was not decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Too short to be ciphertext.
    #[error("the ciphertext has {have} bytes, nonce and tag alone take {}", NONCE_LEN + TAG_LEN)]
    Short {
        /// Bytes present.
        have: usize,
    },
    /// Not what was written: altered, moved from another key, tenant or format, or encrypted with a
    /// key that is not in the ring.
    #[error("the ciphertext is not authentic: altered, moved, or of another key")]
    Unauthentic,
}
