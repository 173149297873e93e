use crate::keys::{content_hash, push_hex};

const MOST_BYTES: usize = 64;
/// Namespaces by which the hosted service tells keys of another kind.
const RESERVED: [&str; 2] = ["ns", "nsapi"];

/// Why a namespace or an operation cannot be part of an interop key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not `[a-z0-9][a-z0-9._-]{0,63}`.
    #[error(
        "interop {part} {text:?}: 1 to 64 of the characters a-z, 0-9, '.', '_' and '-' are expected, \
         the first a letter or a digit"
    )]
    Characters {
        /// `namespace` or `operation`.
        part: &'static str,
        /// What was given.
        text: String,
    },
    /// Two dots in a row, which the hosted service refuses in keys.
    #[error("interop {part} {text:?}: '..' is not allowed, put one dot")]
    Dots {
        /// `namespace` or `operation`.
        part: &'static str,
        /// What was given.
        text: String,
    },
    /// A namespace that the hosted service reads as something else.
    #[error("interop namespace {text:?} is reserved, choose another one")]
    Reserved {
        /// What was given.
        text: String,
    },
}

/// What a group of interop entries is called: a namespace and an operation, the same in every
/// language.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Operation {
    /// `namespace:operation:`
    prefix: String,
}

impl Operation {
    /// Checks the two names.
    ///
    /// # Errors
    /// [`NameError`] says which of them is wrong.
    pub fn new(namespace: &str, operation: &str) -> Result<Self, NameError> {
        check("namespace", namespace)?;
        if RESERVED.contains(&namespace) {
            return Err(NameError::Reserved {
                text: namespace.to_owned(),
            });
        }
        check("operation", operation)?;
        Ok(Self {
            prefix: format!("{namespace}:{operation}:"),
        })
    }

    /// The key of a call with these canonical arguments: the prefix, and their Blake2b-256 in
    /// hexadecimal. At most 194 characters.
    #[must_use]
    pub fn key(&self, args: &[u8]) -> String {
        self.key_of(&content_hash(args))
    }

    /// The key of a call whose canonical arguments have this hash.
    #[must_use]
    pub fn key_of(&self, hash: &[u8; 32]) -> String {
        let mut key = String::with_capacity(self.prefix.len() + 64);
        key.push_str(&self.prefix);
        push_hex(&mut key, hash);
        key
    }

    /// What every key of the operation begins with: `namespace:operation:`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

fn check(part: &'static str, text: &str) -> Result<(), NameError> {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let begins = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !begins || text.len() > MOST_BYTES || !text.bytes().all(allowed) {
        let text = text.to_owned();
        return Err(NameError::Characters { part, text });
    }
    if text.contains("..") {
        let text = text.to_owned();
        return Err(NameError::Dots { part, text });
    }
    Ok(())
}
