use std::fmt;

/// Why bytes are not the MessagePack that was expected, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    position: usize,
    kind: DecodeErrorKind,
}

/// What was wrong at the position of a [`DecodeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The input ends inside a value.
    Truncated,
    /// The byte `0xc1`, which the format never uses.
    ReservedByte,
    /// A string whose bytes are not UTF-8.
    InvalidUtf8,
    /// A container announces more elements (for a map: pairs) than the remaining bytes can hold.
    LengthExceedsInput(u32),
    /// Containers are nested more than [`MAX_DEPTH`](super::MAX_DEPTH) deep.
    TooDeep,
    /// Bytes follow the one document that was expected.
    TrailingBytes,
}

impl DecodeError {
    /// An error at `position`, in bytes from the start of the input.
    #[must_use]
    #[cold]
    pub const fn new(position: usize, kind: DecodeErrorKind) -> Self {
        Self { position, kind }
    }

    /// The offset of the value that could not be read, in bytes from the start of the input.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// What was wrong there.
    #[must_use]
    pub const fn kind(&self) -> DecodeErrorKind {
        self.kind
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not MessagePack: at byte {}, ", self.position)?;
        match self.kind {
            DecodeErrorKind::Truncated => f.write_str("the input ends inside a value"),
            DecodeErrorKind::ReservedByte => f.write_str("the reserved byte 0xc1"),
            DecodeErrorKind::InvalidUtf8 => f.write_str("a string is not UTF-8"),
            DecodeErrorKind::LengthExceedsInput(n) => {
                write!(
                    f,
                    "a container announces {n} elements, more than the rest of the input can hold"
                )
            }
            DecodeErrorKind::TooDeep => {
                write!(
                    f,
                    "containers are nested more than {} deep",
                    super::MAX_DEPTH
                )
            }
            DecodeErrorKind::TrailingBytes => f.write_str("bytes follow the end of the document"),
        }
    }
}

impl std::error::Error for DecodeError {}
