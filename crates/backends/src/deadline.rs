//! Moments by which something must be done.

use std::time::{Duration, Instant};

/// The moment after this long. What lies beyond the clock's reach is as good as a century.
pub(crate) fn after(time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now() + time.min(CENTURY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_too_long() {
        let soon = Duration::from_secs(60);
        let (before, moment) = (Instant::now(), after(soon));
        assert!(moment >= before + soon && moment <= Instant::now() + soon);
        assert!(after(Duration::MAX) > after(soon));
    }
}
