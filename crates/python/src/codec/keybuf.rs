//! The buffer that argument bytes are written to on each call.

use std::mem::MaybeUninit;

use cachekit_wire::msgpack::Sink;

/// How many bytes of a key stay on the stack.
const INLINE: usize = 256;
/// The value of `len` once the bytes are on the heap.
const SPILLED: usize = usize::MAX;

/// A byte buffer of which the first 256 bytes need no allocation.
pub(crate) struct KeyBuf {
    /// How many bytes of `inline` are written, or [`SPILLED`].
    len: usize,
    inline: [MaybeUninit<u8>; INLINE],
    heap: Vec<u8>,
}

impl KeyBuf {
    /// An empty buffer.
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            len: 0,
            inline: [MaybeUninit::uninit(); INLINE],
            heap: Vec::new(),
        }
    }

    /// What has been written.
    #[inline(always)]
    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.len == SPILLED {
            return &self.heap;
        }
        // SAFETY: the first `len` bytes of `inline` are written, and `len` is at most `INLINE`.
        unsafe { std::slice::from_raw_parts(self.inline.as_ptr().cast::<u8>(), self.len) }
    }

    /// How many bytes have been written.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        if self.len == SPILLED {
            self.heap.len()
        } else {
            self.len
        }
    }

    /// Takes back what has been written from the byte `at` on.
    pub(crate) fn split_off(&mut self, at: usize) -> Vec<u8> {
        if self.len == SPILLED {
            return self.heap.split_off(at);
        }
        let end = self.as_slice()[at..].to_vec();
        self.len = at;
        end
    }

    #[cold]
    #[inline(never)]
    fn extend_on_heap(&mut self, bytes: &[u8]) {
        if self.len != SPILLED {
            let mut heap = Vec::with_capacity((self.len + bytes.len()).next_power_of_two());
            heap.extend_from_slice(self.as_slice());
            self.heap = heap;
            self.len = SPILLED;
        }
        self.heap.extend_from_slice(bytes);
    }
}

impl Sink for KeyBuf {
    #[inline(always)]
    fn push(&mut self, byte: u8) {
        if self.len < INLINE {
            self.inline[self.len].write(byte);
            self.len += 1;
        } else {
            self.extend_on_heap(&[byte]);
        }
    }

    #[inline(always)]
    fn extend(&mut self, bytes: &[u8]) {
        // Written so that the sum cannot overflow where `len` is `SPILLED`.
        if self.len <= INLINE && bytes.len() <= INLINE - self.len {
            // SAFETY: `len + bytes.len()` is at most `INLINE`, and a slice given from outside cannot
            // overlap a buffer that is borrowed mutably.
            unsafe {
                let end = self.inline.as_mut_ptr().cast::<u8>().add(self.len);
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), end, bytes.len());
            }
            self.len += bytes.len();
        } else {
            self.extend_on_heap(bytes);
        }
    }
}
