//! The shared layer behind its guards: breaker, backpressure, adaptive timeout.
//!
//! Every operation exists twice, blocking and as a future, over one set of guards. A refused or
//! failed operation is an [`Unavailable`], never a panic; what happened is queued as [`Event`]s for
//! the face to log, since the I/O thread must not run a face's code.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use cachekit_backends::{
    AsyncBackend, Backend, BackendError, ErrorKind, Found, LockReply, Released,
};
use cachekit_engine::{
    backpressure::{Backpressure, BackpressureConfig, Pass},
    breaker::{Breaker, BreakerConfig, FailureKind, Permission, Permit},
    deadline::{AdaptiveTimeout, TimeoutConfig},
    outage::{Notice, Outage},
    time::Clock,
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

/// What separate histories of latency are kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Data,
    Lock,
}

/// The guards of one backend and namespace, shared by its functions.
pub struct Guards {
    breaker: Option<Breaker>,
    backpressure: Option<Backpressure>,
    queue_wait: Duration,
    data: Option<AdaptiveTimeout>,
    lock: Option<AdaptiveTimeout>,
    uncounted: Vec<ErrorKind>,
    outage: Outage,
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
            data: config.timeout.clone().map(AdaptiveTimeout::new),
            lock: config.timeout.map(AdaptiveTimeout::new),
            uncounted: config.uncounted,
            outage: Outage::default(),
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
            Lane::Data => self.data.as_ref(),
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
        self.lane(lane)
            .map_or(timeout, |adaptive| adaptive.current(timeout))
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
                if let Some(Notice::Recovered { lasted, failures }) = self.outage.on_success(now) {
                    self.events
                        .force_push(Event::Recovered { lasted, failures });
                }
                Ok(value)
            }
            Err(error) => {
                let kind = failure_kind(error.kind());
                // A permit that is dropped without a verdict counts as nothing.
                if let Some(permit) = permit.filter(|_| !self.uncounted.contains(&error.kind())) {
                    permit.failure(now, kind);
                }
                if let Some(adaptive) = self.lane(lane).filter(|_| kind == FailureKind::Timeout) {
                    adaptive.record_timeout(limit);
                }
                if self.outage.on_failure(now).is_some() {
                    self.events.force_push(Event::Down(error.clone()));
                }
                Err(Unavailable::Failed(error))
            }
        }
    }

    fn run<R>(
        &self,
        lane: Lane,
        timeout: Duration,
        operation: impl FnOnce(Duration) -> Result<R, BackendError>,
    ) -> Result<R, Unavailable> {
        let permit = self.admit()?;
        let _pass = self.enter_blocking(timeout)?;
        let limit = self.limit(lane, timeout);
        let started = self.clock.now();
        let result = operation(limit);
        let elapsed = self.clock.now().since(started);
        self.settle(permit, lane, limit, elapsed, result)
    }

    async fn run_async<R, F: Future<Output = Result<R, BackendError>>>(
        &self,
        lane: Lane,
        timeout: Duration,
        operation: impl FnOnce(Duration) -> F,
    ) -> Result<R, Unavailable> {
        let permit = self.admit()?;
        let _pass = self.enter(timeout).await?;
        let limit = self.limit(lane, timeout);
        let started = self.clock.now();
        let result = operation(limit).await;
        let elapsed = self.clock.now().since(started);
        self.settle(permit, lane, limit, elapsed, result)
    }

    fn enter_blocking(
        &self,
        timeout: Duration,
    ) -> Result<Option<Pass<&Backpressure>>, Unavailable> {
        let Some(backpressure) = &self.backpressure else {
            return Ok(None);
        };
        if let Some(pass) = backpressure.try_enter() {
            return Ok(Some(pass));
        }
        let at_most = self.queue_wait.min(timeout);
        match block_on(backpressure.enter(), at_most, at_most, || true) {
            Ok(Ok(pass)) => Ok(Some(pass)),
            Ok(Err(_)) | Err(_) => Err(Unavailable::Busy),
        }
    }

    async fn enter(&self, timeout: Duration) -> Result<Option<Pass<&Backpressure>>, Unavailable> {
        let Some(backpressure) = &self.backpressure else {
            return Ok(None);
        };
        if let Some(pass) = backpressure.try_enter() {
            return Ok(Some(pass));
        }
        match tokio::time::timeout(self.queue_wait.min(timeout), backpressure.enter()).await {
            Ok(Ok(pass)) => Ok(Some(pass)),
            Ok(Err(_)) | Err(_) => Err(Unavailable::Busy),
        }
    }
}

