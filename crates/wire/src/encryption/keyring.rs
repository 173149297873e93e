use std::fmt;

use zeroize::Zeroizing;

use super::{KeyError, cipher};

/// The fewest bytes of a master key.
pub const MIN_KEY_BYTES: usize = 32;
/// The most previous keys of a ring.
pub const MAX_PREVIOUS: usize = 3;

/// A secret that the keys of all tenants derive from: at least [`MIN_KEY_BYTES`] bytes.
///
/// Its memory is wiped when it is dropped, and `Debug` does not show it.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<Box<[u8]>>);

impl MasterKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// [`KeyError::Short`]; [`KeyError::LeftOut`] without the feature `encryption`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if !cfg!(feature = "encryption") {
            return Err(KeyError::LeftOut);
        }
        if bytes.len() < MIN_KEY_BYTES {
            return Err(KeyError::Short { bytes: bytes.len() });
        }
        Ok(Self(Zeroizing::new(bytes.into())))
    }

    /// The key of hexadecimal text, upper or lower case; white space around it is dropped.
    ///
    /// # Errors
    /// [`KeyError::NotHex`], and those of [`from_bytes`](Self::from_bytes).
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let digits = text.trim().as_bytes();
        // As long as it gets from the start, so that no copy is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
        for pair in digits.chunks(2) {
            let [high, low] = pair else {
                return Err(KeyError::NotHex);
            };
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                return Err(KeyError::NotHex);
            };
            bytes.push(high << 4 | low);
        }
        Self::from_bytes(&bytes)
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }

    fn is(&self, other: &Self) -> bool {
        cipher::are_equal(&self.0, &other.0)
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([REDACTED])")
    }
}

/// The master key that encrypts, and those it has replaced, which still decrypt.
#[derive(Debug, Clone)]
pub struct Keyring {
    current: MasterKey,
    previous: Vec<MasterKey>,
}

impl Keyring {
    /// A ring of `current` and the keys that it replaced, newest first.
    ///
    /// # Errors
    /// [`KeyError::TooMany`] and [`KeyError::Repeated`].
    pub fn new(current: MasterKey, previous: Vec<MasterKey>) -> Result<Self, KeyError> {
        if previous.len() > MAX_PREVIOUS {
            let count = previous.len();
            return Err(KeyError::TooMany { count });
        }
        let ring = Self { current, previous };
        let twice = ring
            .keys()
            .enumerate()
            .any(|(at, key)| ring.keys().skip(at + 1).any(|other| key.is(other)));
        if twice {
            return Err(KeyError::Repeated);
        }
        Ok(ring)
    }

    /// The keys, the current one first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

#[cfg(all(test, not(feature = "encryption")))]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_keys_without_the_feature() {
        let hex = "ab".repeat(MIN_KEY_BYTES);
        let error = MasterKey::from_hex(&hex).unwrap_err();
        assert_eq!(error, KeyError::LeftOut);
        assert!(error.to_string().contains("\"encryption\""), "{error}");
        assert_eq!(MasterKey::from_hex("x").unwrap_err(), KeyError::NotHex);
    }
}
