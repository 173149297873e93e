//! What stands before every operation on the shared layer: breaker, backpressure, adaptive timeout.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cachekit_backends::{BackendError, ErrorKind};
use cachekit_engine::{
    backpressure::{Backpressure, BackpressureConfig, Pass},
    breaker::{Breaker, BreakerConfig, FailureKind, Permission, Permit},
    deadline::{AdaptiveTimeout, TimeoutConfig},
    outage::{Notice, Outage},
    time::{Clock, Tick},
};
use crossbeam_queue::ArrayQueue;

use crate::park::block_on;

/// How the guards of one backend and namespace are set.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct GuardConfig {
    /// The circuit breaker; `None` is off.
    pub breaker: Option<BreakerConfig>,
    /// The limit on concurrent operations; `None` is off.
    pub backpressure: Option<BackpressureConfig>,
    /// The adaptive timeout; `None` leaves the backend's own timeout alone.
    pub timeout: Option<TimeoutConfig>,
    /// Kinds of failure that the breaker does not count.
    pub uncounted: Vec<ErrorKind>,
}

/// Why an operation on the shared layer brought nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The breaker is open: the backend was not asked.
    #[error("the circuit breaker is open")]
    Open,
    /// Too many operations are under way: the backend was not asked.
    #[error("too many concurrent operations")]
    Busy,
    /// The backend was asked and failed.
    #[error(transparent)]
    Failed(#[from] BackendError),
}

/// Something a face should log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The first failure of an outage.
    Down(BackendError),
    /// An outage is over.
    Recovered {
        /// How long it lasted.
        lasted: Duration,
        /// How many operations failed meanwhile.
        failures: u64,
    },
}

/// What an operation does. Locks have a history of latency of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Read,
    Write,
    /// Writes a value of so many bytes.
    Set(usize),
    Lock,
}

impl Lane {
    /// The time that an adaptive deadline, which knows nothing of sizes, leaves on top for moving the bytes.
    fn for_bytes(self) -> Duration {
        match self {
            Self::Set(bytes) => Duration::from_secs_f64(bytes as f64 / SLOWEST),
            Self::Read | Self::Write | Self::Lock => Duration::ZERO,
        }
    }
}

/// Bytes per second that any store takes which is of use.
const SLOWEST: f64 = (16 << 20) as f64;

/// The guards of one backend and namespace, shared by its functions.
pub struct Guards {
    breaker: Option<Breaker>,
    backpressure: Option<Backpressure>,
    queue_wait: Duration,
    data: Option<AdaptiveTimeout>,
    lock: Option<AdaptiveTimeout>,
    uncounted: Vec<ErrorKind>,
    outage: Outage,
    /// Whether a change was the last thing to fail: a store that is full or a replica still answers
    /// reads, which then end no outage.
    unchangeable: AtomicBool,
    events: ArrayQueue<Event>,
    clock: Arc<dyn Clock>,
}

/// How many unlogged events are kept; more than one outage's worth is noise.
const EVENTS: usize = 64;

impl Guards {
    /// Guards as configured, all closed and idle.
    pub fn new(config: GuardConfig, clock: Arc<dyn Clock>) -> Self {
        let queue_wait = config
            .backpressure
            .as_ref()
            .map_or(Duration::ZERO, |c| c.timeout);
        Self {
            breaker: config.breaker.map(Breaker::new),
            backpressure: config.backpressure.map(Backpressure::new),
            queue_wait,
            data: config.timeout.map(AdaptiveTimeout::new),
            lock: config.timeout.map(AdaptiveTimeout::new),
            uncounted: config.uncounted,
            outage: Outage::default(),
            unchangeable: AtomicBool::new(false),
            events: ArrayQueue::new(EVENTS),
            clock,
        }
    }

    /// The breaker, if there is one.
    pub fn breaker(&self) -> Option<&Breaker> {
        self.breaker.as_ref()
    }

    /// The limit on concurrent operations, if there is one.
    pub fn backpressure(&self) -> Option<&Backpressure> {
        self.backpressure.as_ref()
    }

    /// The adaptive timeout of reads and writes, if there is one.
    pub fn timeout(&self) -> Option<&AdaptiveTimeout> {
        self.data.as_ref()
    }

    /// The clock that judges the guards' times.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The oldest event that nobody has logged yet.
    pub fn next_event(&self) -> Option<Event> {
        self.events.pop()
    }

