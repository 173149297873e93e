//! The read-through machine: what the leader of a flight does next, without doing any of it.
//!
//! A driver asks [`Fill::step`], acts, and answers with the matching `on_…` method; sync, async and
//! Rust callers drive the same machine. Nothing that fails in the shared layer ends a fill: the
//! worst case is that the function runs and its result goes nowhere but to the caller.
//!
//! ```text
//! Read ── hit ──────────────────────────────────────────────► Finish
//!   │ miss
//! Lock ── acquired ─► Run ─► Write (stores and unlocks) ────► Finish
//!   │ held              └─ nothing to store ─► Unlock ──────► Finish
//! AwaitRelease ─► Read …       (no lock, or lock_wait over: Run without one)
//! ```

use std::time::Duration;

use crate::time::Tick;

/// How one function's misses are filled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FillPolicy {
    /// Whether there is a shared layer to read and write.
    pub shared: bool,
    /// The distributed lock, where the shared layer has one and the user wants it.
    pub lock: Option<LockPolicy>,
    /// What one call may spend on reading, locking and writing together.
    pub budget: Duration,
}

/// How callers in different processes keep out of each other's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockPolicy {
    /// How long a lease lasts unless it is renewed; a dead holder's lease ends after this.
    pub lease: Duration,
    /// How long a caller waits behind other processes before it runs the function itself.
    pub wait: Duration,
}

/// What the driver must do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read the shared layer; answer with [`Fill::on_read`].
    Read {
        /// What the read may take.
        timeout: Duration,
    },
    /// Try to take the distributed lock; answer with [`Fill::on_lock`].
    Lock {
        /// The lease to ask for.
        lease: Duration,
        /// What the attempt may take.
        timeout: Duration,
    },
    /// Wait until the lock may be free; answer with [`Fill::on_released`].
    AwaitRelease {
        /// The longest wait: the rest of the holder's lease, or of the caller's patience.
        at_most: Duration,
    },
    /// Run the function; answer with [`Fill::on_run`].
    Run,
    /// Store the result; answer with [`Fill::on_written`].
    Write {
        /// What the write may take.
        timeout: Duration,
        /// Whether the lock is held and must be released with it.
        unlock: bool,
    },
    /// Release the lock; answer with [`Fill::on_written`].
    Unlock {
        /// What the release may take.
        timeout: Duration,
    },
    /// Nothing more: hand out what was read or run.
    Finish,
}

/// What a read of the shared layer found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAnswer {
    /// A usable value.
    Hit,
    /// Nothing usable.
    Miss,
    /// No answer: refused by a guard, failed, or out of time.
    Unavailable,
}

/// What an attempt to take the distributed lock brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockAnswer {
    /// The lock is ours and there is still no value.
    Acquired,
    /// The lock is ours, and a usable value was stored before we got it.
    AcquiredWithHit,
    /// Somebody else holds it for at most this long.
    Held {
        /// The rest of the holder's lease.
        remaining: Duration,
    },
    /// No answer.
    Unavailable,
}

/// How the function's run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunAnswer {
    /// With a result to store.
    Storable,
    /// With a result that must not or cannot be stored, or with an exception.
    NotStorable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Read,
    Lock,
    AwaitRelease(Duration),
    Run,
    Write,
    Unlock,
    Finish,
}

/// One fill in progress.
#[derive(Debug)]
pub struct Fill {
    policy: FillPolicy,
    at: At,
    asked: Tick,
    spent: Duration,
    waiting_since: Option<Tick>,
    locked: bool,
    reachable: bool,
    refreshing: bool,
}

/// Below this a shared-layer operation is not worth starting.
const WORTHWHILE: Duration = Duration::from_micros(100);
/// Between the end of a lease and the next attempt to take it.
const LEASE_SLACK: Duration = Duration::from_millis(5);

impl Fill {
    /// Starts a fill.
    pub fn new(policy: FillPolicy) -> Self {
        let at = if policy.shared { At::Read } else { At::Run };
        Self {
            policy,
            at,
            asked: Tick(0),
            spent: Duration::ZERO,
            waiting_since: None,
            locked: false,
            reachable: policy.shared,
            refreshing: false,
        }
    }

    /// Starts the refresh of an entry that is still served. The driver answers a read with a hit only
    /// if another process has refreshed the entry already; when one is at it, this one leaves it be.
    pub fn refresh(policy: FillPolicy) -> Self {
        Self {
            refreshing: true,
            ..Self::new(policy)
        }
    }

    /// Whether this is the refresh of an entry that is still served.
    pub fn is_refresh(&self) -> bool {
        self.refreshing
    }

    fn left(&self) -> Duration {
        self.policy.budget.saturating_sub(self.spent)
    }

