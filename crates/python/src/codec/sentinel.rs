//! The maps that stand for dates and times: `{"__date__": true, "value": "2026-01-31"}`.

use cachekit_wire::msgpack::{self, Sink};

use super::temporal::Temporal;

pub(super) const DATETIME: &str = "__datetime__";
pub(super) const DATE: &str = "__date__";
pub(super) const TIME: &str = "__time__";
/// The key of the ISO text.
pub(super) const VALUE: &str = "value";

/// Writes the map for a date or time.
pub(super) fn write<S: Sink>(out: &mut S, kind: Temporal, iso: &str) {
    let name = match kind {
        Temporal::DateTime => DATETIME,
        Temporal::Date => DATE,
        Temporal::Time | Temporal::Delta => TIME,
    };
    msgpack::write_map_header(out, 2);
    msgpack::write_str(out, name);
    msgpack::write_bool(out, true);
    msgpack::write_str(out, VALUE);
    msgpack::write_str(out, iso);
}

/// What the encoded string `encoded` (a header and its text) marks as a mapping's key.
#[inline(always)]
pub(super) fn named(encoded: &[u8]) -> Option<Temporal> {
    // The three names have 8 or 12 bytes, for which the header is one byte.
    match encoded.first() {
        Some(0xa8 | 0xac) => marked(&encoded[1..]),
        _ => None,
    }
}

/// What `key` marks as a mapping's key.
#[inline(always)]
pub(super) fn marked(key: &[u8]) -> Option<Temporal> {
    if !key.starts_with(b"__") {
        return None;
    }
    if key == DATE.as_bytes() {
        Some(Temporal::Date)
    } else if key == TIME.as_bytes() {
        Some(Temporal::Time)
    } else if key == DATETIME.as_bytes() {
        Some(Temporal::DateTime)
    } else {
        None
    }
}