    fn lane(&self, lane: Lane) -> Option<&AdaptiveTimeout> {
        match lane {
            Lane::Read | Lane::Write | Lane::Set(_) => self.data.as_ref(),
            Lane::Lock => self.lock.as_ref(),
        }
    }

    fn admit(&self) -> Result<Option<Permit<&Breaker>>, Unavailable> {
        match &self.breaker {
            None => Ok(None),
            Some(breaker) => match breaker.try_acquire(self.clock.now()) {
                Permission::Granted(permit) => Ok(Some(permit)),
                Permission::Refused => Err(Unavailable::Open),
            },
        }
    }

    fn limit(&self, lane: Lane, timeout: Duration) -> Duration {
        self.lane(lane).map_or(timeout, |adaptive| {
            timeout.min(adaptive.current(timeout).saturating_add(lane.for_bytes()))
        })
    }

    fn settle<R>(
        &self,
        permit: Option<Permit<&Breaker>>,
        lane: Lane,
        limit: Duration,
        elapsed: Duration,
        result: Result<R, BackendError>,
    ) -> Result<R, Unavailable> {
        let now = self.clock.now();
        match result {
            Ok(value) => {
                if let Some(permit) = permit {
                    permit.success(now);
                }
                if let Some(adaptive) = self.lane(lane) {
                    adaptive.record(elapsed);
                }
                self.note_success(lane, now);
                Ok(value)
            }
            Err(error) => {
                let kind = failure_kind(error.kind());
                // A permit that is dropped without a verdict counts as nothing.
                let counted = !error.is_uncounted() && !self.uncounted.contains(&error.kind());
                if let Some(permit) = permit.filter(|_| counted) {
                    permit.failure(now, kind);
                }
                if let Some(adaptive) = self.lane(lane).filter(|_| kind == FailureKind::Timeout) {
                    adaptive.record_timeout(limit.saturating_sub(lane.for_bytes()));
                }
                self.unchangeable
                    .store(lane != Lane::Read, Ordering::Relaxed);
                if self.outage.on_failure(now).is_some() {
                    self.events.force_push(Event::Down(error.clone()));
                }
                Err(Unavailable::Failed(error))
            }
        }
    }

    fn note_success(&self, lane: Lane, now: Tick) {
        if lane == Lane::Read && self.unchangeable.load(Ordering::Relaxed) {
            return;
        }
        self.unchangeable.store(false, Ordering::Relaxed);
        if let Some(Notice::Recovered { lasted, failures }) = self.outage.on_success(now) {
            self.events
                .force_push(Event::Recovered { lasted, failures });
        }
    }

    /// Does a blocking `operation`, if it is admitted, within what is left of `timeout`.
    pub(crate) fn run<R>(
        &self,
        lane: Lane,
        timeout: Duration,
        operation: impl FnOnce(Duration) -> Result<R, BackendError>,
    ) -> Result<R, Unavailable> {
        let permit = self.admit()?;
        let (_pass, left) = self.enter_blocking(timeout)?;
        let limit = self.limit(lane, left);
        let started = self.clock.now();
        let result = operation(limit);
        let elapsed = self.clock.now().since(started);
        self.settle(permit, lane, limit, elapsed, result)
    }

    /// As [`run`](Self::run), for a future.
    pub(crate) async fn run_async<R, F: Future<Output = Result<R, BackendError>>>(
        &self,
        lane: Lane,
        timeout: Duration,
        operation: impl FnOnce(Duration) -> F,
    ) -> Result<R, Unavailable> {
        let permit = self.admit()?;
        let (_pass, left) = self.enter(timeout).await?;
        let limit = self.limit(lane, left);
        let started = self.clock.now();
        let result = operation(limit).await;
        let elapsed = self.clock.now().since(started);
        self.settle(permit, lane, limit, elapsed, result)
    }

