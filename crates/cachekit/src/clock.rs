//! The real clocks behind the engine's [`Clock`].

use std::time::{Duration, SystemTime};

use cachekit_engine::time::{Clock, Tick};

/// The operating system's monotonic clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// How far [`Clock::coarse`] may lag behind [`Clock::now`]: one tick of the slowest common kernel
/// (100 Hz). What is judged by the coarse clock is made to end this much earlier.
pub const COARSE_STEP: Duration = Duration::from_millis(10);

#[inline]
fn read(clock: libc::clockid_t) -> Tick {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid, writable timespec; both clocks exist on every supported kernel.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    debug_assert_eq!(failed, 0, "the monotonic clocks cannot fail");
    Tick(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

impl Clock for SystemClock {
    #[inline]
    fn coarse(&self) -> Tick {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return read(libc::CLOCK_MONOTONIC_COARSE);
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        return self.now();
    }

    #[inline]
    fn now(&self) -> Tick {
        read(libc::CLOCK_MONOTONIC)
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_never_leads_and_lags_by_less_than_its_step() {
        for _ in 0..10_000 {
            let before = SystemClock.now();
            let coarse = SystemClock.coarse();
            let after = SystemClock.now();
            assert!(coarse <= after);
            assert!(
                before.since(coarse) <= COARSE_STEP,
                "lag {:?}",
                before.since(coarse)
            );
        }
    }
}
