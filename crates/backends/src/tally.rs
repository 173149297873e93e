//! What functions count, for the services that are told of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the functions of a process have counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls answered by the process's own cache.
    pub l1_hits: u64,
    /// Calls answered by the service.
    pub l2_hits: u64,
    /// Calls that ran the function.
    pub misses: u64,
}

/// What all functions over one backend have counted; it only grows.
#[derive(Debug, Default)]
pub struct Tally {
    counting: AtomicBool,
    l1_hits: AtomicU64,
    l2_hits: AtomicU64,
    misses: AtomicU64,
}

impl Tally {
    /// Adds what a function has counted since `told`, which becomes `now`. A function whose counters
    /// were cleared began anew.
    pub fn add(&self, told: &mut Counters, now: Counters) {
        let new = now.since(*told).unwrap_or(now);
        *told = now;
        self.l1_hits.fetch_add(new.l1_hits, Ordering::Relaxed);
        self.l2_hits.fetch_add(new.l2_hits, Ordering::Relaxed);
        self.misses.fetch_add(new.misses, Ordering::Relaxed);
        self.counting.store(true, Ordering::Relaxed);
    }

    /// What was counted; None until a function has told.
    #[must_use]
    pub fn counters(&self) -> Option<Counters> {
        self.counting.load(Ordering::Relaxed).then(|| Counters {
            l1_hits: self.l1_hits.load(Ordering::Relaxed),
            l2_hits: self.l2_hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        })
    }
}

impl Counters {
    /// What was counted since; None where it is less than then.
    pub(crate) fn since(self, earlier: Self) -> Option<Self> {
        Some(Self {
            l1_hits: self.l1_hits.checked_sub(earlier.l1_hits)?,
            l2_hits: self.l2_hits.checked_sub(earlier.l2_hits)?,
            misses: self.misses.checked_sub(earlier.misses)?,
        })
    }
}