fn failure_kind(kind: ErrorKind) -> FailureKind {
    match kind {
        ErrorKind::Transient => FailureKind::Transient,
        ErrorKind::Timeout => FailureKind::Timeout,
        ErrorKind::Authentication => FailureKind::Authentication,
        ErrorKind::Permanent => FailureKind::Permanent,
        _ => FailureKind::Unknown,
    }
}

/// A backend behind the guards of one namespace.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    guards: Arc<Guards>,
}

impl Store {
    /// Puts `guards` before `backend`.
    pub fn new(backend: Arc<dyn Backend>, guards: Arc<Guards>) -> Self {
        Self { backend, guards }
    }

    /// The backend itself.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The guards before it.
    pub fn guards(&self) -> &Arc<Guards> {
        &self.guards
    }

    /// Whether the backend has a distributed lock.
    pub fn has_lock(&self) -> bool {
        self.backend.capabilities().lock && self.backend.lock().is_some()
    }

    fn locking(&self) -> Result<&dyn cachekit_backends::Locking, BackendError> {
        self.backend.lock().ok_or_else(|| {
            BackendError::new(
                ErrorKind::Permanent,
                "lock",
                "this backend has no distributed lock",
            )
        })
    }

    /// Reads an entry on the calling thread.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn get(
        &self,
        key: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<Option<Found>, Unavailable> {
        self.guards.run(Lane::Data, timeout, |limit| {
            self.backend.get(key, want_ttl, limit)
        })
    }

    /// Reads an entry and the bytes under another key on the calling thread.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn get_with(
        &self,
        key: &str,
        beside: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<(Option<Found>, Option<Bytes>), Unavailable> {
        self.guards.run(Lane::Data, timeout, |limit| {
            self.backend.get_with(key, beside, want_ttl, limit)
        })
    }

