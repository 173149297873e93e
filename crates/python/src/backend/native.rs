//! One of the engine's backends as a Python class: every operation blocking and awaitable.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cachekit_backends::{
    Backend, BackendError, Detail, ErrorKind, Found, Health, LockReply, Remaining,
    redis::{RedisBackend, RedisConfig},
};
use cachekit_wire::keys::tenant_key;
use pyo3::{
    exceptions::PyValueError,
    intern,
    prelude::*,
    types::{PyBytes, PyDict},
};

use super::{file, memcached};
use crate::{bridge::LoopBridge, log, sync_call};

/// One of the engine's backends, for Python.
#[pyclass(frozen, name = "Backend", module = "cachekit._native")]
#[derive(Clone)]
pub(crate) struct NativeBackend {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) timeout: Duration,
    pub(super) tenant: Option<Arc<str>>,
}

impl NativeBackend {
    fn key(&self, key: &str) -> String {
        match &self.tenant {
            Some(tenant) => tenant_key(tenant, key),
            None => key.to_owned(),
        }
    }

    fn run<R: Send>(
        &self,
        py: Python<'_>,
        key: Option<&str>,
        operation: impl FnOnce(&dyn Backend) -> Result<R, BackendError> + Send,
    ) -> PyResult<R> {
        let result = py.detach(|| operation(&*self.backend));
        log::traced(py);
        result.map_err(|error| raise(py, &error, key))
    }

    /// Runs a future on the I/O thread and returns an awaitable of its result.
    pub(super) fn spawn<R: Send + 'static>(
        &self,
        py: Python<'_>,
        key: Option<String>,
        operation: impl Future<Output = Result<R, BackendError>> + Send + 'static,
        convert: impl FnOnce(Python<'_>, R) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> PyResult<Py<PyAny>> {
        let slot = Arc::new(parking_lot::Mutex::new(None));
        let theirs = Arc::clone(&slot);
        let (future, _) = LoopBridge::submit(py, async move {
            let result = operation.await;
            *theirs.lock() = Some(result);
        })?;
        let take = move |py: Python<'_>| match slot.lock().take() {
            Some(Ok(value)) => convert(py, value),
            Some(Err(error)) => Err(raise(py, &error, key.as_deref())),
            None => Err(pyo3::exceptions::PyRuntimeError::new_err(
                "the operation has no result",
            )),
        };
        let take = Py::new(py, Take(parking_lot::Mutex::new(Some(Box::new(take)))))?;
        let wait = py
            .import(intern!(py, "cachekit._drive"))?
            .getattr(intern!(py, "result_of"))?;
        Ok(wait.call1((future, take))?.unbind())
    }
}

type Taking = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// The end of an awaited operation: called once it is done, it gives or raises the result.
#[pyclass(frozen, module = "cachekit._native")]
struct Take(parking_lot::Mutex<Option<Taking>>);

#[pymethods]
impl Take {
    fn __call__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        log::traced(py);
        let taking = self.0.lock().take();
        taking.map_or_else(|| Ok(py.None()), |taking| taking(py))
    }
}

pub(super) fn span(seconds: f64, what: &str) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|span| !span.is_zero())
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "{what} must be a positive number of seconds below 2**64, got {seconds:?}"
            ))
        })
}

/// A TTL as backends take it: seconds, `None` and 0 mean without end.
fn ttl(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds {
        None => Ok(None),
        Some(0.0) => Ok(None),
        Some(seconds) => span(seconds, "ttl").map(Some),
    }
}

fn seconds_left(remaining: Option<Remaining>) -> Option<u64> {
    match remaining {
        Some(Remaining::For(left)) => Some(left.as_secs_f64().ceil() as u64),
        _ => None,
    }
}

fn found_bytes(py: Python<'_>, found: Option<Found>) -> Py<PyAny> {
    found.map_or_else(
        || py.None(),
        |found| PyBytes::new(py, &found.value).into_any().unbind(),
    )
}

fn boolean(py: Python<'_>, value: bool) -> PyResult<Py<PyAny>> {
    Ok(value.into_pyobject(py)?.to_owned().into_any().unbind())
}

