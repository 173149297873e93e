//! The ByteStorage envelope: a payload with its checksum, compressed as one LZ4 block.
//!
//! A MessagePack array of four: the compressed bytes (`bin`), the XXH3-64 of the *uncompressed* bytes
//! as an array of eight integers, big-endian, the uncompressed size, and the name of the payload's
//! format. Read besides: the compressed bytes as an array of integers, the checksum as `bin`, and the
//! whole as a map of the four fields by name, as older writers had it.
//! Format source: the public CacheKit protocol.

mod error;
mod lz4;
mod parts;

pub use error::EnvelopeError;

use twox_hash::XxHash3_64;

use crate::msgpack::{write_array_header, write_bin_header, write_str, write_u64};
use parts::Parts;

/// The most bytes of a payload, of its compressed form and of a whole envelope, each.
pub const MAX_BYTES: usize = 512 << 20;
/// The most uncompressed bytes per compressed byte.
pub const MAX_RATIO: u64 = 1000;

/// How [`seal`] makes the LZ4 block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The fast LZ4 compressor.
    Fast,
    /// LZ4 HC of this level, 1 to 9: the same block format, smaller and slower to make.
    #[cfg(feature = "lz4hc")]
    High(u8),
    /// Not at all: the same block format, holding literals only.
    Off,
}

/// XXH3-64 with seed 0, the checksum of envelopes; on the wire it is big-endian.
#[must_use]
#[inline]
pub fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// Appends the envelope of `payload` to `out`; `format` names what the payload is (`"msgpack"`, …).
///
/// # Errors
/// [`EnvelopeError::TooLarge`] if the payload, its compressed form or the envelope exceeds
/// [`MAX_BYTES`]; `out` is then as it was.
pub fn seal(
    payload: &[u8],
    format: &str,
    compression: Compression,
    out: &mut Vec<u8>,
) -> Result<(), EnvelopeError> {
    let original = limited("payload", payload.len())?;
    // A format name is a word; this keeps a wild one from being measured with 32 bits below.
    limited("format name", format.len())?;
    let start = out.len();
    match compression {
        Compression::Fast => lz4::with_compressed(payload, |block| {
            append_head(limited("compressed payload", block.len())?, format, out);
            out.extend_from_slice(block);
            Ok::<_, EnvelopeError>(())
        })?,
        #[cfg(feature = "lz4hc")]
        Compression::High(level) => {
            let block = lz4::compress_high(payload, level);
            append_head(limited("compressed payload", block.len())?, format, out);
            out.extend_from_slice(&block);
        }
        Compression::Off => {
            let len = lz4::literals_len(payload.len());
            append_head(limited("payload in its block", len)?, format, out);
            lz4::append_literals(payload, out);
        }
    }
    write_array_header(out, 8);
    for b in checksum(payload).to_be_bytes() {
        write_u64(out, u64::from(b));
    }
    write_u64(out, u64::from(original));
    write_str(out, format);
    limited("envelope", out.len() - start)
        .map(|_| ())
        .inspect_err(|_| out.truncate(start))
}

/// Makes room for the whole envelope and writes what precedes a block of `block_len` bytes.
fn append_head(block_len: u32, format: &str, out: &mut Vec<u8>) {
    // array header, bin header; checksum (1 + 8 × 2), size, string header.
    const AROUND: usize = 1 + 5 + 17 + 5 + 5;
    out.reserve(AROUND + block_len as usize + format.len());
    write_array_header(out, 4);
    write_bin_header(out, block_len);
}

/// The length as the envelope's 32 bits, if it is within [`MAX_BYTES`].
fn limited(what: &'static str, len: usize) -> Result<u32, EnvelopeError> {
    match u32::try_from(len) {
        Ok(bytes) if len <= MAX_BYTES => Ok(bytes),
        _ => Err(EnvelopeError::TooLarge {
            what,
            bytes: len as u64,
        }),
    }
}

/// Opens the envelope that `bytes` are: its payload replaces the contents of `into`, the name of the
/// payload's format is returned.
///
/// `into` keeps its allocation where that suffices, and costs least when its *length* does too, as
/// the buffer of a previous call's does. After an error it is empty.
///
/// # Errors
/// Bytes that are not exactly one intact envelope within the limits, see [`EnvelopeError`]. Sizes
/// are checked before memory is taken.
pub fn open<'a>(bytes: &'a [u8], into: &mut Vec<u8>) -> Result<&'a str, EnvelopeError> {
    open_parts(bytes, into).inspect_err(|_| into.clear())
}

fn open_parts<'a>(bytes: &'a [u8], into: &mut Vec<u8>) -> Result<&'a str, EnvelopeError> {
    limited("envelope", bytes.len())?;
    let parts = Parts::read(bytes)?;
    let declared = parts.original;
    limited("payload", declared as usize)?;
    let compressed = parts.block.len() as u64;
    if compressed == 0 {
        return Err(EnvelopeError::Block("it is empty".to_owned()));
    }
    if compressed
        .checked_mul(MAX_RATIO)
        .is_none_or(|most| u64::from(declared) > most)
    {
        return Err(EnvelopeError::Ratio {
            compressed,
            original: u64::from(declared),
        });
    }
    lz4::decompress_to(&parts.block, declared as usize, into)?;
    let actual = checksum(into);
    if actual != parts.checksum {
        return Err(EnvelopeError::Checksum {
            declared: parts.checksum,
            actual,
        });
    }
    Ok(parts.format)
}

#[cfg(test)]
mod tests;
