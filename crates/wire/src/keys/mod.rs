//! Stored keys: automatic keys from a function's identity and its arguments, custom keys, the tenant
//! prefix, and the form a key takes in a store that cannot hold it.
//!
//! An automatic key is
//!
//! ```text
//! [ "ns:" namespace ":" ] "func:" F ":args:" HEX64 ":" I S
//! ```
//!
//! where `F` is the function's module and qualified name reduced to `[A-Za-z0-9_.]` and 200
//! characters, `HEX64` the Blake2b-256 of the canonical MessagePack of the arguments, `I` is `1` with
//! integrity checking and `0` without, and `S` the [`SerializerCode`]. Spaces and line ends become
//! `_`, and a key of more than 250 characters is cut to its first 50 plus a hash of the whole.
//! Format source: the public CacheKit protocol.

mod fit;
mod hash;
mod parts;

pub use fit::{fit_key, shorten_key};
pub use hash::content_hash;
pub use parts::{KeyKind, KeyParts};

pub(crate) use hash::push_hex;

use crate::frame::Serializer;
use hash::HEX_LEN;

/// The longest automatic key, in characters; a longer one is shortened.
pub const MAX_KEY_CHARS: usize = 250;
/// How many characters a shortened key keeps of the original.
pub const KEPT_CHARS: usize = 50;
/// How many hexadecimal digits of the hash a shortened key carries.
pub const SHORT_HEX: usize = 32;

/// What keys of generation items begin with.
const GENERATION: &str = "ck:gen:";
const MAX_FUNCTION_CHARS: usize = 200;
/// ":" integrity serializer.
const SUFFIX_LEN: usize = 3;

/// The serializer's letter at the end of an automatic key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SerializerCode {
    /// `s`: std, and everything without a letter of its own.
    Std,
    /// `a`: auto.
    Auto,
    /// `o`: orjson.
    Orjson,
    /// `w`: arrow.
    Arrow,
    /// `l`: values that never leave the process.
    Local,
}

impl SerializerCode {
    /// The letter.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Std => 's',
            Self::Auto => 'a',
            Self::Orjson => 'o',
            Self::Arrow => 'w',
            Self::Local => 'l',
        }
    }
}

impl From<&Serializer> for SerializerCode {
    fn from(serializer: &Serializer) -> Self {
        match serializer {
            Serializer::Auto => Self::Auto,
            Serializer::Orjson => Self::Orjson,
            Serializer::Arrow => Self::Arrow,
            Serializer::Default | Serializer::Other(_) => Self::Std,
        }
    }
}

/// Everything of a function's automatic keys that does not depend on the arguments.
#[derive(Debug, Clone)]
pub struct KeyPrefix {
    /// Up to and including `:args:`, with spaces and line ends replaced.
    text: String,
    /// For keys over the limit: the first characters of `text` and a colon.
    shortened: Option<String>,
}

impl KeyPrefix {
    /// The prefix for the function `module`.`qualname` within `namespace`.
    ///
    /// An empty namespace is none.
    #[must_use]
    pub fn new(namespace: Option<&str>, module: &str, qualname: &str) -> Self {
        let mut text = String::new();
        if let Some(namespace) = namespace.filter(|n| !n.is_empty()) {
            text.push_str("ns:");
            text.extend(namespace.chars().map(|c| {
                if matches!(c, ' ' | '\n' | '\r') {
                    '_'
                } else {
                    c
                }
            }));
            text.push(':');
        }
        text.push_str("func:");
        push_function(&mut text, module, qualname);
        text.push_str(":args:");
        let chars = text.chars().count() + HEX_LEN + SUFFIX_LEN;
        let shortened =
            (chars > MAX_KEY_CHARS).then(|| text.chars().take(KEPT_CHARS).chain([':']).collect());
        Self { text, shortened }
    }

    /// The key of the item that says which of the function's entries count; see
    /// [`Generation`](crate::generation::Generation).
    #[must_use]
    pub fn generation_key(&self) -> String {
        let mut key = String::from(GENERATION);
        push_hex(&mut key, &content_hash(self.text.as_bytes())[..16]);
        key
    }

    /// The key of a call with these arguments.
    ///
    /// `args_msgpack` is the canonical MessagePack of `[arguments, {name: argument}]`.
    #[must_use]
    pub fn key(&self, args_msgpack: &[u8], integrity: bool, code: SerializerCode) -> String {
        let mut key = String::with_capacity(self.text.len() + HEX_LEN + SUFFIX_LEN);
        key.push_str(&self.text);
        push_hex(&mut key, &content_hash(args_msgpack));
        key.push(':');
        key.push(if integrity { '1' } else { '0' });
        key.push(code.letter());
        match &self.shortened {
            None => key,
            Some(head) => {
                let mut short = String::with_capacity(head.len() + SHORT_HEX);
                short.push_str(head);
                push_hex(&mut short, &content_hash(key.as_bytes())[..SHORT_HEX / 2]);
                short
            }
        }
    }
}

/// Module and qualified name, joined by a dot, as the protocol writes them: other characters than
/// `[A-Za-z0-9_.]` become `_`, runs of dots one dot, and 200 characters remain.
fn push_function(out: &mut String, module: &str, qualname: &str) {
    let start = out.len();
    let mut after_dot = false;
    for c in module.chars().chain(['.']).chain(qualname.chars()) {
        if out.len() - start == MAX_FUNCTION_CHARS {
            break;
        }
        if c == '.' {
            if !after_dot {
                out.push('.');
            }
            after_dot = true;
        } else {
            out.push(if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            });
            after_dot = false;
        }
    }
}

/// The key that a user's key function gives: `namespace:text`, `default:text` without a namespace.
///
/// Neither shortened nor checked for its characters.
#[must_use]
pub fn custom_key(namespace: Option<&str>, text: &str) -> String {
    let namespace = namespace.filter(|n| !n.is_empty()).unwrap_or("default");
    [namespace, ":", text].concat()
}

/// The stored key of `key` for a tenant: `t:` and the percent-encoded tenant, a colon, the key.
///
/// Letters, digits and `_.-~` of the tenant stay; every other byte of its UTF-8 becomes `%XX`.
#[must_use]
pub fn tenant_key(tenant: &str, key: &str) -> String {
    let mut out = String::with_capacity("t::".len() + tenant.len() + key.len());
    out.push_str("t:");
    for b in tenant.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'~') {
            out.push(char::from(b));
        } else {
            out.push('%');
            for digit in [b >> 4, b & 0x0f] {
                out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    out.push(':');
    out.push_str(key);
    out
}

#[cfg(test)]
mod tests;
