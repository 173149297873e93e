//! What stands between a serializer's body and the frame: an envelope, a checksum, or nothing.
//!
//! | serializer | with integrity | without |
//! |---|---|---|
//! | `default`, and `auto` with MessagePack | [envelope](crate::envelope) | bare |
//! | `auto` with one array, `orjson`, any other | [checksum](checksum_bytes) | bare |
//! | Arrow IPC, of `arrow` or `auto` | checksum | checksum |
//!
//! Format source: the public CacheKit protocol; for other serializers, `docs/wire.md`.

mod arrow;
mod checked;
mod numpy;

pub use arrow::{ArrowError, ArrowMeter, check_arrow, check_arrow_shared, is_arrow_text};
pub use checked::{CHECKSUM_BYTES, CheckedError, Checksummer, checksum_bytes, open_checked};
pub use numpy::{NumpyArray, read_numpy, write_numpy_head};

use crate::frame::{Header, Serializer};

/// The header's `format` of Arrow IPC bodies.
pub const ARROW: &str = "arrow";
/// The header's `original_type` of a body that is one NumPy array.
pub const NUMPY: &str = "numpy";

/// What is around a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wrap {
    /// The ByteStorage envelope: LZ4, checksum, size, format name.
    Envelope,
    /// Eight bytes of checksum in front.
    Checksum,
    /// Nothing.
    Bare,
}

impl Wrap {
    /// What is around the body under `header`, given the integrity flag of the entry's key.
    #[must_use]
    pub fn of(header: &Header, integrity: bool) -> Self {
        let numpy = || header.original_type.as_deref() == Some(NUMPY);
        match header.serializer {
            Serializer::Arrow => Self::Checksum,
            Serializer::Auto if header.format == ARROW => Self::Checksum,
            _ if !integrity => Self::Bare,
            Serializer::Default => Self::Envelope,
            Serializer::Auto if !numpy() => Self::Envelope,
            _ => Self::Checksum,
        }
    }

    /// What is around the body of an entry found under `header` by a reader with this integrity flag.
    /// Keys of a user's own bear no flag, so the writer's may differ. Of an envelope the header tells
    /// by `compressed`, whatever the reader's flag.
    #[must_use]
    pub fn found(header: &Header, integrity: bool) -> Self {
        let enveloped = header.compressed && Self::of(header, true) == Self::Envelope;
        Self::of(header, integrity || enveloped)
    }
}

/// The header of an auto payload that stands alone, as far as its first bytes tell.
#[must_use]
pub fn guess_auto(payload: &[u8], integrity: bool) -> Header {
    let mut header = Header::msgpack(Serializer::Auto, false);
    let starts = |start: &[u8]| {
        payload.starts_with(start)
            || payload
                .get(CHECKSUM_BYTES..)
                .is_some_and(|body| body.starts_with(start))
    };
    if starts(checked::ARROW_MAGIC) {
        header.format = ARROW.into();
        header.original_type = Some(ARROW.into());
    } else if starts(numpy::MAGIC) {
        header.original_type = Some(NUMPY.into());
    } else {
        header.compressed = integrity;
        header.original_type = None;
    }
    header
}
