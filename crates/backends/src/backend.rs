//! The traits that every store implements.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::error::{BackendError, ErrorKind, Result};
use crate::tally::Tally;

/// How long an entry will still be held by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remaining {
    /// Not asked for, or the store cannot tell.
    Unknown,
    /// The entry does not expire.
    Forever,
    /// The entry expires after this long (at the moment of the reply).
    For(Duration),
}

/// An entry that a backend holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The stored bytes.
    pub value: Bytes,
    /// The entry's remaining life.
    pub remaining: Remaining,
}

/// What a backend can do, and its limits. `None` as a limit means none worth knowing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Reports and changes an entry's remaining life.
    pub ttl: bool,
    /// Offers [`Backend::lock`].
    pub lock: bool,
    /// The longest life that the store accepts.
    pub max_ttl: Option<Duration>,
    /// The longest key, in bytes.
    pub max_key: Option<usize>,
    /// The largest value, in bytes.
    pub max_value: Option<usize>,
}

/// One value among a health report's details.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Detail {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A truth value.
    Bool(bool),
}

/// A backend's answer to "are you well".
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Whether the store answered and can serve.
    pub healthy: bool,
    /// How long the answer took.
    pub latency: Duration,
    /// Named facts, in display order. `backend_type` and `latency_ms` are always among them.
    pub details: Vec<(String, Detail)>,
}

/// What came of trying to take a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockReply {
    /// The lock is ours. The entry found under the key after the lock was taken comes with it.
    Acquired(Option<Found>),
    /// Somebody else holds the lock.
    Held {
        /// The rest of the holder's lease. Zero when the lock has just been released.
        remaining: Duration,
    },
}

/// Why a wait for a lock's release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The lock is no longer held, as far as the store tells.
    Notified,
    /// The time was up, the lock may still be held.
    Elapsed,
}

/// A store of bytes under keys, used by blocking calls on the calling thread.
///
/// Every call returns within about `timeout`. Keys arrive ready for the store: prefixes and
/// mapping to a store's alphabet are the caller's. A `ttl` of zero is refused as
/// [`ErrorKind::Permanent`]; fractions below the store's unit round up.
pub trait Backend: Send + Sync {
    /// The backend's name in logs and metrics: "redis", "memcached", ….
    fn name(&self) -> &'static str;

    /// What this backend can do.
    fn capabilities(&self) -> Capabilities;

    /// The entry under `key`, or None. With `want_ttl` its remaining life comes in the same round
    /// trip, where the backend can tell.
    ///
    /// # Errors
    /// When the store cannot be asked, or holds something under `key` that is not a plain value.
    fn get(&self, key: &str, want_ttl: bool, timeout: Duration) -> Result<Option<Found>>;

    /// The entry under `key`, and the bytes under `beside`: two reads, in one round trip where the
    /// store has one.
    ///
    /// # Errors
    /// As [`Self::get`].
    fn get_with(
        &self,
        key: &str,
        beside: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<(Option<Found>, Option<Bytes>)> {
        let started = Instant::now();
        let found = self.get(key, want_ttl, timeout)?;
        let left = timeout.saturating_sub(started.elapsed());
        Ok((
            found,
            self.get(beside, false, left)?.map(|found| found.value),
        ))
    }

    /// Stores `value` under `key` without end if there is no entry; returns what is there then.
    /// Backends that cannot do it at once may let a concurrent call win. Those that keep a copy on
    /// another server may find it again after the entry is gone, [deleted](Self::delete) or not.
    ///
    /// # Errors
    /// When the store did not confirm.
    fn add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<Bytes> {
        if let Some(found) = self.get(key, false, timeout)? {
            return Ok(found.value);
        }
        self.set(key, value, None, timeout)?;
        Ok(Bytes::copy_from_slice(value))
    }

    /// Stores `value` under `key` for `ttl`, or until deleted when `ttl` is None.
    ///
    /// # Errors
    /// When the store did not confirm; the value may or may not have been stored.
    fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, timeout: Duration) -> Result<()>;

