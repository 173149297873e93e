//! What an Arrow IPC file takes once its buffers are decompressed, told from its metadata alone.
//!
//! Format source: the Arrow columnar format, "IPC File Format" and "Compression"; the metadata are
//! FlatBuffers of `File.fbs` and `Message.fbs`, of which only the fields named below are read.

use super::checked::ARROW_MAGIC;
use crate::envelope::{MAX_BYTES, MAX_RATIO};

/// So much may come out of any file, however small: columns of one value compress to almost nothing.
const ALWAYS_BYTES: u64 = 64 << 20;
/// So many values may come without a byte each, as those of a column without any do.
const ALWAYS_VALUES: u64 = 64 << 20;

/// Why an Arrow IPC file is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArrowError {
    /// The metadata are not where the file says.
    #[error("not an intact Arrow IPC file")]
    Malformed,
    /// The buffers announce more than their compressed form may hold.
    #[error(
        "Arrow buffers of {announced} bytes in {stored} stored ones; \
         at most 512 MiB may be compressed, and to no less than a thousandth"
    )]
    Ratio {
        /// The bytes of the file.
        stored: u64,
        /// The bytes of its compressed buffers once they are decompressed.
        announced: u64,
    },
    /// The columns have more values than the buffers have bits.
    #[error("{values} values in an Arrow IPC file of {stored} bytes")]
    Values {
        /// The bytes of the file.
        stored: u64,
        /// The values of all columns.
        values: u64,
    },
}

/// Checks what an Arrow IPC file would take in memory: of compressed buffers at most 512 MiB and, past
/// 64 MiB, a thousand times the file, as [envelopes](crate::envelope) may; and no more values than bits.
///
/// # Errors
/// [`ArrowError`] where it would take more, or what it takes cannot be told.
pub fn check_arrow(file: &[u8]) -> Result<(), ArrowError> {
    let stored = file.len() as u64;
    let size = size(file).filter(|size| size.held <= stored);
    let Size {
        announced, values, ..
    } = size.ok_or(ArrowError::Malformed)?;
    let allowed = (stored.saturating_mul(MAX_RATIO)).clamp(ALWAYS_BYTES, MAX_BYTES as u64);
    if announced > allowed {
        return Err(ArrowError::Ratio { stored, announced });
    }
    if values
        > announced
            .saturating_add(stored)
            .saturating_mul(8)
            .max(ALWAYS_VALUES)
    {
        return Err(ArrowError::Values { stored, values });
    }
    Ok(())
}

#[derive(Default)]
struct Size {
    /// Of all messages and buffers as they are stored, of which no two are the same in what writers make:
    /// reading them all takes no longer than the file is.
    held: u64,
    /// Of the compressed buffers once they are decompressed.
    announced: u64,
    values: u64,
}

/// The size of all record batches and dictionaries; `None` where the file does not tell.
fn size(file: &[u8]) -> Option<Size> {
    let head = file.strip_suffix(ARROW_MAGIC)?;
    let (head, footer_len) = head.split_last_chunk::<4>()?;
    let footer_len = usize::try_from(i32::from_le_bytes(*footer_len)).ok()?;
    let footer = Table::root(head.get(head.len().checked_sub(footer_len)?..)?)?;
    let mut size = Size::default();
    // Footer: 2 dictionaries, 3 record batches; Block: offset, length of the metadata, of the body.
    for field in [2, 3] {
        for block in footer.structs(field, 24)? {
            let start = usize::try_from(int64(block, 0)?).ok()?;
            let metadata_len = usize::try_from(int32(block, 8)?).ok()?;
            let (metadata, body) = file.get(start..)?.split_at_checked(metadata_len)?;
            size.held = size.held.checked_add(metadata_len as u64)?;
            size.add(message(metadata)?, body)?;
        }
    }
    Some(size)
}

/// The message behind its length, which newer writers put behind four bytes of ones.
fn message(metadata: &[u8]) -> Option<Table<'_>> {
    let metadata = metadata.strip_prefix(&[0xff; 4]).unwrap_or(metadata);
    let (len, rest) = metadata.split_first_chunk::<4>()?;
    Table::root(rest.get(..usize::try_from(i32::from_le_bytes(*len)).ok()?)?)
}

