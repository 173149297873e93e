//! Deadlines that follow what the backend has lately shown to need.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// How far above the percentile the deadline lies.
const MARGIN: f64 = 1.5;
/// Below this many samples the percentile says nothing.
const ENOUGH: usize = 10;
/// With more samples than this, the percentile is computed anew with every `STEP`th only.
const FEW: usize = 64;
const STEP: u32 = 16;

/// How deadlines adapt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeoutConfig {
    /// The deadline until there are 10 samples.
    pub initial: Duration,
    /// The shortest deadline.
    pub min: Duration,
    /// The longest deadline; wins over `min`.
    pub max: Duration,
    /// The latest samples that count; 0 counts as 1.
    pub window_size: usize,
    /// The percentile of the samples that the deadline follows, 0 to 100.
    pub percentile: f64,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            min: Duration::from_millis(100),
            max: Duration::from_secs(10),
            window_size: 1000,
            percentile: 95.0,
        }
    }
}

/// An adaptive timeout as health checks show it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeoutSnapshot {
    /// The deadline now.
    pub current: Duration,
    /// The deadline that it started with.
    pub initial: Duration,
    /// The mean of the samples; `None` = no samples.
    pub average: Option<Duration>,
    /// The percentile of the samples, as an upper bound that is 3.2 % and 100 ns high at most.
    pub percentile: Option<Duration>,
    /// Samples in the window.
    pub samples: usize,
}

/// The deadline of one kind of operation: its 95th percentile × 1.5, within bounds.
///
/// An operation that timed out would have taken longer than its deadline, nobody knows how much;
/// it is recorded at twice its deadline, so that the deadline grows when the backend slows down.
/// Reading costs one atomic load; recording O(1), amortised.
#[derive(Debug)]
pub struct AdaptiveTimeout {
    config: TimeoutConfig,
    // Nanoseconds; 0 = not enough samples.
    deadline: AtomicU64,
    window: Mutex<Window>,
}

impl AdaptiveTimeout {
    /// A timeout without samples.
    #[must_use]
    pub fn new(config: TimeoutConfig) -> Self {
        let config = TimeoutConfig {
            window_size: config.window_size.max(1),
            ..config
        };
        Self {
            config,
            deadline: AtomicU64::new(0),
            window: Mutex::default(),
        }
    }

    /// The configuration.
    pub const fn config(&self) -> &TimeoutConfig {
        &self.config
    }

    /// The deadline for an operation on a backend whose own timeout is `at_most`.
    #[inline]
    pub fn current(&self, at_most: Duration) -> Duration {
        let deadline = match self.deadline.load(Ordering::Relaxed) {
            0 => self.config.initial,
            nanos => Duration::from_nanos(nanos),
        };
        deadline.min(at_most)
    }

    /// Counts an operation that took `duration`.
    pub fn record(&self, duration: Duration) {
        let mut window = self.window.lock();
        window.push(Units::from(duration), self.config.window_size);
        if window.samples.len() <= FEW || window.unseen >= STEP {
            self.follow(&mut window);
        }
    }

    /// Counts an operation that had not ended after `deadline`.
    pub fn record_timeout(&self, deadline: Duration) {
        let mut window = self.window.lock();
        window.push(
            Units::from(deadline.saturating_mul(2)),
            self.config.window_size,
        );
        self.follow(&mut window);
    }

    /// All there is to see, at one moment.
    pub fn snapshot(&self) -> TimeoutSnapshot {
        let mut window = self.window.lock();
        self.follow(&mut window);
        let samples = window.samples.len();
        let average = window.sum.checked_div(samples as u64);
        TimeoutSnapshot {
            current: self.current(Duration::MAX),
            initial: self.config.initial,
            average: average.map(|units| Duration::from_nanos(units * Units::NANOS)),
            percentile: window.percentile(self.config.percentile),
            samples,
        }
    }

    /// Forgets every sample.
    pub fn reset(&self) {
        let mut window = self.window.lock();
        *window = Window::default();
        self.deadline.store(0, Ordering::Relaxed);
    }

