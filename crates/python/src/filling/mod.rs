//! What a flight's leader does between the engine's steps: decode, encode, keep, deliver.
//!
//! Both drivers, [`sync_call`](crate::sync_call) and [`async_call`](crate::async_call), run this;
//! they differ only in how a [`Request`] is performed and how the function is called.

mod found;
mod kept;
mod made;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cachekit::{
    encryption::Sealer,
    lease::Lease,
    shared::{Got, Locked, Reply, Request, Shared},
    store::Unavailable,
};
use cachekit_backends::{ErrorKind, process::generation};
use cachekit_engine::{
    fill::{Fill, LockAnswer, ReadAnswer, Step},
    flight::Leader,
    time::Tick,
};
use cachekit_wire::generation::Generation;
use pyo3::prelude::*;

use crate::{
    backend::Resolved,
    core::{Core, now},
    value::{Delivered, Kept},
};

/// What the driver must do now.
pub(crate) enum Next {
    /// Ask the shared layer and [`Filling::reply`].
    Ask(Request),
    /// Call the function and [`Filling::ran`].
    Run,
    /// [`Filling::finish`].
    Finish,
}

/// The value or exception that the leader's own caller gets.
enum Outcome {
    None,
    Value(Py<PyAny>),
    Raised(PyErr),
}

/// A value on its way into L1.
struct Keep {
    held: Kept,
    weight: u64,
    from: Tick,
    life: Option<Duration>,
    /// The life that it had when it was stored, where that is known.
    full: Option<Duration>,
}

/// What is to become of another process's lock on the key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OtherLock {
    Respected,
    ToBeTaken,
    BeingTaken,
}

/// One flight being led.
pub(crate) struct Filling {
    core: Py<Core>,
    leader: Leader<Delivered>,
    fill: Fill,
    shared: Option<Shared>,
    sealer: Option<Sealer>,
    resolved: Resolved,
    lease: Option<Lease>,
    asked: Tick,
    waits: u32,
    /// Which of the function's entries count, as the last read told.
    generation: Option<Generation>,
    /// An entry that must go because it is damaged, unless it is overwritten first.
    purge: bool,
    /// A newer version's entry was seen: leave the key alone.
    frozen: bool,
    store: Option<(Bytes, Option<Duration>)>,
    written: bool,
    /// What was written is being removed again, because an invalidation came meanwhile.
    retracting: bool,
    keep: Option<Keep>,
    outcome: Outcome,
    /// What asked this thread to stop while a result was being readied: KeyboardInterrupt and its like.
    interrupted: Option<PyErr>,
    deliver: Option<Delivered>,
    /// Whether the result replaces what there is, which is then not looked at.
    replacing: bool,
    /// The lock that another process may hold on the key.
    other_lock: OtherLock,
    /// The process in which it is led; a child may have been forked inside.
    process: u32,
}

impl Filling {
    pub(crate) fn new(
        core: Py<Core>,
        leader: Leader<Delivered>,
        fill: Fill,
        shared: Option<Shared>,
        resolved: Resolved,
    ) -> Self {
        let settings = &resolved.settings;
        let sealer = core.get().sealer(settings, shared.as_ref(), leader.key());
        Self {
            core,
            leader,
            fill,
            shared,
            sealer,
            resolved,
            lease: None,
            asked: now(),
            waits: 0,
            generation: None,
            purge: false,
            frozen: false,
            store: None,
            written: false,
            retracting: false,
            keep: None,
            outcome: Outcome::None,
            interrupted: None,
            deliver: None,
            replacing: false,
            other_lock: OtherLock::Respected,
            process: generation(),
        }
    }

    /// Makes the result replace what there is, and what anybody else computes meanwhile.
    pub(crate) fn replacing(mut self) -> Self {
        self.replacing = true;
        let store = self.shared.as_ref().map(Shared::store);
        if self.core().options.lock && store.is_some_and(|store| store.has_lock()) {
            self.other_lock = OtherLock::ToBeTaken;
        }
        self
    }

    pub(crate) fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// The flight's number, for the context variable of calls made inside.
    pub(crate) fn flight(&self) -> u64 {
        self.leader.id().get()
    }

    fn core(&self) -> &Core {
        self.core.get()
    }

