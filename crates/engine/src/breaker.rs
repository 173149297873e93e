//! The circuit breaker: stops asking a backend that fails, and finds out when it is back.
//!
//! ```text
//!            failure_threshold consecutive failures, or one refused credential
//!   CLOSED ───────────────────────────────────────────────────────────────► OPEN
//!     ▲                                                                 │    ▲
//!     │ success_threshold successes      recovery_timeout has passed    │    │ one failure
//!     └──────────────────────────── HALF_OPEN ◄─────────────────────────┘    │
//!                                       └────────────────────────────────────┘
//! ```
//!
//! What counts, per [`FailureKind`]:
//!
//! | kind | CLOSED | HALF_OPEN |
//! |---|---|---|
//! | transient, timeout, unknown | one more consecutive failure | opens |
//! | authentication | opens at once: the credential will not get better by itself | opens |
//! | permanent | nothing: the backend answered, the request was at fault | as a success |
//!
//! A verdict counts only in the state that it was asked in: an operation that began before the
//! breaker opened says nothing about the backend after it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::time::Tick;

/// Why an operation on a backend failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The backend cannot be reached or cannot serve now.
    Transient,
    /// No answer within the deadline.
    Timeout,
    /// The backend refused the credential.
    Authentication,
    /// The backend answered, and refused this request for good.
    Permanent,
    /// Nobody classified it. It counts as transient: who cannot tell what failed should step back.
    Unknown,
}

/// When a breaker opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Consecutive failures that open it; 0 counts as 1.
    pub failure_threshold: u32,
    /// Successes in HALF_OPEN that close it; 0 counts as 1.
    pub success_threshold: u32,
    /// How long OPEN lasts.
    pub recovery_timeout: Duration,
    /// Operations that HALF_OPEN lets through at once; 0 counts as 1.
    pub half_open_requests: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failure_threshold: 5,
            success_threshold: 3,
            recovery_timeout: Duration::from_secs(30),
            half_open_requests: 3,
        }
    }
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Everything is let through.
    Closed,
    /// Nothing is let through.
    Open,
    /// A few operations are let through to see whether the backend is back.
    HalfOpen,
}

impl State {
    /// `CLOSED`, `OPEN` or `HALF_OPEN`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Open => "OPEN",
            Self::HalfOpen => "HALF_OPEN",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A breaker as health checks show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSnapshot {
    /// The state; HALF_OPEN from the moment when the next operation would be let through.
    pub state: State,
    /// Consecutive failures; what opened it is among them.
    pub failure_count: u32,
    /// Successes in this HALF_OPEN.
    pub success_count: u32,
    /// Operations under way in this HALF_OPEN.
    pub half_open_permits: u32,
    /// When an operation last failed with a kind that counts.
    pub last_failure: Option<Tick>,
    /// The kind of that failure.
    pub last_kind: Option<FailureKind>,
    /// When OPEN ends; `None` in the other states.
    pub next_attempt: Option<Tick>,
}

/// Decides whether a backend is asked at all; one per backend and namespace.
///
/// In CLOSED, asking costs one atomic load and so does a success after a success.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    word: AtomicU64,
    // OPEN's end, readable without the lock.
    next_attempt: AtomicU64,
    inner: Mutex<Inner>,
}

/// What `Breaker::word` packs: the state, whether there is a failure to forget, and the number of
/// the period (every change of state begins a new one). Written under the lock alone.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const DIRTY: u64 = 4;

    const fn new(state: State, dirty: bool, period: u64) -> Self {
        Self(period << 3 | if dirty { Self::DIRTY } else { 0 } | state as u64)
    }

    const fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Closed,
            1 => State::Open,
            _ => State::HalfOpen,
        }
    }

    const fn period(self) -> u64 {
        self.0 >> 3
    }

    const fn is_dirty(self) -> bool {
        self.0 & Self::DIRTY != 0
    }
}

#[derive(Debug, Default)]
struct Inner {
    period: u64,
    failures: u32,
    successes: u32,
    in_flight: u32,
    // Permits of an earlier round were given up on and do not count in `in_flight`.
    round: u64,
    last_grant: Tick,
    last_failure: Option<(Tick, FailureKind)>,
}

