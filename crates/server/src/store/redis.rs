//! Redis as the store of several replicas.
//!
//! An entry at a place is the Redis key `ck:{PLACE}:e`: one byte 1, the stale time in milliseconds
//! (8 bytes, big-endian), the value. It expires after the fresh and the stale time together, so
//! that what Redis tells of its remaining life tells whether it is fresh, whatever the replicas'
//! clocks say. Its lock lies beside `ck:{PLACE}:l`, where no entry ever is: on the same server of a
//! cluster, and taking it reads no value.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cachekit_backends::{
    AsyncBackend, Backend, BackendError, Found, LockReply, Locking, RedisBackend, Released,
    Remaining,
};
use futures_util::future::BoxFuture;

use super::{Facts, Holder, Life, Lock, Place, Put, Quota, Result, Store, StoreError, Usage};

const VERSION: u8 = 1;
const HEADER: usize = 9;

/// A [`Store`] in Redis: one server, sentinel or cluster.
pub struct RedisStore {
    backend: RedisBackend,
    timeout: Duration,
}

impl RedisStore {
    /// The store in the Redis servers of `url`; no operation takes longer than `timeout`.
    ///
    /// # Errors
    /// When the URL is not one.
    pub fn new(url: &str, timeout: Duration) -> Result<Self> {
        let backend = RedisBackend::from_url(url)?;
        Ok(Self { backend, timeout })
    }

    fn aio(&self) -> &dyn AsyncBackend {
        self.backend
            .aio()
            .expect("Redis has asynchronous operations")
    }

    fn locking(&self) -> &dyn Locking {
        self.backend.lock().expect("Redis has locks")
    }

    async fn read(&self, place: &Place) -> Result<Option<Read>> {
        let found = self.aio().get(&entry(place), true, self.timeout).await?;
        Ok(found.and_then(Read::from_found))
    }
}

/// An entry as read, and its times.
struct Read {
    value: Bytes,
    remaining: Duration,
    stale: Duration,
}

impl Read {
    /// None for what this server did not write.
    fn from_found(found: Found) -> Option<Self> {
        let mut value = found.value;
        let Remaining::For(remaining) = found.remaining else {
            return None;
        };
        if value.len() < HEADER || value.get_u8() != VERSION {
            return None;
        }
        let stale = Duration::from_millis(value.get_u64());
        Some(Self {
            value,
            remaining,
            stale,
        })
    }

    fn facts(&self) -> Facts {
        Facts {
            fresh_for: self.remaining.saturating_sub(self.stale),
            size: self.value.len() as u64,
        }
    }
}

fn entry(place: &Place) -> String {
    format!("ck:{{{}}}:e", place.full())
}

fn lock(place: &Place) -> String {
    format!("ck:{{{}}}:l", place.full())
}

impl From<BackendError> for StoreError {
    fn from(error: BackendError) -> Self {
        Self::unavailable(error)
    }
}

impl Store for RedisStore {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn facts<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Option<Facts>>> {
        Box::pin(async move { Ok(self.read(place).await?.map(|read| read.facts())) })
    }

    fn get<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Option<(Facts, Bytes)>>> {
        Box::pin(async move {
            let read = self.read(place).await?;
            Ok(read.map(|read| (read.facts(), read.value)))
        })
    }

    fn put<'a>(
        &'a self,
        place: &'a Place,
        value: Bytes,
        life: Life,
        _quota: Quota,
        holder: Option<&'a Holder>,
    ) -> BoxFuture<'a, Result<Put>> {
        Box::pin(async move {
            let mut stored = BytesMut::with_capacity(HEADER + value.len());
            stored.put_u8(VERSION);
            stored.put_u64(u64::try_from(life.stale.as_millis()).unwrap_or(u64::MAX));
            stored.put(value);
            let ttl = Some(life.fresh + life.stale);
            let (key, lock) = (entry(place), lock(place));
            let (backend, stored, timeout) = (&self.backend, &stored, self.timeout);
            let stored = match holder {
                Some(Holder::Id(id)) => {
                    let storing = backend.set_if_held(&key, stored, ttl, &lock, id, timeout);
                    storing.await?
                }
                Some(Holder::Anybody) => {
                    let storing = backend.set_and_end(&key, stored, ttl, &lock, timeout);
                    storing.await?;
                    true
                }
                None => {
                    self.aio().set(&key, stored, ttl, timeout).await?;
                    true
                }
            };
            Ok(if stored { Put::Stored } else { Put::NotHeld })
        })
    }

    fn delete<'a>(&'a self, place: &'a Place, lock: bool) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            if lock {
                // First: what is stored between the two goes with the second.
                self.end_lock(place).await?;
            }
            Ok(self.aio().delete(&entry(place), self.timeout).await?)
        })
    }

    fn expire<'a>(&'a self, place: &'a Place, fresh: Duration) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let Some(read) = self.read(place).await? else {
                return Ok(false);
            };
            let ttl = fresh + read.stale;
            Ok(self.aio().expire(&entry(place), ttl, self.timeout).await?)
        })
    }

    fn lock<'a>(
        &'a self,
        place: &'a Place,
        id: &'a str,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Lock>> {
        Box::pin(async move {
            let reply = self
                .aio()
                .try_lock(&lock(place), id, lease, self.timeout)
                .await?;
            Ok(match reply {
                LockReply::Acquired(_) => Lock::Acquired,
                LockReply::Held { remaining } => Lock::Held(remaining),
            })
        })
    }

    fn renew<'a>(
        &'a self,
        place: &'a Place,
        id: &'a str,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            Ok(self
                .aio()
                .renew(&lock(place), id, lease, self.timeout)
                .await?)
        })
    }

    fn unlock<'a>(&'a self, place: &'a Place, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { Ok(self.aio().unlock(&lock(place), id, self.timeout).await?) })
    }

    fn end_lock<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let name = self.locking().name(&lock(place));
            Ok(self.aio().delete(&name, self.timeout).await?)
        })
    }

    fn watch_lock<'a>(
        &'a self,
        place: &'a Place,
        at_most: Duration,
    ) -> BoxFuture<'a, Result<Option<Duration>>> {
        Box::pin(async move {
            let key = lock(place);
            let released = !at_most.is_zero()
                && self.aio().released(&key, at_most).await? == Released::Notified;
            if released {
                return Ok(None);
            }
            let name = self.locking().name(&key);
            let left = self.aio().ttl(&name, self.timeout).await?;
            Ok(left.map(|left| match left {
                Remaining::For(left) => left,
                Remaining::Forever | Remaining::Unknown => Duration::MAX,
            }))
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let health = self.aio().health(self.timeout).await?;
            if health.healthy {
                Ok(())
            } else {
                Err(StoreError::unavailable("Redis says that it is not well"))
            }
        })
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
