//! What a cache reports about itself.

use std::time::Duration;

use cachekit_engine::stats::StatsSnapshot;

/// What a cache or a function did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls answered from this process, those that waited for another call's result included.
    pub l1_hits: u64,
    /// Calls answered from the store.
    pub l2_hits: u64,
    /// Calls that ran the function, and reads that found nothing.
    pub misses: u64,
    /// The mean time of a hit in the store; zero when there was none.
    pub l2_average_latency: Duration,
    /// Entries of the store that were refused because they do not decrypt, or are not encrypted where
    /// they must be; of a whole cache only, zero of one function.
    pub refused: u64,
    /// Entries in this process now.
    pub entries: usize,
    /// The bytes that they hold; of a whole cache only, zero of one function.
    pub bytes: u64,
}

impl Stats {
    /// Calls answered without running the function.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.l1_hits + self.l2_hits
    }

    pub(crate) fn sum(snapshots: impl Iterator<Item = StatsSnapshot>) -> Self {
        let mut sum = StatsSnapshot::default();
        for one in snapshots {
            sum.l1_hits += one.l1_hits;
            sum.l2_hits += one.l2_hits;
            sum.misses += one.misses;
            sum.l2_latency += one.l2_latency;
        }
        Self {
            l1_hits: sum.l1_hits,
            l2_hits: sum.l2_hits,
            misses: sum.misses,
            l2_average_latency: sum.l2_average_latency(),
            ..Self::default()
        }
    }
}