fn health_tuple(py: Python<'_>, health: Health) -> PyResult<Py<PyAny>> {
    let details = PyDict::new(py);
    for (name, detail) in health.details {
        match detail {
            Detail::Text(text) => details.set_item(name, text)?,
            Detail::Int(number) => details.set_item(name, number)?,
            Detail::Float(number) => details.set_item(name, number)?,
            Detail::Bool(truth) => details.set_item(name, truth)?,
            other => details.set_item(name, format!("{other:?}"))?,
        }
    }
    Ok((health.healthy, details)
        .into_pyobject(py)?
        .into_any()
        .unbind())
}

#[pymethods]
impl NativeBackend {
    /// A Redis backend; nothing is connected before the first use.
    #[staticmethod]
    #[pyo3(signature = (*, url, pool_size, socket_timeout, connect_timeout, tenant = None))]
    fn redis(
        py: Python<'_>,
        url: &str,
        pool_size: usize,
        socket_timeout: f64,
        connect_timeout: f64,
        tenant: Option<&str>,
    ) -> PyResult<Self> {
        let config = RedisConfig::from_url(url)
            .map_err(|error| raise(py, &error, None))?
            .pool_size(pool_size)
            .connect_timeout(span(connect_timeout, "socket_connect_timeout")?);
        Ok(Self {
            backend: Arc::new(RedisBackend::new(config)),
            timeout: span(socket_timeout, "socket_timeout")?,
            tenant: tenant.map(Arc::from),
        })
    }

