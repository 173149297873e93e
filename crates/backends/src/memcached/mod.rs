//! Memcached: one server or several, over TCP, TLS or a Unix socket.
//!
//! Blocking calls use a small pool of connections per server on the calling thread. Asynchronous
//! calls of one tokio runtime share one connection per server, on which they are pipelined. Both
//! speak the meta protocol, which memcached has from 1.6 on.

mod aio;
mod command;
mod config;
mod copies;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod health;
mod key;
mod life;
mod lock;
mod operations;
mod protocol;
mod reply;
mod routing;
mod server;
mod servers;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

pub use self::config::MemcachedConfig;
use self::operations::{Operations, Way};
pub use self::routing::Routing;
use crate::backend::{
    AsyncBackend, Backend, Capabilities, Found, Health, LockReply, Locking, Remaining,
};
use crate::error::Result;

/// A [`Backend`] that keeps entries in memcached.
pub struct MemcachedBackend(Operations);

impl MemcachedBackend {
    /// A backend for these servers. Nothing is connected before the first call.
    #[must_use]
    pub fn new(config: MemcachedConfig) -> Self {
        Self(Operations::new(config))
    }

    /// A backend for the servers of a URL, with the other settings at their defaults.
    ///
    /// # Errors
    /// Those of [`MemcachedConfig::from_url`].
    pub fn from_url(url: &str) -> Result<Self> {
        MemcachedConfig::from_url(url).map(Self::new)
    }
}

impl fmt::Debug for MemcachedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.0.config;
        f.debug_tuple("MemcachedBackend").field(config).finish()
    }
}

/// The result of a blocking operation.
fn block<R>(operation: impl Future<Output = R>) -> R {
    operation
        .now_or_never()
        .expect("blocking operations wait on their thread, never in an await")
}

const BLOCKING: Way = Way::Blocking;

impl Backend for MemcachedBackend {
    fn name(&self) -> &'static str {
        "memcached"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ttl: true,
            lock: true,
            // Lives beyond what memcached can count end in 2038, and longer keys are mapped.
            max_ttl: None,
            max_key: None,
            max_value: Some(self.0.config.max_item_size).filter(|&size| size != 0),
        }
    }

    fn get(&self, key: &str, want_ttl: bool, timeout: Duration) -> Result<Option<Found>> {
        block(self.0.get(BLOCKING, key, want_ttl, timeout))
    }

    fn get_with(
        &self,
        key: &str,
        beside: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<(Option<Found>, Option<Bytes>)> {
        block(self.0.get_with(BLOCKING, key, beside, want_ttl, timeout))
    }

    fn add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<Bytes> {
        block(self.0.add(BLOCKING, key, value, timeout))
    }

    fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, timeout: Duration) -> Result<()> {
        block(self.0.set(BLOCKING, key, value, ttl, timeout))
    }

    fn set_over_add(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> Result<()> {
        block(self.0.set_over_add(BLOCKING, key, value, ttl, timeout))
    }

    fn delete(&self, key: &str, timeout: Duration) -> Result<bool> {
        block(self.0.delete(BLOCKING, key, timeout))
    }

    fn delete_many(&self, keys: &[&str], timeout: Duration) -> Result<u64> {
        block(self.0.delete_many(BLOCKING, keys, timeout))
    }

    fn exists(&self, key: &str, timeout: Duration) -> Result<bool> {
        block(self.0.exists(BLOCKING, key, timeout))
    }

    fn ttl(&self, key: &str, timeout: Duration) -> Result<Option<Remaining>> {
        block(self.0.ttl(BLOCKING, key, timeout))
    }

    fn expire(&self, key: &str, ttl: Duration, timeout: Duration) -> Result<bool> {
        block(self.0.expire(BLOCKING, key, ttl, timeout))
    }

    fn health(&self, timeout: Duration) -> Result<Health> {
        block(self.0.health(BLOCKING, timeout))
    }

    fn lock(&self) -> Option<&dyn Locking> {
        Some(&self.0)
    }

    fn aio(&self) -> Option<&dyn AsyncBackend> {
        Some(&self.0)
    }

    fn after_fork(&self) {
        // The child's own connections begin with its first look at the servers.
        self.0.all();
    }
}

impl Locking for Operations {
    fn try_lock(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<LockReply> {
        block(self.try_lock(BLOCKING, key, token, lease, timeout))
    }

    fn renew(&self, key: &str, token: &str, lease: Duration, timeout: Duration) -> Result<bool> {
        block(self.renew(BLOCKING, key, token, lease, timeout))
    }

    fn unlock(&self, key: &str, token: &str, timeout: Duration) -> Result<bool> {
        block(self.unlock(BLOCKING, key, token, timeout))
    }

    fn set_and_unlock(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        token: &str,
        timeout: Duration,
    ) -> Result<()> {
        block(self.set_and_unlock(BLOCKING, key, value, ttl, token, timeout))
    }

    fn name(&self, key: &str) -> String {
        lock::name(key)
    }
}
