//! Memory for opened payloads that is used again, since clearing fresh memory costs as much as
//! decompressing into it.

use std::cell::Cell;

/// Buffers that have grown larger are given back.
const KEEP: usize = 1 << 20;

thread_local!(static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });

/// Lends this thread's buffer to `body`. Its contents are of no meaning; a call inside `body`, from
/// code that the collector runs, gets an empty one.
pub(crate) fn with<R>(body: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = BUFFER.take();
    let result = body(&mut buffer);
    if buffer.capacity() <= KEEP {
        BUFFER.set(buffer);
    }
    result
}