    /// What to do now. `now` is a precise time, since the budget is counted from it.
    pub fn step(&mut self, now: Tick) -> Step {
        self.asked = now;
        let timeout = self.left();
        let talks = !matches!(self.at, At::Run | At::Finish | At::AwaitRelease(_));
        if talks && timeout < WORTHWHILE {
            // Out of budget. A lease that is still held then ends by itself.
            self.at = match self.at {
                At::Write | At::Unlock => At::Finish,
                _ => At::Run,
            };
            self.reachable = false;
        }
        match self.at {
            At::Read => Step::Read { timeout },
            At::Lock => {
                let lease = self.policy.lock.map_or(Duration::ZERO, |lock| lock.lease);
                Step::Lock { lease, timeout }
            }
            At::AwaitRelease(at_most) => Step::AwaitRelease { at_most },
            At::Run => Step::Run,
            At::Write => Step::Write {
                timeout,
                unlock: self.locked,
            },
            At::Unlock => Step::Unlock { timeout },
            At::Finish => Step::Finish,
        }
    }

    /// Whether the distributed lock is held by this fill.
    pub fn holds_lock(&self) -> bool {
        self.locked
    }

    fn spend(&mut self, now: Tick) {
        self.spent += now.since(self.asked);
    }

    /// Answers [`Step::Read`].
    pub fn on_read(&mut self, answer: ReadAnswer, now: Tick) {
        debug_assert_eq!(self.at, At::Read);
        self.spend(now);
        self.at = match answer {
            ReadAnswer::Hit => At::Finish,
            ReadAnswer::Miss if self.policy.lock.is_some() => At::Lock,
            ReadAnswer::Miss => At::Run,
            ReadAnswer::Unavailable => self.give_up_on_shared(),
        };
    }

    /// Answers [`Step::Lock`].
    pub fn on_lock(&mut self, answer: LockAnswer, now: Tick) {
        debug_assert_eq!(self.at, At::Lock);
        self.spend(now);
        self.at = match answer {
            LockAnswer::Acquired => {
                self.locked = true;
                At::Run
            }
            LockAnswer::AcquiredWithHit => {
                self.locked = true;
                At::Unlock
            }
            LockAnswer::Held { .. } if self.refreshing => At::Finish,
            LockAnswer::Held { remaining } => self.wait_or_run(remaining, now),
            LockAnswer::Unavailable => self.give_up_on_shared(),
        };
    }

    fn wait_or_run(&mut self, remaining: Duration, now: Tick) -> At {
        let since = *self.waiting_since.get_or_insert(now);
        let patience = self.policy.lock.map_or(Duration::ZERO, |lock| lock.wait);
        let left = patience.saturating_sub(now.since(since));
        if left.is_zero() {
            return At::Run;
        }
        At::AwaitRelease(left.min(remaining.saturating_add(LEASE_SLACK)))
    }

    /// Answers [`Step::AwaitRelease`]: the lock was released, or the wait is over.
    pub fn on_released(&mut self) {
        debug_assert!(matches!(self.at, At::AwaitRelease(_)));
        // The reads of a waiter are paid by the computation it waits for, not by its budget.
        self.spent = Duration::ZERO;
        self.at = At::Read;
    }

    /// Answers [`Step::Run`].
    pub fn on_run(&mut self, answer: RunAnswer) {
        debug_assert_eq!(self.at, At::Run);
        self.at = match answer {
            RunAnswer::Storable if self.reachable => At::Write,
            _ if self.locked => At::Unlock,
            _ => At::Finish,
        };
    }

    /// Answers [`Step::Write`] and [`Step::Unlock`]; whether they worked changes nothing here.
    pub fn on_written(&mut self, now: Tick) {
        debug_assert!(matches!(self.at, At::Write | At::Unlock));
        self.spend(now);
        self.locked = false;
        self.at = At::Finish;
    }