    /// [`set`](Self::set) that no concurrent [`add`](Self::add) undoes by having looked before and stored
    /// after it. Where adding is one step, and keeps no copy, it is the same.
    ///
    /// # Errors
    /// Those of [`set`](Self::set).
    fn set_over_add(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> Result<()> {
        self.set(key, value, ttl, timeout)
    }

    /// Removes the entry; true if there was one.
    ///
    /// # Errors
    /// When the store did not confirm.
    fn delete(&self, key: &str, timeout: Duration) -> Result<bool>;

    /// Removes the entries and returns how many there were. One round trip where the store has one.
    ///
    /// # Errors
    /// When the store did not confirm every removal.
    fn delete_many(&self, keys: &[&str], timeout: Duration) -> Result<u64> {
        let start = Instant::now();
        let mut removed = 0;
        for key in keys {
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(BackendError::new(
                    ErrorKind::Timeout,
                    "delete",
                    format!(
                        "{timeout:?} passed before all {} keys were deleted",
                        keys.len()
                    ),
                ));
            }
            removed += u64::from(self.delete(key, left)?);
        }
        Ok(removed)
    }

    /// Whether there is an entry under `key`.
    ///
    /// # Errors
    /// When the store cannot be asked.
    fn exists(&self, key: &str, timeout: Duration) -> Result<bool>;

    /// The remaining life of the entry under `key`, or None if there is no entry.
    ///
    /// # Errors
    /// When the store cannot be asked.
    fn ttl(&self, key: &str, timeout: Duration) -> Result<Option<Remaining>>;

    /// Gives the entry under `key` a new life of `ttl` from now; false if there is no entry.
    ///
    /// # Errors
    /// When the store did not confirm.
    fn expire(&self, key: &str, ttl: Duration, timeout: Duration) -> Result<bool>;

    /// Asks the store how it is.
    ///
    /// # Errors
    /// When the store cannot be asked.
    fn health(&self, timeout: Duration) -> Result<Health>;

    /// The distributed lock, where the store has one.
    fn lock(&self) -> Option<&dyn Locking> {
        None
    }

    /// The same operations as futures, where the backend has them.
    fn aio(&self) -> Option<&dyn AsyncBackend> {
        None
    }

    /// Where functions tell their hits and misses, for backends that report them to a service.
    fn tally(&self) -> Option<&Tally> {
        None
    }

    /// Tells the backend that this process is a fork's child: what belonged to the parent is left
    /// alone (never closed, so that the parent's connections stay whole) and built anew on use.
    fn after_fork(&self) {}
}

/// A lock among processes, one per key, held for a lease that ends by itself.
///
/// The lock's name is derived from the key, so locks never collide with entries. `token` is the
/// holder's random secret: only who knows it can renew or release.
pub trait Locking: Send + Sync {
    /// Takes the lock for `lease` if nobody holds it, and reads the entry in the same round trip.
    ///
    /// # Errors
    /// When the store did not answer; the lock may then be ours until the lease ends.
    fn try_lock(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<LockReply>;

    /// Extends our lease to `lease` from now; false if we no longer hold the lock.
    ///
    /// # Errors
    /// When the store did not confirm.
    fn renew(&self, key: &str, token: &str, lease: Duration, timeout: Duration) -> Result<bool>;

    /// Releases the lock if we still hold it, and wakes those who wait; false if we did not.
    ///
    /// # Errors
    /// When the store did not confirm.
    fn unlock(&self, key: &str, token: &str, timeout: Duration) -> Result<bool>;

    /// Stores the value if we still hold the lock, releases it and wakes those who wait, in one
    /// round trip where the store can.
    ///
    /// # Errors
    /// When the store did not confirm the value or the release. A lock that we hold no longer is no
    /// error: it has ended, or an invalidation has taken it, and nothing is stored.
    fn set_and_unlock(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        token: &str,
        timeout: Duration,
    ) -> Result<()>;

    /// The key under which the lock on `key` is kept. Who removes it takes the lock away from its
    /// holder.
    fn name(&self, key: &str) -> String;
}

/// The operations of [`Backend`] and [`Locking`] as futures, to be polled inside a tokio runtime
/// with I/O and time enabled. A future that is dropped leaves no half-read connection behind.
///
/// Meaning, arguments and errors are those of the blocking methods of the same names.
pub trait AsyncBackend: Send + Sync {
    /// See [`Backend::get`].
    fn get<'a>(
        &'a self,
        key: &'a str,
        want_ttl: bool,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Found>>>;

