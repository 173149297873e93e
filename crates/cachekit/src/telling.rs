//! What a cache tells the service behind its backend.

use cachekit_backends::{Counters, Tally};
use cachekit_engine::stats::StatsSnapshot;
use parking_lot::Mutex;

/// What a function's counters were when it last told them.
#[derive(Debug, Default)]
pub struct Told(Mutex<Counters>);

impl Told {
    /// Tells what was counted since.
    pub fn tell(&self, tally: &Tally, now: &StatsSnapshot) {
        let now = Counters {
            l1_hits: now.l1_hits,
            l2_hits: now.l2_hits,
            misses: now.misses,
        };
        tally.add(&mut self.0.lock(), now);
    }
}
