use std::ops::Deref;

use cachekit_wire::msgpack::Sink;
use smallvec::SmallVec;

/// A growing key. Short ones need no allocation, so that a hit in the process has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyBytes(SmallVec<[u8; 112]>);

impl KeyBytes {
    /// Cuts everything from `at` on and returns it.
    pub(super) fn split_off(&mut self, at: usize) -> SmallVec<[u8; 112]> {
        let tail = SmallVec::from_slice(&self.0[at..]);
        self.0.truncate(at);
        tail
    }

    /// Puts `bytes` in at `at`.
    pub(super) fn insert(&mut self, at: usize, bytes: &[u8]) {
        self.0.insert_from_slice(at, bytes);
    }
}

impl Sink for KeyBytes {
    #[inline]
    fn push(&mut self, b: u8) {
        self.0.push(b);
    }

    #[inline]
    fn extend(&mut self, b: &[u8]) {
        self.0.extend_from_slice(b);
    }
}

impl Deref for KeyBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