    /// Whether L1 keeps values of this function.
    fn keeps(&self) -> bool {
        self.core().options.l1 && self.resolved.settings.l1
    }

    /// What to do now.
    pub(crate) fn next(&mut self) -> Next {
        if self.other_lock == OtherLock::ToBeTaken {
            self.other_lock = OtherLock::BeingTaken;
            return Next::Ask(Request::TakeLock {
                timeout: self.resolved.budget,
            });
        }
        self.asked = now();
        match self.fill.step(self.asked) {
            Step::Read { timeout } => {
                let keeps = self.keeps();
                let want_ttl = keeps || self.core().options.refresh_ttl.is_some();
                Next::Ask(Request::Get { want_ttl, timeout })
            }
            Step::Lock { lease, timeout } => Next::Ask(Request::Lock { lease, timeout }),
            Step::AwaitRelease { at_most } => {
                self.waits += 1;
                Next::Ask(Request::AwaitRelease {
                    attempt: self.waits - 1,
                    at_most,
                })
            }
            Step::Run => Next::Run,
            Step::Write { timeout, unlock } => match self.store.take() {
                Some((value, ttl)) if self.core().function.may_keep(&self.leader) => {
                    self.written = true;
                    Next::Ask(Request::Set {
                        value,
                        ttl,
                        unlock,
                        timeout,
                    })
                }
                _ if unlock => Next::Ask(Request::Unlock { timeout }),
                _ => {
                    self.fill.on_written(self.asked);
                    Next::Finish
                }
            },
            Step::Unlock { timeout } => Next::Ask(Request::Unlock { timeout }),
            Step::Finish if self.must_retract() => {
                self.retracting = true;
                Next::Ask(Request::Delete {
                    timeout: self.resolved.budget,
                })
            }
            Step::Finish => Next::Finish,
        }
    }

    /// Whether an invalidation came while the result was being written: the write may have reached
    /// the store after it. What was cleared as a whole is of an older generation and counts no more.
    fn must_retract(&self) -> bool {
        let counts = self.leader.is_doomed() || self.generation.is_none();
        let kept = self.core().function.may_keep(&self.leader);
        self.written && !self.retracting && counts && !kept
    }

    /// Takes the shared layer's answer to the last request.
    pub(crate) fn reply(&mut self, py: Python<'_>, reply: Reply) {
        let at = now();
        match reply {
            Reply::Got(Ok(Got { found, generation })) => {
                self.generation = generation;
                let hit = found.is_some_and(|found| self.absorb(py, found, at));
                self.fill.on_read(
                    if hit {
                        ReadAnswer::Hit
                    } else {
                        ReadAnswer::Miss
                    },
                    at,
                );
            }
            Reply::Got(Err(_)) => self.fill.on_read(ReadAnswer::Unavailable, at),
            Reply::Locked(Ok(Locked::Acquired(lease, found))) => {
                self.lease = Some(lease);
                let found = found.filter(|_| !self.fill.is_refresh());
                let hit = found.is_some_and(|found| self.absorb(py, found, at));
                let answer = if hit {
                    LockAnswer::AcquiredWithHit
                } else {
                    LockAnswer::Acquired
                };
                self.fill.on_lock(answer, at);
            }
            Reply::Locked(Ok(Locked::Held(remaining))) => {
                self.fill.on_lock(LockAnswer::Held { remaining }, at);
            }
            Reply::Locked(Err(error)) => {
                let late =
                    matches!(&error, Unavailable::Failed(e) if e.kind() == ErrorKind::Timeout);
                if let Some(shared) = self.shared.as_ref().filter(|_| late) {
                    // It may have been granted after all: nobody else is to wait for its lease.
                    shared.unlock_behind(self.resolved.budget);
                }
                self.fill.on_lock(LockAnswer::Unavailable, at);
            }
            Reply::Released => self.fill.on_released(),
            // Where it was not told, the other process may store last.
            Reply::Done(_) if self.other_lock == OtherLock::BeingTaken => {
                self.other_lock = OtherLock::Respected;
            }
            Reply::Done(told) if self.retracting => {
                if let Some(shared) = &self.shared {
                    self.core().note_told(py, shared.store(), told);
                }
            }
            Reply::Done(_) => {
                self.lease = None;
                self.fill.on_written(at);
            }
        }
    }

