//! The frame around a stored value: magic, a JSON header that says how to read the payload, the payload.
//!
//! ```text
//! 0..2   "CK"
//! 2      03, the frame version
//! 3..7   length of the header, u32 big-endian
//! 7..    header: {"s": serializer, "m": {metadata}, "v": "2.0"}, UTF-8
//! rest   payload
//! ```
//!
//! The header is not authenticated. Ours may carry one more member, `x`, described in `docs/wire.md`.
//! Entries of the form before frames, one JSON object with a base64 payload, are read too.
//! Format source: the public CacheKit protocol.

mod error;
mod extension;
mod header;
mod legacy;
mod plain;
mod write;

pub use error::FrameError;
pub use extension::Extension;
pub use header::{Header, Serializer};
pub use write::{round, write};

use std::borrow::Cow;

/// The frame version that is written, and the newest that is read.
pub const VERSION: u8 = 3;

const MAGIC: &[u8; 2] = b"CK";
/// Magic, version and header length.
const PREAMBLE: usize = 7;

/// A parsed stored value.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame<'a> {
    /// How to read the payload.
    pub header: Header,
    /// The payload: borrowed from the stored bytes, except in the form before frames.
    pub payload: Cow<'a, [u8]>,
}

/// Reads a stored value.
///
/// Unknown members of the header are ignored, and any `"v"` is accepted. The headers that ours and the
/// published writers produce for plain MessagePack values are recognised by comparison.
///
/// # Errors
/// See [`FrameError`]; of them [`FrameError::Newer`] is an entry to leave alone.
pub fn parse(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    if let Some((header, payload)) = plain::recognise(bytes) {
        return Ok(Frame {
            header,
            payload: Cow::Borrowed(payload),
        });
    }
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return legacy::parse(bytes);
    };
    match rest.first() {
        Some(&version) if version > VERSION => return Err(FrameError::Newer { version }),
        Some(&version) if version < VERSION => return Err(FrameError::Older { version }),
        _ => {}
    }
    let truncated = |need: usize| FrameError::Truncated {
        have: bytes.len(),
        need,
    };
    let Some((len, rest)) = bytes
        .get(3..)
        .and_then(|rest| rest.split_first_chunk::<4>())
    else {
        return Err(truncated(PREAMBLE));
    };
    let len = u32::from_be_bytes(*len) as usize;
    let Some((json, payload)) = rest.split_at_checked(len) else {
        return Err(truncated(PREAMBLE.saturating_add(len)));
    };
    Ok(Frame {
        header: Header::from_json(json)?,
        payload: Cow::Borrowed(payload),
    })
}

#[cfg(test)]
mod tests;