    /// Entries in a directory, which is opened at once and made if it is missing.
    #[staticmethod]
    #[pyo3(signature = (
        *, cache_dir, max_size_mb, max_value_mb, max_entry_count, lock_timeout, permissions, dir_permissions
    ))]
    #[expect(clippy::too_many_arguments, reason = "named, and one for each setting")]
    fn file(
        py: Python<'_>,
        cache_dir: PathBuf,
        max_size_mb: u64,
        max_value_mb: u64,
        max_entry_count: u32,
        lock_timeout: f64,
        permissions: u32,
        dir_permissions: u32,
    ) -> PyResult<Self> {
        let lock_timeout = span(lock_timeout, "lock_timeout_seconds")?;
        let settings = file::Settings {
            directory: cache_dir,
            max_size_mb,
            max_value_mb,
            max_entry_count,
            lock_timeout,
            permissions,
            dir_permissions,
        };
        Ok(Self {
            backend: file::open(py, settings)?,
            timeout: lock_timeout,
            tenant: None,
        })
    }

    /// A Memcached backend; nothing is connected before the first use.
    #[staticmethod]
    #[pyo3(signature = (
        *, servers, pool_size, timeout, connect_timeout, retry_attempts, key_prefix, max_item_size
    ))]
    #[expect(clippy::too_many_arguments, reason = "named, and one for each setting")]
    fn memcached(
        py: Python<'_>,
        servers: Vec<String>,
        pool_size: usize,
        timeout: f64,
        connect_timeout: f64,
        retry_attempts: u32,
        key_prefix: String,
        max_item_size: usize,
    ) -> PyResult<Self> {
        let settings = memcached::Settings {
            servers,
            pool_size,
            connect_timeout: span(connect_timeout, "connect_timeout")?,
            retry_attempts,
            key_prefix,
            max_item_size,
        };
        Ok(Self {
            backend: memcached::open(py, settings)?,
            timeout: span(timeout, "timeout")?,
            tenant: None,
        })
    }

    /// The same backend with another timeout.
    fn with_timeout(&self, seconds: f64) -> PyResult<Self> {
        Ok(Self {
            backend: Arc::clone(&self.backend),
            timeout: span(seconds, "timeout")?,
            tenant: self.tenant.clone(),
        })
    }

    fn get(&self, py: Python<'_>, key: &str) -> PyResult<Py<PyAny>> {
        let stored = self.key(key);
        let found = self.run(py, Some(key), |b| b.get(&stored, false, self.timeout))?;
        Ok(found_bytes(py, found))
    }

    #[pyo3(signature = (key, value, ttl = None))]
    fn set(&self, py: Python<'_>, key: &str, value: &[u8], ttl: Option<f64>) -> PyResult<()> {
        let (stored, ttl) = (self.key(key), self::ttl(ttl)?);
        self.run(py, Some(key), |b| b.set(&stored, value, ttl, self.timeout))
    }

    fn delete(&self, py: Python<'_>, key: &str) -> PyResult<bool> {
        let stored = self.key(key);
        self.run(py, Some(key), |b| b.delete(&stored, self.timeout))
    }

    fn exists(&self, py: Python<'_>, key: &str) -> PyResult<bool> {
        let stored = self.key(key);
        self.run(py, Some(key), |b| b.exists(&stored, self.timeout))
    }

    fn health_check(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let health = self.run(py, None, |b| b.health(self.timeout))?;
        health_tuple(py, health)
    }

    /// The seconds that an entry has left; `None` for no entry or one without end.
    fn ttl(&self, py: Python<'_>, key: &str) -> PyResult<Option<u64>> {
        let stored = self.key(key);
        self.run(py, Some(key), |b| b.ttl(&stored, self.timeout))
            .map(seconds_left)
    }

    fn expire(&self, py: Python<'_>, key: &str, ttl: f64) -> PyResult<bool> {
        let (stored, ttl) = (self.key(key), span(ttl, "ttl")?);
        self.run(py, Some(key), |b| b.expire(&stored, ttl, self.timeout))
    }

    /// Tries once to take the lock: 0 when it is ours, else the seconds of the holder's lease.
    fn try_lock(&self, py: Python<'_>, key: &str, token: &str, lease: f64) -> PyResult<f64> {
        let (stored, lease) = (self.key(key), span(lease, "timeout")?);
        let reply = self.run(py, Some(key), |b| match b.lock() {
            Some(lock) => lock.try_lock(&stored, token, lease, self.timeout),
            None => Err(no_lock()),
        })?;
        Ok(lock_wait(&reply))
    }

    fn unlock(&self, py: Python<'_>, key: &str, token: &str) -> PyResult<bool> {
        let stored = self.key(key);
        self.run(py, Some(key), |b| match b.lock() {
            Some(lock) => lock.unlock(&stored, token, self.timeout),
            None => Err(no_lock()),
        })
    }

    fn get_async(&self, py: Python<'_>, key: String) -> PyResult<Py<PyAny>> {
        let (this, stored, timeout) = (self.aio(), self.key(&key), self.timeout);
        let operation = async move { this.aio()?.get(&stored, false, timeout).await };
        self.spawn(py, Some(key), operation, |py, found| {
            Ok(found_bytes(py, found))
        })
    }

    #[pyo3(signature = (key, value, ttl = None))]
    fn set_async(
        &self,
        py: Python<'_>,
        key: String,
        value: Vec<u8>,
        ttl: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let (this, stored, timeout) = (self.aio(), self.key(&key), self.timeout);
        let ttl = self::ttl(ttl)?;
        let operation = async move { this.aio()?.set(&stored, &value, ttl, timeout).await };
        self.spawn(py, Some(key), operation, |py, ()| Ok(py.None()))
    }

    fn delete_async(&self, py: Python<'_>, key: String) -> PyResult<Py<PyAny>> {
        let (this, stored, timeout) = (self.aio(), self.key(&key), self.timeout);
        let operation = async move { this.aio()?.delete(&stored, timeout).await };
        self.spawn(py, Some(key), operation, boolean)
    }

    fn exists_async(&self, py: Python<'_>, key: String) -> PyResult<Py<PyAny>> {
        let (this, stored, timeout) = (self.aio(), self.key(&key), self.timeout);
        let operation = async move { this.aio()?.exists(&stored, timeout).await };
        self.spawn(py, Some(key), operation, boolean)
    }

    fn health_check_async(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let (this, timeout) = (self.aio(), self.timeout);
        let operation = async move { this.aio()?.health(timeout).await };
        self.spawn(py, None, operation, health_tuple)
    }

    fn ttl_async(&self, py: Python<'_>, key: String) -> PyResult<Py<PyAny>> {
        let (this, stored, timeout) = (self.aio(), self.key(&key), self.timeout);
        let operation = async move { this.aio()?.ttl(&stored, timeout).await };
        self.spawn(py, Some(key), operation, |py, left| {
            Ok(seconds_left(left).into_pyobject(py)?.into_any().unbind())
        })
    }

    fn expire_async(&self, py: Python<'_>, key: String, ttl: f64) -> PyResult<Py<PyAny>> {
        let (this, stored, timeout) = (self.aio(), self.key(&key), self.timeout);
        let ttl = span(ttl, "ttl")?;
        let operation = async move { this.aio()?.expire(&stored, ttl, timeout).await };
        self.spawn(py, Some(key), operation, boolean)
    }

    fn try_lock_async(
        &self,
        py: Python<'_>,
        key: String,
        token: String,
        lease: f64,
    ) -> PyResult<Py<PyAny>> {
        let (this, stored, timeout) = (self.aio(), self.key(&key), self.timeout);
        let lease = span(lease, "timeout")?;
        let operation = async move { this.aio()?.try_lock(&stored, &token, lease, timeout).await };
        self.spawn(py, Some(key), operation, |py, reply| {
            Ok(lock_wait(&reply).into_pyobject(py)?.into_any().unbind())
        })
    }

    fn unlock_async(&self, py: Python<'_>, key: String, token: String) -> PyResult<Py<PyAny>> {
        let (this, stored, timeout) = (self.aio(), self.key(&key), self.timeout);
        let operation = async move { this.aio()?.unlock(&stored, &token, timeout).await };
        self.spawn(py, Some(key), operation, boolean)
    }

    /// Waits until the lock may be free, for at most so many seconds.
    fn released_async(&self, py: Python<'_>, key: String, at_most: f64) -> PyResult<Py<PyAny>> {
        let (this, stored) = (self.aio(), self.key(&key));
        let at_most = span(at_most, "blocking_timeout")?;
        let operation = async move { this.aio()?.released(&stored, at_most).await };
        self.spawn(py, Some(key), operation, |py, _| Ok(py.None()))
    }

    /// As [`released_async`](Self::released_async), on the calling thread.
    fn released(&self, py: Python<'_>, key: &str, at_most: f64) -> PyResult<()> {
        let (this, stored) = (self.aio(), self.key(key));
        let at_most = span(at_most, "blocking_timeout")?;
        let waiting = cachekit::runtime::handle()
            .spawn(async move { this.aio()?.released(&stored, at_most).await.map(drop) });
        match sync_call::block(py, waiting, at_most)? {
            Some(Ok(Err(error))) => Err(raise(py, &error, Some(key))),
            _ => Ok(()),
        }
    }

    fn __repr__(&self) -> String {
        format!("<Backend {}>", self.backend.name())
    }
}

