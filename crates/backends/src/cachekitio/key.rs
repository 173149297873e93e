//! Keys as the API takes them.

use std::borrow::Cow;
use std::sync::Once;

use cachekit_wire::keys::shorten_key;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The longest key, in characters, all of them ASCII.
pub(super) const MAX_LENGTH: usize = 400;

/// What stands in a path for itself. Colons may, and other clients send them so.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte)
}

/// The key under which the API stores what is called `key`: itself if the API takes it.
///
/// `.` would be no path of its own, and `health` is the path of something else.
pub(super) fn stored(key: &str) -> Cow<'_, str> {
    let fits = !key.is_empty()
        && key.len() <= MAX_LENGTH
        && key.bytes().all(is_allowed)
        && !key.contains("..")
        && key != "."
        && key != "health";
    if fits {
        Cow::Borrowed(key)
    } else {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::warn!(
                "keys that the CachekitIO API does not take (more than {MAX_LENGTH} characters, or others \
                 than letters, digits and _ . : -) are stored under shortened ones"
            );
        });
        Cow::Owned(shorten_key(key, MAX_LENGTH, is_allowed))
    }
}

/// The path of an entry, or of what belongs to it, below `/v1/cache/`.
pub(super) fn path(key: &str, part: &str) -> String {
    let mut path = utf8_percent_encode(&stored(key), ESCAPED).to_string();
    path.push_str(part);
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_api_takes_stays() {
        for key in [
            "a",
            "ns:app:func:m.f:args:00ff:1s",
            "A-Z_0.9",
            &"k".repeat(400),
        ] {
            assert_eq!(stored(key), key);
            assert_eq!(path(key, "/ttl"), format!("{key}/ttl"));
        }
    }

    #[test]
    fn what_it_does_not_take_is_mapped() {
        // Blake2b-256 of the key, checked against Python's hashlib.
        assert_eq!(
            stored("user 1/\u{fc}"),
            "user1:d0e905119eaf7d8d4328fcee10bb046b"
        );
        for key in [
            "",
            ".",
            "..",
            "a..b",
            "health",
            "a b",
            "ü",
            "a/b",
            "%61",
            &"k".repeat(401),
        ] {
            let mapped = stored(key);
            assert_ne!(mapped, key);
            assert_eq!(stored(&mapped), mapped, "it is taken as it is");
        }
    }

    proptest! {
        #[test]
        fn every_path_is_one_segment_that_the_api_takes(key in any::<String>()) {
            let path = path(&key, "");
            prop_assert!(!path.is_empty() && path.len() <= MAX_LENGTH);
            prop_assert!(path.bytes().all(is_allowed) && !path.contains(".."), "{}", path);
        }
    }
}
