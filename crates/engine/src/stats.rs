//! Exact counts of what a cached function did.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Tick;

/// What happened so far; shared by all threads, counted without locks and without loss.
#[derive(Debug, Default)]
pub struct Stats {
    l1_hits: AtomicU64,
    l2_hits: AtomicU64,
    misses: AtomicU64,
    l2_nanos: AtomicU64,
    // The tick plus one; 0 = nothing happened yet.
    last: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Calls answered from this process, joined flights included.
    pub l1_hits: u64,
    /// Calls answered from the store.
    pub l2_hits: u64,
    /// Calls that ran the function.
    pub misses: u64,
    /// The sum of the times that L2 hits took.
    pub l2_latency: Duration,
    /// When the last call was answered; `None` = no call since the start or the last reset.
    pub last_operation: Option<Tick>,
}

impl StatsSnapshot {
    /// Calls answered without running the function.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.l1_hits + self.l2_hits
    }

    /// The mean time of an L2 hit; zero when there was none.
    #[must_use]
    pub fn l2_average_latency(&self) -> Duration {
        let nanos = self
            .l2_latency
            .as_nanos()
            .checked_div(u128::from(self.l2_hits));
        Duration::from_nanos(u64::try_from(nanos.unwrap_or(0)).unwrap_or(u64::MAX))
    }
}

impl Stats {
    /// Counts a call answered from this process.
    #[inline]
    pub fn l1_hit(&self, now: Tick) {
        self.l1_hits.fetch_add(1, Ordering::Relaxed);
        self.touch(now);
    }

    /// Counts a call answered from the store after `latency`.
    pub fn l2_hit(&self, now: Tick, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.l2_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.l2_hits.fetch_add(1, Ordering::Relaxed);
        self.touch(now);
    }

    /// Counts a call that ran the function.
    pub fn miss(&self, now: Tick) {
        self.misses.fetch_add(1, Ordering::Relaxed);
        self.touch(now);
    }

    #[inline]
    fn touch(&self, now: Tick) {
        self.last.store(now.0.saturating_add(1), Ordering::Relaxed);
    }

    /// Sets every count to zero. A call that is counted at the same moment lands before or after.
    pub fn reset(&self) {
        for count in [
            &self.l1_hits,
            &self.l2_hits,
            &self.misses,
            &self.l2_nanos,
            &self.last,
        ] {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// The counts now. Each is exact; calls that end meanwhile may show in one and not in another.
    pub fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            l1_hits: self.l1_hits.load(Ordering::Relaxed),
            l2_hits: self.l2_hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            l2_latency: Duration::from_nanos(self.l2_nanos.load(Ordering::Relaxed)),
            last_operation: self.last.load(Ordering::Relaxed).checked_sub(1).map(Tick),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_resets() {
        let stats = Stats::default();
        assert_eq!(stats.snapshot(), StatsSnapshot::default());
        assert_eq!(stats.snapshot().l2_average_latency(), Duration::ZERO);
        stats.l1_hit(Tick(0));
        assert_eq!(stats.snapshot().last_operation, Some(Tick(0)));
        stats.l2_hit(Tick(5), Duration::from_micros(10));
        stats.l2_hit(Tick(6), Duration::from_micros(30));
        stats.miss(Tick(7));
        let seen = stats.snapshot();
        assert_eq!(
            (seen.l1_hits, seen.l2_hits, seen.misses, seen.hits()),
            (1, 2, 1, 3)
        );
        assert_eq!(seen.l2_average_latency(), Duration::from_micros(20));
        assert_eq!(seen.last_operation, Some(Tick(7)));
        stats.reset();
        assert_eq!(stats.snapshot(), StatsSnapshot::default());
    }

    #[test]
    fn exact_under_threads() {
        let stats = Stats::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..10_000 {
                        stats.l1_hit(Tick(i));
                        stats.l2_hit(Tick(i), Duration::from_nanos(3));
                        stats.miss(Tick(i));
                    }
                });
            }
        });
        let seen = stats.snapshot();
        assert_eq!(
            (seen.l1_hits, seen.l2_hits, seen.misses),
            (40_000, 40_000, 40_000)
        );
        assert_eq!(seen.l2_latency, Duration::from_nanos(120_000));
        assert_eq!(seen.last_operation, Some(Tick(9_999)));
    }
}
