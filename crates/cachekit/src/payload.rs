//! From a serializer's body to the bytes of an entry, and back.
//!
//! A serializer makes a [`Body`]; [`seal`] wraps it (envelope, checksum or nothing) and puts the frame
//! around that. [`open`] goes the other way and hands out the body with the header that names it.

use std::borrow::Cow;

use bytes::Bytes;
use cachekit_wire::{
    envelope::{self, Compression, EnvelopeError},
    frame::{self, Extension, FrameError, Header, Serializer},
    interop,
    keys::SerializerCode,
    payload::{CHECKSUM_BYTES, Wrap, checksum_bytes, open_checked},
};

/// How one function's values are wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadPolicy {
    /// Who makes and reads the bodies.
    pub serializer: Serializer,
    /// Checksum and compression around the body.
    pub integrity: bool,
    /// How the body is compressed in an envelope.
    pub compression: Compression,
    /// Whether the entry is the body alone, as interop mode has it: no frame, envelope or checksum.
    pub bare: bool,
}

impl PayloadPolicy {
    /// That of interop mode.
    pub const INTEROP: Self = Self {
        serializer: Serializer::Default,
        integrity: false,
        compression: Compression::Off,
        bare: true,
    };

    /// The serializer's letter in keys.
    #[must_use]
    pub fn code(&self) -> SerializerCode {
        SerializerCode::from(&self.serializer)
    }
}

/// What a serializer made of a value, and how the entry's header names it.
#[derive(Debug)]
pub struct Body<'a> {
    /// The body, after [`room`](Self::room) bytes of no meaning.
    pub bytes: Cow<'a, [u8]>,
    /// How many bytes are free in front. With [`Body::ROOM`] of them an owned body that needs no
    /// envelope becomes an entry without being copied.
    pub room: usize,
    /// The header's `format`.
    pub format: Cow<'static, str>,
    /// The header's `original_type`.
    pub original_type: Option<Cow<'static, str>>,
    /// The header's `compressed`; `None` is whether it is in an envelope.
    pub compressed: Option<bool>,
}

impl<'a> Body<'a> {
    /// Enough room in front of a body for checksum and frame.
    pub const ROOM: usize = 512;

    /// A body of MessagePack.
    #[must_use]
    pub const fn msgpack(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Cow::Borrowed(bytes),
            room: 0,
            format: Cow::Borrowed("msgpack"),
            original_type: Some(Cow::Borrowed("msgpack")),
            compressed: None,
        }
    }

    /// The body itself.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.room..]
    }
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
        expected: String,
    },
    /// Encrypted, and this function cannot decrypt.
    #[error("encrypted, and this function has no key; it is recomputed and overwritten")]
    Encrypted,
    /// Damaged or foreign: a miss that is deleted.
    #[error("damaged or foreign bytes: {0}")]
    Corrupt(String),
}

/// Wraps a body into the bytes of an entry. `_key` is the entry's key as the protocol has it, without
/// a tenant's prefix: what encryption binds the entry to.
///
/// # Errors
/// When the body passes the envelope's limits (512 MiB).
pub fn seal(
    body: Body<'_>,
    policy: &PayloadPolicy,
    _key: &str,
    x: Extension,
) -> Result<Bytes, EnvelopeError> {
    let mut header = Header::msgpack(policy.serializer.clone(), false);
    header.format = body.format;
    header.original_type = body.original_type;
    header.x = x;
    if policy.bare {
        let start = body.room;
        return Ok(Bytes::from(body.bytes.into_owned()).slice(start..));
    }
    let wrap = Wrap::of(&header, policy.integrity);
    header.compressed = body.compressed.unwrap_or(wrap == Wrap::Envelope);
    let mut entry = Entry {
        start: body.room,
        bytes: Vec::new(),
    };
    match wrap {
        Wrap::Envelope => {
            let plain = &body.bytes[body.room..];
            entry.start = Body::ROOM;
            entry.bytes = Vec::with_capacity(Body::ROOM + plain.len() / 2 + 64);
            entry.bytes.resize(Body::ROOM, 0);
            envelope::seal(plain, &header.format, policy.compression, &mut entry.bytes)?;
        }
        Wrap::Checksum => {
            let sum = checksum_bytes(&body.bytes[body.room..]);
            entry.bytes = body.bytes.into_owned();
            entry.prepend(&sum);
        }
        Wrap::Bare => entry.bytes = body.bytes.into_owned(),
    }
    // What encrypts the wrapped body, `entry.bytes[entry.start..]`, belongs here: it may prepend and
    // append, and has the header to fill in.
    let mut head = Vec::new();
    frame::write(&header, &mut head);
    entry.prepend(&head);
    Ok(Bytes::from(entry.bytes).slice(entry.start..))
}

/// An entry that grows towards its front.
struct Entry {
    bytes: Vec<u8>,
    start: usize,
}

impl Entry {
    fn prepend(&mut self, part: &[u8]) {
        if let Some(start) = self.start.checked_sub(part.len()) {
            self.bytes[start..self.start].copy_from_slice(part);
            self.start = start;
        } else {
            self.bytes.splice(..self.start, part.iter().copied());
            self.start = 0;
        }
    }
}

const _: () = assert!(Body::ROOM > CHECKSUM_BYTES);

/// Unwraps an entry's bytes and hands the body to `read`, with the header that says what it is and
/// what our own writers say of the entry. Whether there is an envelope or a checksum is said by the
/// policy's integrity, which is part of the key; published readers go by that too. A body without an
/// envelope lies within `bytes`. `_key` is as [`seal`] has it.
///
/// # Errors
/// [`Unusable`] when the bytes are not this function's, or what `read` says is wrong with the body.
pub fn open<R>(
    bytes: &[u8],
    policy: &PayloadPolicy,
    _key: &str,
    scratch: &mut Vec<u8>,
    read: impl FnOnce(&[u8], &Header) -> Result<R, String>,
) -> Result<R, Unusable> {
    if policy.bare {
        interop::document(bytes).map_err(|error| Unusable::Corrupt(error.to_string()))?;
        let header = Header::msgpack(policy.serializer.clone(), false);
        return read(bytes, &header).map_err(Unusable::Corrupt);
    }
    let frame = frame::parse(bytes).map_err(|error| match error {
        FrameError::Newer { version } => Unusable::Newer { version },
        other => Unusable::Corrupt(other.to_string()),
    })?;
    let header = frame.header;
    if header.encrypted {
        return Err(Unusable::Encrypted);
    }
    if header.serializer != policy.serializer && header.serializer.name() != "unknown" {
        return Err(Unusable::OtherSerializer {
            found: header.serializer.name().to_owned(),
            expected: policy.serializer.name().to_owned(),
        });
    }
    let corrupt = |error: &dyn std::fmt::Display| Unusable::Corrupt(error.to_string());
    // What decrypts `frame.payload` belongs here.
    let body = match Wrap::of(&header, policy.integrity) {
        Wrap::Envelope => {
            envelope::open(&frame.payload, scratch).map_err(|e| corrupt(&e))?;
            scratch.as_slice()
        }
        Wrap::Checksum => open_checked(&frame.payload).map_err(|e| corrupt(&e))?,
        Wrap::Bare => &frame.payload[..],
    };
    read(body, &header).map_err(Unusable::Corrupt)
}
