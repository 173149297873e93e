//! From a serializer's body to the bytes of an entry, and back.

use cachekit_wire::{
    envelope::{self, Compression, EnvelopeError},
    frame::{self, Extension, FrameError, Header, Serializer},
};

/// How one function's values are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadPolicy {
    /// Checksum and compression around the body.
    pub integrity: bool,
    /// How the body is compressed when `integrity` is on.
    pub compression: Compression,
}

/// Why an entry's bytes are not a value for this function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// Written by a newer version of the frame: a miss that is left alone.
    #[error(
        "written in frame version {version}, which is newer than this library; upgrade it to share such entries"
    )]
    Newer {
        /// The frame's version.
        version: u8,
    },
    /// Written by another serializer: a miss that is overwritten.
    #[error(
        "written by serializer {found:?} while this function uses {expected:?}; it is recomputed and overwritten"
    )]
    OtherSerializer {
        /// The serializer's name in the entry.
        found: String,
        /// The name that was expected.
        expected: &'static str,
    },
    /// Encrypted, and this function cannot decrypt.
    #[error("encrypted, and this function has no key; it is recomputed and overwritten")]
    Encrypted,
    /// Damaged or foreign: a miss that is deleted.
    #[error("damaged or foreign bytes: {0}")]
    Corrupt(String),
}

/// Wraps a standard-serializer body into the bytes of an entry.
///
/// # Errors
/// When the body passes the envelope's limits (512 MiB).
pub fn seal(body: &[u8], policy: PayloadPolicy, x: Extension) -> Result<Vec<u8>, EnvelopeError> {
    let mut out = Vec::with_capacity(body.len() / 2 + 224);
    let mut header = Header::msgpack(Serializer::Default, policy.integrity);
    header.x = x;
    frame::write(&header, &mut out);
    if policy.integrity {
        envelope::seal(body, "msgpack", policy.compression, &mut out)?;
    } else {
        out.extend_from_slice(body);
    }
    Ok(out)
}

/// Unwraps an entry's bytes and hands the standard-serializer body to `read`, with what our own
/// writers say of the entry. Whether there is an envelope is said by `integrity`, which is part of
/// the key; published readers go by that too.
///
/// # Errors
/// [`Unusable`] when the bytes are not this function's, or what `read` says is wrong with the body.
pub fn open<R>(
    bytes: &[u8],
    integrity: bool,
    scratch: &mut Vec<u8>,
    read: impl FnOnce(&[u8], Extension) -> Result<R, String>,
) -> Result<R, Unusable> {
    let frame = frame::parse(bytes).map_err(|error| match error {
        FrameError::Newer { version } => Unusable::Newer { version },
        other => Unusable::Corrupt(other.to_string()),
    })?;
    if frame.header.encrypted {
        return Err(Unusable::Encrypted);
    }
    if frame.header.serializer != Serializer::Default {
        return Err(Unusable::OtherSerializer {
            found: frame.header.serializer.name().to_owned(),
            expected: "default",
        });
    }
    let x = frame.header.x;
    let body = if integrity {
        envelope::open(&frame.payload, scratch).map_err(|e| Unusable::Corrupt(e.to_string()))?;
        scratch.as_slice()
    } else {
        &frame.payload[..]
    };
    read(body, x).map_err(Unusable::Corrupt)
}
