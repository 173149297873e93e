//! The process's clock, which tests may push ahead.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use cachekit::clock::SystemClock;
use cachekit_engine::time::{Clock, Tick};

/// The system's clocks plus what a test has added.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProcessClock;

/// The clock of every function in this process.
pub(crate) static CLOCK: ProcessClock = ProcessClock;

static AHEAD: AtomicU64 = AtomicU64::new(0);

/// Pushes the clock ahead, for tests of expiry that must not sleep.
pub(crate) fn advance(by: Duration) {
    AHEAD.fetch_add(
        u64::try_from(by.as_nanos()).unwrap_or(u64::MAX),
        Ordering::Relaxed,
    );
}

impl Clock for ProcessClock {
    #[inline]
    fn coarse(&self) -> Tick {
        Tick(SystemClock.coarse().0 + AHEAD.load(Ordering::Relaxed))
    }

    #[inline]
    fn now(&self) -> Tick {
        Tick(SystemClock.now().0 + AHEAD.load(Ordering::Relaxed))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now() + Duration::from_nanos(AHEAD.load(Ordering::Relaxed))
    }
}
