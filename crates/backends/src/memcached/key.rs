//! Keys as memcached takes them.

use std::borrow::Cow;
use std::sync::Once;

use cachekit_wire::keys::{fit_key, shorten_key};

/// The longest key that memcached takes, in bytes.
const MAX_KEY: usize = 250;

/// The key as it is stored: itself, or the short form of one that is empty, too long or has
/// characters that the protocol does not know.
pub(super) fn fitted(key: Cow<'_, str>) -> Cow<'_, str> {
    let is_allowed = |byte: u8| byte.is_ascii_graphic();
    let short = match fit_key(&key, MAX_KEY, is_allowed) {
        Cow::Borrowed(_) if key.is_empty() => shorten_key(&key, MAX_KEY, is_allowed),
        Cow::Borrowed(_) => return key,
        Cow::Owned(short) => short,
    };
    static WARN: Once = Once::new();
    WARN.call_once(|| {
        tracing::warn!(
            target: "cachekit",
            "a key of {} bytes does not fit memcached ({MAX_KEY} printable ASCII characters) and is stored \
             under a hash of it; so are others like it",
            key.len()
        );
    });
    short.into()
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
    fn others_are_short_and_stay_apart() {
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
}
