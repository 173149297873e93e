use super::hash::HEX_LEN;
use super::{GENERATION, KeyPrefix, SHORT_HEX, tenant_key};
use crate::interop::Operation;

/// What a stored key tells about its entry, for people and tools. Nothing is decided by it: a user's own
/// key may look like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParts<'a> {
    /// The tenant before the key, decoded.
    pub tenant: Option<String>,
    /// What the rest of the key is.
    pub kind: KeyKind<'a>,
}

/// The forms of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind<'a> {
    /// A call of a function.
    Call {
        /// The function's namespace.
        namespace: Option<&'a str>,
        /// Its module and qualified name.
        function: &'a str,
        /// Whether its payload is in an envelope or has a checksum.
        integrity: bool,
        /// The letter of its [`SerializerCode`](super::SerializerCode).
        serializer: char,
    },
    /// The item that says which of a function's entries count.
    Generation,
    /// A call of an interop operation.
    Interop {
        /// The operation's namespace.
        namespace: &'a str,
        /// Its name.
        operation: &'a str,
    },
    /// Anything else: a user's own key, or one that was shortened.
    Other,
}

impl<'a> KeyParts<'a> {
    /// Takes a key apart.
    #[must_use]
    pub fn of(key: &'a str) -> Self {
        let with_tenant = key.strip_prefix("t:").and_then(|rest| rest.split_once(':'));
        if let Some((tenant, rest)) = with_tenant
            && let Some(tenant) = percent_decoded(tenant)
        {
            return Self {
                tenant: Some(tenant),
                kind: KeyKind::of(rest),
            };
        }
        Self {
            tenant: None,
            kind: KeyKind::of(key),
        }
    }

    /// The key of the item that says whether a call's entry counts; None where the key does not tell.
    #[must_use]
    pub fn generation_key(&self) -> Option<String> {
        let KeyKind::Call {
            namespace,
            function,
            ..
        } = self.kind
        else {
            return None;
        };
        let (module, name) = function.rsplit_once('.')?;
        let key = KeyPrefix::new(namespace, module, name).generation_key();
        Some(match &self.tenant {
            Some(tenant) => tenant_key(tenant, &key),
            None => key,
        })
    }
}

impl<'a> KeyKind<'a> {
    fn of(key: &'a str) -> Self {
        let generation = key.strip_prefix(GENERATION);
        if generation.is_some_and(|hex| is_hex(hex, SHORT_HEX)) {
            return Self::Generation;
        }
        call(key).or_else(|| interop(key)).unwrap_or(Self::Other)
    }
}

fn call(key: &str) -> Option<KeyKind<'_>> {
    let (head, args) = key.rsplit_once(":args:")?;
    let (hash, code) = args.split_once(':')?;
    let (integrity, serializer) = match code.as_bytes() {
        [flag @ (b'0' | b'1'), letter @ b'a'..=b'z'] => (*flag == b'1', char::from(*letter)),
        _ => return None,
    };
    // A namespace may hold colons, a function's name does not.
    let (namespace, function) = match head.strip_prefix("func:") {
        Some(function) if !function.contains(':') => (None, function),
        _ => {
            let (namespace, function) = head.strip_prefix("ns:")?.rsplit_once(":func:")?;
            (Some(namespace), function)
        }
    };
    is_hex(hash, HEX_LEN).then_some(KeyKind::Call {
        namespace,
        function,
        integrity,
        serializer,
    })
}

fn interop(key: &str) -> Option<KeyKind<'_>> {
    let (names, hash) = key.rsplit_once(':')?;
    let (namespace, operation) = names.split_once(':')?;
    let sound = is_hex(hash, HEX_LEN) && Operation::new(namespace, operation).is_ok();
    sound.then_some(KeyKind::Interop {
        namespace,
        operation,
    })
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// None when it is not what [`tenant_key`](super::tenant_key) writes.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            _ => b,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{KeyPrefix, SerializerCode, custom_key, tenant_key};
    use super::*;

    #[test]
    fn keys_tell_what_they_were_made_of() {
        for namespace in [None, Some("shop"), Some("a:func:b"), Some("ns:é")] {
            let prefix = KeyPrefix::new(namespace, "shop.prices", "Price.of");
            let key = prefix.key(b"\x92\x90\x80", true, SerializerCode::Auto);
            let kind = KeyKind::Call {
                namespace,
                function: "shop.prices.Price.of",
                integrity: true,
                serializer: 'a',
            };
            let tenant = None;
            assert_eq!(
                KeyParts::of(&key),
                KeyParts {
                    tenant,
                    kind: kind.clone()
                }
            );
            let owned = tenant_key("é:1", &key);
            let tenant = Some("é:1".to_owned());
            assert_eq!(KeyParts::of(&owned), KeyParts { tenant, kind });
            let generation = prefix.generation_key();
            assert_eq!(KeyParts::of(&generation).kind, KeyKind::Generation);
            let of_key = KeyParts::of(&key).generation_key();
            assert_eq!(of_key.as_ref(), Some(&generation));
            let of_tenant = KeyParts::of(&owned).generation_key();
            assert_eq!(of_tenant, Some(tenant_key("é:1", &generation)));
        }
        let operation = Operation::new("shop", "price").expect("good names");
        let kind = KeyKind::Interop {
            namespace: "shop",
            operation: "price",
        };
        assert_eq!(KeyParts::of(&operation.key(b"\x90")).kind, kind);
    }

    #[test]
    fn other_keys_are_other() {
        let long = KeyPrefix::new(Some(&"n".repeat(250)), "m", "f");
        let hex = "0".repeat(64);
        for key in [
            custom_key(None, "user:1"),
            long.key(b"", true, SerializerCode::Std),
            String::new(),
            "t:".to_owned(),
            "t:%zz:k".to_owned(),
            "ck:gen:".to_owned(),
            format!("func:f:args:{hex}:2s"),
            format!("func:f:args:{hex}0:1s"),
            format!("Shop:price:{hex}"),
        ] {
            let kind = KeyKind::Other;
            let tenant = None;
            assert_eq!(KeyParts::of(&key), KeyParts { tenant, kind }, "{key}");
        }
    }
}
