use std::sync::Arc;

use bytes::Bytes;
use cachekit_wire::{
    encryption::{ALGORITHM, Binding, NONCE_LEN, OpenError, TAG_LEN, TenantError, TenantKeys},
    frame::{Frame, Header},
};

use super::{Keychain, Refusal, keychain::fresh};

/// What one function, or one cache, does about encryption.
#[derive(Debug, Clone)]
pub struct Encryption {
    /// The keys.
    pub keychain: Arc<Keychain>,
    /// Whether values are encrypted, and plain entries refused. Where not, encrypted entries are read
    /// all the same.
    pub encrypts: bool,
    /// Whether the caller gets an error for an entry that does not decrypt, instead of a computed
    /// result.
    pub fail_closed: bool,
    /// Whether there are several tenants. Entries of another one are then refused; otherwise an entry
    /// is read with the keys of the tenant that it names.
    pub tenants: bool,
}

/// One entry's encryption: the keys of its tenant, and the cache key that it is bound to.
#[derive(Debug, Clone)]
pub struct Sealer {
    encryption: Encryption,
    keys: Arc<TenantKeys>,
    key: Arc<str>,
}

/// Why an entry that is encrypted, or should be, was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// As it is counted.
    pub why: Refusal,
    message: &'static str,
}

impl Refused {
    pub(crate) const PLAIN: Self = Self::new(
        Refusal::SuspiciousEnvelope,
        "in plain where only ciphertext is taken; it is recomputed and overwritten",
    );
    const UNAUTHENTIC: Self = Self::new(
        Refusal::AuthTamper,
        "encrypted and does not decrypt: it was altered, comes from another key or tenant, or its \
         master key is not configured (a replaced one belongs into CACHEKIT_PREVIOUS_MASTER_KEYS)",
    );
    const SHORT: Self = Self::new(
        Refusal::Corruption,
        "encrypted and too short to be ciphertext",
    );

    const fn new(why: Refusal, message: &'static str) -> Self {
        Self { why, message }
    }
}

impl From<OpenError> for Refused {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Short { .. } => Self::SHORT,
            _ => Self::UNAUTHENTIC,
        }
    }
}

impl Sealer {
    /// The encryption of the entry under `key`, which bears no tenant's prefix, for `tenant`.
    ///
    /// # Errors
    /// When the tenant's name is empty or too long.
    pub fn new(
        encryption: &Encryption,
        tenant: &str,
        key: impl Into<Arc<str>>,
    ) -> Result<Self, TenantError> {
        Ok(Self {
            keys: encryption.keychain.tenant(tenant)?,
            encryption: encryption.clone(),
            key: key.into(),
        })
    }

    /// What the function does about encryption.
    #[must_use]
    pub fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &str {
        self.keys.tenant()
    }

    /// The cache key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Encrypts the wrapped body of an entry in place, and says so in its `header`. Returned is what
    /// stands before and behind the ciphertext.
    #[must_use = "without nonce and tag the payload is lost"]
    pub fn seal(
        &self,
        header: &mut Header,
        payload: &mut [u8],
    ) -> ([u8; NONCE_LEN], [u8; TAG_LEN]) {
        header.encrypted = true;
        header.tenant_id = Some(self.tenant().to_owned());
        header.encryption_algorithm = Some(ALGORITHM.to_owned());
        header.key_fingerprint = Some(self.keys.fingerprint().as_str().to_owned());
        let binding = self.binding(header, self.tenant());
        self.keys.seal(fresh(), &binding, payload)
    }

    /// The encrypted entry that `stored` holds as this `frame`; nothing is decrypted yet.
    ///
    /// # Errors
    /// When it is in plain and may not be, or another tenant's.
    pub fn read(&self, stored: &Bytes, frame: &Frame<'_>) -> Result<Sealed, Refused> {
        let header = &frame.header;
        if !header.encrypted {
            return Err(Refused::PLAIN);
        }
        let keys = match header.tenant_id.as_deref() {
            Some(named) if named != self.tenant() => {
                if self.encryption.tenants {
                    return Err(Refused::UNAUTHENTIC);
                }
                let keys = self.encryption.keychain.tenant(named);
                keys.map_err(|_| Refused::UNAUTHENTIC)?
            }
            _ => Arc::clone(&self.keys),
        };
        Ok(Sealed {
            payload: match &frame.payload {
                std::borrow::Cow::Borrowed(part) => stored.slice_ref(part),
                std::borrow::Cow::Owned(decoded) => Bytes::copy_from_slice(decoded),
            },
            binding: self.binding(header, keys.tenant()).into(),
            header: header.clone(),
            key: Arc::clone(&self.key),
            keys,
            strict: self.encryption.fail_closed,
        })
    }

    fn binding(&self, header: &Header, tenant: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + tenant.len() + self.key.len());
        let binding = Binding {
            tenant,
            key: &self.key,
            format: &header.format,
            compressed: header.compressed,
            original_type: header.original_type.as_deref(),
        };
        binding.write(&mut bytes);
        bytes
    }
}

/// An encrypted entry, with what opens it.
#[derive(Debug)]
pub struct Sealed {
    header: Header,
    payload: Bytes,
    key: Arc<str>,
    keys: Arc<TenantKeys>,
    binding: Box<[u8]>,
    /// Whether an entry that names a key which is not configured is refused although another opens it.
    strict: bool,
}

impl Sealed {
    /// The header of the entry.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The cache key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &str {
        self.keys.tenant()
    }

    /// Decrypts the wrapped body, which replaces the contents of `into`.
    ///
    /// # Errors
    /// When it does not decrypt; `into` is then empty.
    pub fn open(&self, into: &mut Vec<u8>) -> Result<(), Refused> {
        let name = self.header.key_fingerprint.as_deref();
        let opened = self.keys.open(&self.payload, name, &self.binding, into)?;
        if self.strict && name.is_some() && !opened.named {
            into.clear();
            return Err(Refused::UNAUTHENTIC);
        }
        Ok(())
    }

    /// The bytes that it holds, itself included.
    #[must_use]
    pub fn weight(&self) -> usize {
        let names = [&self.header.tenant_id, &self.header.key_fingerprint]
            .into_iter()
            .flatten()
            .map(String::len)
            .sum::<usize>();
        let parts = names + ALGORITHM.len() + self.key.len() + self.binding.len();
        size_of::<Self>() + parts + self.payload.len()
    }
}
