//! Keys as memcached takes them.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Once;

use blake2::digest::consts::U16;
use blake2::{Blake2b, Digest};

/// The longest key that memcached takes, in bytes.
pub(super) const MAX_KEY: usize = 250;
/// How much of a key that is mapped stays readable.
const READABLE: usize = 50;

/// The key as it is stored: itself, or where it is too long or has characters that the protocol
/// does not know, its first 50 safe characters, ':' and 32 hexadecimal digits of its Blake2b.
pub(super) fn fitted(key: Cow<'_, str>) -> Cow<'_, str> {
    let fits = (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| (0x21..0x7f).contains(&b));
    if fits { key } else { mapped(&key).into() }
}

fn mapped(key: &str) -> String {
    static WARN: Once = Once::new();
    WARN.call_once(|| {
        tracing::warn!(
            target: "cachekit",
            "a key of {} bytes does not fit memcached ({MAX_KEY} printable ASCII characters) and is stored \
             under a hash of it; so are others like it",
            key.len()
        );
    });
    let safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let mut out: String = key.chars().filter(safe).take(READABLE).collect();
    out.push(':');
    for byte in Blake2b::<U16>::digest(key) {
        write!(out, "{byte:02x}").expect("a string takes every text");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_that_fit_stay() {
        let longest = "k".repeat(MAX_KEY);
        for key in ["k", "ns:f:1!~{}%", &longest] {
            assert!(matches!(fitted(key.into()), Cow::Borrowed(same) if same == key));
        }
    }

    #[test]
    fn others_are_mapped_and_stay_apart() {
        let long = "k".repeat(MAX_KEY + 1);
        let mut seen = HashSet::new();
        for key in [
            "", " ", "a b", "a\tb", "a\nb", "ab\0", "ab\u{7f}", "äb", "b", &long,
        ] {
            let stored = fitted(key.into());
            assert!((1..=MAX_KEY).contains(&stored.len()), "{stored}");
            assert!(stored.bytes().all(|b| b.is_ascii_graphic()), "{stored}");
            assert!(seen.insert(stored.into_owned()), "{key:?}");
        }
    }

    #[test]
    fn the_form_of_a_mapped_key() {
        // Python: hashlib.blake2b("grüße an alle".encode(), digest_size=16).hexdigest()
        assert_eq!(
            fitted("grüße an alle".into()),
            "greanalle:115520f6e94f9c70f5420849a625495b"
        );
    }
}
