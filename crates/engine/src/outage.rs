//! When to tell the log about a failing backend: once per outage.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::time::Tick;

/// How long after an outage further failures belong to it, unless said otherwise.
pub const QUIET: Duration = Duration::from_secs(60);

/// What the log should be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An outage began: worth a warning.
    Began,
    /// An outage that was told about is over.
    Recovered {
        /// From its first failure to the success that ended it.
        lasted: Duration,
        /// Failed operations in it.
        failures: u64,
    },
}

/// Turns failures and successes of one backend into one warning per outage.
///
/// An outage lasts from a failure to the next success. One that begins within the quiet time after
/// another one was told about is kept to itself until the quiet time is over: a backend that comes
/// and goes warns once a minute, not once a call.
#[derive(Debug)]
pub struct Outage {
    quiet: Duration,
    failing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Tick,
    failures: u64,
    told: bool,
    quiet_until: Tick,
}

impl Default for Outage {
    fn default() -> Self {
        Self::new(QUIET)
    }
}

impl Outage {
    /// A backend that works, as far as is known, with `quiet` between two warnings.
    #[must_use]
    pub fn new(quiet: Duration) -> Self {
        Self {
            quiet,
            failing: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Counts a failed operation.
    pub fn on_failure(&self, now: Tick) -> Option<Notice> {
        let mut state = self.state.lock();
        if state.failures == 0 {
            state.since = now;
            state.told = false;
            self.failing.store(true, Ordering::Release);
        }
        state.failures += 1;
        if state.told || now < state.quiet_until {
            return None;
        }
        state.told = true;
        state.quiet_until = now.plus(self.quiet);
        Some(Notice::Began)
    }

    /// Counts an operation that the backend answered. One atomic load while nothing fails.
    #[inline]
    pub fn on_success(&self, now: Tick) -> Option<Notice> {
        if !self.failing.load(Ordering::Acquire) {
            return None;
        }
        self.recovered(now)
    }

    #[cold]
    fn recovered(&self, now: Tick) -> Option<Notice> {
        let mut state = self.state.lock();
        let failures = std::mem::take(&mut state.failures);
        self.failing.store(false, Ordering::Release);
        if failures == 0 || !state.told {
            return None;
        }
        state.quiet_until = now.plus(self.quiet);
        Some(Notice::Recovered {
            lasted: now.since(state.since),
            failures,
        })
    }

    /// Whether the last operation failed.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Tick {
        Tick::ZERO.plus(SECOND * u32::try_from(seconds).unwrap())
    }

    #[test]
    fn one_warning_and_one_all_clear() {
        let outage = Outage::default();
        assert_eq!(outage.on_success(at(1)), None);
        assert_eq!(outage.on_failure(at(2)), Some(Notice::Began));
        for second in 3..200 {
            assert_eq!(outage.on_failure(at(second)), None);
        }
        assert!(outage.is_failing());
        let lasted = SECOND * 198;
        assert_eq!(
            outage.on_success(at(200)),
            Some(Notice::Recovered {
                lasted,
                failures: 198
            })
        );
        assert_eq!(outage.on_success(at(201)), None);
        assert!(!outage.is_failing());
    }

    #[test]
    fn a_relapse_is_quiet_at_first() {
        let outage = Outage::default();
        assert_eq!(outage.on_failure(at(0)), Some(Notice::Began));
        assert!(outage.on_success(at(10)).is_some());
        assert_eq!(outage.on_failure(at(20)), None);
        assert_eq!(outage.on_success(at(21)), None);
        assert_eq!(outage.on_failure(at(30)), None);
        assert_eq!(outage.on_failure(at(69)), None);
        // The quiet time is over and it still fails.
        assert_eq!(outage.on_failure(at(70)), Some(Notice::Began));
        let recovered = Notice::Recovered {
            lasted: SECOND * 50,
            failures: 3,
        };
        assert_eq!(outage.on_success(at(80)), Some(recovered));
        assert_eq!(outage.on_failure(at(200)), Some(Notice::Began));
    }

    proptest! {
        #[test]
        fn warnings_are_rare_paired_and_never_missing(
            events in proptest::collection::vec((0_u64..30, any::<bool>()), 1..300),
        ) {
            let outage = Outage::default();
            let (mut now, mut open, mut last_began) = (0, false, None::<u64>);
            let mut failing_since = None;
            for (step, failed) in events {
                now += step;
                let notice = if failed { outage.on_failure(at(now)) } else { outage.on_success(at(now)) };
                failing_since = if failed { failing_since.or(Some(now)) } else { None };
                match notice {
                    Some(Notice::Began) => {
                        prop_assert!(failed && !open);
                        prop_assert!(last_began.is_none_or(|last| now - last >= 60));
                        (open, last_began) = (true, Some(now));
                    }
                    Some(Notice::Recovered { .. }) => {
                        prop_assert!(!failed && open);
                        open = false;
                    }
                    None => prop_assert!(failed || !open),
                }
                // Whoever fails for longer than the quiet time has been told about.
                prop_assert!(failing_since.is_none_or(|since| open || now - since < 60));
            }
        }
    }
}
