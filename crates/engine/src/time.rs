//! Points in monotonic time, and the clock that the faces pass in.
//!
//! The engine never reads a clock: every question that depends on time takes a [`Tick`]. That
//! makes all timing behaviour testable without sleeping.

use std::time::{Duration, SystemTime};

/// A point in monotonic time, in nanoseconds since a start that the clock chose.
///
/// Ticks of one clock are comparable with each other only. `u64` nanoseconds last 584 years, so
/// the arithmetic saturates instead of failing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The first tick of every clock.
    pub const ZERO: Self = Self(0);
    /// Never: later than every tick that a clock returns.
    pub const MAX: Self = Self(u64::MAX);

    /// The tick `duration` later; [`Tick::MAX`] (never) when that is out of range.
    #[inline]
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// The tick `duration` earlier; [`Tick::ZERO`] when that is out of range.
    #[inline]
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }

    /// The time that has passed since `earlier`; zero when `earlier` lies ahead.
    #[inline]
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whether this tick is [`Tick::MAX`].
    #[inline]
    #[must_use]
    pub const fn is_never(self) -> bool {
        self.0 == u64::MAX
    }
}

/// `duration` in whole nanoseconds, saturating at `u64::MAX`.
#[inline]
fn nanos(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(duration.subsec_nanos()))
}

/// Where the faces take the time from; tests pass one that they wind by hand.
pub trait Clock: Send + Sync {
    /// The current tick, a few milliseconds late at most; cheap enough for every hit.
    fn coarse(&self) -> Tick;

    /// The current tick, exact.
    fn now(&self) -> Tick;

    /// The wall-clock time. It may jump; only what is stored uses it.
    fn wall(&self) -> SystemTime;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Tick(5).plus(Duration::from_nanos(7)), Tick(12));
        assert_eq!(Tick(5).plus(Duration::MAX), Tick::MAX);
        assert_eq!(Tick::MAX.plus(Duration::from_secs(1)), Tick::MAX);
        assert_eq!(Tick(5).minus(Duration::from_nanos(3)), Tick(2));
        assert_eq!(Tick(5).minus(Duration::MAX), Tick::ZERO);
        assert_eq!(Tick(9).since(Tick(4)), Duration::from_nanos(5));
        assert_eq!(Tick(4).since(Tick(9)), Duration::ZERO);
        assert!(Tick::MAX.is_never());
        assert!(!Tick(u64::MAX - 1).is_never());
    }

    #[test]
    fn whole_seconds_survive() {
        let tick = Tick::ZERO.plus(Duration::new(3, 4));
        assert_eq!(tick, Tick(3_000_000_004));
    }
}
