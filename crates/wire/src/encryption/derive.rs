use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, LessSafeKey, UnboundKey},
    digest, hkdf,
};
use zeroize::Zeroizing;

use super::{MasterKey, TenantError};

/// The most bytes of a tenant's name.
pub const MAX_TENANT_BYTES: usize = 1024;
/// The purpose that the key is derived for; other purposes of the protocol have other names.
const DOMAIN: &[u8] = b"encryption";
const KEY_LEN: usize = 32;

/// What names a derived key without telling it: half of a SHA-256, as 32 lower-case digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }

    fn of(key: &[u8]) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"key_fingerprint_v1");
        hash.update(key);
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_mut(2).zip(hash.finish().as_ref()) {
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

/// One tenant's key from one master key. The cipher wipes its schedule when it is dropped.
pub(super) struct DerivedKey {
    pub(super) cipher: LessSafeKey,
    pub(super) fingerprint: Fingerprint,
}

impl DerivedKey {
    pub(super) fn new(master: &MasterKey, tenant: &str) -> Self {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, &salt(tenant))
            .extract(master.expose())
            .expand(&[DOMAIN], Len)
            .and_then(|okm| okm.fill(&mut *key))
            .expect("32 bytes are within the 8160 that HKDF-SHA256 gives");
        let unbound = UnboundKey::new(&AES_256_GCM, &*key).expect("32 bytes are an AES-256 key");
        Self {
            cipher: LessSafeKey::new(unbound),
            fingerprint: Fingerprint::of(&*key),
        }
    }
}

/// `"cachekit_v1_" ‖ u8 length ‖ domain ‖ u16 length ‖ tenant`, lengths big-endian.
fn salt(tenant: &str) -> Vec<u8> {
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

/// The length of a derived key.
struct Len;

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        KEY_LEN
    }
}
