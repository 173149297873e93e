//! Redis and Valkey: one server, sentinel or cluster, over TCP, TLS or a Unix socket.
//!
//! Blocking calls use a small pool of connections per server on the calling thread. Asynchronous
//! calls of one tokio runtime share one connection per server, on which they are pipelined.

mod aio;
mod cluster;
mod command;
mod config;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod lock;
mod node;
mod reply;
mod sentinel;
mod topology;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::command::{Command, Replies, milliseconds};
pub use self::config::RedisConfig;
use self::lock::{announce, channel_of};
use self::node::Request;
use self::topology::Topology;
use crate::backend::{AsyncBackend, Backend, Capabilities, Found, Health, Locking, Remaining};
use crate::error::Result;
use crate::process::PerProcess;

/// What Redis itself takes as the longest key or value.
const MAX_LENGTH: usize = 512 << 20;
/// How many keys are deleted in one round trip.
const DELETE_AT_ONCE: usize = 256;

/// A [`Backend`] that keeps entries in Redis or Valkey.
pub struct RedisBackend(Servers);

/// What the blocking, the locking and the asynchronous operations work on.
struct Servers {
    config: RedisConfig,
    live: PerProcess<Arc<Live>>,
}

/// What is open, in one process.
struct Live {
    topology: Arc<Topology>,
    hub: aio::pubsub::Hub,
}

impl RedisBackend {
    /// A backend for these servers. Nothing is connected before the first call.
    #[must_use]
    pub fn new(config: RedisConfig) -> Self {
        let live = PerProcess::new(Live::new(&config));
        Self(Servers { config, live })
    }

    /// A backend for the servers of a URL, with the other settings at their defaults.
    ///
    /// # Errors
    /// Those of [`RedisConfig::from_url`].
    pub fn from_url(url: &str) -> Result<Self> {
        RedisConfig::from_url(url).map(Self::new)
    }

    /// [`AsyncBackend::set_and_unlock`] under the lock on another key, `locked`, that tells whether it
    /// was held, and so the value stored.
    ///
    /// # Errors
    /// Those of [`AsyncBackend::set_and_unlock`].
    pub async fn set_if_held(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        locked: &str,
        token: &str,
        timeout: Duration,
    ) -> Result<bool> {
        let storing = self.0.set_if_held(key, value, ttl, locked, token, timeout);
        storing.await
    }

    /// [`AsyncBackend::set`] that takes the lock on another key, `locked`, away from whoever holds it: in
    /// one step where both are on the same server, as keys with one hash tag are.
    ///
    /// # Errors
    /// Those of [`AsyncBackend::set`].
    pub async fn set_and_end(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        locked: &str,
        timeout: Duration,
    ) -> Result<()> {
        self.0.set_and_end(key, value, ttl, locked, timeout).await
    }
}

impl Servers {
    fn live(&self) -> &Arc<Live> {
        self.live.get(|| Live::new(&self.config))
    }

    fn topology(&self) -> &Arc<Topology> {
        &self.live().topology
    }