    /// Computes the deadline anew.
    fn follow(&self, window: &mut Window) {
        window.unseen = 0;
        if window.samples.len() < ENOUGH.min(self.config.window_size) {
            return;
        }
        let Some(percentile) = window.percentile(self.config.percentile) else {
            return;
        };
        let deadline = percentile
            .mul_f64(MARGIN)
            .max(self.config.min)
            .min(self.config.max);
        let nanos = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        self.deadline.store(nanos.max(1), Ordering::Relaxed);
    }
}

/// A duration in steps of 100 ns, up to seven minutes.
#[derive(Clone, Copy, Debug)]
struct Units(u32);

impl Units {
    const NANOS: u64 = 100;
    /// Buckets are 1/32 of a power of two wide: 32 exact ones, then 32 for each of 27 powers.
    const BITS: u32 = 5;
    const BUCKETS: usize = (28 << Self::BITS) as usize;

    fn from(duration: Duration) -> Self {
        let units = duration.as_nanos() / u128::from(Self::NANOS);
        Self(u32::try_from(units).unwrap_or(u32::MAX))
    }

    const fn bucket(self) -> usize {
        let Some(power) = self.0.checked_ilog2() else {
            return 0;
        };
        if power < Self::BITS {
            return self.0 as usize;
        }
        let shift = power - Self::BITS;
        // The bits below the leading one; the leading one itself counts the powers up.
        (((shift + 1) << Self::BITS) + (self.0 >> shift) - (1 << Self::BITS)) as usize
    }

    /// The end of a bucket, exclusive, as a duration.
    const fn end(bucket: usize) -> Duration {
        let (power, rest) = (bucket >> Self::BITS, bucket & ((1 << Self::BITS) - 1));
        let end = match power {
            0 => rest as u64 + 1,
            _ => ((1 << Self::BITS) + rest as u64 + 1) << (power - 1),
        };
        Duration::from_nanos(end * Self::NANOS)
    }
}

/// The latest samples and how many of them each bucket has.
#[derive(Debug, Default)]
struct Window {
    samples: Vec<Units>,
    oldest: usize,
    counts: Vec<u32>,
    sum: u64,
    unseen: u32,
}

impl Window {
    fn push(&mut self, sample: Units, size: usize) {
        if self.samples.len() < size {
            self.counts.resize(Units::BUCKETS, 0);
            self.samples.push(sample);
        } else {
            let gone = std::mem::replace(&mut self.samples[self.oldest], sample);
            self.oldest = (self.oldest + 1) % size;
            self.counts[gone.bucket()] -= 1;
            self.sum -= u64::from(gone.0);
        }
        self.counts[sample.bucket()] += 1;
        self.sum += u64::from(sample.0);
        self.unseen += 1;
    }