    fn give_up_on_shared(&mut self) -> At {
        self.reachable = false;
        At::Run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn tick(ms: u64) -> Tick {
        Tick(ms * 1_000_000)
    }

    fn policy() -> FillPolicy {
        FillPolicy {
            shared: true,
            lock: Some(LockPolicy {
                lease: 3000 * MS,
                wait: 30_000 * MS,
            }),
            budget: 1000 * MS,
        }
    }

    #[test]
    fn a_hit_is_one_read() {
        let mut fill = Fill::new(policy());
        assert_eq!(fill.step(tick(0)), Step::Read { timeout: 1000 * MS });
        fill.on_read(ReadAnswer::Hit, tick(1));
        assert_eq!(fill.step(tick(1)), Step::Finish);
    }

    #[test]
    fn a_miss_locks_runs_and_writes_with_what_is_left_of_the_budget() {
        let mut fill = Fill::new(policy());
        fill.step(tick(0));
        fill.on_read(ReadAnswer::Miss, tick(100));
        assert_eq!(
            fill.step(tick(100)),
            Step::Lock {
                lease: 3000 * MS,
                timeout: 900 * MS
            }
        );
        fill.on_lock(LockAnswer::Acquired, tick(200));
        assert_eq!(fill.step(tick(200)), Step::Run);
        fill.on_run(RunAnswer::Storable);
        // The function's own time is not on the budget.
        assert_eq!(
            fill.step(tick(9000)),
            Step::Write {
                timeout: 800 * MS,
                unlock: true
            }
        );
        fill.on_written(tick(9001));
        assert_eq!(fill.step(tick(9001)), Step::Finish);
    }

    #[test]
    fn a_waiter_takes_over_when_the_lease_ends_and_runs_when_its_patience_does() {
        let mut fill = Fill::new(policy());
        fill.step(tick(0));
        fill.on_read(ReadAnswer::Miss, tick(0));
        fill.step(tick(0));
        fill.on_lock(
            LockAnswer::Held {
                remaining: 2000 * MS,
            },
            tick(0),
        );
        assert_eq!(
            fill.step(tick(0)),
            Step::AwaitRelease { at_most: 2005 * MS }
        );
        fill.on_released();
        assert!(matches!(fill.step(tick(2005)), Step::Read { .. }));
        fill.on_read(ReadAnswer::Miss, tick(2005));
        fill.step(tick(2005));
        fill.on_lock(
            LockAnswer::Held {
                remaining: 3000 * MS,
            },
            tick(29_999),
        );
        assert_eq!(fill.step(tick(29_999)), Step::AwaitRelease { at_most: MS });
        fill.on_released();
        fill.step(tick(30_000));
        fill.on_read(ReadAnswer::Miss, tick(30_000));
        fill.step(tick(30_000));
        fill.on_lock(
            LockAnswer::Held {
                remaining: 3000 * MS,
            },
            tick(30_000),
        );
        assert_eq!(fill.step(tick(30_000)), Step::Run);
        fill.on_run(RunAnswer::Storable);
        assert!(matches!(
            fill.step(tick(30_001)),
            Step::Write { unlock: false, .. }
        ));
    }

    #[test]
    fn a_lock_without_end_is_waited_for_as_long_as_patience_lasts() {
        let mut fill = Fill::new(policy());
        fill.step(tick(0));
        fill.on_read(ReadAnswer::Miss, tick(0));
        fill.step(tick(0));
        fill.on_lock(
            LockAnswer::Held {
                remaining: Duration::MAX,
            },
            tick(0),
        );
        assert_eq!(
            fill.step(tick(0)),
            Step::AwaitRelease {
                at_most: 30_000 * MS
            }
        );
    }

    #[test]
    fn an_unavailable_store_costs_one_attempt_and_no_write() {
        let mut fill = Fill::new(policy());
        fill.step(tick(0));
        fill.on_read(ReadAnswer::Unavailable, tick(1));
        assert_eq!(fill.step(tick(1)), Step::Run);
        fill.on_run(RunAnswer::Storable);
        assert_eq!(fill.step(tick(2)), Step::Finish);
    }

    #[test]
    fn a_spent_budget_ends_the_talk_with_the_store() {
        let mut fill = Fill::new(policy());
        fill.step(tick(0));
        fill.on_read(ReadAnswer::Miss, tick(1000));
        assert_eq!(fill.step(tick(1000)), Step::Run);
        fill.on_run(RunAnswer::Storable);
        assert_eq!(fill.step(tick(1001)), Step::Finish);
    }

    #[test]
    fn a_refresh_is_left_to_the_process_that_is_at_it() {
        let mut fill = Fill::refresh(policy());
        fill.step(tick(0));
        fill.on_read(ReadAnswer::Miss, tick(0));
        fill.step(tick(0));
        fill.on_lock(
            LockAnswer::Held {
                remaining: 2000 * MS,
            },
            tick(1),
        );
        assert_eq!(fill.step(tick(1)), Step::Finish);
    }

    #[test]
    fn an_exception_releases_the_lock_and_stores_nothing() {
        let mut fill = Fill::new(policy());
        fill.step(tick(0));
        fill.on_read(ReadAnswer::Miss, tick(1));
        fill.step(tick(1));
        fill.on_lock(LockAnswer::Acquired, tick(2));
        fill.step(tick(2));
        fill.on_run(RunAnswer::NotStorable);
        assert!(matches!(fill.step(tick(3)), Step::Unlock { .. }));
        assert!(fill.holds_lock());
        fill.on_written(tick(4));
        assert_eq!(fill.step(tick(4)), Step::Finish);
        assert!(!fill.holds_lock());
    }
}