impl Size {
    /// Adds what a message of a batch announces, whose body starts `body`.
    fn add(&mut self, message: Table<'_>, body: &[u8]) -> Option<()> {
        // Message: 0 version, 1 kind of the header, 2 header, 4 custom metadata, where writers before
        // version 5 said that they compress.
        if message.int16(0)? < 4 && message.place(4)?.is_some() {
            return None;
        }
        let header = message.table(2)??;
        let batch = match message.byte(1)? {
            2 => header.table(1)??, // DictionaryBatch: 1 data
            3 => header,
            _ => return None,
        };
        // RecordBatch: 0 length, 1 nodes (length, nulls), 2 buffers (offset, length), 3 compression.
        let mut values = match batch.place(0)? {
            Some(place) => int64(batch.bytes, place)?,
            None => 0,
        };
        for node in batch.structs(1, 16)? {
            values = values.checked_add(int64(node, 0).filter(|&len| len >= 0)?)?;
        }
        self.values = self.values.checked_add(u64::try_from(values).ok()?)?;
        let is_compressed = batch.table(3)?.is_some();
        for buffer in batch.structs(2, 16)? {
            let (offset, len) = (int64(buffer, 0)?, u64::try_from(int64(buffer, 8)?).ok()?);
            self.held = self.held.checked_add(len)?;
            if !is_compressed || len == 0 {
                continue;
            }
            // A compressed buffer starts with its uncompressed length; -1 says that it is not compressed.
            let announced = int64(body, usize::try_from(offset).ok()?)?;
            if announced != -1 {
                let announced = u64::try_from(announced).ok()?;
                self.announced = self.announced.checked_add(announced)?;
            }
        }
        Some(())
    }
}

/// A FlatBuffers table: an offset back to the places of its fields.
#[derive(Clone, Copy)]
struct Table<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Table<'b> {
    fn root(bytes: &'b [u8]) -> Option<Self> {
        let at = follow(bytes, 0)?;
        Some(Self { bytes, at })
    }

    /// Where a field is, if it is there.
    #[expect(clippy::option_option, reason = "unreadable, absent, or there")]
    fn place(&self, field: usize) -> Option<Option<usize>> {
        let back = i64::from(int32(self.bytes, self.at)?);
        let places = usize::try_from(i64::try_from(self.at).ok()? - back).ok()?;
        let slot = 4 + 2 * field;
        if slot + 2 > usize::from(uint16(self.bytes, places)?) {
            return Some(None);
        }
        Some(match uint16(self.bytes, places.checked_add(slot)?)? {
            0 => None,
            offset => Some(self.at.checked_add(usize::from(offset))?),
        })
    }

    fn byte(&self, field: usize) -> Option<u8> {
        match self.place(field)? {
            Some(place) => self.bytes.get(place).copied(),
            None => Some(0),
        }
    }

    fn int16(&self, field: usize) -> Option<u16> {
        match self.place(field)? {
            Some(place) => uint16(self.bytes, place),
            None => Some(0),
        }
    }

    #[expect(clippy::option_option, reason = "unreadable, absent, or there")]
    fn table(&self, field: usize) -> Option<Option<Self>> {
        let Some(place) = self.place(field)? else {
            return Some(None);
        };
        let at = follow(self.bytes, place)?;
        Some(Some(Self { at, ..*self }))
    }

    /// The structs of a vector, of `size` bytes each; none where it is absent.
    fn structs(&self, field: usize, size: usize) -> Option<std::slice::ChunksExact<'b, u8>> {
        let Some(place) = self.place(field)? else {
            return Some([].chunks_exact(size));
        };
        let at = follow(self.bytes, place)?;
        let count = usize::try_from(int32(self.bytes, at)?).ok()?;
        let first = at.checked_add(4)?;
        let end = first.checked_add(count.checked_mul(size)?)?;
        Some(self.bytes.get(first..end)?.chunks_exact(size))
    }
}

/// Where the offset at `place` leads.
fn follow(bytes: &[u8], place: usize) -> Option<usize> {
    place.checked_add(usize::try_from(u32::from_le_bytes(array(bytes, place)?)).ok()?)
}

fn array<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..)?.first_chunk::<N>().copied()
}

fn uint16(bytes: &[u8], place: usize) -> Option<u16> {
    array(bytes, place).map(u16::from_le_bytes)
}

fn int32(bytes: &[u8], place: usize) -> Option<i32> {
    array(bytes, place).map(i32::from_le_bytes)
}

fn int64(bytes: &[u8], place: usize) -> Option<i64> {
    array(bytes, place).map(i64::from_le_bytes)
}

#[cfg(test)]
mod tests;
