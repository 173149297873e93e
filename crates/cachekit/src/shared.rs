//! One key's dealings with the shared layer, blocking or as a future.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use cachekit_backends::{Found, LockReply, process::generation};
use cachekit_wire::{frame::Extension, generation::Generation, keys::tenant_key};

use crate::{
    clearing::Clearing,
    freshness,
    lease::Lease,
    park::{Stopped, block_on},
    runtime,
    store::{Store, Unavailable},
};

/// An entry of the shared layer: a key, and the store that holds it.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    store: Store,
    key: String,
    /// Where in `key` the tenant's prefix ends.
    protocol_at: usize,
    /// How the family of the entry is cleared.
    clearing: Clearing,
    /// The lock holder's secret, made when a lock is first asked for.
    token: OnceLock<String>,
    /// The process that asks for the lock.
    process: u32,
}

/// What to ask of the shared layer. Each waits at most its timeout.
#[derive(Debug, Clone)]
pub enum Request {
    /// Read the entry, with its remaining life if asked.
    Get {
        /// Whether the remaining life is wanted.
        want_ttl: bool,
        /// The longest wait.
        timeout: Duration,
    },
    /// Try to take the distributed lock.
    Lock {
        /// How long the lease lasts unless renewed.
        lease: Duration,
        /// The longest wait.
        timeout: Duration,
    },
    /// Wait until the lock may be free.
    AwaitRelease {
        /// How often this call has waited before.
        attempt: u32,
        /// The longest wait.
        at_most: Duration,
    },
    /// Take the lock away from whoever holds it, who then stores nothing.
    TakeLock {
        /// The longest wait.
        timeout: Duration,
    },
    /// Store the entry.
    Set {
        /// The entry's bytes.
        value: Bytes,
        /// Its life; `None` is without end.
        ttl: Option<Duration>,
        /// Whether to release the lock in the same round trip.
        unlock: bool,
        /// The longest wait.
        timeout: Duration,
    },
    /// Release the lock.
    Unlock {
        /// The longest wait.
        timeout: Duration,
    },
    /// Remove the entry.
    Delete {
        /// The longest wait.
        timeout: Duration,
    },
}

impl Request {
    /// The reply that says that it could not be asked.
    pub fn unanswered(&self) -> Reply {
        match self {
            Self::Get { .. } => Reply::Got(Err(Unavailable::Busy)),
            Self::Lock { .. } => Reply::Locked(Err(Unavailable::Busy)),
            Self::AwaitRelease { .. } => Reply::Released,
            _ => Reply::Done(Err(Unavailable::Busy)),
        }
    }
}

/// What came of a [`Request`].
#[derive(Debug)]
pub enum Reply {
    /// To `Get`.
    Got(Result<Got, Unavailable>),
    /// To `Lock`: the lease renews itself until it is dropped.
    Locked(Result<Locked, Unavailable>),
    /// To `AwaitRelease`.
    Released,
    /// To `TakeLock`, `Set`, `Unlock` and `Delete`.
    Done(Result<(), Unavailable>),
}

/// What a read brought.
#[derive(Debug)]
pub struct Got {
    /// The entry.
    pub found: Option<Found>,
    /// Which of the function's entries count; `None` when the store would not say.
    pub generation: Option<Generation>,
}

/// What an attempt to lock brought.
#[derive(Debug)]
pub enum Locked {
    /// The lock is ours; with the entry if one was stored meanwhile.
    Acquired(Lease, Option<Found>),
    /// Somebody else holds it for at most this long.
    Held(Duration),
}

