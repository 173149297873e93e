//! The shared layer: a backend behind its guards.
//!
//! Every operation exists twice, blocking and as a future, over one set of guards. A refused or
//! failed operation is an [`Unavailable`], never a panic.

use std::{
    collections::HashSet,
    sync::{Arc, Once},
    time::Duration,
};

use bytes::Bytes;
use cachekit_backends::{
    AsyncBackend, Backend, BackendError, ErrorKind, Found, LockReply, Released,
};
use parking_lot::Mutex;

use crate::guards::Lane;
pub use crate::guards::{Event, GuardConfig, Guards, Unavailable};

/// A backend behind the guards of one namespace.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    guards: Arc<Guards>,
    /// The generation items that were seen to say that their function was cleared.
    cleared: Arc<Mutex<HashSet<Box<str>>>>,
}

impl Store {
    /// Puts `guards` before `backend`.
    pub fn new(backend: Arc<dyn Backend>, guards: Arc<Guards>) -> Self {
        Self {
            backend,
            guards,
            cleared: Arc::default(),
        }
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

    /// Whether the backend tells how long its entries still live.
    pub fn tells_ttl(&self) -> bool {
        self.backend.capabilities().ttl
    }

    /// Remembers that a function was cleared, should its generation item get lost.
    pub(crate) fn note_cleared(&self, generation_key: &str) {
        let mut cleared = self.cleared.lock();
        if !cleared.contains(generation_key) {
            cleared.insert(generation_key.into());
        }
    }

    /// Whether that function was cleared, as far as this process has seen.
    pub(crate) fn was_cleared(&self, generation_key: &str) -> bool {
        self.cleared.lock().contains(generation_key)
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
        self.guards.run(Lane::Read, timeout, |limit| {
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
        self.guards.run(Lane::Read, timeout, |limit| {
            self.backend.get_with(key, beside, want_ttl, limit)
        })
    }

    /// Stores bytes without end on the calling thread unless there are some; returns what is there.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<Bytes, Unavailable> {
        self.guards.run(Lane::Write, timeout, |limit| {
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
        let lane = Lane::Set(value.len());
        self.guards.run(lane, timeout, |limit| match unlock {
            Some(token) => self
                .locking()?
                .set_and_unlock(key, value, ttl, token, limit),
            None => self.backend.set(key, value, ttl, limit),
        })
    }

    /// Stores bytes without end on the calling thread, whatever is being [added](Self::add) there.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn set_over_add(
        &self,
        key: &str,
        value: &[u8],
        timeout: Duration,
    ) -> Result<(), Unavailable> {
        let ttl = self.clamp(None);
        self.guards.run(Lane::Write, timeout, |limit| {
            self.backend.set_over_add(key, value, ttl, limit)
        })
    }

    /// Removes entries on the calling thread.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn delete(&self, keys: &[&str], timeout: Duration) -> Result<u64, Unavailable> {
        self.guards.run(Lane::Write, timeout, |limit| {
            self.backend.delete_many(keys, limit)
        })
    }

    /// Removes entries on the calling thread, and takes the locks on them away: whoever computes one
    /// of them now, in whatever process, is not waited for and stores nothing.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn forget(&self, keys: &[&str], timeout: Duration) -> Result<(), Unavailable> {
        let locks = self.lock_names(keys.iter().copied());
        // The locks first: what is stored between the two goes with the second.
        let names = locks.iter().map(String::as_str).chain(keys.iter().copied());
        self.delete(&names.collect::<Vec<_>>(), timeout).map(drop)
    }

    /// Takes the lock on an entry away from whoever holds it, on the calling thread.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn take_lock(&self, key: &str, timeout: Duration) -> Result<(), Unavailable> {
        let names = self.lock_names(std::iter::once(key));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.delete(&names, timeout).map(drop)
    }

