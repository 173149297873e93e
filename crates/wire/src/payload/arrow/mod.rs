//! What an Arrow IPC file takes in memory, told from its metadata alone.
//!
//! Format source: the Arrow columnar format, "IPC File Format" and "Compression"; the metadata are
//! FlatBuffers of `File.fbs` and `Message.fbs`, of which only the fields named below are read.

mod flat;
mod meter;
mod text;

pub use meter::ArrowMeter;
pub use text::is_arrow_text;

use super::checked::ARROW_MAGIC;
use crate::envelope::{MAX_BYTES, MAX_RATIO};
use flat::{Table, int32, int64};

/// So much may come out of any file, however small: columns of one value compress to almost nothing.
const ALWAYS_BYTES: u64 = 64 << 20;
/// So many bytes for each stored one may come out of any file, however large.
const ALWAYS_RATIO: u64 = 8;
/// So many values may come out of any file, however small, as those of a column of nulls do.
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
         at most 8 for each stored one may be, or 512 MiB if that is no more than 1000 for each"
    )]
    Ratio {
        /// The bytes of the file.
        stored: u64,
        /// The bytes of its compressed buffers once they are decompressed.
        announced: u64,
    },
    /// The columns have more values than such a file may.
    #[error(
        "{values} values in an Arrow IPC file of {stored} bytes; at most 64 Mi may take less than a bit \
         each, or compressed less than four bytes"
    )]
    Values {
        /// The bytes of the file.
        stored: u64,
        /// The values of all columns.
        values: u64,
    },
    /// Values that are stored once and stand in several places take more than they may.
    #[error(
        "Arrow values of {expanded} bytes in {stored} stored ones, as they share what is stored once; \
         at most 8 for each stored one may, or 512 MiB if that is no more than 1000 for each"
    )]
    Shared {
        /// The bytes of the file.
        stored: u64,
        /// The bytes of all values, each counted where it stands.
        expanded: u64,
    },
}

/// Checks what an Arrow IPC file would take in memory: of compressed buffers at most 8 times the file, or
/// past that 512 MiB and, past 64 MiB, a thousand times the file, as [envelopes](crate::envelope) may; and no
/// more values than 8 for each stored byte and one for every 4 decompressed ones, past 64 Mi.
///
/// # Errors
/// [`ArrowError`] where it would take more, or what it takes cannot be told.
pub fn check_arrow(file: &[u8]) -> Result<(), ArrowError> {
    let stored = file.len() as u64;
    size(file)
        .filter(|size| size.held <= stored)
        .ok_or(ArrowError::Malformed)?
        .check(stored)
}

/// Checks what the values of an Arrow IPC file take where each is counted as often as it stands in a column,
/// however often it is stored: `expanded` bytes, of which the file's length and as much as may be compressed
/// are allowed.
///
/// # Errors
/// [`ArrowError::Shared`] where they take more.
pub fn check_arrow_shared(stored: u64, expanded: u64) -> Result<(), ArrowError> {
    if expanded > stored.saturating_add(allowed(stored)) {
        return Err(ArrowError::Shared { stored, expanded });
    }
    Ok(())
}

/// How many bytes may come out of so many stored ones.
fn allowed(stored: u64) -> u64 {
    stored
        .saturating_mul(MAX_RATIO)
        .clamp(ALWAYS_BYTES, MAX_BYTES as u64)
        .max(stored.saturating_mul(ALWAYS_RATIO))
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
            for offset in size.add(message(metadata)?)? {
                size.announce(int64(body, usize::try_from(offset).ok()?)?)?;
            }
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
    /// Adds what the message of a batch says, and gives the places of its compressed buffers in the body.
    fn add(&mut self, message: Table<'_>) -> Option<Vec<u64>> {
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
        let rows = batch.int64(0)?;
        let mut values = 0_i64;
        for node in batch.structs(1, 16)? {
            values = values.checked_add(int64(node, 0).filter(|&len| len >= 0)?)?;
        }
        // Without columns the rows are all there is.
        let values = u64::try_from(values.max(rows)).ok()?;
        self.values = self.values.checked_add(values)?;
        let is_compressed = batch.table(3)?.is_some();
        let mut places = Vec::new();
        for buffer in batch.structs(2, 16)? {
            let (offset, len) = (int64(buffer, 0)?, u64::try_from(int64(buffer, 8)?).ok()?);
            self.held = self.held.checked_add(len)?;
            if is_compressed && len > 0 {
                places.push(u64::try_from(offset).ok()?);
            }
        }
        Some(places)
    }

    /// Adds what a compressed buffer starts with: its uncompressed length; -1 says that it is not compressed.
    fn announce(&mut self, head: i64) -> Option<()> {
        if head != -1 {
            let announced = u64::try_from(head).ok()?;
            self.announced = self.announced.checked_add(announced)?;
        }
        Some(())
    }

    /// Whether a file of so many bytes may be so large.
    fn check(&self, stored: u64) -> Result<(), ArrowError> {
        let Self {
            announced, values, ..
        } = *self;
        if announced > allowed(stored) {
            return Err(ArrowError::Ratio { stored, announced });
        }
        let by_size = stored.saturating_mul(8).saturating_add(announced / 4);
        if values > by_size.max(ALWAYS_VALUES) {
            return Err(ArrowError::Values { stored, values });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