    /// The end of the bucket that holds the sample of nearest rank.
    fn percentile(&self, percent: f64) -> Option<Duration> {
        let rank = (self.samples.len() as f64 * percent / 100.0)
            .ceil()
            .max(1.0) as u64;
        let mut seen = 0;
        let reaches = |count: &u32| {
            seen += u64::from(*count);
            seen >= rank
        };
        self.counts.iter().position(reaches).map(Units::end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn wide() -> TimeoutConfig {
        TimeoutConfig {
            min: Duration::ZERO,
            max: Duration::MAX,
            ..TimeoutConfig::default()
        }
    }

    #[test]
    fn starts_with_the_initial_deadline() {
        let timeout = AdaptiveTimeout::new(TimeoutConfig::default());
        for _ in 0..9 {
            assert_eq!(timeout.current(Duration::MAX), Duration::from_secs(1));
            timeout.record(200 * MILLI);
        }
        assert_eq!(timeout.current(Duration::MAX), Duration::from_secs(1));
        timeout.record(200 * MILLI);
        let current = timeout.current(Duration::MAX);
        assert!(
            current >= 300 * MILLI && current < 310 * MILLI,
            "{current:?}"
        );
        assert_eq!(timeout.snapshot().average, Some(200 * MILLI));
        timeout.reset();
        assert_eq!(timeout.current(Duration::MAX), Duration::from_secs(1));
        assert_eq!(timeout.snapshot().average, None);
    }

    #[test]
    fn stays_within_bounds() {
        let timeout = AdaptiveTimeout::new(TimeoutConfig::default());
        for _ in 0..1000 {
            timeout.record(Duration::from_micros(30));
        }
        assert_eq!(timeout.current(Duration::MAX), 100 * MILLI);
        assert_eq!(
            timeout.current(50 * MILLI),
            50 * MILLI,
            "never above the backend's own"
        );
        for _ in 0..1000 {
            timeout.record(Duration::from_secs(3600));
        }
        assert_eq!(timeout.current(Duration::MAX), Duration::from_secs(10));
        assert_eq!(
            timeout.current(Duration::from_secs(1)),
            Duration::from_secs(1)
        );
    }

    #[test]
    fn grows_back_when_everything_times_out() {
        let timeout = AdaptiveTimeout::new(TimeoutConfig::default());
        for _ in 0..1000 {
            timeout.record(Duration::from_micros(30));
        }
        let needs = Duration::from_secs(2);
        let mut timeouts = 0;
        while timeout.current(Duration::MAX) < needs {
            timeout.record_timeout(timeout.current(Duration::MAX));
            timeouts += 1;
        }
        assert!(
            timeouts < 300,
            "{timeouts} timeouts until the deadline was long enough"
        );
    }

    #[test]
    fn follows_a_change_within_a_window() {
        let timeout = AdaptiveTimeout::new(wide());
        (0..5000).for_each(|_| timeout.record(400 * MILLI));
        (0..950).for_each(|_| timeout.record(MILLI));
        let seen = timeout.snapshot();
        assert!(seen.percentile < Some(2 * MILLI), "{seen:?}");
        assert_eq!(seen.samples, 1000);
    }

    #[test]
    fn buckets_hold_what_they_say() {
        for value in (0..5000).chain((0..32).flat_map(|power| {
            let edge = 1_u32 << power;
            [edge.wrapping_sub(1), edge, edge + 1]
        })) {
            let bucket = Units(value).bucket();
            let end = Units::end(bucket).as_nanos() / 100;
            assert!(
                u128::from(value) < end,
                "{value} in bucket {bucket} up to {end}"
            );
            assert!(
                end as f64 <= f64::from(value) * 1.032 + 1.0,
                "{value} below {end}"
            );
            if let Some(before) = bucket.checked_sub(1) {
                assert!(Units::end(before).as_nanos() / 100 <= u128::from(value));
            }
        }
        assert!(Units(u32::MAX).bucket() < Units::BUCKETS);
    }

    proptest! {
        #[test]
        fn percentile_and_average_agree_with_a_sort(
            samples in prop::collection::vec(prop_oneof![1_u64..3000, 1_u64..30_000_000], 10..400),
            window_size in 1_usize..300,
            percentile in 1_u32..=100,
        ) {
            let config = TimeoutConfig { window_size, percentile: percentile.into(), ..wide() };
            let timeout = AdaptiveTimeout::new(config);
            for &micros in &samples {
                timeout.record(Duration::from_micros(micros));
            }
            let mut latest = samples[samples.len().saturating_sub(window_size)..].to_vec();
            let seen = timeout.snapshot();
            prop_assert_eq!(seen.samples, latest.len());
            let sum: u64 = latest.iter().sum();
            let average = Duration::from_nanos(sum * 1000 / latest.len() as u64 / 100 * 100);
            prop_assert_eq!(seen.average, Some(average));
            latest.sort_unstable();
            let rank = (latest.len() * percentile as usize).div_ceil(100);
            let exact = Duration::from_micros(latest[rank - 1]);
            let found = seen.percentile.expect("there are samples");
            let bound = exact.mul_f64(1.032) + Duration::from_nanos(100);
            prop_assert!(found >= exact && found <= bound, "{found:?} for {exact:?}");
            prop_assert_eq!(seen.current, found.mul_f64(1.5));
        }

        #[test]
        fn the_deadline_lags_by_a_few_samples_at_most(
            samples in prop::collection::vec(1_u64..1_000_000, 100..300),
        ) {
            let timeout = AdaptiveTimeout::new(wide());
            let mut computed = Vec::new();
            for micros in samples {
                timeout.record(Duration::from_micros(micros));
                let window = timeout.window.lock();
                let percentile = window.percentile(95.0).expect("there are samples");
                computed.push(percentile.mul_f64(1.5));
                if computed.len() >= ENOUGH {
                    let current = timeout.current(Duration::MAX);
                    let recent = &computed[computed.len().saturating_sub(STEP as usize)..];
                    prop_assert!(recent.contains(&current));
                }
            }
        }
    }
}