    fn lock_names<'a>(&self, keys: impl Iterator<Item = &'a str>) -> Vec<String> {
        let locking = self.backend.lock().filter(|_| self.has_lock());
        locking.map_or_else(Vec::new, |lock| keys.map(|key| lock.name(key)).collect())
    }

    /// Gives an entry a new life on the calling thread.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub fn expire(&self, key: &str, ttl: Duration, timeout: Duration) -> Result<bool, Unavailable> {
        self.guards.run(Lane::Write, timeout, |limit| {
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

    /// The life that the backend can give an entry; the first that it shortens is told.
    fn clamp(&self, ttl: Option<Duration>) -> Option<Duration> {
        static TOLD: Once = Once::new();
        match (ttl, self.backend.capabilities().max_ttl) {
            (Some(ttl), Some(max)) if ttl > max => {
                TOLD.call_once(|| {
                    tracing::warn!(
                        target: "cachekit",
                        "{} keeps entries for at most {} s: a TTL of {} s was cut to that, and so are others like it",
                        self.backend.name(),
                        max.as_secs(),
                        ttl.as_secs()
                    );
                });
                Some(max)
            }
            (Some(ttl), Some(_)) => Some(ttl),
            (None, max) => max,
            (ttl, None) => ttl,
        }
    }

    /// Does `blocking` on a thread of the runtime's own, for backends without futures.
    ///
    /// A call that does not end within `limit` is left to its thread: nothing can stop it, but its
    /// caller goes on.
    async fn offload<R: Send + 'static>(
        &self,
        operation: &'static str,
        limit: Duration,
        blocking: impl FnOnce(&dyn Backend) -> Result<R, BackendError> + Send + 'static,
    ) -> Result<R, BackendError> {
        let backend = Arc::clone(&self.backend);
        let call = tokio::task::spawn_blocking(move || blocking(&*backend));
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(BackendError::new(
                ErrorKind::Unknown,
                operation,
                format!("the backend's call did not end normally: {error}"),
            )),
            Err(_) => Err(BackendError::new(
                ErrorKind::Timeout,
                operation,
                format!("the backend did not answer within {limit:?}"),
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
            .run_async(Lane::Read, timeout, async |limit| match self.aio() {
                Some(aio) => aio.get(key, want_ttl, limit).await,
                None => {
                    let key = key.to_owned();
                    self.offload("get", limit, move |b| b.get(&key, want_ttl, limit))
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
            .run_async(Lane::Read, timeout, async |limit| match self.aio() {
                Some(aio) => aio.get_with(key, beside, want_ttl, limit).await,
                None => {
                    let (key, beside) = (key.to_owned(), beside.to_owned());
                    self.offload("get", limit, move |b| {
                        b.get_with(&key, &beside, want_ttl, limit)
                    })
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
            .run_async(Lane::Write, timeout, async |limit| match self.aio() {
                Some(aio) => aio.add(key, &value, limit).await,
                None => {
                    let (key, value) = (key.to_owned(), value.clone());
                    self.offload("add", limit, move |b| b.add(&key, &value, limit))
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
            .run_async(Lane::Set(value.len()), timeout, async |limit| {
                match (self.aio(), unlock) {
                    (Some(aio), None) => aio.set(key, &value, ttl, limit).await,
                    (Some(aio), Some(token)) => {
                        aio.set_and_unlock(key, &value, ttl, token, limit).await
                    }
                    (None, token) => {
                        let (key, token) = (key.to_owned(), token.map(str::to_owned));
                        let value = value.clone();
                        self.offload("set", limit, move |b| match (token, b.lock()) {
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

    /// [`set_over_add`](Self::set_over_add) as a future, to be polled inside the runtime.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub async fn set_over_add_async(
        &self,
        key: &str,
        value: Bytes,
        timeout: Duration,
    ) -> Result<(), Unavailable> {
        let ttl = self.clamp(None);
        self.guards
            .run_async(Lane::Write, timeout, async |limit| match self.aio() {
                Some(aio) => aio.set_over_add(key, &value, ttl, limit).await,
                None => {
                    let (key, value) = (key.to_owned(), value.clone());
                    self.offload("set", limit, move |b| {
                        b.set_over_add(&key, &value, ttl, limit)
                    })
                    .await
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
            .run_async(Lane::Write, timeout, async |limit| match self.aio() {
                Some(aio) => {
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    aio.delete_many(&keys, limit).await
                }
                None => {
                    let keys = keys.to_vec();
                    self.offload("delete", limit, move |b| {
                        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                        b.delete_many(&keys, limit)
                    })
                    .await
                }
            })
            .await
    }

    /// [`forget`](Self::forget) as a future, to be polled inside the runtime.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub async fn forget_async(
        &self,
        keys: &[String],
        timeout: Duration,
    ) -> Result<(), Unavailable> {
        let mut names = self.lock_names(keys.iter().map(String::as_str));
        names.extend_from_slice(keys);
        self.delete_async(&names, timeout).await.map(drop)
    }

    /// [`take_lock`](Self::take_lock) as a future, to be polled inside the runtime.
    ///
    /// # Errors
    /// See [`Unavailable`].
    pub async fn take_lock_async(&self, key: &str, timeout: Duration) -> Result<(), Unavailable> {
        let names = self.lock_names(std::iter::once(key));
        self.delete_async(&names, timeout).await.map(drop)
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
            .run_async(Lane::Write, timeout, async |limit| match self.aio() {
                Some(aio) => aio.expire(key, ttl, limit).await,
                None => {
                    let key = key.to_owned();
                    self.offload("expire", limit, move |b| b.expire(&key, ttl, limit))
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
                    self.offload("lock", limit, move |b| {
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
                    self.offload("unlock", limit, move |b| {
                        no_lock(b)?.unlock(&key, &token, limit)
                    })
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
                self.offload("renew", timeout, move |b| {
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
