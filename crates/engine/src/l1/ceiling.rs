//! A limit in bytes above several L1s.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A process-wide limit in bytes that several L1s share.
///
/// An insertion that brings the sum of their weights above the limit makes the inserting L1 evict
/// from itself until the sum is within the limit again or that L1 is empty.
#[derive(Debug)]
pub struct Ceiling {
    limit: AtomicU64,
    // Signed: a removal may be counted before the insertion that it undoes.
    used: AtomicI64,
}

impl Ceiling {
    /// A ceiling of `limit` bytes.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self {
            limit: AtomicU64::new(limit),
            used: AtomicI64::new(0),
        }
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit; a lower one takes effect with the next insertions.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// The sum of the weights of the L1s below it, in bytes.
    pub fn used(&self) -> u64 {
        u64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Counts `added` and `removed` bytes; returns by how much the limit is exceeded.
    pub(super) fn account(&self, added: u64, removed: u64) -> u64 {
        let delta = added as i64 - removed as i64;
        let used = self.used.fetch_add(delta, Ordering::Relaxed) + delta;
        u64::try_from(used)
            .unwrap_or(0)
            .saturating_sub(self.limit())
    }
}
