//! What a flight's leader does between the engine's steps: decode, encode, keep, deliver.
//!
//! Both drivers, [`sync_call`](crate::sync_call) and [`async_call`](crate::async_call), run this;
//! they differ only in how a [`Request`] is performed and how the function is called.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cachekit::{
    encryption::{Sealer, Tier},
    freshness,
    lease::Lease,
    payload::{self, Unusable},
    shared::{Got, Locked, Reply, Request, Shared},
    store::Unavailable,
};
use cachekit_backends::{ErrorKind, Found, Remaining, process::generation};
use cachekit_engine::{
    fill::{Fill, LockAnswer, ReadAnswer, RunAnswer, Step},
    flight::Leader,
    l1::Entry,
    time::{Clock, Tick},
};
use cachekit_wire::{frame, generation::Generation};
use pyo3::{exceptions::PyException, ffi, prelude::*};

use crate::{
    backend::Resolved,
    clock::CLOCK,
    core::{Core, Once, now},
    encryption,
    entry::{self, NotStored, Opened},
    options::Copying,
    value::{self, Delivered, Kept},
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

    /// Decodes what the shared layer held; false when it is not a value for this function.
    fn absorb(&mut self, py: Python<'_>, found: Found, at: Tick) -> bool {
        if self.replacing {
            return false;
        }
        if self.leader.is_behind_outdated() {
            return false; // It may be what an invalidated flight is writing just now.
        }
        let core = self.core.clone_ref(py);
        let core = core.get();
        let current = self.generation;
        let mut remaining = found.remaining;
        let sealer = self.sealer.clone();
        let opened = entry::open(py, core, &found.value, sealer.as_ref(), |x| {
            remaining = freshness::remaining(remaining, x, CLOCK.wall());
            Generation::counts(current, x.generation)
        });
        let Opened { object, encrypted } = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return false, // Cleared since it was stored.
            Err(unusable) => return self.refuse(py, core, &unusable),
        };
        if let Some(sealer) = sealer.as_ref().filter(|_| encrypted) {
            encryption::opened(py, core, sealer);
        }
        if self.fill.is_refresh() {
            if self.is_due(core, remaining) {
                return false;
            }
        } else {
            core.function.stats.l2_hit(at, at.since(self.asked));
        }
        self.keep_found(core, &object, &found.value, remaining);
        if self.keep.is_none() {
            self.deliver = Some(Delivered::Stored(found.value, sealer));
        }
        self.refresh_ttl(core, found.remaining);
        self.outcome = Outcome::Value(object.unbind());
        true
    }

    /// Whether an entry with so much life left is due for a refresh, as the hit judged that asked
    /// for one. If not, another process has refreshed it.
    fn is_due(&self, core: &Core, remaining: Remaining) -> bool {
        let settings = &self.resolved.settings;
        match (
            remaining,
            core.nominal_ttl(settings),
            core.options.swr_ratio,
        ) {
            (Remaining::For(left), Some(ttl), Some(ratio)) => {
                left < ttl.mul_f64((1.0 - ratio * 0.9).clamp(0.0, 1.0))
            }
            _ => true,
        }
    }

    /// Says what is wrong with an entry, which is then computed anew; true where the callers get an
    /// error instead.
    fn refuse(&mut self, py: Python<'_>, core: &Core, unusable: &Unusable) -> bool {
        if let Some(sealer) = &self.sealer
            && let Some(error) = encryption::refused(py, core, sealer, unusable)
        {
            self.deliver = Some(Delivered::Raised(error.clone_ref(py)));
            self.outcome = Outcome::Raised(error);
            return true;
        }
        let key = self.shared.as_ref().map_or("", Shared::key).to_owned();
        let (kind, frozen) = match unusable {
            Unusable::Newer { .. } => (Once::Newer, true),
            _ => (Once::Unusable, false),
        };
        self.frozen |= frozen;
        self.purge |= !frozen;
        core.warn_once(py, kind, || {
            format!("the entry {} is {unusable}", redact(&key))
        });
        false
    }

    fn keep_found(
        &mut self,
        core: &Core,
        object: &Bound<'_, PyAny>,
        stored: &Bytes,
        remaining: Remaining,
    ) {
        if !self.keeps() {
            return;
        }
        let life = match (remaining, core.nominal_ttl(&self.resolved.settings)) {
            // Unknown: an entry that might outlive its original is not kept.
            (Remaining::Unknown, _) => return,
            (Remaining::For(left), _) if left.is_zero() => return,
            (Remaining::Forever, nominal) => nominal,
            (Remaining::For(left), Some(nominal)) => Some(left.min(nominal)),
            (Remaining::For(left), None) => Some(left),
        };
        // The remaining life was true when the store looked, after the request was sent.
        let kept = match self.ciphertext(stored) {
            Some(kept) => Some(kept),
            None if core.options.codec.is_standard() => held(object.py(), core, object, false),
            None => isolated(object).or_else(|| as_stored(stored)),
        };
        self.keep = kept.map(|(held, weight)| Keep {
            held,
            weight,
            from: self.asked,
            life,
            full: core.nominal_ttl(&self.resolved.settings),
        });
    }

    fn refresh_ttl(&self, core: &Core, remaining: Remaining) {
        let (Some(threshold), Some(ttl), Remaining::For(left)) = (
            core.options.refresh_ttl,
            core.nominal_ttl(&self.resolved.settings),
            remaining,
        ) else {
            return;
        };
        let Some(shared) = self
            .shared
            .clone()
            .filter(|_| left < ttl.mul_f64(threshold))
        else {
            return;
        };
        let budget = self.resolved.budget;
        cachekit::runtime::handle().spawn(async move {
            // The guards have counted a failure; the entry then keeps the life it has.
            let _ = shared.store().expire_async(shared.key(), ttl, budget).await;
        });
    }

    /// Takes what the function returned or raised.
    pub(crate) fn ran(&mut self, py: Python<'_>, result: PyResult<Py<PyAny>>) {
        let ended = now();
        let core = self.core.clone_ref(py);
        let core = core.get();
        if !self.fill.is_refresh() && !self.replacing {
            core.function.stats.miss(ended);
        }
        let answer = match result {
            Ok(object) => {
                let storable = self.take_result(py, core, object.bind(py), ended);
                self.outcome = match self.interrupted.take() {
                    Some(interrupt) => Outcome::Raised(interrupt),
                    None => Outcome::Value(object),
                };
                storable
            }
            Err(error) => {
                self.deliver = Some(if error.is_instance_of::<PyException>(py) {
                    Delivered::Raised(error.clone_ref(py))
                } else {
                    Delivered::Unshareable // Replaced by abandoning the flight in `finish`.
                });
                self.outcome = Outcome::Raised(error);
                false
            }
        };
        self.fill.on_run(if answer {
            RunAnswer::Storable
        } else {
            RunAnswer::NotStorable
        });
        if !answer && self.purge {
            self.delete_behind();
        }
    }

    /// Readies a result for both layers; true if there is something to write to the shared one.
    fn take_result(
        &mut self,
        py: Python<'_>,
        core: &Core,
        object: &Bound<'_, PyAny>,
        at: Tick,
    ) -> bool {
        self.deliver = Some(Delivered::Unshareable);
        if is_spent_by_use(object) {
            core.warn_once(py, Once::Unencodable, || {
                format!(
                    "not cached: the result is {}, which can be used up once only; \
                     return a list, or make the function a coroutine function",
                    object.get_type()
                )
            });
            return false;
        }
        let life = match core.ttl(&self.resolved.settings, object) {
            Ok(life) => life,
            Err(error) if !error.is_instance_of::<PyException>(py) => {
                self.interrupted = Some(error);
                return false;
            }
            Err(error) => {
                core.warn_once(py, Once::TtlFunction, || {
                    format!("the ttl= function failed, so results are not cached: {error}")
                });
                return false;
            }
        };
        if life.is_some_and(|life| life.is_zero()) {
            return false;
        }
        let exact = self.shared.is_none() && !self.resolved.settings.encrypts();
        let sealed = if exact {
            None
        } else {
            Some(self.seal(py, core, object, life))
        };
        if sealed.as_ref().is_some_and(Option::is_none) {
            return false; // Not encodable or too large: the caller's alone.
        }
        let sealed = sealed.flatten();
        if self.keeps() {
            let kept = match (
                &sealed,
                sealed.as_ref().and_then(|bytes| self.ciphertext(bytes)),
            ) {
                (_, Some(kept)) => Some(kept),
                (Some(bytes), None) if core.options.codec.is_table(object) => as_stored(bytes),
                (Some(bytes), None) if !core.options.codec.is_standard() => {
                    self.twin(py, core, bytes)
                }
                _ => held(py, core, object, exact),
            };
            self.keep = kept.map(|(held, weight)| Keep {
                held,
                weight,
                from: at,
                life,
                full: life,
            });
        }
        match (&self.keep, &sealed) {
            (Some(_), _) => {}
            (None, Some(bytes)) => {
                self.deliver = Some(Delivered::Stored(bytes.clone(), self.sealer.clone()));
            }
            (None, None) => {
                if let Some((held, _)) = held(py, core, object, exact) {
                    self.deliver = Some(Delivered::Value(Arc::new(Entry::new(held, 0))));
                }
            }
        }
        let Some(bytes) = sealed.filter(|_| self.shared.is_some() && !self.frozen) else {
            return false;
        };
        self.store = Some((bytes, life));
        true
    }

    fn seal(
        &mut self,
        py: Python<'_>,
        core: &Core,
        object: &Bound<'_, PyAny>,
        life: Option<Duration>,
    ) -> Option<Bytes> {
        let (shared, sealer) = (self.shared.as_ref(), self.sealer.as_ref());
        let x = shared.map(|shared| shared.extension(self.generation, life, CLOCK.wall()));
        let x = x.unwrap_or_default();
        match entry::seal(py, core, &self.resolved.settings, object, sealer, x) {
            Ok(sealed) => {
                if let Some(sealer) = sealer.filter(|sealer| sealer.encryption().encrypts) {
                    let tier = self.shared.as_ref().map_or(Tier::L1, |_| Tier::L2);
                    encryption::sealed(py, core, sealer, tier);
                }
                Some(sealed)
            }
            Err(NotStored::Interrupted(error)) => {
                self.interrupted = Some(error);
                None
            }
            Err(NotStored::Because(kind, reason)) => {
                core.warn_once(py, kind, || format!("not cached{reason}"));
                None
            }
        }
    }

    /// What L1 holds of an entry: the value that other processes get.
    fn twin(&self, py: Python<'_>, core: &Core, stored: &Bytes) -> Option<(Kept, u64)> {
        let opened = entry::open(py, core, stored, self.sealer.as_ref(), |_| true);
        let object = opened.ok().flatten()?.object;
        isolated(&object).or_else(|| as_stored(stored))
    }

    /// What L1 holds of an entry where it is to hold no plaintext, with its weight.
    fn ciphertext(&self, stored: &Bytes) -> Option<(Kept, u64)> {
        let sealer = self
            .sealer
            .as_ref()
            .filter(|sealer| sealer.encryption().encrypts)?;
        let sealed = payload::sealed(stored, &self.core().options.payload, sealer)
            .expect("it was sealed or opened just now");
        let weight = sealed.weight() as u64;
        Some((Kept::Sealed(Box::new(sealed)), weight))
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

/// The value as L1 holds it, with its weight; `None` when it cannot be held, which is said once.
fn held(
    py: Python<'_>,
    core: &Core,
    object: &Bound<'_, PyAny>,
    exact: bool,
) -> Option<(Kept, u64)> {
    match value::hold(object, exact, core.options.copy) {
        Ok((held, weight)) => Some((Kept::Plain(held), weight)),
        Err(error) => {
            core.warn_once(py, Once::Uncopyable, || {
                format!("not kept in this process, since the result cannot be copied: {error}")
            });
            None
        }
    }
}

/// A decoded value as L1 holds it, if callers can be given copies of it.
fn isolated(object: &Bound<'_, PyAny>) -> Option<(Kept, u64)> {
    let (held, weight) = value::hold(object, true, Copying::Auto).ok()?;
    held.is_isolated().then_some((Kept::Plain(held), weight))
}

/// An entry that is not encrypted as L1 holds its bytes, with their weight; each hit decodes anew.
fn as_stored(stored: &Bytes) -> Option<(Kept, u64)> {
    let plain = frame::parse(stored).is_ok_and(|frame| !frame.header.encrypted);
    let weight = (stored.len() + size_of::<Bytes>()) as u64;
    plain.then(|| (Kept::Stored(Box::new(stored.clone())), weight))
}

/// Whether a result is gone once somebody has iterated over or awaited it.
fn is_spent_by_use(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: reads the slots of a live object's type.
    unsafe {
        let asyncs = (*ffi::Py_TYPE(object.as_ptr())).tp_as_async;
        let awaits = !asyncs.is_null() && (*asyncs).am_await.is_some();
        awaits || ffi::PyIter_Check(object.as_ptr()) != 0
    }
}

/// A key as it may appear in logs: a hash, since arguments of `key=` functions are in the clear.
pub(crate) fn redact(key: &str) -> String {
    let hash = cachekit_wire::keys::content_hash(key.as_bytes());
    let hex: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("<redacted:{hex}>")
}