    /// Runs commands that all concern `key`.
    fn run(
        &self,
        operation: &'static str,
        key: &str,
        batch: &[Command<'_>],
        timeout: Duration,
    ) -> Result<Replies> {
        self.topology()
            .run(Some(key), &Request::new(operation, batch, timeout))
    }

    async fn run_async(
        &self,
        operation: &'static str,
        key: &str,
        batch: &[Command<'_>],
        timeout: Duration,
    ) -> Result<Replies> {
        let request = Request::new(operation, batch, timeout);
        self.topology().run_async(Some(key), &request).await
    }
}

impl Servers {
    /// The report with what the pool of blocking connections is doing.
    fn with_pool(&self, mut report: Health) -> Health {
        let used = self.topology().connections();
        report
            .details
            .extend(health::pool(used, self.config.pool_size));
        report
    }
}

impl Live {
    fn new(config: &RedisConfig) -> Arc<Self> {
        Arc::new(Self {
            topology: Arc::new(Topology::new(config)),
            hub: aio::pubsub::Hub::default(),
        })
    }
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisBackend").field(&self.0.config).finish()
    }
}

impl Backend for RedisBackend {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ttl: true,
            lock: true,
            max_ttl: None,
            max_key: Some(MAX_LENGTH),
            max_value: Some(MAX_LENGTH),
        }
    }

    fn get(&self, key: &str, want_ttl: bool, timeout: Duration) -> Result<Option<Found>> {
        let batch = command::get(key);
        let batch = &batch[..1 + usize::from(want_ttl)];
        self.0.run("get", key, batch, timeout)?.found(want_ttl)
    }

    fn get_with(
        &self,
        key: &str,
        beside: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<(Option<Found>, Option<Bytes>)> {
        if self.0.topology().is_cluster() {
            // The two keys may be on different servers.
            let started = Instant::now();
            let found = Backend::get(self, key, want_ttl, timeout)?;
            let left = timeout.saturating_sub(started.elapsed());
            return Ok((
                found,
                Backend::get(self, beside, false, left)?.map(|found| found.value),
            ));
        }
        let batch = command::get_with(key, beside, want_ttl);
        self.0
            .run("get", key, &batch, timeout)?
            .found_with(want_ttl)
    }

    fn add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<Bytes> {
        self.0
            .run("add", key, &command::add(key, value), timeout)?
            .added(value)
    }

    fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, timeout: Duration) -> Result<()> {
        let life = ttl.map(|ttl| milliseconds("set", ttl)).transpose()?;
        self.0
            .run("set", key, &[command::set(key, value, life)], timeout)?
            .done()?;
        Ok(())
    }

    fn delete(&self, key: &str, timeout: Duration) -> Result<bool> {
        Ok(self.delete_many(&[key], timeout)? > 0)
    }

    fn delete_many(&self, keys: &[&str], timeout: Duration) -> Result<u64> {
        let topology = self.0.topology();
        let at_once = if topology.is_cluster() {
            1
        } else {
            DELETE_AT_ONCE
        };
        let whole = Request::new("delete", &[], timeout);
        let mut removed = 0;
        for keys in keys.chunks(at_once) {
            let channels: Vec<String> = keys.iter().filter_map(|key| channel_of(key)).collect();
            let deletions = keys.iter().map(|key| command::delete(key));
            let batch: Vec<Command<'_>> = deletions
                .chain(channels.iter().map(|channel| announce(channel)))
                .collect();
            let mut replies = topology.run(
                Some(keys[0]),
                &Request {
                    batch: &batch,
                    ..whole
                },
            )?;
            for _ in keys {
                removed += u64::from(replies.any()?);
            }
        }
        Ok(removed)
    }

    fn exists(&self, key: &str, timeout: Duration) -> Result<bool> {
        self.0
            .run("exists", key, &[command::exists(key)], timeout)?
            .any()
    }

    fn ttl(&self, key: &str, timeout: Duration) -> Result<Option<Remaining>> {
        self.0
            .run("ttl", key, &[command::ttl(key)], timeout)?
            .remaining()
    }

    fn expire(&self, key: &str, ttl: Duration, timeout: Duration) -> Result<bool> {
        let batch = [command::expire(key, milliseconds("expire", ttl)?)];
        self.0.run("expire", key, &batch, timeout)?.any()
    }

    fn health(&self, timeout: Duration) -> Result<Health> {
        let batch = health::commands();
        let request = Request::new("health", &batch, timeout);
        let replies = self.0.topology().run(None, &request)?;
        Ok(self.0.with_pool(health::read(&request, replies)?))
    }

    fn lock(&self) -> Option<&dyn Locking> {
        Some(&self.0)
    }

    fn aio(&self) -> Option<&dyn AsyncBackend> {
        Some(&self.0)
    }

    fn after_fork(&self) {
        self.0.live();
    }
}