impl Shared {
    /// The entry that the protocol calls `protocol_key`, of this tenant in `store`.
    pub fn new(
        store: Store,
        tenant: Option<&str>,
        protocol_key: String,
        clearing: Clearing,
    ) -> Self {
        let len = protocol_key.len();
        let key = match tenant {
            Some(tenant) => tenant_key(tenant, &protocol_key),
            None => protocol_key,
        };
        Self(Arc::new(Inner {
            store,
            protocol_at: key.len() - len,
            key,
            clearing,
            token: OnceLock::new(),
            process: generation(),
        }))
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The stored key.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// The key as the protocol has it, without the tenant's prefix.
    pub fn protocol_key(&self) -> &str {
        &self.0.key[self.0.protocol_at..]
    }

    fn token(&self) -> &str {
        self.0.token.get_or_init(crate::lease::token)
    }

    fn locked(&self, reply: LockReply, lease: Duration) -> Locked {
        match reply {
            LockReply::Acquired(found) => {
                let lease = Lease::keep(&self.0.store, &self.0.key, self.token(), lease);
                Locked::Acquired(lease, found)
            }
            LockReply::Held { remaining } => Locked::Held(remaining),
        }
    }

    fn get(&self, want_ttl: bool, timeout: Duration) -> Result<Got, Unavailable> {
        let Inner { store, key, .. } = &*self.0;
        let generation_key = match &self.0.clearing {
            Clearing::Item(key) => key,
            Clearing::Keys(_) => {
                let found = store.get(key, want_ttl, timeout)?;
                return Ok(self.without_generation(found));
            }
        };
        let started = Instant::now();
        let (found, item) = store.get_with(key, generation_key, want_ttl, timeout)?;
        let left = timeout.saturating_sub(started.elapsed());
        let generation = self.settle(generation_key, item.as_deref(), left);
        Ok(Got { found, generation })
    }

    async fn get_async(&self, want_ttl: bool, timeout: Duration) -> Result<Got, Unavailable> {
        let Inner { store, key, .. } = &*self.0;
        let generation_key = match &self.0.clearing {
            Clearing::Item(key) => key,
            Clearing::Keys(_) => {
                let found = store.get_async(key, want_ttl, timeout).await?;
                return Ok(self.without_generation(found));
            }
        };
        let started = Instant::now();
        let (found, item) = store
            .get_with_async(key, generation_key, want_ttl, timeout)
            .await?;
        let left = timeout.saturating_sub(started.elapsed());
        let generation = self
            .settle_async(generation_key, item.as_deref(), left)
            .await;
        Ok(Got { found, generation })
    }

    /// What is to be done about a generation item as it was read.
    fn judge(&self, generation_key: &str, item: Option<&[u8]>) -> Item {
        let store = &self.0.store;
        match item.map(Generation::from_bytes) {
            Some(Some(item)) if item.cleared => {
                store.note_cleared(generation_key);
                Item::Stands(item)
            }
            // It got lost since, and somebody who did not know has made another one.
            Some(Some(item)) if store.was_cleared(generation_key) => Item::Replace(Generation {
                cleared: true,
                ..item
            }),
            Some(Some(item)) => Item::Stands(item),
            // Damaged. Whether it was ever cleared is lost, so it was.
            Some(None) => Item::Replace(fresh(true)),
            None => Item::Add(fresh(store.was_cleared(generation_key))),
        }
    }

    /// Which of the function's entries count, after what is to be done about the item is done; `None`
    /// where the store would not take it.
    fn settle(&self, key: &str, item: Option<&[u8]>, timeout: Duration) -> Option<Generation> {
        let store = &self.0.store;
        match self.judge(key, item) {
            Item::Stands(item) => Some(item),
            Item::Replace(item) => {
                let stored = store.set_over_add(key, &item.to_bytes(), timeout);
                stored.is_ok().then_some(item)
            }
            Item::Add(item) => {
                let there = store.add(key, &item.to_bytes(), timeout).ok()?;
                Generation::from_bytes(&there)
            }
        }
    }

    /// [`settle`](Self::settle) as a future, to be polled inside the runtime.
    async fn settle_async(
        &self,
        key: &str,
        item: Option<&[u8]>,
        timeout: Duration,
    ) -> Option<Generation> {
        let store = &self.0.store;
        match self.judge(key, item) {
            Item::Stands(item) => Some(item),
            Item::Replace(item) => {
                let bytes = item.to_bytes().into();
                let stored = store.set_over_add_async(key, bytes, timeout).await;
                stored.is_ok().then_some(item)
            }
            Item::Add(item) => {
                let bytes = item.to_bytes().into();
                let there = store.add_async(key, bytes, timeout).await.ok()?;
                Generation::from_bytes(&there)
            }
        }
    }

    fn without_generation(&self, found: Option<Found>) -> Got {
        if found.is_some() {
            self.note();
        }
        let generation = None;
        Got { found, generation }
    }

    /// Remembers that there is an entry, where clearing its family takes that.
    pub(crate) fn note(&self) {
        if let Clearing::Keys(known) = &self.0.clearing {
            known.note(self.protocol_key());
        }
    }

    /// What an entry that is stored at `wall` for `life` says of itself.
    pub fn extension(
        &self,
        generation: Option<Generation>,
        life: Option<Duration>,
        wall: SystemTime,
    ) -> Extension {
        let end = freshness::until(life, wall);
        Extension {
            generation: generation.map(|generation| generation.number),
            fresh_until_ms: end.filter(|_| !self.0.store.tells_ttl()),
            ..Extension::default()
        }
    }

    /// Does what `request` says on the calling thread. `pause` is called now and then during long
    /// waits and ends them by returning false.
    ///
    /// # Errors
    /// [`Stopped::Interrupted`] when `pause` said so.
    pub fn perform(&self, request: Request, pause: impl FnMut() -> bool) -> Result<Reply, Stopped> {
        Ok(match request {
            Request::Get { want_ttl, timeout } => Reply::Got(self.get(want_ttl, timeout)),
            Request::Lock { lease, timeout } => Reply::Locked(
                self.0
                    .store
                    .try_lock(&self.0.key, self.token(), lease, timeout)
                    .map(|reply| self.locked(reply, lease)),
            ),
            Request::AwaitRelease { attempt, at_most } => {
                let this = self.clone();
                let waiting = runtime::handle().spawn(async move {
                    this.0.store.released(&this.0.key, attempt, at_most).await
                });
                let _cancel = AbortOnDrop(waiting.abort_handle());
                // The future ends by itself at `at_most`; the slack is for a busy machine.
                match block_on(waiting, at_most + SLACK, SIGNAL_CHECK, pause) {
                    Ok(_) | Err(Stopped::TimedOut) => Reply::Released,
                    Err(interrupted) => return Err(interrupted),
                }
            }
            Request::TakeLock { timeout } => {
                Reply::Done(self.0.store.take_lock(&self.0.key, timeout))
            }
            Request::Set {
                value,
                ttl,
                unlock,
                timeout,
            } => {
                self.note();
                let token = unlock.then(|| self.token());
                Reply::Done(self.0.store.set(&self.0.key, &value, ttl, token, timeout))
            }
            Request::Unlock { timeout } => Reply::Done(
                self.0
                    .store
                    .unlock(&self.0.key, self.token(), timeout)
                    .map(drop),
            ),
            Request::Delete { timeout } => {
                Reply::Done(self.0.store.delete(&[&self.0.key], timeout).map(drop))
            }
        })
    }

    /// Does what `request` says as a future, to be polled inside the runtime.
    pub async fn perform_async(&self, request: Request) -> Reply {
        match request {
            Request::Get { want_ttl, timeout } => {
                Reply::Got(self.get_async(want_ttl, timeout).await)
            }
            Request::Lock { lease, timeout } => Reply::Locked(
                self.0
                    .store
                    .try_lock_async(&self.0.key, self.token(), lease, timeout)
                    .await
                    .map(|reply| self.locked(reply, lease)),
            ),
            Request::AwaitRelease { attempt, at_most } => {
                self.0.store.released(&self.0.key, attempt, at_most).await;
                Reply::Released
            }
            Request::TakeLock { timeout } => {
                Reply::Done(self.0.store.take_lock_async(&self.0.key, timeout).await)
            }
            Request::Set {
                value,
                ttl,
                unlock,
                timeout,
            } => {
                self.note();
                let token = unlock.then(|| self.token());
                Reply::Done(
                    self.0
                        .store
                        .set_async(&self.0.key, value, ttl, token, timeout)
                        .await,
                )
            }
            Request::Unlock { timeout } => Reply::Done(
                self.0
                    .store
                    .unlock_async(&self.0.key, self.token(), timeout)
                    .await
                    .map(drop),
            ),
            Request::Delete { timeout } => {
                let keys = [self.0.key.clone()];
                Reply::Done(self.0.store.delete_async(&keys, timeout).await.map(drop))
            }
        }
    }

    /// Which of the function's entries count now; made up where the store has forgotten it.
    pub(crate) fn generation(&self, timeout: Duration) -> Result<Option<Generation>, Unavailable> {
        let Clearing::Item(key) = &self.0.clearing else {
            return Ok(None);
        };
        let store = &self.0.store;
        let item = fresh(store.was_cleared(key)).to_bytes();
        let item = store.add(key, &item, timeout)?;
        Ok(self.settle(key, Some(&item), timeout))
    }

    /// [`generation`](Self::generation) as a future, to be polled inside the runtime.
    pub(crate) async fn generation_async(
        &self,
        timeout: Duration,
    ) -> Result<Option<Generation>, Unavailable> {
        let Clearing::Item(key) = &self.0.clearing else {
            return Ok(None);
        };
        let store = &self.0.store;
        let item = fresh(store.was_cleared(key)).to_bytes().into();
        let item = store.add_async(key, item, timeout).await?;
        Ok(self.settle_async(key, Some(&item), timeout).await)
    }

    /// Releases the lock without waiting for it: for callers that were cancelled. A forked child
    /// leaves its parent's lock alone.
    pub fn unlock_behind(&self, timeout: Duration) {
        if self.0.process != generation() {
            return;
        }
        let this = self.clone();
        runtime::handle().spawn(async move {
            // The lease ends by itself when this does not get through.
            let _ = this
                .0
                .store
                .unlock_async(&this.0.key, this.token(), timeout)
                .await;
        });
    }
}

/// A generation that no entry has yet.
fn fresh(cleared: bool) -> Generation {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    Generation {
        number: u64::from_ne_bytes(bytes),
        cleared,
    }
}

/// What to do about a generation item.
enum Item {
    /// Nothing.
    Stands(Generation),
    /// Put this one in its place.
    Replace(Generation),
    /// Put this one there, unless somebody else has put one.
    Add(Generation),
}

/// Clears a family of entries: in every process that shares the store where entries name their
/// generation, else those that this process has written or found.
///
/// # Errors
/// When the store did not confirm: the entries then live on.
pub fn clear(store: &Store, clearing: &Clearing, timeout: Duration) -> Result<(), Unavailable> {
    match clearing {
        Clearing::Item(key) => {
            store.note_cleared(key);
            store.set_over_add(key, &fresh(true).to_bytes(), timeout)
        }
        Clearing::Keys(known) => {
            let mut told = Ok(());
            for keys in known.take().chunks(AT_ONCE) {
                if told.is_ok() {
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    told = store.forget(&keys, timeout);
                }
                if told.is_err() {
                    keys.iter().for_each(|key| known.note(key));
                }
            }
            told
        }
    }
}

/// [`clear`] as a future, to be polled inside the runtime.
///
/// # Errors
/// As [`clear`].
pub async fn clear_async(
    store: &Store,
    clearing: &Clearing,
    timeout: Duration,
) -> Result<(), Unavailable> {
    match clearing {
        Clearing::Item(key) => {
            store.note_cleared(key);
            let item = fresh(true).to_bytes().into();
            store.set_over_add_async(key, item, timeout).await
        }
        Clearing::Keys(known) => {
            let mut told = Ok(());
            for keys in known.take().chunks(AT_ONCE) {
                if told.is_ok() {
                    told = store.forget_async(keys, timeout).await;
                }
                if told.is_err() {
                    keys.iter().for_each(|key| known.note(key));
                }
            }
            told
        }
    }
}

/// How many keys are removed in one request.
const AT_ONCE: usize = 1000;
const SLACK: Duration = Duration::from_secs(1);
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
