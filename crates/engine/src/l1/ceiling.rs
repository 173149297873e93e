//! A limit in bytes above several L1s.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::entry::Foreign;

/// How much is taken from another L1 at a time, so that the search for it is seldom.
const PORTION: u64 = 64 << 10;

/// A process-wide limit in bytes that several L1s share.
///
/// An insertion that would bring the sum of their weights above the limit makes room first. An L1
/// that holds its fair share (the limit divided by the number of L1s) or more evicts from itself.
/// One that holds less takes from the one that holds most, so that an L1 that comes late does not
/// find everything taken by others that are no longer in use.
#[derive(Default)]
pub struct Ceiling {
    limit: AtomicU64,
    // Signed: a removal may be counted before the insertion that it undoes.
    used: AtomicI64,
    members: Mutex<Arc<Vec<Arc<dyn Member>>>>,
    count: AtomicUsize,
}

/// An L1 below a ceiling, as the ceiling sees it.
pub(super) trait Member: Send + Sync {
    /// The weight of its entries; `None` = it is gone.
    fn weight(&self) -> Option<u64>;
    /// Evicts at least `bytes` if it can; returns the bytes freed.
    fn give_way(&self, bytes: u64, out: &mut Foreign) -> u64;
}

impl Ceiling {
    /// A ceiling of `limit` bytes; `u64::MAX` = no limit.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            limit: AtomicU64::new(limit),
            ..Self::default()
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

    /// The bytes that are left.
    pub(super) fn room(&self) -> u64 {
        self.limit().saturating_sub(self.used())
    }

    /// The share of one L1 if all had the same, in bytes.
    pub(super) fn fair_share(&self) -> u64 {
        self.limit() / self.count.load(Ordering::Relaxed).max(1) as u64
    }

    pub(super) fn join(&self, member: Arc<dyn Member>) {
        let mut members = self.members.lock();
        *members = Arc::new(members.iter().cloned().chain([member]).collect());
        self.count.store(members.len(), Ordering::Relaxed);
    }

    pub(super) fn leave(&self, member: &Arc<dyn Member>) {
        let mut members = self.members.lock();
        let others = members.iter().filter(|other| !Arc::ptr_eq(other, member));
        *members = Arc::new(others.cloned().collect());
        self.count.store(members.len(), Ordering::Relaxed);
    }

    /// Counts `added` and `removed` bytes; returns by how much the limit is exceeded.
    pub(super) fn account(&self, added: u64, removed: u64) -> u64 {
        let delta = added as i64 - removed as i64;
        let used = self.used.fetch_add(delta, Ordering::Relaxed) + delta;
        u64::try_from(used)
            .unwrap_or(0)
            .saturating_sub(self.limit())
    }

    /// Makes room for `bytes` at the expense of the L1 that holds most, down to its fair share.
    #[cold]
    pub(super) fn take_from_others(&self, bytes: u64, out: &mut Foreign) {
        // Not under the lock: it may end with the last reference to an L1.
        let members = Arc::clone(&self.members.lock());
        let weights = members
            .iter()
            .filter_map(|member| Some((member.weight()?, member)));
        let Some((weight, heaviest)) = weights.max_by_key(|(weight, _)| *weight) else {
            return;
        };
        let spare = weight.saturating_sub(self.fair_share());
        if spare > 0 {
            let freed = heaviest.give_way(bytes.max(PORTION).min(spare), out);
            self.account(0, freed);
        }
    }
}

impl std::fmt::Debug for Ceiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ceiling")
            .field("limit", &self.limit())
            .field("used", &self.used())
            .field("members", &self.count)
            .finish()
    }
}
