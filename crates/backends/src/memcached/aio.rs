//! The asynchronous half of the memcached backend.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::operations::{Operations, Way};
use crate::backend::{AsyncBackend, Found, Health, LockReply, Released, Remaining};
use crate::error::Result;

const SHARED: Way = Way::Shared;

impl AsyncBackend for Operations {
    fn get<'a>(
        &'a self,
        key: &'a str,
        want_ttl: bool,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Found>>> {
        self.get(SHARED, key, want_ttl, timeout).boxed()
    }

    fn get_with<'a>(
        &'a self,
        key: &'a str,
        beside: &'a str,
        want_ttl: bool,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<(Option<Found>, Option<Bytes>)>> {
        self.get_with(SHARED, key, beside, want_ttl, timeout)
            .boxed()
    }

    fn add<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes>> {
        self.add(SHARED, key, value, timeout).boxed()
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        self.set(SHARED, key, value, ttl, timeout).boxed()
    }

    fn set_over_add<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        self.set_over_add(SHARED, key, value, ttl, timeout).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>> {
        self.delete(SHARED, key, timeout).boxed()
    }

    fn delete_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<u64>> {
        self.delete_many(SHARED, keys, timeout).boxed()
    }

    fn exists<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>> {
        self.exists(SHARED, key, timeout).boxed()
    }

    fn ttl<'a>(
        &'a self,
        key: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Remaining>>> {
        self.ttl(SHARED, key, timeout).boxed()
    }

    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        self.expire(SHARED, key, ttl, timeout).boxed()
    }

    fn health(&self, timeout: Duration) -> BoxFuture<'_, Result<Health>> {
        self.health(SHARED, timeout).boxed()
    }

    fn try_lock<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        lease: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<LockReply>> {
        self.try_lock(SHARED, key, token, lease, timeout).boxed()
    }

    fn renew<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        lease: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        self.renew(SHARED, key, token, lease, timeout).boxed()
    }

    fn unlock<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        self.unlock(SHARED, key, token, timeout).boxed()
    }

    fn set_and_unlock<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        ttl: Option<Duration>,
        token: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        self.set_and_unlock(SHARED, key, value, ttl, token, timeout)
            .boxed()
    }

    fn released<'a>(&'a self, key: &'a str, at_most: Duration) -> BoxFuture<'a, Result<Released>> {
        self.released(key, at_most).boxed()
    }
}
