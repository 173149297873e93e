//! The distributed lock of the API.
//!
//! The service makes up a lock's id when it gives the lock; a caller's token stands for the id as long
//! as this process holds the lock.
//!
//! The protocol has no request that writes only while a lock is held, none that tells whether one is
//! held, and none that takes a lock away. `cachekit serve` has all three (`docs/server.md`), asked for
//! in ways that mean nothing to other servers. With those, this side keeps to its own lease, looks for
//! the value after a while, and an invalidation does not stop another process's fill.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::timeout;

use super::api::{Api, malformed, put};
use super::call::{Answer, Call, half_to_one};
use super::{Client, key};
use crate::backend::{LockReply, Locking, Released};
use crate::deadline::after;
use crate::error::{BackendError, ErrorKind, Result};

pub(super) const LOCK_ID: HeaderName = HeaderName::from_static("x-cachekit-lock-id");

/// Stands for whoever holds a lock.
pub(super) const ANYBODY: HeaderValue = HeaderValue::from_static("*");
/// What makes a key the name of the lock on it. No key that the API takes as it is ends like this.
const NAME_END: &str = "\0lock";
/// How long one request may wait for a lock, and how many of a process may do so at once: they occupy
/// half of the streams that a connection usually has.
const WATCH: Duration = Duration::from_secs(5);
pub(super) const WATCHERS: usize = 64;

/// The first and the longest pause before a lock is looked at again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The ids of the locks that this process holds, by key and token.
#[derive(Default)]
pub(super) struct Holders(Mutex<Ids>);

#[derive(Default)]
struct Ids {
    by_holder: HashMap<(String, String), (String, Instant)>,
    /// At this size, those whose lease is over are dropped.
    sweep_at: usize,
}

impl Holders {
    fn hold(&self, key: &str, token: &str, id: String, until: Instant) {
        let mut ids = self.0.lock();
        if ids.by_holder.len() >= ids.sweep_at {
            let now = Instant::now();
            ids.by_holder.retain(|_, (_, until)| *until > now);
            ids.sweep_at = (ids.by_holder.len() * 2).max(64);
        }
        ids.by_holder
            .insert((key.to_owned(), token.to_owned()), (id, until));
    }

    /// The id of the lock that `token` holds; None where it holds none, or its lease is over.
    fn id(&self, key: &str, token: &str) -> Option<String> {
        let ids = self.0.lock();
        let (id, until) = ids.by_holder.get(&(key.to_owned(), token.to_owned()))?;
        (*until > Instant::now()).then(|| id.clone())
    }

    fn release(&self, key: &str, token: &str) {
        let holder = (key.to_owned(), token.to_owned());
        self.0.lock().by_holder.remove(&holder);
    }
}

