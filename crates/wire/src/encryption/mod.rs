//! Encrypted payloads: AES-256-GCM under a key of the tenant, bound to the entry that they belong to.
//!
//! ```text
//! nonce (12) ‖ ciphertext ‖ tag (16)
//! ```
//!
//! The key is derived from a [`MasterKey`] for one tenant; the additional data ([`Binding`]) names the
//! tenant, the cache key and the form of the payload, so that a ciphertext opens nowhere but where it
//! was written. A [`Keyring`] holds the key that encrypts and up to [`MAX_PREVIOUS`] that it replaced.
//! Randomness is passed in. Without the feature `encryption` no master key is made. Format source: the public CacheKit protocol.

mod binding;
#[cfg_attr(not(feature = "encryption"), path = "no_cipher.rs")]
mod cipher;
mod derive;
mod error;
mod keyring;
mod nonce;

pub use binding::Binding;
pub use derive::{Fingerprint, MAX_TENANT_BYTES};
pub use error::{KeyError, OpenError, TenantError};
pub use keyring::{Keyring, MAX_PREVIOUS, MIN_KEY_BYTES, MasterKey};

use cipher::DerivedKey;
use nonce::Nonces;

/// The name of the cipher in an entry's header.
pub const ALGORITHM: &str = "AES-256-GCM";
/// The bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// The bytes of an authentication tag.
pub const TAG_LEN: usize = 16;

/// The keys of one tenant, derived from every master key of a ring; the first one encrypts.
///
/// Keys are wiped from memory when this is dropped, and never shown by `Debug`.
pub struct TenantKeys {
    tenant: Box<str>,
    keys: Vec<DerivedKey>,
    nonces: Nonces,
}

/// How an entry was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Which key of the ring did: 0 is the current one, 1 the newest of the previous ones.
    pub key: usize,
    /// Whether the entry named that key. It did not if it names no key at all, or one that is not in
    /// the ring although the current one opened it.
    pub named: bool,
}

impl TenantKeys {
    /// Derives the keys of `tenant` from every key of `ring`.
    ///
    /// `start` is where the counter in the nonces begins: a random number, drawn for this value alone.
    ///
    /// # Errors
    /// When the tenant's name is empty or longer than [`MAX_TENANT_BYTES`].
    pub fn derive(ring: &Keyring, tenant: &str, start: u32) -> Result<Self, TenantError> {
        derive::check(tenant)?;
        Ok(Self {
            tenant: tenant.into(),
            keys: ring
                .keys()
                .map(|key| DerivedKey::new(key, tenant))
                .collect(),
            nonces: Nonces::starting_at(start),
        })
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// What names the key that encrypts, in the headers of its entries.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        self.keys[0].fingerprint()
    }

    /// Encrypts `payload` in place; returned is what stands before and behind it.
    ///
    /// `random` is 64 bits drawn for this entry alone; `binding` is what [`Binding::write`] made.
    ///
    /// # Panics
    /// If the payload has 64 GiB or more.
    #[must_use = "without nonce and tag the payload is lost"]
    pub fn seal(
        &self,
        random: u64,
        binding: &[u8],
        payload: &mut [u8],
    ) -> ([u8; NONCE_LEN], [u8; TAG_LEN]) {
        let nonce = self.nonces.next(random);
        (nonce, self.keys[0].seal(nonce, binding, payload))
    }

    /// Encrypts `payload` into `out`, which is longer by [`NONCE_LEN`] and [`TAG_LEN`]; the rest is as
    /// with [`seal`](Self::seal).
    ///
    /// # Panics
    /// If `out` has another length, or the payload 64 GiB or more.
    pub fn seal_into(&self, random: u64, binding: &[u8], payload: &[u8], out: &mut [u8]) {
        let nonce = self.nonces.next(random);
        let (head, rest) = out.split_at_mut(NONCE_LEN);
        head.copy_from_slice(&nonce);
        let (middle, tag) = rest.split_at_mut(payload.len());
        self.keys[0].seal_into(nonce, binding, payload, middle, tag);
    }

    /// Decrypts `sealed`: the payload replaces the contents of `into`.
    ///
    /// `into` keeps its allocation where that suffices, and costs least when its *length* does too. After
    /// an error it is empty. The rest is as with [`open_into`](Self::open_into).
    ///
    /// # Errors
    /// [`OpenError`]; which byte or member was wrong cannot be told, on purpose.
    pub fn open(
        &self,
        sealed: &[u8],
        fingerprint: Option<&str>,
        binding: &[u8],
        into: &mut Vec<u8>,
    ) -> Result<Opened, OpenError> {
        into.resize(payload_len(sealed).unwrap_or(0), 0);
        let opened = self.open_into(sealed, fingerprint, binding, into);
        if opened.is_err() {
            into.clear();
        }
        opened
    }

    /// Decrypts `sealed` into `out`, which has [`payload_len`] bytes; after an error they mean nothing.
    ///
    /// `fingerprint` is what the entry's header says. The key of that name is tried; if the ring has
    /// none, the current one; if the header says nothing, all in their order.
    ///
    /// # Errors
    /// [`OpenError`]; which byte or member was wrong cannot be told, on purpose.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn open_into(
        &self,
        sealed: &[u8],
        fingerprint: Option<&str>,
        binding: &[u8],
        out: &mut [u8],
    ) -> Result<Opened, OpenError> {
        let Some(len) = payload_len(sealed) else {
            return Err(OpenError::Short { have: sealed.len() });
        };
        assert_eq!(out.len(), len, "the room for the payload");
        let (nonce, rest) = sealed.split_at(NONCE_LEN);
        let (ciphertext, tag) = rest.split_at(len);
        let mut opens = |key: &DerivedKey| key.open(nonce, binding, ciphertext, tag, out);
        let opened = match fingerprint {
            Some(name) => {
                let named = self.keys.iter().position(|key| *key.fingerprint() == *name);
                let (key, named) = (named.unwrap_or(0), named.is_some());
                opens(&self.keys[key]).then_some(Opened { key, named })
            }
            None => (self.keys.iter().position(opens)).map(|key| Opened { key, named: false }),
        };
        opened.ok_or(OpenError::Unauthentic)
    }
}

/// The bytes of the payload that is encrypted in `sealed`; `None` if it is too short for nonce and tag.
#[must_use]
pub fn payload_len(sealed: &[u8]) -> Option<usize> {
    sealed.len().checked_sub(NONCE_LEN + TAG_LEN)
}

impl std::fmt::Debug for TenantKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantKeys").finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "encryption"))]
mod tests;