impl NativeBackend {
    fn aio(&self) -> Aio {
        Aio(Arc::clone(&self.backend))
    }
}

/// A backend whose futures are wanted.
struct Aio(Arc<dyn Backend>);

impl Aio {
    fn aio(&self) -> Result<&dyn cachekit_backends::AsyncBackend, BackendError> {
        self.0.aio().ok_or_else(|| {
            BackendError::new(
                ErrorKind::Permanent,
                "await",
                "this backend has no async operations",
            )
        })
    }
}

fn no_lock() -> BackendError {
    BackendError::new(
        ErrorKind::Permanent,
        "lock",
        "this backend has no distributed lock",
    )
}

fn lock_wait(reply: &LockReply) -> f64 {
    match reply {
        LockReply::Acquired(_) => 0.0,
        // Never 0, which means ours; a lease without a known end is looked at again soon.
        LockReply::Held { remaining } => remaining.as_secs_f64().max(0.001),
    }
}

/// The Python exception for a backend's error.
pub(super) fn raise(py: Python<'_>, error: &BackendError, key: Option<&str>) -> PyErr {
    let made = (|| {
        let class = py
            .import(intern!(py, "cachekit.backends.errors"))?
            .getattr(intern!(py, "BackendError"))?;
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "error_type"), error.kind().as_str())?;
        kwargs.set_item(intern!(py, "operation"), error.operation())?;
        kwargs.set_item(intern!(py, "key"), key)?;
        class.call((error.message(),), Some(&kwargs))
    })();
    made.map_or_else(|error| error, PyErr::from_value)
}
