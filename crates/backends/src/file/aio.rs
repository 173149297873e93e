//! The asynchronous face: what is in memory is read on the event loop's own thread, which takes less time
//! than handing it to another thread and its result back. Everything else is the blocking face,
//! [aside](super::aside), so that neither a slow disk nor another process keeps other tasks waiting.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::store::Store;
use super::{FileBackend, Shared};
use crate::backend::{
    AsyncBackend, Backend, Found, Health, LockReply, Locking, Released, Remaining,
};
use crate::deadline::after;
use crate::error::Result;

impl AsyncBackend for Shared {
    fn get<'a>(
        &'a self,
        key: &'a str,
        want_ttl: bool,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Found>>> {
        async move {
            match self.0.read_cached(key) {
                Some(found) => Ok(found.map(|found| self.0.found(found, want_ttl))),
                None => self.get_aside(key, want_ttl, timeout).await,
            }
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
            let deadline = after(timeout);
            let mut carried = self.carried(key, value, deadline).await?;
            let key = key.to_owned();
            let add = move |backend: &FileBackend, left| {
                let store: &Store = &backend.0;
                let content = carried.content(store, &key, left)?;
                store.in_turn("add", left, |turn| turn.add(&key, content))
            };
            let found = self.in_line("add", deadline, add).await?;
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
            let deadline = after(timeout);
            let expiry = self.0.expiry("set", ttl)?;
            let mut carried = self.carried(key, value, deadline).await?;
            let key = key.to_owned();
            let set = move |backend: &FileBackend, left| {
                let store: &Store = &backend.0;
                let content = carried.content(store, &key, left)?;
                store.in_turn("set", left, |turn| turn.put(&key, content, expiry))
            };
            self.in_line("set", deadline, set).await
        }
        .boxed()
    }

    fn delete<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>> {
        let key = key.to_owned();
        self.aside_in_line("delete", timeout, move |backend, left| {
            Backend::delete(backend, &key, left)
        })
    }

    fn delete_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<u64>> {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        self.aside_in_line("delete", timeout, move |backend, left| {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            Backend::delete_many(backend, &keys, left)
        })
    }

    fn exists<'a>(&'a self, key: &'a str, timeout: Duration) -> BoxFuture<'a, Result<bool>> {
        async move { Ok(AsyncBackend::ttl(self, key, timeout).await?.is_some()) }.boxed()
    }

    fn ttl<'a>(
        &'a self,
        key: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Remaining>>> {
        async move {
            if let Some(slot) = self.0.peek_cached(key) {
                return Ok(slot.map(|slot| self.0.remaining(&slot)));
            }
            let key = key.to_owned();
            let ttl = move |backend: &FileBackend, left| Backend::ttl(backend, &key, left);
            self.aside("ttl", after(timeout), ttl).await
        }
        .boxed()
    }

    fn expire<'a>(
        &'a self,
        key: &'a str,
        ttl: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        let key = key.to_owned();
        self.aside_in_line("expire", timeout, move |backend, left| {
            Backend::expire(backend, &key, ttl, left)
        })
    }

    fn health(&self, timeout: Duration) -> BoxFuture<'_, Result<Health>> {
        self.aside_in_line("health", timeout, Backend::health)
    }

    fn try_lock<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        lease: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<LockReply>> {
        let (key, token) = (key.to_owned(), token.to_owned());
        self.aside_in_line("lock", timeout, move |backend, left| {
            Locking::try_lock(&*backend.0, &key, &token, lease, left)
        })
    }

    fn renew<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        lease: Duration,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        let (key, token) = (key.to_owned(), token.to_owned());
        self.aside_in_line("renew", timeout, move |backend, left| {
            Locking::renew(&*backend.0, &key, &token, lease, left)
        })
    }

    fn unlock<'a>(
        &'a self,
        key: &'a str,
        token: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        let (key, token) = (key.to_owned(), token.to_owned());
        self.aside_in_line("unlock", timeout, move |backend, left| {
            Locking::unlock(&*backend.0, &key, &token, left)
        })
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
            let deadline = after(timeout);
            let expiry = self.0.expiry("set", ttl)?;
            let carried = self.carried(key, value, deadline).await;
            let (key, token) = (key.to_owned(), token.to_owned());
            let set = move |backend: &FileBackend, left| {
                let store: &Store = &backend.0;
                let mut carried = carried;
                let content = match &mut carried {
                    Ok(carried) => carried.content(store, &key, left),
                    Err(error) => Err(error.clone()),
                };
                store.put_and_unlock(&key, content, expiry, &token, left)
            };
            self.in_line("set", deadline, set).await
        }
        .boxed()
    }

    fn released<'a>(&'a self, key: &'a str, at_most: Duration) -> BoxFuture<'a, Result<Released>> {
        self.wait_released(key, at_most).boxed()
    }
}

impl Shared {
    /// An operation of the blocking face that takes a turn.
    fn aside_in_line<R: Send + 'static>(
        &self,
        operation: &'static str,
        timeout: Duration,
        work: impl FnOnce(&FileBackend, Duration) -> Result<R> + Send + 'static,
    ) -> BoxFuture<'_, Result<R>> {
        self.in_line(operation, after(timeout), work).boxed()
    }
}
