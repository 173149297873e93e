//! Limits of requests in time and of values in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A token bucket: `rate` requests per second, `burst` at once.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn full(burst: u32, now: Instant) -> Self {
        Self {
            tokens: f64::from(burst),
            filled: now,
        }
    }

    /// Takes a token, or tells how long until there is one.
    pub(crate) fn take(&mut self, rate: u32, burst: u32, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * f64::from(rate)).min(f64::from(burst));
        self.filled = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64(
            (1.0 - self.tokens) / f64::from(rate),
        ))
    }
}

/// The memory for values on their way in or out.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    /// In units.
    whole: u32,
}

/// Budgets are counted in units of so many bytes.
const UNIT: usize = 1024;
/// How long a request waits for memory.
const PATIENCE: Duration = Duration::from_secs(1);

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share(#[allow(dead_code)] Option<OwnedSemaphorePermit>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        let whole = u32::try_from(bytes / UNIT)
            .unwrap_or(u32::MAX)
            .min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self {
            free: Arc::new(Semaphore::new(whole as usize)),
            whole,
        }
    }

    /// Room for so many bytes; None if there was none for a second.
    pub(crate) async fn take(&self, bytes: usize) -> Option<Share> {
        if bytes == 0 {
            return Some(Share(None));
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?.min(self.whole);
        let taken = self.free.clone().acquire_many_owned(units);
        match tokio::time::timeout(PATIENCE, taken).await {
            Ok(Ok(permit)) => Some(Share(Some(permit))),
            _ => None,
        }
    }

    /// Room for so many bytes, if there is some at this moment.
    pub(crate) fn take_now(&self, bytes: usize) -> Option<Share> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?.min(self.whole);
        let taken = self.free.clone().try_acquire_many_owned(units);
        taken.ok().map(|permit| Share(Some(permit)))
    }

    /// The bytes that are taken.
    pub(crate) fn taken(&self) -> usize {
        (self.whole as usize).saturating_sub(self.free.available_permits()) * UNIT
    }
}

impl Share {
    /// Both together.
    pub(crate) fn join(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(mine), Some(other)) => mine.merge(other),
            (mine @ None, other) => *mine = other,
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_burst_through_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(3, start);
        let mut take = |millis| bucket.take(2, 3, start + Duration::from_millis(millis));
        assert!((0..3).all(|_| take(0).is_ok()));
        assert_eq!(take(0), Err(Duration::from_millis(500)));
        assert_eq!(take(250), Err(Duration::from_millis(250)));
        assert_eq!(take(500), Ok(()));
        assert!((0..3).all(|_| take(60_000).is_ok()));
        assert!(take(60_000).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_is_given_back() {
        let budget = Budget::new(4 * UNIT);
        let mut most = budget.take(3 * UNIT).await.unwrap();
        assert!(budget.take(2 * UNIT).await.is_none());
        assert!(budget.take_now(2 * UNIT).is_none());
        assert!(budget.take_now(UNIT).is_some());
        most.join(budget.take(1).await.unwrap());
        assert_eq!(budget.taken(), 4 * UNIT);
        assert!(budget.take(0).await.is_some());
        drop(most);
        assert_eq!(budget.taken(), 0);
        assert!(budget.take(4 * UNIT).await.is_some());
    }
}
