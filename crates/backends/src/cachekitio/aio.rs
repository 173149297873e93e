//! The asynchronous half of the CachekitIO backend.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Client;
use crate::backend::{AsyncBackend, Found, Health, LockReply, Released, Remaining};
use crate::error::Result;

impl AsyncBackend for Client {
    fn get<'a>(
        &'a self,
        key: &'a str,
        want_ttl: bool,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Found>>> {
        async move { self.here(timeout).get(key, want_ttl).await }.boxed()
    }

    fn get_with<'a>(
        &'a self,
        key: &'a str,
        beside: &'a str,
        want_ttl: bool,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<(Option<Found>, Option<Bytes>)>> {
        async move { self.here(timeout).get_with(key, beside, want_ttl).await }.boxed()
    }

    fn add<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes>> {
        async move { self.here(timeout).add(key, value).await }.boxed()
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        async move { self.here(timeout).set(key, value, ttl, None).await }.boxed()
    }

    fn set_over_add<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        async move { self.here(timeout).set_over_add(key, value, ttl).await }.boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>> {
        async move { self.here(timeout).delete(key).await }.boxed()
    }

    fn delete_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<u64>> {
        async move { self.here(timeout).delete_many(keys).await }.boxed()
    }

    fn exists<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>> {
        async move { self.here(timeout).exists(key).await }.boxed()
    }

    fn ttl<'a>(
        &'a self,
        key: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Remaining>>> {
        async move { self.here(timeout).ttl(key).await }.boxed()
    }

    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        async move { self.here(timeout).expire(key, ttl).await }.boxed()
    }

    fn health(&self, timeout: Duration) -> BoxFuture<'_, Result<Health>> {
        async move { self.here(timeout).health().await }.boxed()
    }

    fn try_lock<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        lease: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<LockReply>> {
        async move { self.here(timeout).try_lock(key, token, lease).await }.boxed()
    }

    fn renew<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        lease: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        async move { self.here(timeout).renew(key, token, lease).await }.boxed()
    }

    fn unlock<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        async move { self.here(timeout).unlock(key, token).await }.boxed()
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
            self.here(timeout)
                .set_and_unlock(key, value, ttl, token)
                .await
        }
        .boxed()
    }

    fn released<'a>(&'a self, key: &'a str, at_most: Duration) -> BoxFuture<'a, Result<Released>> {
        self.wait_for_release(key, at_most).boxed()
    }
}