    /// Stores bytes without end on the calling thread unless there are some; returns what is there.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<Bytes, Unavailable> {
        self.guards.run(Lane::Data, timeout, |limit| {
            self.backend.add(key, value, limit)
        })
    }

    /// Stores an entry on the calling thread; with `unlock` also releases the lock of that token.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn set(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        unlock: Option<&str>,
        timeout: Duration,
    ) -> Result<(), Unavailable> {
        let ttl = self.clamp(ttl);
        self.guards.run(Lane::Data, timeout, |limit| match unlock {
            Some(token) => self
                .locking()?
                .set_and_unlock(key, value, ttl, token, limit),
            None => self.backend.set(key, value, ttl, limit),
        })
    }

    /// Removes entries on the calling thread.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn delete(&self, keys: &[&str], timeout: Duration) -> Result<u64, Unavailable> {
        self.guards.run(Lane::Data, timeout, |limit| {
            self.backend.delete_many(keys, limit)
        })
    }

    /// Gives an entry a new life on the calling thread.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn expire(&self, key: &str, ttl: Duration, timeout: Duration) -> Result<bool, Unavailable> {
        self.guards.run(Lane::Data, timeout, |limit| {
            self.backend.expire(key, ttl, limit)
        })
    }

    /// Tries to take the distributed lock on the calling thread.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn try_lock(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<LockReply, Unavailable> {
        self.guards.run(Lane::Lock, timeout, |limit| {
            self.locking()?.try_lock(key, token, lease, limit)
        })
    }

    /// Releases the distributed lock on the calling thread.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn unlock(&self, key: &str, token: &str, timeout: Duration) -> Result<bool, Unavailable> {
        self.guards.run(Lane::Lock, timeout, |limit| {
            self.locking()?.unlock(key, token, limit)
        })
    }

    fn clamp(&self, ttl: Option<Duration>) -> Option<Duration> {
        match (ttl, self.backend.capabilities().max_ttl) {
            (Some(ttl), Some(max)) => Some(ttl.min(max)),
            (None, max) => max,
            (ttl, None) => ttl,
        }
    }

    /// Does `blocking` on a thread of the runtime's own, for backends without futures.
    async fn offload<R: Send + 'static>(
        &self,
        operation: &'static str,
        blocking: impl FnOnce(&dyn Backend) -> Result<R, BackendError> + Send + 'static,
    ) -> Result<R, BackendError> {
        let backend = Arc::clone(&self.backend);
        match tokio::task::spawn_blocking(move || blocking(&*backend)).await {
            Ok(result) => result,
            Err(error) => Err(BackendError::new(
                ErrorKind::Unknown,
                operation,
                format!("the backend's call did not end normally: {error}"),
            )),
        }
    }

    fn aio(&self) -> Option<&dyn AsyncBackend> {
        self.backend.aio()
    }

    /// [`get`](Self::get) as a future, to be polled inside the runtime.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub async fn get_async(
        &self,
        key: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<Option<Found>, Unavailable> {
        self.guards
            .run_async(Lane::Data, timeout, async |limit| match self.aio() {
                Some(aio) => aio.get(key, want_ttl, limit).await,
                None => {
                    let key = key.to_owned();
                    self.offload("get", move |b| b.get(&key, want_ttl, limit))
                        .await
                }
            })
            .await
    }

    /// [`get_with`](Self::get_with) as a future, to be polled inside the runtime.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub async fn get_with_async(
        &self,
        key: &str,
        beside: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<(Option<Found>, Option<Bytes>), Unavailable> {
        self.guards
            .run_async(Lane::Data, timeout, async |limit| match self.aio() {
                Some(aio) => aio.get_with(key, beside, want_ttl, limit).await,
                None => {
                    let (key, beside) = (key.to_owned(), beside.to_owned());
                    self.offload("get", move |b| b.get_with(&key, &beside, want_ttl, limit))
                        .await
                }
            })
            .await
    }

    /// [`add`](Self::add) as a future, to be polled inside the runtime.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub async fn add_async(
        &self,
        key: &str,
        value: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, Unavailable> {
        self.guards
            .run_async(Lane::Data, timeout, async |limit| match self.aio() {
                Some(aio) => aio.add(key, &value, limit).await,
                None => {
                    let (key, value) = (key.to_owned(), value.clone());
                    self.offload("add", move |b| b.add(&key, &value, limit))
                        .await
                }
            })
            .await
    }

    /// [`set`](Self::set) as a future, to be polled inside the runtime.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub async fn set_async(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
        unlock: Option<&str>,
        timeout: Duration,
    ) -> Result<(), Unavailable> {
        let ttl = self.clamp(ttl);
        self.guards
            .run_async(Lane::Data, timeout, async |limit| {
                match (self.aio(), unlock) {
                    (Some(aio), None) => aio.set(key, &value, ttl, limit).await,
                    (Some(aio), Some(token)) => {
                        aio.set_and_unlock(key, &value, ttl, token, limit).await
                    }
                    (None, token) => {
                        let (key, token) = (key.to_owned(), token.map(str::to_owned));
                        let value = value.clone();
                        self.offload("set", move |b| match (token, b.lock()) {
                            (Some(token), Some(lock)) => {
                                lock.set_and_unlock(&key, &value, ttl, &token, limit)
                            }
                            _ => b.set(&key, &value, ttl, limit),
                        })
                        .await
                    }
                }
            })
            .await
    }

    /// [`delete`](Self::delete) as a future, to be polled inside the runtime.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub async fn delete_async(
        &self,
        keys: &[String],
        timeout: Duration,
    ) -> Result<u64, Unavailable> {
        self.guards
            .run_async(Lane::Data, timeout, async |limit| match self.aio() {
                Some(aio) => {
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    aio.delete_many(&keys, limit).await
                }
                None => {
                    let keys = keys.to_vec();
                    self.offload("delete", move |b| {
                        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                        b.delete_many(&keys, limit)
                    })
                    .await
                }
            })
            .await
    }

    /// [`expire`](Self::expire) as a future, to be polled inside the runtime.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub async fn expire_async(
        &self,
        key: &str,
        ttl: Duration,
        timeout: Duration,
    ) -> Result<bool, Unavailable> {
        self.guards
            .run_async(Lane::Data, timeout, async |limit| match self.aio() {
                Some(aio) => aio.expire(key, ttl, limit).await,
                None => {
                    let key = key.to_owned();
                    self.offload("expire", move |b| b.expire(&key, ttl, limit))
                        .await
                }
            })
            .await
    }

    /// [`try_lock`](Self::try_lock) as a future, to be polled inside the runtime.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub async fn try_lock_async(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<LockReply, Unavailable> {
        self.guards
            .run_async(Lane::Lock, timeout, async |limit| match self.aio() {
                Some(aio) => aio.try_lock(key, token, lease, limit).await,
                None => {
                    let (key, token) = (key.to_owned(), token.to_owned());
                    self.offload("lock", move |b| {
                        no_lock(b)?.try_lock(&key, &token, lease, limit)
                    })
                    .await
                }
            })
            .await
    }

    /// [`unlock`](Self::unlock) as a future, to be polled inside the runtime.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub async fn unlock_async(
        &self,
        key: &str,
        token: &str,
        timeout: Duration,
    ) -> Result<bool, Unavailable> {
        self.guards
            .run_async(Lane::Lock, timeout, async |limit| match self.aio() {
                Some(aio) => aio.unlock(key, token, limit).await,
                None => {
                    let (key, token) = (key.to_owned(), token.to_owned());
                    self.offload("unlock", move |b| no_lock(b)?.unlock(&key, &token, limit))
                        .await
                }
            })
            .await
    }

    /// Extends a lease; false when it was lost. Not guarded: a renewal that the breaker refused
    /// would lose the lock of a healthy holder.
    ///
    /// # Errors
    /// When the backend did not confirm.
    pub async fn renew_async(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<bool, BackendError> {
        match self.aio() {
            Some(aio) => aio.renew(key, token, lease, timeout).await,
            None => {
                let (key, token) = (key.to_owned(), token.to_owned());
                self.offload("renew", move |b| {
                    no_lock(b)?.renew(&key, &token, lease, timeout)
                })
                .await
            }
        }
    }

    /// Waits until the lock on `key` may be free, for `at_most`. Where the backend cannot wake
    /// waiters, it asks again after a short pause, ever longer.
    pub async fn released(&self, key: &str, attempt: u32, at_most: Duration) {
        if let Some(aio) = self.aio()
            && let Ok(Released::Notified | Released::Elapsed) = aio.released(key, at_most).await
        {
            return;
        }
        let pause = Duration::from_millis(5 << attempt.min(4));
        tokio::time::sleep(pause.min(at_most)).await;
    }
}

fn no_lock(backend: &dyn Backend) -> Result<&dyn cachekit_backends::Locking, BackendError> {
    backend.lock().ok_or_else(|| {
        BackendError::new(
            ErrorKind::Permanent,
            "lock",
            "this backend has no distributed lock",
        )
    })
}
