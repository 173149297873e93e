//! From a serializer's body to the bytes of an entry, and back.
//!
//! A serializer makes a [`Body`]; [`seal`] wraps it (envelope, checksum or nothing) and puts the frame
//! around that. [`open`] goes the other way and hands out the body with the header that names it.

use std::borrow::Cow;

use bytes::Bytes;
use cachekit_wire::{
    envelope::{self, Compression, EnvelopeError},
    frame::{self, Extension, Frame, FrameError, Header, Serializer},
    interop,
    keys::SerializerCode,
    payload::{ARROW, CHECKSUM_BYTES, Wrap, checksum_bytes, open_checked},
};

use crate::encryption::{Refused, Sealed, Sealer};

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
    /// Written with the other setting of integrity checking, under a key that does not tell: a miss
    /// that is overwritten.
    #[error(
        "written {} integrity checking, which this function has {}; it is recomputed and overwritten",
        if *checked { "with" } else { "without" },
        if *checked { "off" } else { "on" }
    )]
    OtherIntegrity {
        /// Whether it has the checksum.
        checked: bool,
    },
    /// Encrypted, and this function cannot decrypt.
    #[error("encrypted, and this function has no key; it is recomputed and overwritten")]
    Encrypted,
    /// Not to be trusted.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Damaged or foreign: a miss that is deleted.
    #[error("damaged or foreign bytes: {0}")]
    Corrupt(String),
}

/// Wraps a body into the bytes of an entry, encrypted if `sealer` encrypts.
///
/// # Errors
/// When the body passes the envelope's limits (512 MiB).
pub fn seal(
    body: Body<'_>,
    policy: &PayloadPolicy,
    sealer: Option<&Sealer>,
    x: Extension,
) -> Result<Bytes, EnvelopeError> {
    if policy.bare {
        let mut payload = Payload {
            start: body.room,
            bytes: body.bytes.into_owned(),
        };
        payload.encrypt(sealer, &mut bare_header(policy));
        return Ok(payload.finish());
    }
    let (mut header, mut payload) = body.wrap(policy)?;
    header.x = x;
    payload.encrypt(sealer, &mut header);
    let mut head = Vec::new();
    frame::write(&header, &mut head);
    if header.format == ARROW && !header.encrypted {
        frame::round(&mut head, CHECKSUM_BYTES);
    }
    payload.prepend(&head);
    Ok(payload.finish())
}

/// What the header of an entry without one would say.
fn bare_header(policy: &PayloadPolicy) -> Header {
    Header {
        original_type: None,
        ..Header::msgpack(policy.serializer.clone(), false)
    }
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

    fn encrypt(&mut self, sealer: Option<&Sealer>, header: &mut Header) {
        if let Some(sealer) = sealer.filter(|sealer| sealer.encryption().encrypts) {
            let (nonce, tag) = sealer.seal(header, &mut self.bytes[self.start..]);
            self.prepend(&nonce);
            self.bytes.reserve_exact(tag.len()); // Growing by itself would double it.
            self.bytes.extend_from_slice(&tag);
        }
    }

    fn finish(self) -> Bytes {
        Bytes::from(self.bytes).slice(self.start..)
    }
}

const _: () = assert!(Body::ROOM > CHECKSUM_BYTES);

/// Unwraps an entry's bytes and hands the body to `read`, with the header that says what it is and
/// what our own writers say of the entry. Whether there is an envelope or a checksum is said by the
/// policy's integrity, which is part of the keys that cachekit makes; published readers go by that.
/// Under keys of a user's own the writer's may differ: an envelope that the header tells of is opened,
/// anything else of the other kind refused. The body of an entry in plain that is in no envelope lies
/// within `stored`.
///
/// With a `sealer` encrypted entries are read, and entries in plain refused if it encrypts.
///
/// # Errors
/// [`Unusable`] when the bytes are not this function's, or what `read` says is wrong with the body.
pub fn open<R>(
    stored: &Bytes,
    policy: &PayloadPolicy,
    sealer: Option<&Sealer>,
    scratch: &mut Vec<u8>,
    read: impl FnOnce(&[u8], &Header) -> Result<R, String>,
) -> Result<R, Unusable> {
    let frame = parse(stored, policy, sealer)?;
    if frame.header.encrypted {
        let sealed = sealer.ok_or(Unusable::Encrypted)?.read(stored, &frame)?;
        return open_sealed(&sealed, policy, scratch, read);
    }
    if sealer.is_some_and(|sealer| sealer.encryption().encrypts) {
        return Err(Refused::PLAIN.into());
    }
    hand_out(frame.header, &frame.payload, policy, scratch, read)
}