impl Api<'_> {
    /// Takes the lock once: its id, None where another holds it.
    pub(super) async fn acquire(&self, key: &str, lease: Duration) -> Result<Option<String>> {
        Ok(self.try_acquire(key, lease).await?.ok())
    }

    /// Takes the lock once: its id, or the rest of another's lease, as far as the service tells.
    async fn try_acquire(
        &self,
        key: &str,
        lease: Duration,
    ) -> Result<std::result::Result<String, Duration>> {
        let call = lock("lock", key, lease)?.once();
        let answer = self.0.ask(&call, &[200, 201, 409]).await?;
        // Also after what is no answer at all: whoever cannot show the lock does not have it.
        Ok(lock_id(&answer).ok_or_else(|| remaining(&answer).unwrap_or(Duration::MAX)))
    }

    /// Takes the lock under `token`, and reads the entry.
    pub(super) async fn try_lock(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
    ) -> Result<LockReply> {
        let until = after(lease);
        match self.try_acquire(key, lease).await? {
            Err(remaining) => Ok(LockReply::Held { remaining }),
            Ok(id) => {
                self.0.live.holders.hold(key, token, id, until);
                let found = self.get(key, true).await;
                if found.is_err() {
                    // Nobody would know that the lock is ours.
                    let _ = self.unlock(key, token).await;
                }
                Ok(LockReply::Acquired(found?))
            }
        }
    }

    /// Asks for the lock again under its id. A service that cannot renew refuses, as the lock is held,
    /// and the lease ends when it was to end.
    pub(super) async fn renew(&self, key: &str, token: &str, lease: Duration) -> Result<bool> {
        let Some(id) = self.0.live.holders.id(key, token) else {
            return Ok(false);
        };
        let until = after(lease);
        let call = lock("renew", key, lease)?
            .header(LOCK_ID, shown(&id)?)
            .once();
        let given = lock_id(&self.0.ask(&call, &[200, 201, 409]).await?);
        match given {
            Some(given) if given == id => {
                self.0.live.holders.hold(key, token, id, until);
                Ok(true)
            }
            Some(other) => {
                // The lease was over and a new lock was given: not the one that was to be kept.
                self.release(key, &other).await?;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// Releases the lock that `token` holds; a token that this process does not know is an id.
    pub(super) async fn unlock(&self, key: &str, token: &str) -> Result<bool> {
        let holders = &self.0.live.holders;
        let id = holders.id(key, token).unwrap_or_else(|| token.to_owned());
        if id.is_empty() {
            return Ok(false);
        }
        let released = self.release(key, &id).await?;
        holders.release(key, token);
        Ok(released)
    }

    pub(super) async fn release(&self, key: &str, id: &str) -> Result<bool> {
        let Ok(id) = shown(id) else {
            return Ok(false); // No lock has such an id.
        };
        let call = Call::new("unlock", Method::DELETE, key::path(key, "/lock")).header(LOCK_ID, id);
        // 400: what was given out under another name is no id here.
        let answer = self.0.ask(&call, &[200, 204, 400, 404, 409]).await?;
        Ok(answer.status.is_success())
    }

    pub(super) async fn set_and_unlock(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        token: &str,
    ) -> Result<()> {
        let call = put(key, value, ttl, None)?;
        // Who holds no lock stores nothing: its lease was over before the value was there.
        let holders = &self.0.live.holders;
        let Some(id) = holders.id(key, token) else {
            return Ok(());
        };
        let stored = self.store_under(key, call, &id).await;
        holders.release(key, token);
        stored.map(drop)
    }

    /// Stores what `call` puts while the lock is held under `id`, and releases it; false if it has ended or
    /// was taken away, and nothing is stored. A service that does not know the header stores it either way.
    pub(super) async fn store_under(&self, key: &str, call: Call, id: &str) -> Result<bool> {
        let call = call.header(LOCK_ID, shown(id)?);
        let stored = self.0.ask(&call, &[200, 201, 204, 409]).await;
        // A service that knows the header has released the lock with it, and says so.
        let settled = stored.as_ref().is_ok_and(|answer| {
            answer.status == 409 || answer.headers.get(LOCK_ID).is_some_and(|done| *done == id)
        });
        // Released even if the value was not stored: those who wait must not wait in vain.
        let released = match settled {
            true => Ok(true),
            false => self.release(key, id).await,
        };
        let stored = stored?.status != 409;
        released?;
        Ok(stored)
    }

    /// Takes the lock away from whoever holds it; false if nobody does, or the service cannot.
    pub(super) async fn end_lock(&self, key: &str) -> Result<bool> {
        let call =
            Call::new("unlock", Method::DELETE, key::path(key, "/lock")).header(LOCK_ID, ANYBODY);
        let answer = self.0.ask(&call, &[200, 204, 400, 404, 405, 409]).await?;
        Ok(answer.status.is_success())
    }

    /// Whether the lock is free, asked for at most `wait`; None where the service does not tell.
    async fn watch(&self, key: &str, wait: Duration) -> Result<Option<bool>> {
        let path = key::path(key, &format!("/lock?wait_ms={}", wait.as_millis()));
        let call = Call::new("lock", Method::GET, path);
        let answer = self.0.ask(&call, &[200, 400, 404, 405]).await?;
        let held = answer.json().filter(|_| answer.status == 200);
        Ok(held.and_then(|json| Some(!json.get("held")?.as_bool()?)))
    }
}

impl Client {
    /// Waits until the lock is free.
    pub(super) async fn wait_for_release(&self, key: &str, at_most: Duration) -> Result<Released> {
        let live = self.live();
        let deadline = after(at_most);
        while live.tells_locks.load(Ordering::Relaxed) {
            let left = || deadline.saturating_duration_since(Instant::now());
            let place = timeout(left().min(LONGEST_PAUSE), live.watchers.acquire()).await;
            // Who finds no place looks, and tries again.
            let wait = if place.is_ok() {
                left().min(WATCH)
            } else {
                Duration::ZERO
            };
            // The answer to one that waited needs time of its own.
            match self.here(wait + 2 * LONGEST_PAUSE).watch(key, wait).await? {
                Some(true) => return Ok(Released::Notified),
                Some(false) if left().is_zero() => return Ok(Released::Elapsed),
                Some(false) => {}
                None => live.tells_locks.store(false, Ordering::Relaxed),
            }
        }
        self.look_for_value(key, deadline).await
    }

    /// Waits until the value that the lock's holder computes may be there, by looking for it. That
    /// the lock is free again without a value does not show; the caller asks for it after a while.
    async fn look_for_value(&self, key: &str, deadline: Instant) -> Result<Released> {
        let deadline = deadline.min(after(2 * LONGEST_PAUSE));
        let mut pauses = Pauses::default();
        loop {
            pauses.nap(deadline).await;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Released::Elapsed);
            }
            match self.here(left).exists(key).await {
                Ok(true) => return Ok(Released::Notified),
                Ok(false) => {}
                // What was left of the wait was shorter than the answer takes.
                Err(error) if error.kind() == ErrorKind::Timeout => return Ok(Released::Elapsed),
                Err(error) => return Err(error),
            }
        }
    }
}

