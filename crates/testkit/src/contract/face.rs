use std::time::Duration;

use cachekit_backends::{
    AsyncBackend, Backend, Bytes, Capabilities, Found, Health, LockReply, Remaining, Result,
};
use tokio::runtime::{Builder, Runtime};

/// A backend's operations, blocking for the caller whichever way they are done.
#[allow(
    missing_docs,
    reason = "the methods are those of `Backend` and `Locking`"
)]
pub trait Face: Sync {
    fn name(&self) -> String;
    fn capabilities(&self) -> Capabilities;
    fn get(&self, key: &str, want_ttl: bool, timeout: Duration) -> Result<Option<Found>>;
    fn get_with(
        &self,
        key: &str,
        beside: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<(Option<Found>, Option<Bytes>)>;
    fn add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<Bytes>;
    fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, timeout: Duration) -> Result<()>;
    fn set_over_add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<()>;
    fn delete(&self, key: &str, timeout: Duration) -> Result<bool>;
    fn delete_many(&self, keys: &[&str], timeout: Duration) -> Result<u64>;
    fn exists(&self, key: &str, timeout: Duration) -> Result<bool>;
    fn ttl(&self, key: &str, timeout: Duration) -> Result<Option<Remaining>>;
    fn expire(&self, key: &str, ttl: Duration, timeout: Duration) -> Result<bool>;
    fn health(&self, timeout: Duration) -> Result<Health>;
    fn try_lock(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<LockReply>;
    fn renew(&self, key: &str, token: &str, lease: Duration, timeout: Duration) -> Result<bool>;
    fn unlock(&self, key: &str, token: &str, timeout: Duration) -> Result<bool>;
    fn set_and_unlock(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        token: &str,
        timeout: Duration,
    ) -> Result<()>;
    fn lock_name(&self, key: &str) -> String;
}

/// The blocking operations.
pub(super) struct Blocking<'a>(pub(super) &'a dyn Backend);

impl Blocking<'_> {
    fn locking(&self) -> &dyn cachekit_backends::Locking {
        self.0
            .lock()
            .expect("a backend with the capability has the lock")
    }
}

impl Face for Blocking<'_> {
    fn name(&self) -> String {
        format!("{} blocking", self.0.name())
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn get(&self, key: &str, want_ttl: bool, timeout: Duration) -> Result<Option<Found>> {
        self.0.get(key, want_ttl, timeout)
    }

    fn get_with(
        &self,
        key: &str,
        beside: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<(Option<Found>, Option<Bytes>)> {
        self.0.get_with(key, beside, want_ttl, timeout)
    }

    fn add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<Bytes> {
        self.0.add(key, value, timeout)
    }

    fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, timeout: Duration) -> Result<()> {
        self.0.set(key, value, ttl, timeout)
    }

    fn set_over_add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<()> {
        self.0.set_over_add(key, value, None, timeout)
    }

    fn delete(&self, key: &str, timeout: Duration) -> Result<bool> {
        self.0.delete(key, timeout)
    }

    fn delete_many(&self, keys: &[&str], timeout: Duration) -> Result<u64> {
        self.0.delete_many(keys, timeout)
    }

    fn exists(&self, key: &str, timeout: Duration) -> Result<bool> {
        self.0.exists(key, timeout)
    }

    fn ttl(&self, key: &str, timeout: Duration) -> Result<Option<Remaining>> {
        self.0.ttl(key, timeout)
    }

    fn expire(&self, key: &str, ttl: Duration, timeout: Duration) -> Result<bool> {
        self.0.expire(key, ttl, timeout)
    }

    fn health(&self, timeout: Duration) -> Result<Health> {
        self.0.health(timeout)
    }

    fn try_lock(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<LockReply> {
        self.locking().try_lock(key, token, lease, timeout)
    }

    fn renew(&self, key: &str, token: &str, lease: Duration, timeout: Duration) -> Result<bool> {
        self.locking().renew(key, token, lease, timeout)
    }

    fn unlock(&self, key: &str, token: &str, timeout: Duration) -> Result<bool> {
        self.locking().unlock(key, token, timeout)
    }

    fn set_and_unlock(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        token: &str,
        timeout: Duration,
    ) -> Result<()> {
        self.locking()
            .set_and_unlock(key, value, ttl, token, timeout)
    }

    fn lock_name(&self, key: &str) -> String {
        self.locking().name(key)
    }
}

/// The asynchronous operations, each driven to its end on a runtime of one thread.
pub(super) struct Awaited<'a> {
    pub(super) backend: &'a dyn AsyncBackend,
    pub(super) runtime: Runtime,
    of: &'a dyn Backend,
}

