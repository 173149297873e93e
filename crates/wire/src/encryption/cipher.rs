//! The cipher, its key derivation and its hash, by AWS-LC.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    constant_time, digest, hkdf,
};
use zeroize::Zeroizing;

use super::{
    Fingerprint, MasterKey, NONCE_LEN, TAG_LEN,
    derive::{DOMAIN, salt},
};

const KEY_LEN: usize = 32;
const LIMIT: &str = "the lengths fit, and payloads are below the cipher's limit of 64 GiB";

/// One tenant's key from one master key. The cipher wipes its schedule when it is dropped.
pub(super) struct DerivedKey {
    cipher: LessSafeKey,
    fingerprint: Fingerprint,
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
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"key_fingerprint_v1");
        hash.update(&*key);
        let hash = hash.finish();
        let half = hash.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
        Self {
            cipher: LessSafeKey::new(unbound),
            fingerprint: Fingerprint::of(half),
        }
    }

    pub(super) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Encrypts `payload` in place.
    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE_LEN],
        binding: &[u8],
        payload: &mut [u8],
    ) -> [u8; TAG_LEN] {
        let unique = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .cipher
            .seal_in_place_separate_tag(unique, Aad::from(binding), payload)
            .expect(LIMIT);
        tag.as_ref().try_into().expect("the tag of AES-GCM")
    }

    /// Encrypts `payload` into `out`, of the same length.
    pub(super) fn seal_into(
        &self,
        nonce: [u8; NONCE_LEN],
        binding: &[u8],
        payload: &[u8],
        out: &mut [u8],
        tag: &mut [u8],
    ) {
        let unique = Nonce::assume_unique_for_key(nonce);
        self.cipher
            .seal_out_of_place_scatter(unique, Aad::from(binding), payload, out, &[], tag)
            .expect(LIMIT);
    }

    /// Decrypts `ciphertext` into `out`, of the same length: whether it is authentic.
    pub(super) fn open(
        &self,
        nonce: &[u8],
        binding: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
        out: &mut [u8],
    ) -> bool {
        let nonce = Nonce::try_assume_unique_for_key(nonce).expect("it was cut to that length");
        self.cipher
            .open_separate_gather(nonce, Aad::from(binding), ciphertext, tag, out)
            .is_ok()
    }
}

/// Whether secrets are equal, in a time that does not depend on where they differ.
pub(super) fn are_equal(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// The length of a derived key.
struct Len;

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        KEY_LEN
    }
}