    /// Removes the entry without waiting for it.
    fn delete_behind(&self) {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        let budget = self.resolved.budget;
        cachekit::runtime::handle().spawn(async move {
            // The guards count a failure; a damaged entry that stays is a miss again next time.
            let _ = shared
                .store()
                .delete_async(&[shared.key().to_owned()], budget)
                .await;
        });
    }

    /// Ends the flight and gives the leader's caller its value or exception.
    pub(crate) fn finish(self: Box<Self>, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(shared) = self.shared.as_ref().filter(|_| self.fill.holds_lock()) {
            // Out of budget: the others are not to wait for the lease's end.
            shared.unlock_behind(self.resolved.budget);
        }
        let Self {
            core,
            leader,
            keep,
            outcome,
            deliver,
            retracting,
            process,
            ..
        } = *self;
        let function = &core.get().function;
        let land = |leader: Leader<Delivered>, delivered: Option<Delivered>| {
            if process != generation() {
                // This process was forked inside: who waits does so in the parent.
                std::mem::forget(leader);
            } else if let Some(delivered) = delivered {
                leader.land(delivered);
            }
        };
        let mut deliver = deliver;
        if let Some(Keep {
            held,
            weight,
            from,
            life,
            full,
        }) = keep
        {
            let generation = leader.generation();
            let entry = core
                .get()
                .entry(held, weight, from, (life, full), generation);
            let entry = Arc::new(entry);
            deliver = Some(Delivered::Value(Arc::clone(&entry)));
            drop(function.keep(&leader, entry));
        }
        if retracting {
            // Those who read it before it was removed have kept it, or are about to.
            drop(function.invalidate(leader.key()));
        }
        match outcome {
            Outcome::Value(object) => {
                land(leader, Some(deliver.unwrap_or(Delivered::Unshareable)));
                Ok(object)
            }
            Outcome::Raised(error) => {
                // What concerns this caller alone is not delivered: another one leads.
                let shared = deliver.filter(|delivered| matches!(delivered, Delivered::Raised(_)));
                land(leader, shared);
                Err(error)
            }
            // A refresh that another process is at.
            Outcome::None => Ok(py.None()),
        }
    }

    /// Whether the result is on its way to the store.
    pub(crate) fn is_writing(&self) -> bool {
        self.written
    }

    /// What is left to do when the write ends for a caller who has gone.
    pub(crate) fn settle_later(self) -> Settling {
        Settling {
            core: self.core,
            leader: self.leader,
            budget: self.resolved.budget,
        }
    }

    /// Gives the flight up: another caller leads. A lock that is held is released behind.
    pub(crate) fn abandon(self: Box<Self>) {
        if self.process != generation() {
            std::mem::forget(self); // The parent leads it still.
            return;
        }
        if let Some(shared) = self.shared.as_ref().filter(|_| self.fill.holds_lock()) {
            shared.unlock_behind(self.resolved.budget);
        }
        if self.must_retract() {
            self.delete_behind();
        }
    }
}

/// A flight whose leader has gone while its result was being written.
pub(crate) struct Settling {
    core: Py<Core>,
    leader: Leader<Delivered>,
    budget: Duration,
}

impl Settling {
    /// Ends the flight, once the write has ended: on the I/O thread, without the GIL. Who waited
    /// leads anew and finds what was written; if an invalidation came meanwhile, it is removed first.
    pub(crate) async fn settle(self, shared: &Shared) {
        let function = &self.core.get().function;
        if !function.may_keep(&self.leader) {
            // The guards count a failure; the entry then lives until its TTL.
            let _ = shared
                .store()
                .delete_async(&[shared.key().to_owned()], self.budget)
                .await;
            // Objects that leave L1 here are dropped when this process next holds the GIL.
            drop(function.invalidate(self.leader.key()));
        }
    }
}

/// A key as it may appear in logs: a hash, since arguments of `key=` functions are in the clear.
pub(crate) fn redact(key: &str) -> String {
    let hash = cachekit_wire::keys::content_hash(key.as_bytes());
    let hex: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("<redacted:{hex}>")
}
