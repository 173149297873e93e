//! The asynchronous half of the Redis backend.

pub(super) mod pubsub;

use std::time::Duration;

use bytes::Bytes;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join, try_join_all};

use super::cluster::are_together;
use super::command::{self, Command, milliseconds};
use super::lock::{self, Names};
use super::node::Request;
use super::{Servers, health};
use crate::backend::{AsyncBackend, Found, Health, LockReply, Released, Remaining};
use crate::error::Result;

impl AsyncBackend for Servers {
    fn get<'a>(
        &'a self,
        key: &'a str,
        want_ttl: bool,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Found>>> {
        async move {
            let batch = command::get(key);
            let batch = &batch[..1 + usize::from(want_ttl)];
            self.run_async("get", key, batch, timeout)
                .await?
                .found(want_ttl)
        }
        .boxed()
    }

    fn get_with<'a>(
        &'a self,
        key: &'a str,
        beside: &'a str,
        want_ttl: bool,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<(Option<Found>, Option<Bytes>)>> {
        async move {
            if self.topology().is_cluster() {
                // The two keys may be on different servers; both reads are under way at once.
                let (found, item) = try_join(
                    AsyncBackend::get(self, key, want_ttl, timeout),
                    AsyncBackend::get(self, beside, false, timeout),
                )
                .await?;
                return Ok((found, item.map(|found| found.value)));
            }
            let batch = command::get_with(key, beside, want_ttl);
            self.run_async("get", key, &batch, timeout)
                .await?
                .found_with(want_ttl)
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
            self.run_async("add", key, &command::add(key, value), timeout)
                .await?
                .added(value)
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
            let life = ttl.map(|ttl| milliseconds("set", ttl)).transpose()?;
            let batch = [command::set(key, value, life)];
            self.run_async("set", key, &batch, timeout).await?.done()?;
            Ok(())
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>> {
        async move {
            let channel = lock::channel_of(key);
            let announcement = channel.as_deref().map(lock::announce);
            let batch: Vec<Command<'_>> = std::iter::once(command::delete(key))
                .chain(announcement)
                .collect();
            self.run_async("delete", key, &batch, timeout).await?.any()
        }
        .boxed()
    }

    fn delete_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<u64>> {
        async move {
            // All of them are under way at once, on one connection per server.
            let deletions = keys.iter().map(|key| self.delete(key, timeout));
            let removed = try_join_all(deletions).await?;
            Ok(removed.into_iter().map(u64::from).sum())
        }
        .boxed()
    }

    fn exists<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>> {
        async move {
            self.run_async("exists", key, &[command::exists(key)], timeout)
                .await?
                .any()
        }
        .boxed()
    }

    fn ttl<'a>(
        &'a self,
        key: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Remaining>>> {
        async move {
            self.run_async("ttl", key, &[command::ttl(key)], timeout)
                .await?
                .remaining()
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
            let batch = [command::expire(key, milliseconds("expire", ttl)?)];
            self.run_async("expire", key, &batch, timeout).await?.any()
        }
        .boxed()
    }

    fn health(&self, timeout: Duration) -> BoxFuture<'_, Result<Health>> {
        async move {
            let batch = health::commands();
            let request = Request::new("health", &batch, timeout);
            let replies = self.topology().run_async(None, &request).await?;
            Ok(self.with_pool(health::read(&request, replies)?))
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
            let names = Names::of(key);
            let take = lock::take(&names, token, milliseconds("lock", lease)?);
            let get = command::get(key);
            let topology = self.topology();
            if !topology.is_cluster() {
                let batch = [take[0], take[1], take[2], get[0], get[1]];
                let mut replies = self.run_async("lock", key, &batch, timeout).await?;
                let held = lock::held(&mut replies, token)?;
                return Ok(lock::reply(held, replies.found(true)?));
            }
            let request = Request::new("lock", &take, timeout);
            let held = lock::held(
                &mut topology.run_async(Some(&names.lock), &request).await?,
                token,
            )?;
            if held.is_some() {
                return Ok(lock::reply(held, None));
            }
            let read = Request {
                batch: &get,
                ..request
            };
            let found = topology
                .run_async(Some(key), &read)
                .await
                .and_then(|mut replies| replies.found(true));
            if found.is_err() {
                // Nobody would know that the lock is ours.
                let unlock = [lock::unlock(&names, token)];
                let _ = topology
                    .run_async(
                        Some(&names.lock),
                        &Request {
                            batch: &unlock,
                            ..request
                        },
                    )
                    .await;
            }
            Ok(lock::reply(None, found?))
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
            let names = Names::of(key);
            let command = lock::renew(&names, token, milliseconds("renew", lease)?);
            self.run_async("renew", &names.lock, &[command], timeout)
                .await?
                .any()
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
            let names = Names::of(key);
            let command = lock::unlock(&names, token);
            self.run_async("unlock", &names.lock, &[command], timeout)
                .await?
                .any()
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
            let storing = self.set_if_held(key, value, ttl, key, token, timeout);
            storing.await.map(drop)
        }
        .boxed()
    }

    fn released<'a>(&'a self, key: &'a str, at_most: Duration) -> BoxFuture<'a, Result<Released>> {
        pubsub::released(self.live(), key, at_most).boxed()
    }
}

impl Servers {
    /// Stores the value, and takes the lock on `locked` away from whoever holds it.
    pub(super) async fn set_and_end(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        locked: &str,
        timeout: Duration,
    ) -> Result<()> {
        let names = Names::of(locked);
        let life = ttl.map(|ttl| milliseconds("set", ttl)).transpose()?;
        if !self.topology().is_cluster() || are_together(key, &names.lock) {
            let script = lock::set_and_end(&names, key, value, life);
            self.run_async("set", key, &[script], timeout)
                .await?
                .done()?;
            return Ok(());
        }
        AsyncBackend::set(self, key, value, ttl, timeout).await?;
        self.delete(&names.lock, timeout).await.map(drop)
    }

    /// Stores the value if `token` holds the lock on `locked`, and releases it; false if it does not
    /// hold it.
    pub(super) async fn set_if_held(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        locked: &str,
        token: &str,
        timeout: Duration,
    ) -> Result<bool> {
        let names = Names::of(locked);
        let life = ttl.map(|ttl| milliseconds("set", ttl)).transpose()?;
        let topology = self.topology();
        if !topology.is_cluster() || are_together(key, &names.lock) {
            let script = lock::set_and_unlock(&names, key, value, life, token);
            return self.run_async("set", key, &[script], timeout).await?.done();
        }
        let look = [Command::new("GET").arg(&names.lock)];
        let looking = Request::new("set", &look, timeout);
        let mut replies = topology.run_async(Some(&names.lock), &looking).await?;
        if !lock::may_store(replies.value()?.as_deref(), token) {
            return Ok(false);
        }
        let batch = [command::set(key, value, life), lock::unlock(&names, token)];
        let request = Request {
            batch: &batch[..1],
            ..looking
        };
        let stored = topology
            .run_async(Some(key), &request)
            .await
            .and_then(|mut replies| replies.done());
        // Released even if the value was not stored: those who wait must not wait in vain.
        let unlocking = Request {
            batch: &batch[1..],
            ..request
        };
        let unlocked = topology
            .run_async(Some(&names.lock), &unlocking)
            .await
            .and_then(|mut replies| replies.any());
        stored?;
        unlocked?;
        Ok(true)
    }
}