impl<'a> Awaited<'a> {
    /// The asynchronous face of a backend, if it has one.
    pub(super) fn of(backend: &'a dyn Backend) -> Option<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the operating system provides a poller");
        Some(Self {
            backend: backend.aio()?,
            runtime,
            of: backend,
        })
    }
}

impl Face for Awaited<'_> {
    fn name(&self) -> String {
        "asynchronous".to_owned()
    }

    fn capabilities(&self) -> Capabilities {
        self.of.capabilities()
    }

    fn get(&self, key: &str, want_ttl: bool, timeout: Duration) -> Result<Option<Found>> {
        self.runtime
            .block_on(self.backend.get(key, want_ttl, timeout))
    }

    fn get_with(
        &self,
        key: &str,
        beside: &str,
        want_ttl: bool,
        timeout: Duration,
    ) -> Result<(Option<Found>, Option<Bytes>)> {
        let reading = self.backend.get_with(key, beside, want_ttl, timeout);
        self.runtime.block_on(reading)
    }

    fn add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<Bytes> {
        self.runtime.block_on(self.backend.add(key, value, timeout))
    }

    fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, timeout: Duration) -> Result<()> {
        self.runtime
            .block_on(self.backend.set(key, value, ttl, timeout))
    }

    fn set_over_add(&self, key: &str, value: &[u8], timeout: Duration) -> Result<()> {
        self.runtime
            .block_on(self.backend.set_over_add(key, value, None, timeout))
    }

    fn delete(&self, key: &str, timeout: Duration) -> Result<bool> {
        self.runtime.block_on(self.backend.delete(key, timeout))
    }

    fn delete_many(&self, keys: &[&str], timeout: Duration) -> Result<u64> {
        self.runtime
            .block_on(self.backend.delete_many(keys, timeout))
    }

    fn exists(&self, key: &str, timeout: Duration) -> Result<bool> {
        self.runtime.block_on(self.backend.exists(key, timeout))
    }

    fn ttl(&self, key: &str, timeout: Duration) -> Result<Option<Remaining>> {
        self.runtime.block_on(self.backend.ttl(key, timeout))
    }

    fn expire(&self, key: &str, ttl: Duration, timeout: Duration) -> Result<bool> {
        self.runtime
            .block_on(self.backend.expire(key, ttl, timeout))
    }

    fn health(&self, timeout: Duration) -> Result<Health> {
        self.runtime.block_on(self.backend.health(timeout))
    }

    fn try_lock(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<LockReply> {
        self.runtime
            .block_on(self.backend.try_lock(key, token, lease, timeout))
    }

    fn renew(&self, key: &str, token: &str, lease: Duration, timeout: Duration) -> Result<bool> {
        self.runtime
            .block_on(self.backend.renew(key, token, lease, timeout))
    }

    fn unlock(&self, key: &str, token: &str, timeout: Duration) -> Result<bool> {
        self.runtime
            .block_on(self.backend.unlock(key, token, timeout))
    }

    fn set_and_unlock(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        token: &str,
        timeout: Duration,
    ) -> Result<()> {
        self.runtime
            .block_on(self.backend.set_and_unlock(key, value, ttl, token, timeout))
    }

    fn lock_name(&self, key: &str) -> String {
        let locking = self.of.lock();
        locking
            .expect("a backend with the capability has the lock")
            .name(key)
    }
}