/// All that is said of a decrypted body that cannot be read.
const UNREADABLE: &str =
    "they decrypt, and this function's serializer does not read what they hold";

/// What [`open`] does once it has found an encrypted entry.
///
/// # Errors
/// As [`open`].
pub fn open_sealed<R>(
    sealed: &Sealed,
    policy: &PayloadPolicy,
    scratch: &mut Vec<u8>,
    read: impl FnOnce(&[u8], &Header) -> Result<R, String>,
) -> Result<R, Unusable> {
    let mut plain = Plain(Vec::new());
    sealed.open(&mut plain.0)?;
    let header = sealed.header().clone();
    let result = hand_out(header, &plain.0, policy, scratch, read);
    wipe(scratch);
    result.map_err(|unusable| match unusable {
        // Who reads a body may quote what is in it, and this ends up in logs.
        Unusable::Corrupt(_) => Unusable::Corrupt(UNREADABLE.to_owned()),
        other => other,
    })
}

/// The encrypted entry that the bytes of `stored` are.
///
/// # Errors
/// When they are something else, or not this tenant's.
pub fn sealed(stored: &Bytes, policy: &PayloadPolicy, sealer: &Sealer) -> Result<Sealed, Unusable> {
    let frame = parse(stored, policy, Some(sealer))?;
    Ok(sealer.read(stored, &frame)?)
}

/// The frame of stored bytes. Where there is none, the configuration says what it would say.
fn parse<'a>(
    stored: &'a [u8],
    policy: &PayloadPolicy,
    sealer: Option<&Sealer>,
) -> Result<Frame<'a>, Unusable> {
    if policy.bare {
        let mut header = bare_header(policy);
        header.encrypted = sealer.is_some_and(|sealer| sealer.encryption().encrypts);
        return Ok(Frame {
            header,
            payload: Cow::Borrowed(stored),
        });
    }
    frame::parse(stored).map_err(|error| match error {
        FrameError::Newer { version } => Unusable::Newer { version },
        other => Unusable::Corrupt(other.to_string()),
    })
}

fn hand_out<R>(
    mut header: Header,
    payload: &[u8],
    policy: &PayloadPolicy,
    scratch: &mut Vec<u8>,
    read: impl FnOnce(&[u8], &Header) -> Result<R, String>,
) -> Result<R, Unusable> {
    if policy.bare {
        interop::document(payload).map_err(|error| Unusable::Corrupt(error.to_string()))?;
        return read(payload, &header).map_err(Unusable::Corrupt);
    }
    if header.serializer.name() == "unknown" {
        // Old writers that did not say meant the function's own.
        header.serializer = policy.serializer.clone();
    }
    if header.serializer != policy.serializer {
        return Err(Unusable::OtherSerializer {
            found: header.serializer.name().to_owned(),
            expected: policy.serializer.name().to_owned(),
        });
    }
    let wrap = Wrap::found(&header, policy.integrity);
    if wrap == Wrap::Bare && is_checked(&header, payload, scratch) {
        return Err(Unusable::OtherIntegrity { checked: true });
    }
    let bare = wrap == Wrap::Envelope && !header.compressed;
    let body = unwrap(&mut header, payload, policy.integrity, scratch);
    let body = body.map_err(|error| match bare {
        true => Unusable::OtherIntegrity { checked: false },
        false => Unusable::Corrupt(error),
    })?;
    read(body, &header).map_err(Unusable::Corrupt)
}

/// Whether a payload has the envelope or the checksum that `header` does not tell of. One that
/// verifies is none by chance, and its bytes as they stand could pass for a value.
fn is_checked(header: &Header, payload: &[u8], scratch: &mut Vec<u8>) -> bool {
    match Wrap::of(header, true) {
        // Most values end at their first byte, which is that of four parts, in order or named.
        Wrap::Envelope => {
            matches!(payload, [0x94 | 0x84, ..]) && envelope::open(payload, scratch).is_ok()
        }
        // The body of an array tells itself apart, and may be large.
        Wrap::Checksum if header.serializer == Serializer::Auto => false,
        Wrap::Checksum => payload
            .split_first_chunk()
            .is_some_and(|(sum, body)| *sum == checksum_bytes(body)),
        Wrap::Bare => false,
    }
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
    match Wrap::found(header, integrity) {
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

/// A decrypted payload, which is wiped when it is no longer needed.
struct Plain(Vec<u8>);

impl Drop for Plain {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Overwrites what was decrypted. Byte by byte and volatile, as crates for keys do it, would cost more
/// than decrypting did.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}
