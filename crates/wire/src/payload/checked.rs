use std::hash::Hasher;

use twox_hash::XxHash3_64;

use crate::envelope::checksum;

/// The length of the checksum in front of a body.
pub const CHECKSUM_BYTES: usize = 8;
/// What Arrow IPC files start with; published readers take such a body without its checksum.
pub(super) const ARROW_MAGIC: &[u8] = b"ARROW1";

/// Why bytes are not a body behind its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckedError {
    /// Not even a checksum.
    #[error("the payload has {have} bytes, fewer than its checksum of 8")]
    Truncated {
        /// Bytes present.
        have: usize,
    },
    /// The body is not what was written.
    #[error("the payload's checksum is {actual:016x} where {declared:016x} was written")]
    Checksum {
        /// In front of the body.
        declared: u64,
        /// Of the body.
        actual: u64,
    },
}

/// The eight bytes in front of `body`: its XXH3-64, big-endian.
#[must_use]
pub fn checksum_bytes(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    checksum(body).to_be_bytes()
}

/// [`checksum_bytes`] of a body that comes in parts.
#[derive(Default)]
pub struct Checksummer(XxHash3_64);

impl Checksummer {
    /// Takes in the next part.
    pub fn add(&mut self, part: &[u8]) {
        self.0.write(part);
    }

    /// The checksum of all parts so far.
    #[must_use]
    pub fn bytes(&self) -> [u8; CHECKSUM_BYTES] {
        self.0.finish().to_be_bytes()
    }
}

/// The body behind its checksum. An Arrow IPC file may stand without one.
///
/// # Errors
/// [`CheckedError`] where the body is not what was written.
pub fn open_checked(bytes: &[u8]) -> Result<&[u8], CheckedError> {
    if bytes.starts_with(ARROW_MAGIC) {
        return Ok(bytes);
    }
    let Some((declared, body)) = bytes.split_first_chunk::<CHECKSUM_BYTES>() else {
        return Err(CheckedError::Truncated { have: bytes.len() });
    };
    let declared = u64::from_be_bytes(*declared);
    let actual = checksum(body);
    if actual == declared {
        Ok(body)
    } else {
        Err(CheckedError::Checksum { declared, actual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_checksum_of_the_whole() {
        let body: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
        for size in [1, 7, 256, 1024, body.len()] {
            let mut sum = Checksummer::default();
            body.chunks(size).for_each(|part| sum.add(part));
            assert_eq!(sum.bytes(), checksum_bytes(&body), "{size}");
        }
        assert_eq!(Checksummer::default().bytes(), checksum_bytes(b""));
    }
}