/// What those who wait for a lock let pass before they look again: doubling, and shorter by chance.
pub(super) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pauses {
    /// Lets the next pause pass, or what is left until the deadline.
    pub(super) async fn nap(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::time::sleep(self.0.mul_f64(half_to_one()).min(left)).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

/// The key whose lock this is the name of.
pub(super) fn named(name: &str) -> Option<&str> {
    name.strip_suffix(NAME_END)
}

/// The request for the lock on a key.
fn lock(operation: &'static str, key: &str, lease: Duration) -> Result<Call> {
    let body = json!({ "timeout_ms": milliseconds(operation, lease)? });
    Ok(Call::new(operation, Method::POST, key::path(key, "/lock")).json(&body))
}

/// The id of the lock that an answer gives; None where another holds it.
fn lock_id(answer: &Answer) -> Option<String> {
    let json = answer.json().filter(|_| answer.status != 409)?;
    let id = json.get("lock_id")?.as_str()?;
    (!id.is_empty()).then(|| id.to_owned())
}

/// The rest of the lease of who holds the lock.
fn remaining(answer: &Answer) -> Option<Duration> {
    let left = answer.json()?.get("remaining_ms")?.as_u64()?;
    Some(Duration::from_millis(left))
}

/// A lock's id for a header.
fn shown(id: &str) -> Result<HeaderValue> {
    let mut id = HeaderValue::try_from(id).map_err(|_| malformed("lock"))?;
    id.set_sensitive(true);
    Ok(id)
}

/// A lease as the API takes it, in whole milliseconds.
fn milliseconds(operation: &'static str, lease: Duration) -> Result<u64> {
    if lease.is_zero() {
        let message = "a lease of 0 would be over at once; give a positive one";
        return Err(BackendError::new(ErrorKind::Permanent, operation, message));
    }
    let whole = lease.as_nanos().div_ceil(1_000_000);
    Ok(u64::try_from(whole).unwrap_or(u64::MAX))
}

impl Locking for Client {
    fn try_lock(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<LockReply> {
        self.block("lock", timeout, async |api: Api<'_>| {
            api.try_lock(key, token, lease).await
        })
    }

    fn renew(&self, key: &str, token: &str, lease: Duration, timeout: Duration) -> Result<bool> {
        self.block("renew", timeout, async |api: Api<'_>| {
            api.renew(key, token, lease).await
        })
    }

    fn unlock(&self, key: &str, token: &str, timeout: Duration) -> Result<bool> {
        self.block("unlock", timeout, async |api: Api<'_>| {
            api.unlock(key, token).await
        })
    }

    fn set_and_unlock(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        token: &str,
        timeout: Duration,
    ) -> Result<()> {
        self.block("set", timeout, async |api: Api<'_>| {
            api.set_and_unlock(key, value, ttl, token).await
        })
    }

    fn name(&self, key: &str) -> String {
        format!("{key}{NAME_END}")
    }
}