    /// See [`Backend::get_with`].
    fn get_with<'a>(
        &'a self,
        key: &'a str,
        beside: &'a str,
        want_ttl: bool,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<(Option<Found>, Option<Bytes>)>> {
        Box::pin(async move {
            let started = Instant::now();
            let found = self.get(key, want_ttl, timeout).await?;
            let left = timeout.saturating_sub(started.elapsed());
            Ok((
                found,
                self.get(beside, false, left)
                    .await?
                    .map(|found| found.value),
            ))
        })
    }

    /// See [`Backend::add`].
    fn add<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move {
            if let Some(found) = self.get(key, false, timeout).await? {
                return Ok(found.value);
            }
            self.set(key, value, None, timeout).await?;
            Ok(Bytes::copy_from_slice(value))
        })
    }

    /// See [`Backend::set`].
    fn set<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>>;

    /// See [`Backend::set_over_add`].
    fn set_over_add<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        self.set(key, value, ttl, timeout)
    }

    /// See [`Backend::delete`].
    fn delete<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>>;

    /// See [`Backend::delete_many`].
    fn delete_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<u64>>;

    /// See [`Backend::exists`].
    fn exists<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>>;

    /// See [`Backend::ttl`].
    fn ttl<'a>(
        &'a self,
        key: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Remaining>>>;

    /// See [`Backend::expire`].
    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>>;

    /// See [`Backend::health`].
    fn health(&self, timeout: Duration) -> BoxFuture<'_, Result<Health>>;

    /// See [`Locking::try_lock`]. Fails as [`ErrorKind::Permanent`] on a backend without locks.
    fn try_lock<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        lease: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<LockReply>> {
        let _ = (key, token, lease, timeout);
        Box::pin(async { Err(no_lock()) })
    }

    /// See [`Locking::renew`].
    fn renew<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        lease: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        let _ = (key, token, lease, timeout);
        Box::pin(async { Err(no_lock()) })
    }

    /// See [`Locking::unlock`].
    fn unlock<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        let _ = (key, token, timeout);
        Box::pin(async { Err(no_lock()) })
    }

    /// See [`Locking::set_and_unlock`].
    fn set_and_unlock<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        ttl: Option<Duration>,
        token: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        let _ = (key, value, ttl, token, timeout);
        Box::pin(async { Err(no_lock()) })
    }

    /// Waits until the lock on `key` is released, or for `at_most`.
    ///
    /// A release between a caller's [`Self::try_lock`] and this call is not lost: the wait first
    /// listens and then looks whether the lock is still held. A holder that dies is not announced;
    /// its lease ends, so `at_most` should not exceed [`LockReply::Held::remaining`] by much.
    ///
    /// # Errors
    /// When the store cannot be asked whether the lock is held.
    fn released<'a>(&'a self, key: &'a str, at_most: Duration) -> BoxFuture<'a, Result<Released>> {
        let _ = (key, at_most);
        Box::pin(async { Err(no_lock()) })
    }
}

fn no_lock() -> BackendError {
    BackendError::new(
        ErrorKind::Permanent,
        "lock",
        "this backend has no distributed lock; check `capabilities().lock` first",
    )
}
