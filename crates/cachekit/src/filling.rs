//! What a flight's leader does between the engine's steps: decode, encode, keep, deliver.
//!
//! Both drivers, [`call`](crate::call)'s blocking and asynchronous one, run this; they differ in how
//! a [`Request`] is performed and how the function is called.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cachekit_backends::{Found, Remaining};
use cachekit_engine::{
    fill::{Fill, LockAnswer, ReadAnswer, RunAnswer, Step},
    flight::Leader,
    time::{Clock, Tick},
    waits::FlightId,
};
use cachekit_wire::generation::Generation;

use crate::{
    clock::SystemClock,
    core::{self, Core, now},
    encryption::{self, Sealer, Tier},
    freshness,
    lease::Lease,
    payload::{self, Unusable},
    scope::{Once, Scope},
    seal::Sealable,
    shared::{Got, Locked, Reply, Request, Shared},
    value::{Decode, Delivered, Failure, Held},
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

/// A value on its way into L1.
struct Keep {
    held: Held,
    from: Tick,
    life: Option<Duration>,
}

/// One flight being led, or one read that leads none.
///
/// Dropping it before [`finish`](Self::finish) abandons the flight: another caller leads.
pub(crate) struct Filling {
    core: Arc<Core>,
    scope: Arc<Scope>,
    leader: Option<Leader<Delivered>>,
    fill: Fill,
    shared: Option<Shared>,
    sealer: Option<Sealer>,
    decode: Decode,
    life: Option<Duration>,
    lease: Option<Lease>,
    asked: Tick,
    waits: u32,
    /// Which of the scope's entries count, as the last read told.
    generation: Option<Generation>,
    /// An entry that must go because it is damaged, unless it is overwritten first.
    purge: bool,
    /// A newer version's entry was seen: leave the key alone.
    frozen: bool,
    sealed: Option<Bytes>,
    written: bool,
    /// What was written is being removed again, because an invalidation came meanwhile.
    retracting: bool,
    /// A request that releases the lock is under way or answered.
    releasing: bool,
    keep: Option<Keep>,
    found: Option<Held>,
    deliver: Option<Delivered>,
}

impl Filling {
    pub(crate) fn new(
        (core, scope): (&Arc<Core>, &Arc<Scope>),
        leader: Option<Leader<Delivered>>,
        fill: Fill,
        (shared, sealer): (Option<Shared>, Option<Sealer>),
        (decode, life): (Decode, Option<Duration>),
    ) -> Self {
        Self {
            core: Arc::clone(core),
            scope: Arc::clone(scope),
            leader,
            fill,
            shared,
            sealer,
            decode,
            life,
            lease: None,
            asked: now(),
            waits: 0,
            generation: None,
            purge: false,
            frozen: false,
            sealed: None,
            written: false,
            retracting: false,
            releasing: false,
            keep: None,
            found: None,
            deliver: None,
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        self.shared
            .as_ref()
            .expect("only fills with a shared layer ask it")
    }

    /// The flight being led.
    pub(crate) fn flight(&self) -> Option<FlightId> {
        self.leader.as_ref().map(Leader::id)
    }

    fn keeps(&self) -> bool {
        self.core.l1.is_some()
    }

    fn is_doomed(&self) -> bool {
        self.leader.as_ref().is_none_or(Leader::is_doomed)
    }

    fn may_keep(&self) -> bool {
        let leader = self.leader.as_ref();
        leader.is_some_and(|leader| self.scope.function.may_keep(leader))
    }

    /// Whether an invalidation came while the result was being written: the write may have reached
    /// the store after it. What was cleared as a whole is of an older generation and counts no more.
    fn must_retract(&self) -> bool {
        let counts = self.is_doomed() || self.generation.is_none();
        self.written && !self.retracting && counts && !self.may_keep()
    }

    /// What to do now.
    pub(crate) fn next(&mut self) -> Next {
        self.asked = now();
        match self.fill.step(self.asked) {
            Step::Read { timeout } => Next::Ask(Request::Get {
                want_ttl: self.keeps(),
                timeout,
            }),
            Step::Lock { lease, timeout } => Next::Ask(Request::Lock { lease, timeout }),
            Step::AwaitRelease { at_most } => {
                self.waits += 1;
                Next::Ask(Request::AwaitRelease {
                    attempt: self.waits - 1,
                    at_most,
                })
            }
            Step::Run => Next::Run,
            Step::Write { timeout, unlock } => {
                self.releasing = unlock;
                let sealed = self.sealed.take();
                match sealed.filter(|_| self.may_keep()) {
                    Some(value) => {
                        self.written = true;
                        Next::Ask(Request::Set {
                            value,
                            ttl: self.life,
                            unlock,
                            timeout,
                        })
                    }
                    None if unlock => Next::Ask(Request::Unlock { timeout }),
                    None => {
                        self.fill.on_written(self.asked);
                        Next::Finish
                    }
                }
            }
            Step::Unlock { timeout } => {
                self.releasing = true;
                Next::Ask(Request::Unlock { timeout })
            }
            Step::Finish if self.must_retract() => {
                self.retracting = true;
                Next::Ask(Request::Delete {
                    timeout: self.core.settings.timeout,
                })
            }
            Step::Finish => Next::Finish,
        }
    }

    /// Takes the shared layer's answer to the last request.
    pub(crate) fn reply(&mut self, reply: Reply) {
        let at = now();
        match reply {
            Reply::Got(Ok(Got { found, generation })) => {
                self.generation = generation;
                let hit = found.is_some_and(|found| self.absorb(&found, at));
                let answer = if hit {
                    ReadAnswer::Hit
                } else {
                    ReadAnswer::Miss
                };
                self.fill.on_read(answer, at);
            }
            Reply::Got(Err(_)) => self.fill.on_read(ReadAnswer::Unavailable, at),
            Reply::Locked(Ok(Locked::Acquired(lease, found))) => {
                self.lease = Some(lease);
                let hit = found.is_some_and(|found| self.absorb(&found, at));
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
            Reply::Locked(Err(_)) => self.fill.on_lock(LockAnswer::Unavailable, at),
            Reply::Released => self.fill.on_released(),
            // The guards have counted a failure; the entry then lives until its TTL.
            Reply::Done(_) if self.retracting => {}
            Reply::Done(_) => {
                self.lease = None;
                self.fill.on_written(at);
            }
        }
    }

    /// Decodes what the shared layer held; false when it is not a value for this caller.
    fn absorb(&mut self, found: &Found, at: Tick) -> bool {
        if self.leader.as_ref().is_some_and(Leader::is_behind_outdated) {
            return false; // It may be what an invalidated flight is writing just now.
        }
        let (current, decode) = (self.generation, self.decode);
        let (policy, sealer) = (&self.scope.payload, self.sealer.as_ref());
        let mut remaining = found.remaining;
        let opened = payload::open(
            &found.value,
            policy,
            sealer,
            &mut Vec::new(),
            |body, header| {
                remaining = freshness::remaining(remaining, &header.x, SystemClock.wall());
                if !Generation::counts(current, header.x.generation) {
                    return Ok(None);
                }
                decode(body).map(Some)
            },
        );
        let held = match opened {
            Ok(Some(held)) => held,
            Ok(None) => return false, // Cleared since it was stored.
            Err(unusable) => {
                self.refuse(&unusable);
                return false;
            }
        };
        self.scope.function.stats.l2_hit(at, at.since(self.asked));
        let kept = match self
            .sealer
            .as_ref()
            .filter(|_| self.core.settings.encrypts())
        {
            Some(sealer) => encryption::ciphertext(&found.value, sealer, policy)
                .expect("it was decrypted just now"),
            None => Arc::clone(&held),
        };
        self.keep_found(kept, remaining);
        self.deliver = Some(Delivered::Value(Arc::clone(&held)));
        self.found = Some(held);
        true
    }

    fn refuse(&mut self, unusable: &Unusable) {
        // A leader that takes the lock reads what it refused once more.
        if let Unusable::Refused(refused) = unusable
            && !self.purge
        {
            self.core.security.refused(refused.why, Tier::L2);
        }
        let kind = match unusable {
            Unusable::Newer { .. } => {
                self.frozen = true;
                Once::Newer
            }
            _ => {
                self.purge = true;
                Once::Unusable
            }
        };
        let key = self.shared().key();
        self.scope
            .warn_once(kind, || format!("the entry {} is {unusable}", redact(key)));
    }

    fn keep_found(&mut self, held: Held, remaining: Remaining) {
        if !self.keeps() {
            return;
        }
        let life = match (remaining, self.life) {
            // Unknown: an entry that might outlive its original is not kept.
            (Remaining::Unknown, _) => return,
            (Remaining::For(left), _) if left.is_zero() => return,
            (Remaining::Forever, nominal) => nominal,
            (Remaining::For(left), Some(nominal)) => Some(left.min(nominal)),
            (Remaining::For(left), None) => Some(left),
        };
        // The remaining life was true when the store looked, after the request was sent.
        self.keep = Some(Keep {
            held,
            from: self.asked,
            life,
        });
    }

    /// Takes what the function returned.
    pub(crate) fn ran(&mut self, result: Result<Held, Failure>) {
        let ended = now();
        self.scope.function.stats.miss(ended);
        let storable = match result {
            Ok(held) => self.take_result(held, ended),
            Err(failure) => {
                self.deliver = Some(Delivered::Failed(failure));
                false
            }
        };
        self.fill.on_run(if storable {
            RunAnswer::Storable
        } else {
            RunAnswer::NotStorable
        });
        if !storable && self.purge {
            self.purge();
        }
    }

    /// Readies a result for both layers; true if there is something to write to the shared one.
    fn take_result(&mut self, held: Held, at: Tick) -> bool {
        let (from, life) = (at, self.life);
        self.deliver = Some(Delivered::Value(Arc::clone(&held)));
        if life.is_some_and(|life| life.is_zero()) {
            return false;
        }
        if self.shared.is_none() && !self.core.settings.encrypts() {
            self.keep = self.keeps().then_some(Keep { held, from, life });
            return false;
        }
        let (policy, sealer) = (&self.scope.payload, self.sealer.as_ref());
        let shared = self.shared.as_ref();
        let x = shared.map(|shared| shared.extension(self.generation, life, SystemClock.wall()));
        let x = x.unwrap_or_default();
        let settings = &self.core.settings;
        let sealed = Sealable::new(&held, self.decode, policy, settings)
            .and_then(|sealable| sealable.seal(settings, policy, sealer, x));
        let (bytes, held) = match sealed {
            Ok(sealed) => sealed,
            Err(error) => {
                self.scope.warn_once(Once::Unstorable, || error.to_string());
                return false;
            }
        };
        self.deliver = Some(Delivered::Value(Arc::clone(&held)));
        self.keep = self.keeps().then_some(Keep { held, from, life });
        self.sealed = Some(bytes).filter(|_| self.shared.is_some() && !self.frozen);
        self.sealed.is_some()
    }

    /// Removes a damaged entry that nothing overwrites. If it stays, it is a miss again next time.
    pub(crate) fn purge(&self) {
        if let Some(shared) = self.shared.as_ref().filter(|_| self.purge) {
            self.core.delete_behind(shared);
        }
    }

    /// Ends the flight; gives what the shared layer held, if it did.
    pub(crate) fn finish(mut self) -> Option<Held> {
        let function = &self.scope.function;
        if let Some(leader) = self.leader.take() {
            if let Some(Keep { held, from, life }) = self.keep.take() {
                let entry = core::entry(held, from, life, leader.generation());
                drop(function.keep(&leader, Arc::new(entry)));
            }
            if self.retracting {
                // Those who read it before it was removed have kept it, or are about to.
                drop(function.invalidate(leader.key()));
            }
            if let Some(delivered) = self.deliver.take() {
                leader.land(delivered);
            }
        }
        self.core.report();
        self.found.take()
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // A caller that was cancelled, or a function that panicked, while it held the lock.
        if let Some(shared) = &self.shared
            && self.fill.holds_lock()
            && !self.releasing
        {
            shared.unlock_behind(self.core.settings.timeout);
        }
    }
}

/// A key as it may appear in logs: a hash, since texts of callers may hold what is secret.
fn redact(key: &str) -> String {
    let hash = cachekit_wire::keys::content_hash(key.as_bytes());
    let hex: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("<redacted:{hex}>")
}
