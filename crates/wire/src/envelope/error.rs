use crate::msgpack::DecodeError;

/// Why a payload could not be sealed, or why bytes are not an intact envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The bytes are not one MessagePack document.
    #[error("the envelope is {0}")]
    Malformed(#[from] DecodeError),
    /// The document is not shaped like an envelope.
    #[error("not an envelope: {0}")]
    Shape(&'static str),
    /// A part exceeds the limit.
    #[error(
        "the {what} has {bytes} bytes, more than the limit of 536870912 (512 MiB); cache smaller values"
    )]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        bytes: u64,
    },
    /// The declared size is impossible for so few compressed bytes.
    #[error(
        "the envelope declares {original} bytes from {compressed} compressed ones, more than 1000:1"
    )]
    Ratio {
        /// Compressed bytes present.
        compressed: u64,
        /// Uncompressed bytes declared.
        original: u64,
    },
    /// The compressed bytes are not an LZ4 block of the declared size.
    #[error("the envelope's LZ4 block is damaged: {0}")]
    Block(String),
    /// The LZ4 block holds another number of bytes than declared.
    #[error("the envelope declares {declared} bytes and holds {actual}")]
    Size {
        /// Uncompressed bytes declared.
        declared: u64,
        /// Uncompressed bytes present.
        actual: u64,
    },
    /// The payload is not the one that was sealed.
    #[error("the envelope's checksum is {declared:016x}, that of its payload {actual:016x}")]
    Checksum {
        /// XXH3-64 in the envelope.
        declared: u64,
        /// XXH3-64 of the payload.
        actual: u64,
    },
}
