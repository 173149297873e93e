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

    /// The body with what protects it, and the header that names it.
    ///
    /// # Errors
    /// When the body passes the envelope's limits (512 MiB).
    pub fn wrap(self, policy: &PayloadPolicy) -> Result<(Header, Payload), EnvelopeError> {
        let mut header = Header::msgpack(policy.serializer.clone(), false);
        header.format = self.format;
        header.original_type = self.original_type;
        let wrap = Wrap::of(&header, policy.integrity);
        header.compressed = self.compressed.unwrap_or(wrap == Wrap::Envelope);
        if wrap == Wrap::Envelope {
            let body = &self.bytes[self.room..];
            let mut bytes = Vec::with_capacity(Self::ROOM + body.len() / 2 + 64);
            bytes.resize(Self::ROOM, 0);
            // The envelope's own name for the format is finer than the header's.
            let format = header.original_type.as_deref().unwrap_or(&header.format);
            envelope::seal(body, format, policy.compression, &mut bytes)?;
            let start = Self::ROOM;
            return Ok((header, Payload { bytes, start }));
        }
        let sum = (wrap == Wrap::Checksum).then(|| checksum_bytes(&self.bytes[self.room..]));
        let mut payload = Payload {
            start: self.room,
            bytes: self.bytes.into_owned(),
        };
        if let Some(sum) = sum {
            payload.prepend(&sum);
        }
        Ok((header, payload))
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
    if policy.bare {
        let start = body.room;
        return Ok(Bytes::from(body.bytes.into_owned()).slice(start..));
    }
    let (mut header, mut payload) = body.wrap(policy)?;
    header.x = x;
    // What encrypts the payload belongs here: it may prepend and append, and fill in the header.
    let mut head = Vec::new();
    frame::write(&header, &mut head);
    payload.prepend(&head);
    Ok(Bytes::from(payload.bytes).slice(payload.start..))
}

/// A wrapped body, which grows towards its front.
#[derive(Debug)]
pub struct Payload {
    bytes: Vec<u8>,
    start: usize,
}

impl Payload {
    /// The wrapped body.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

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
    let mut header = frame.header;
    if header.encrypted {
        return Err(Unusable::Encrypted);
    }
    if header.serializer != policy.serializer && header.serializer.name() != "unknown" {
        return Err(Unusable::OtherSerializer {
            found: header.serializer.name().to_owned(),
            expected: policy.serializer.name().to_owned(),
        });
    }
    // What decrypts `frame.payload` belongs here.
    let body = unwrap(&mut header, &frame.payload, policy.integrity, scratch);
    let body = body.map_err(Unusable::Corrupt)?;
    read(body, &header).map_err(Unusable::Corrupt)
}

/// The body within a payload, which is in `scratch` where it was in an envelope.
///
/// What an auto body is must be said alike by header and envelope; the header may leave it out.
///
/// # Errors
/// What is wrong with the payload.
pub fn unwrap<'a>(
    header: &mut Header,
    payload: &'a [u8],
    integrity: bool,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], String> {
    match Wrap::of(header, integrity) {
        Wrap::Envelope => {
            let name = envelope::open(payload, scratch).map_err(|error| error.to_string())?;
            if header.serializer == Serializer::Auto {
                match &header.original_type {
                    None => header.original_type = Some(name.to_owned().into()),
                    Some(same) if same == name => {}
                    Some(other) => {
                        return Err(format!(
                            "its header calls it {other:?}, its envelope {name:?}"
                        ));
                    }
                }
            }
            Ok(scratch)
        }
        Wrap::Checksum => open_checked(payload).map_err(|error| error.to_string()),
        Wrap::Bare => Ok(payload),
    }
}
