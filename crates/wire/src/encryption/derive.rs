use std::fmt;

use super::TenantError;

/// The most bytes of a tenant's name.
pub const MAX_TENANT_BYTES: usize = 1024;
/// The purpose that the key is derived for; other purposes of the protocol have other names.
pub(super) const DOMAIN: &[u8] = b"encryption";

/// What names a derived key without telling it: half of a SHA-256, as 32 lower-case digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }

    /// That of a key whose SHA-256, behind the label of this protocol's fingerprints, starts with `half`.
    pub(super) fn of(half: &[u8; 16]) -> Self {
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_mut(2).zip(half) {
            let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0x0f)]);
        }
        Self(digits)
    }
}

impl PartialEq<str> for Fingerprint {
    fn eq(&self, other: &str) -> bool {
        self.0 == *other.as_bytes()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `"cachekit_v1_" ‖ u8 length ‖ domain ‖ u16 length ‖ tenant`, lengths big-endian.
pub(super) fn salt(tenant: &str) -> Vec<u8> {
    let mut salt = b"cachekit_v1_".to_vec();
    salt.push(DOMAIN.len() as u8);
    salt.extend_from_slice(DOMAIN);
    let len = u16::try_from(tenant.len()).expect("checked to be at most 1024");
    salt.extend_from_slice(&len.to_be_bytes());
    salt.extend_from_slice(tenant.as_bytes());
    salt
}

pub(super) fn check(tenant: &str) -> Result<(), TenantError> {
    match tenant.len() {
        0 => Err(TenantError::Empty),
        bytes if bytes > MAX_TENANT_BYTES => Err(TenantError::Long { bytes }),
        _ => Ok(()),
    }
}
