use std::borrow::Cow;

use super::hash::push_hex;
use super::{KEPT_CHARS, SHORT_HEX, content_hash};

/// The key as a store with such limits can hold it: itself if it fits, else [`shorten_key`].
///
/// `max_len` is in bytes; `is_allowed` says which bytes the store takes.
#[must_use]
pub fn fit_key(key: &str, max_len: usize, is_allowed: fn(u8) -> bool) -> Cow<'_, str> {
    if key.len() <= max_len && key.bytes().all(is_allowed) {
        Cow::Borrowed(key)
    } else {
        Cow::Owned(shorten_key(key, max_len, is_allowed))
    }
}

/// The first 50 safe characters of a key, a colon, and 32 hexadecimal digits of the Blake2b-256 of
/// the whole: the same on every face, and another for every other key.
///
/// Safe is an ASCII character that `is_allowed` takes; of a run of dots only the first is, as some
/// stores refuse `..`. Fewer than 50 are kept where `max_len` (bytes) demands it. The store must take
/// `:`, the digits and at least 33 bytes.
#[must_use]
pub fn shorten_key(key: &str, max_len: usize, is_allowed: fn(u8) -> bool) -> String {
    let keep = max_len.saturating_sub(1 + SHORT_HEX).min(KEPT_CHARS);
    let mut out = String::with_capacity(keep + 1 + SHORT_HEX);
    for b in key.bytes().filter(|&b| b.is_ascii() && is_allowed(b)) {
        if out.len() == keep {
            break;
        }
        if !(b == b'.' && out.ends_with('.')) {
            out.push(char::from(b));
        }
    }
    out.push(':');
    push_hex(&mut out, &content_hash(key.as_bytes())[..SHORT_HEX / 2]);
    out
}
