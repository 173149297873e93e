//! Entries in a directory that processes of one machine share.
//!
//! [`layout`] says what the bytes are, [`live`] reads them without a lock, [`turn`] changes them, one
//! process at a time, and [`recover`] puts them in order after whoever was killed while it did.

mod aio;
mod alive;
mod aside;
mod cached;
mod changes;
mod config;
mod directory;
mod error;
mod evict;
mod forks;
mod health;
mod inspect;
mod large;
mod layout;
mod line;
mod live;
mod lock;
mod recover;
mod store;
mod turn;
mod wake;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::config::FileConfig;
pub use self::inspect::{Inspection, Listed, ListedKind, inspect};
use self::store::Store;
use crate::backend::{AsyncBackend, Backend, Capabilities, Found, Health, Locking, Remaining};
use crate::error::Result;

/// How many keys are deleted before other writers get a turn.
const AT_ONCE: usize = 128;

/// A [`Backend`] that keeps entries in a directory, for processes of one machine.
pub struct FileBackend(Shared);

/// The store, also for threads that outlive a call.
#[derive(Clone)]
struct Shared(Arc<Store>);

impl Deref for Shared {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.0
    }
}

impl FileBackend {
    /// A backend as `config` says. The directory is opened, or made, at the first use.
    ///
    /// # Errors
    /// When a setting is out of its range.
    pub fn new(config: FileConfig) -> Result<Self> {
        config.check()?;
        Ok(Self(Shared(Arc::new(Store::new(config)))))
    }

    /// Opens the directory now, and makes it if it is missing.
    ///
    /// # Errors
    /// [`ErrorKind::Permanent`](crate::ErrorKind::Permanent) when it is no place for a store: a symbolic
    /// link, somebody else's, open to others, on a network; other kinds as the operating system says.
    pub fn open(&self) -> Result<()> {
        self.0.live().map(drop)
    }

    /// The settings.
    pub fn config(&self) -> &FileConfig {
        &self.0.config
    }
}

impl fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileBackend").field(&self.0.config).finish()
    }
}

impl Backend for FileBackend {
    fn name(&self) -> &'static str {
        "file"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            ttl: true,
            lock: true,
            max_ttl: None,
            max_key: None,
            max_value: usize::try_from(self.0.config.max_value).ok(),
        }
    }

    fn get(&self, key: &str, want_ttl: bool, timeout: Duration) -> Result<Option<Found>> {
        let found = match self.0.read(key)? {
            Some(found) => found,
            None => self.0.in_turn("get", timeout, |turn| turn.value(key))?,
        };
        Ok(found.map(|found| self.0.found(found, want_ttl)))
    }

    fn add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<Bytes> {
        self.0.admit(key, value)?;
        let content = self.0.content(key, value, timeout)?;
        let found = self
            .0
            .in_turn("add", timeout, |turn| turn.add(key, content))?;
        Ok(found.unwrap_or_else(|| Bytes::copy_from_slice(value)))
    }

    fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, timeout: Duration) -> Result<()> {
        self.0.admit(key, value)?;
        let expiry = self.0.expiry("set", ttl)?;
        let content = self.0.content(key, value, timeout)?;
        self.0
            .in_turn("set", timeout, |turn| turn.put(key, content, expiry))
    }

    fn delete(&self, key: &str, timeout: Duration) -> Result<bool> {
        Ok(self.delete_many(&[key], timeout)? > 0)
    }

    fn delete_many(&self, keys: &[&str], timeout: Duration) -> Result<u64> {
        let (mut removed, started) = (0, Instant::now());
        for keys in keys.chunks(AT_ONCE) {
            let left = timeout.saturating_sub(started.elapsed());
            let (some, locks) = self.0.in_turn("delete", left, |turn| turn.delete(keys))?;
            self.0.announce(&locks);
            removed += some;
        }
        Ok(removed)
    }

    fn exists(&self, key: &str, timeout: Duration) -> Result<bool> {
        Ok(self.ttl(key, timeout)?.is_some())
    }

    fn ttl(&self, key: &str, timeout: Duration) -> Result<Option<Remaining>> {
        let slot = match self.0.peek(key)? {
            Some(slot) => slot,
            None => self.0.in_turn("ttl", timeout, |turn| turn.slot(key))?,
        };
        Ok(slot.map(|slot| self.0.remaining(&slot)))
    }

    fn expire(&self, key: &str, ttl: Duration, timeout: Duration) -> Result<bool> {
        let expiry = self.0.expiry("expire", Some(ttl))?;
        self.0
            .in_turn("expire", timeout, |turn| turn.expire(key, expiry))
    }

    fn health(&self, timeout: Duration) -> Result<Health> {
        let started = Instant::now();
        let header = self.0.in_turn("health", timeout, |turn| turn.prove())?;
        Ok(health::report(&self.0.config, header, started.elapsed()))
    }

    fn lock(&self) -> Option<&dyn Locking> {
        Some(&*self.0)
    }

    fn aio(&self) -> Option<&dyn AsyncBackend> {
        Some(&self.0)
    }
}