/// The answer to [`Breaker::try_acquire`].
#[derive(Debug)]
#[must_use]
pub enum Permission<B: Deref<Target = Breaker> = Arc<Breaker>> {
    /// Ask the backend and tell the permit what came of it.
    Granted(Permit<B>),
    /// Do without the backend.
    Refused,
}

impl<B: Deref<Target = Breaker>> Permission<B> {
    /// Whether the backend may be asked.
    pub const fn is_granted(&self) -> bool {
        matches!(self, Self::Granted(_))
    }
}

/// The right to ask the backend once.
///
/// Dropped without a verdict (the operation was cancelled) it gives its place back and counts as
/// nothing.
#[derive(Debug)]
#[must_use = "tell the breaker what came of the operation"]
pub struct Permit<B: Deref<Target = Breaker> = Arc<Breaker>> {
    breaker: B,
    period: u64,
    // The round of HALF_OPEN whose place it holds.
    place: Option<u64>,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        let config = BreakerConfig {
            failure_threshold: config.failure_threshold.max(1),
            success_threshold: config.success_threshold.max(1),
            half_open_requests: config.half_open_requests.max(1),
            ..config
        };
        Self {
            config,
            word: AtomicU64::new(Word::new(State::Closed, false, 0).0),
            next_attempt: AtomicU64::new(0),
            inner: Mutex::default(),
        }
    }

    /// The configuration, with zeros replaced.
    pub const fn config(&self) -> &BreakerConfig {
        &self.config
    }

    /// Asks whether the backend may be used.
    #[inline]
    pub fn try_acquire(&self, now: Tick) -> Permission<&Self> {
        Self::acquire(self, now)
    }

    /// As [`Breaker::try_acquire`], with a permit that may outlive the borrow.
    #[inline]
    pub fn try_acquire_owned(self: &Arc<Self>, now: Tick) -> Permission<Arc<Self>> {
        Self::acquire(Arc::clone(self), now)
    }

    #[inline]
    fn acquire<B: Deref<Target = Self>>(breaker: B, now: Tick) -> Permission<B> {
        let word = breaker.word();
        if word.state() == State::Closed {
            return Permission::Granted(Permit {
                breaker,
                period: word.period(),
                place: None,
            });
        }
        Self::acquire_slow(breaker, now)
    }

    #[cold]
    fn acquire_slow<B: Deref<Target = Self>>(breaker: B, now: Tick) -> Permission<B> {
        let open_until = Tick(breaker.next_attempt.load(Ordering::Acquire));
        if breaker.word().state() == State::Open && now < open_until {
            return Permission::Refused;
        }
        let mut inner = breaker.inner.lock();
        let place = match breaker.word().state() {
            State::Closed => None,
            State::Open if now < Tick(breaker.next_attempt.load(Ordering::Acquire)) => {
                return Permission::Refused;
            }
            State::Open => {
                breaker.enter(&mut inner, State::HalfOpen);
                Some(inner.round)
            }
            State::HalfOpen if inner.in_flight < breaker.config.half_open_requests => {
                Some(inner.round)
            }
            State::HalfOpen if now < inner.last_grant.plus(breaker.config.recovery_timeout) => {
                return Permission::Refused;
            }
            State::HalfOpen => {
                // Nobody has answered for as long as OPEN lasts: the permits are lost (a fork, a
                // thread that was killed). Others get their places, or it would stay half open.
                inner.round += 1;
                inner.in_flight = 0;
                Some(inner.round)
            }
        };
        if place.is_some() {
            inner.in_flight += 1;
            inner.last_grant = now;
        }
        let period = inner.period;
        drop(inner);
        Permission::Granted(Permit {
            breaker,
            period,
            place,
        })
    }

    /// The state; HALF_OPEN from the moment when the next operation would be let through.
    pub fn state(&self, now: Tick) -> State {
        match self.word().state() {
            State::Open if now >= Tick(self.next_attempt.load(Ordering::Acquire)) => {
                State::HalfOpen
            }
            state => state,
        }
    }

    /// All there is to see, at one moment.
    pub fn snapshot(&self, now: Tick) -> BreakerSnapshot {
        let inner = self.inner.lock();
        let state = self.state(now);
        let next_attempt = || Tick(self.next_attempt.load(Ordering::Relaxed));
        BreakerSnapshot {
            state,
            failure_count: inner.failures,
            success_count: inner.successes,
            half_open_permits: inner.in_flight,
            last_failure: inner.last_failure.map(|(when, _)| when),
            last_kind: inner.last_failure.map(|(_, kind)| kind),
            next_attempt: (state == State::Open).then(next_attempt),
        }
    }

    /// Closes it and forgets every failure. Operations under way no longer count.
    pub fn reset(&self) {
        let mut inner = self.inner.lock();
        self.enter(&mut inner, State::Closed);
        inner.last_failure = None;
    }

    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    /// Begins a new period in `state`.
    fn enter(&self, inner: &mut Inner, state: State) {
        inner.period += 1;
        inner.successes = 0;
        inner.in_flight = 0;
        inner.round += 1;
        if state == State::Closed {
            inner.failures = 0;
        }
        self.word
            .store(Word::new(state, false, inner.period).0, Ordering::Release);
    }

    fn open(&self, inner: &mut Inner, now: Tick) {
        // Before the state, so that nobody sees OPEN with an end that has passed.
        let until = now.plus(self.config.recovery_timeout);
        self.next_attempt.store(until.0, Ordering::Release);
        self.enter(inner, State::Open);
    }

    #[inline]
    fn succeeded(&self, period: u64, place: Option<u64>) -> Option<State> {
        let word = self.word();
        if word.state() == State::Closed && !word.is_dirty() {
            return None;
        }
        self.succeeded_slow(period, place)
    }

    #[cold]
    fn succeeded_slow(&self, period: u64, place: Option<u64>) -> Option<State> {
        let mut inner = self.inner.lock();
        if inner.period != period {
            return None;
        }
        match self.word().state() {
            State::Closed => {
                inner.failures = 0;
                self.word
                    .store(Word::new(State::Closed, false, period).0, Ordering::Release);
                None
            }
            State::HalfOpen => {
                inner.give_back(place);
                inner.successes += 1;
                if inner.successes < self.config.success_threshold {
                    return None;
                }
                self.enter(&mut inner, State::Closed);
                Some(State::Closed)
            }
            State::Open => None,
        }
    }

    #[cold]
    fn failed(
        &self,
        period: u64,
        place: Option<u64>,
        now: Tick,
        kind: FailureKind,
    ) -> Option<State> {
        if kind == FailureKind::Permanent {
            let half_open = self.word().state() == State::HalfOpen;
            return if half_open {
                self.succeeded_slow(period, place)
            } else {
                None
            };
        }
        let mut inner = self.inner.lock();
        inner.last_failure = Some((now, kind));
        if inner.period != period {
            return None;
        }
        inner.failures = inner.failures.saturating_add(1);
        let opens = self.word().state() == State::HalfOpen
            || kind == FailureKind::Authentication
            || inner.failures >= self.config.failure_threshold;
        if opens {
            self.open(&mut inner, now);
            return Some(State::Open);
        }
        self.word
            .store(Word::new(State::Closed, true, period).0, Ordering::Release);
        None
    }

    #[cold]
    fn cancelled(&self, period: u64, place: Option<u64>) {
        let mut inner = self.inner.lock();
        if inner.period == period {
            inner.give_back(place);
        }
    }
}

impl Inner {
    fn give_back(&mut self, place: Option<u64>) {
        if place == Some(self.round) {
            self.in_flight -= 1;
        }
    }
}

impl<B: Deref<Target = Breaker>> Permit<B> {
    /// The backend answered. Returns the state that this led to, if it led to another.
    #[inline]
    pub fn success(mut self, _now: Tick) -> Option<State> {
        let place = self.place.take();
        self.breaker.succeeded(self.period, place)
    }

    /// The operation failed. Returns the state that this led to, if it led to another.
    pub fn failure(mut self, now: Tick, kind: FailureKind) -> Option<State> {
        let place = self.place.take();
        self.breaker.failed(self.period, place, now, kind)
    }
}

impl<B: Deref<Target = Breaker>> Drop for Permit<B> {
    #[inline]
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.breaker.cancelled(self.period, Some(place));
        }
    }
}

#[cfg(test)]
mod tests;
