//! The asynchronous face, done on the event loop's own thread.
//!
//! What is read is in the page cache as a rule, and then an operation takes less time than handing it to
//! another thread and its result back. What may take long is done elsewhere: waiting for a turn sleeps on the
//! loop's clock, and long values are written and read on [other threads](super::aside).

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::store::Store;
use super::{AT_ONCE, health};
use crate::backend::{AsyncBackend, Found, Health, LockReply, Released, Remaining};
use crate::error::Result;

impl AsyncBackend for Store {
    fn get<'a>(
        &'a self,
        key: &'a str,
        want_ttl: bool,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Found>>> {
        async move {
            let found = match self.read_async(key, timeout).await? {
                Some(found) => found,
                None => {
                    self.in_turn_async("get", timeout, |turn| turn.value(key))
                        .await?
                }
            };
            Ok(found.map(|found| self.found(found, want_ttl)))
        }
        .boxed()
    }

    fn add<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes>> {
        async move {
            self.admit(key, value)?;
            let content = self.content_async(key, value, timeout).await?;
            let found = self
                .in_turn_async("add", timeout, |turn| turn.add(key, content))
                .await?;
            Ok(found.unwrap_or_else(|| Bytes::copy_from_slice(value)))
        }
        .boxed()
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            self.admit(key, value)?;
            let expiry = self.expiry("set", ttl)?;
            let content = self.content_async(key, value, timeout).await?;
            self.in_turn_async("set", timeout, |turn| turn.put(key, content, expiry))
                .await
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>> {
        async move { Ok(self.delete_all(&[key], timeout).await? > 0) }.boxed()
    }

    fn delete_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<u64>> {
        self.delete_all(keys, timeout).boxed()
    }

    fn exists<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>> {
        async move { Ok(self.ttl(key, timeout).await?.is_some()) }.boxed()
    }

    fn ttl<'a>(
        &'a self,
        key: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Remaining>>> {
        async move {
            let slot = match self.peek(key)? {
                Some(slot) => slot,
                None => {
                    self.in_turn_async("ttl", timeout, |turn| turn.slot(key))
                        .await?
                }
            };
            Ok(slot.map(|slot| self.remaining(&slot)))
        }
        .boxed()
    }

    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        async move {
            let expiry = self.expiry("expire", Some(ttl))?;
            self.in_turn_async("expire", timeout, |turn| turn.expire(key, expiry))
                .await
        }
        .boxed()
    }

    fn health(&self, timeout: Duration) -> BoxFuture<'_, Result<Health>> {
        async move {
            let started = Instant::now();
            let header = self
                .in_turn_async("health", timeout, |turn| turn.prove())
                .await?;
            Ok(health::report(&self.config, header, started.elapsed()))
        }
        .boxed()
    }

    fn try_lock<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        lease: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<LockReply>> {
        async move {
            let expiry = self.expiry("lock", Some(lease))?;
            let taken = self
                .in_turn_async("lock", timeout, |turn| turn.take_lock(key, token, expiry))
                .await?;
            Ok(self.lock_reply(taken))
        }
        .boxed()
    }

    fn renew<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        lease: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        async move {
            let expiry = self.expiry("renew", Some(lease))?;
            self.in_turn_async("renew", timeout, |turn| turn.renew(key, token, expiry))
                .await
        }
        .boxed()
    }

    fn unlock<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        async move {
            let released = self
                .in_turn_async("unlock", timeout, |turn| turn.release(key, token))
                .await?;
            self.announce_release(key, released);
            Ok(released)
        }
        .boxed()
    }

    fn set_and_unlock<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        ttl: Option<Duration>,
        token: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let expiry = self.expiry("set", ttl)?;
            let content = match self.admit(key, value) {
                Ok(()) => self.content_async(key, value, timeout).await,
                Err(error) => Err(error),
            };
            let content = match content {
                Ok(content) => content,
                Err(error) => {
                    // Those who wait must not wait in vain.
                    AsyncBackend::unlock(self, key, token, timeout).await?;
                    return Err(error);
                }
            };
            let (released, stored) = self
                .in_turn_async("set", timeout, |turn| {
                    turn.put_and_release(key, content, expiry, token)
                })
                .await?;
            self.announce_release(key, released);
            stored.map_err(|error| self.failed("set", error))
        }
        .boxed()
    }

    fn released<'a>(&'a self, key: &'a str, at_most: Duration) -> BoxFuture<'a, Result<Released>> {
        self.wait_released(key, at_most).boxed()
    }
}

impl Store {
    async fn delete_all(&self, keys: &[&str], timeout: Duration) -> Result<u64> {
        let (mut removed, started) = (0, Instant::now());
        for keys in keys.chunks(AT_ONCE) {
            let left = timeout.saturating_sub(started.elapsed());
            let (some, locks) = self
                .in_turn_async("delete", left, |turn| turn.delete(keys))
                .await?;
            self.announce(&locks);
            removed += some;
        }
        Ok(removed)
    }
}