    /// A place among those who may ask, and what the wait for it has left of `timeout`.
    fn enter_blocking(&self, timeout: Duration) -> Result<Entered<'_>, Unavailable> {
        let Some(backpressure) = &self.backpressure else {
            return Ok((None, timeout));
        };
        if let Some(pass) = backpressure.try_enter() {
            return Ok((Some(pass), timeout));
        }
        let arrived = self.clock.now();
        let at_most = self.queue_wait.min(timeout);
        match block_on(backpressure.enter(), at_most, at_most, || true) {
            Ok(Ok(pass)) => self.entered(pass, arrived, timeout),
            Ok(Err(_)) | Err(_) => Err(Unavailable::Busy),
        }
    }

    async fn enter(&self, timeout: Duration) -> Result<Entered<'_>, Unavailable> {
        let Some(backpressure) = &self.backpressure else {
            return Ok((None, timeout));
        };
        if let Some(pass) = backpressure.try_enter() {
            return Ok((Some(pass), timeout));
        }
        let arrived = self.clock.now();
        match tokio::time::timeout(self.queue_wait.min(timeout), backpressure.enter()).await {
            Ok(Ok(pass)) => self.entered(pass, arrived, timeout),
            Ok(Err(_)) | Err(_) => Err(Unavailable::Busy),
        }
    }

    /// The end of a wait. Who has no time left does not ask.
    fn entered<'a>(
        &self,
        pass: Pass<&'a Backpressure>,
        arrived: Tick,
        timeout: Duration,
    ) -> Result<Entered<'a>, Unavailable> {
        let left = timeout.saturating_sub(self.clock.now().since(arrived));
        if left.is_zero() {
            return Err(Unavailable::Busy);
        }
        Ok((Some(pass), left))
    }
}

/// A pass, where there are any, and the time that is left.
type Entered<'a> = (Option<Pass<&'a Backpressure>>, Duration);

fn failure_kind(kind: ErrorKind) -> FailureKind {
    match kind {
        ErrorKind::Transient => FailureKind::Transient,
        ErrorKind::Timeout => FailureKind::Timeout,
        ErrorKind::Authentication => FailureKind::Authentication,
        ErrorKind::Permanent => FailureKind::Permanent,
        _ => FailureKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;
    use crate::clock::SystemClock;

    const BUDGET: Duration = Duration::from_secs(10);
    const HELD: Duration = Duration::from_millis(60);

    fn one_at_a_time() -> Arc<Guards> {
        let config = GuardConfig {
            backpressure: Some(BackpressureConfig {
                max_concurrent: 1,
                queue_size: 1,
                timeout: BUDGET,
            }),
            ..GuardConfig::default()
        };
        Arc::new(Guards::new(config, Arc::new(SystemClock)))
    }

    /// The limit of an operation that waited in the queue while another one took [`HELD`].
    fn limit_behind_another(wait: impl FnOnce(&Guards) -> Duration) -> Duration {
        let guards = one_at_a_time();
        let (inside, entered) = mpsc::channel();
        let other = Arc::clone(&guards);
        let holder = thread::spawn(move || {
            other.run(Lane::Read, BUDGET, |_| {
                inside.send(()).expect("somebody listens");
                while other.backpressure().expect("it is on").snapshot().waiting == 0 {
                    thread::yield_now();
                }
                thread::sleep(HELD);
                Ok(())
            })
        });
        entered.recv().expect("it is inside");
        let limit = wait(&guards);
        holder.join().expect("no panic").expect("it is admitted");
        limit
    }

    #[test]
    fn the_wait_in_the_queue_is_on_the_budget() {
        let limit = limit_behind_another(|guards| {
            guards.run(Lane::Read, BUDGET, Ok).expect("it is admitted")
        });
        assert!(limit <= BUDGET - HELD, "{limit:?}");
    }

    #[test]
    fn the_wait_of_a_task_is_on_the_budget() {
        let limit = limit_behind_another(|guards| {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a poller")
                .block_on(guards.run_async(Lane::Read, BUDGET, async |limit| Ok(limit)))
                .expect("it is admitted")
        });
        assert!(limit <= BUDGET - HELD, "{limit:?}");
    }

    #[test]
    fn a_long_value_has_time_to_be_written() {
        let config = GuardConfig {
            timeout: Some(TimeoutConfig::default()),
            ..GuardConfig::default()
        };
        let guards = Guards::new(config, Arc::new(SystemClock));
        let minute = Duration::from_secs(60);
        let limit = |bytes, timeout| guards.run(Lane::Set(bytes), timeout, Ok).expect("admitted");
        assert_eq!(limit(160 << 20, minute), Duration::from_secs(11));
        assert_eq!(limit(0, minute), Duration::from_secs(1));
        // But no more than the backend has.
        assert_eq!(
            limit(160 << 20, Duration::from_secs(5)),
            Duration::from_secs(5)
        );
        assert_eq!(limit(usize::MAX, minute), minute);
    }
}
