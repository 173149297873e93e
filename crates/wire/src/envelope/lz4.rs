//! The LZ4 block format around `lz4_flex`, with what is costly per call kept per thread.

use std::cell::RefCell;

use lz4_flex::block::{
    CompressTable, compress, compress_into_with_table, decompress, decompress_into,
    get_maximum_output_size,
};

use super::EnvelopeError;

/// Inputs up to this many bytes are compressed in the thread's workspace.
const SMALL: usize = u16::MAX as usize - 1;

/// A hash table for [`SMALL`] inputs and room for their compressed form.
struct Workspace {
    table: CompressTable,
    block: Vec<u8>,
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> =
        RefCell::new(Workspace { table: CompressTable::small(), block: Vec::new() });
}

/// Compresses `payload` and hands the block to `use_block`, which must not compress in turn.
///
/// A small payload goes through buffers of the thread: they are allocated and cleared once, where
/// `lz4_flex::compress` would do both per call.
pub(super) fn with_compressed<R>(payload: &[u8], use_block: impl FnOnce(&[u8]) -> R) -> R {
    if payload.len() > SMALL {
        return use_block(&compress(payload));
    }
    let mut use_block = Some(use_block);
    let mut run = |block: &[u8]| (use_block.take().expect("called once"))(block);
    let done = WORKSPACE.try_with(|workspace| {
        let Workspace { table, block } = &mut *workspace.borrow_mut();
        let most = get_maximum_output_size(payload.len());
        if block.len() < most {
            block.resize(most, 0);
        }
        let len = compress_into_with_table(payload, block, table)
            .expect("the block has the size that lz4_flex asks for");
        let result = run(&block[..len]);
        // The payload may be about to be encrypted: nothing of it stays in the thread's memory.
        block[..len].fill(0);
        result
    });
    // A thread that is shutting down has no workspace any more.
    done.unwrap_or_else(|_| run(&compress(payload)))
}

/// Compresses with liblz4's HC encoder.
#[cfg(feature = "lz4hc")]
pub(super) fn compress_high(payload: &[u8], level: u8) -> Vec<u8> {
    let mut block = Vec::new();
    lzzzz::lz4_hc::compress_to_vec(payload, &mut block, i32::from(level))
        .expect("the buffer has the size that liblz4 asks for");
    block
}

/// The length of the block that [`append_literals`] writes.
pub(super) fn literals_len(len: usize) -> usize {
    let more = if len < 15 { 0 } else { (len - 15) / 255 + 1 };
    1 + more + len
}

/// Appends the LZ4 block of one sequence that is all literals.
pub(super) fn append_literals(payload: &[u8], out: &mut Vec<u8>) {
    let len = payload.len();
    if len < 15 {
        out.push((len as u8) << 4);
    } else {
        out.push(0xf0);
        let more = len - 15;
        out.resize(out.len() + more / 255, 255);
        out.push((more % 255) as u8);
    }
    out.extend_from_slice(payload);
}

/// Replaces the contents of `into` by the `len` bytes that `block` must hold.
pub(super) fn decompress_to(
    block: &[u8],
    len: usize,
    into: &mut Vec<u8>,
) -> Result<(), EnvelopeError> {
    let damaged = |e: lz4_flex::block::DecompressError| EnvelopeError::Block(e.to_string());
    if into.capacity() < len {
        // A new allocation is not cleared first.
        *into = decompress(block, len).map_err(damaged)?;
    } else {
        into.resize(len, 0);
        let actual = decompress_into(block, into).map_err(damaged)?;
        into.truncate(actual);
    }
    if into.len() == len {
        Ok(())
    } else {
        Err(EnvelopeError::Size {
            declared: len as u64,
            actual: into.len() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_payload_stays_behind() {
        let payload = b"attack at dawn".repeat(9);
        let len = with_compressed(&payload, <[u8]>::len);
        WORKSPACE.with_borrow(|workspace| {
            assert!(workspace.block.len() > len);
            assert!(workspace.block.iter().all(|byte| *byte == 0));
        });
    }
}
