//! The CachekitIO backend as a Python class: what it has beside what all backends have.

use std::{sync::Arc, time::Duration};

use cachekit_backends::{
    BackendError, CachekitIOBackend, CachekitIOConfig, ErrorKind, cachekitio::Entry,
};
use pyo3::{prelude::*, types::PyBytes};

use super::native::{NativeBackend, raise, span};

/// A CachekitIO account. [`backend`](Self::backend) is what functions use.
#[pyclass(frozen, name = "CachekitIO", module = "cachekit._native")]
pub(crate) struct CachekitIO {
    service: Arc<CachekitIOBackend>,
    native: NativeBackend,
}

impl CachekitIO {
    fn with(service: Arc<CachekitIOBackend>, timeout: Duration) -> Self {
        let native = NativeBackend {
            backend: service.clone(),
            timeout,
            tenant: None,
        };
        Self { service, native }
    }
}

#[pymethods]
impl CachekitIO {
    /// An account; nothing is connected before the first use.
    #[new]
    #[pyo3(signature = (*, url, api_key, timeout, pool_size, max_retries, custom_host))]
    fn new(
        py: Python<'_>,
        url: &str,
        api_key: String,
        timeout: f64,
        pool_size: usize,
        max_retries: u32,
        custom_host: bool,
    ) -> PyResult<Self> {
        let config = if custom_host {
            CachekitIOConfig::with_custom_host(url, api_key)
        } else {
            CachekitIOConfig::new(url, api_key)
        };
        let config = config
            .map_err(|error| raise(py, &error, None))?
            .pool_size(pool_size)
            .max_retries(max_retries);
        let timeout = span(timeout, "timeout")?;
        Ok(Self::with(
            Arc::new(CachekitIOBackend::new(config)),
            timeout,
        ))
    }

    /// The account as a backend like any other.
    fn backend(&self) -> NativeBackend {
        self.native.clone()
    }

    /// The same account, over the same connections, with another timeout.
    fn with_timeout(&self, seconds: f64) -> PyResult<Self> {
        let timeout = span(seconds, "timeout")?;
        Ok(Self::with(Arc::clone(&self.service), timeout))
    }

    #[getter]
    fn api_url(&self) -> &str {
        self.service.api_url()
    }

    #[getter]
    fn timeout(&self) -> f64 {
        self.native.timeout.as_secs_f64()
    }

    /// The value and whether it is stale; `None` where there is none.
    fn get_with_freshness(&self, py: Python<'_>, key: &str) -> PyResult<Py<PyAny>> {
        let timeout = self.native.timeout;
        let found = py
            .detach(|| self.service.get_with_freshness(key, timeout))
            .map_err(|error| raise(py, &error, Some(key)))?;
        with_freshness(py, found)
    }

    fn get_with_freshness_async(&self, py: Python<'_>, key: String) -> PyResult<Py<PyAny>> {
        let (service, timeout) = (Arc::clone(&self.service), self.native.timeout);
        let (name, operation) = (key.clone(), async move {
            service.get_with_freshness_async(&key, timeout).await
        });
        self.native.spawn(py, Some(name), operation, with_freshness)
    }

    #[pyo3(signature = (key, value, ttl, stale_ttl))]
    fn set(
        &self,
        py: Python<'_>,
        key: &str,
        value: &[u8],
        ttl: Option<f64>,
        stale_ttl: Option<f64>,
    ) -> PyResult<()> {
        let timeout = self.native.timeout;
        let (ttl, stale) = lives(py, key, ttl, stale_ttl)?;
        py.detach(|| self.service.set_with_stale(key, value, ttl, stale, timeout))
            .map_err(|error| raise(py, &error, Some(key)))
    }

    #[pyo3(signature = (key, value, ttl, stale_ttl))]
    fn set_async(
        &self,
        py: Python<'_>,
        key: String,
        value: Vec<u8>,
        ttl: Option<f64>,
        stale_ttl: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let (service, timeout) = (Arc::clone(&self.service), self.native.timeout);
        let (ttl, stale) = lives(py, &key, ttl, stale_ttl)?;
        let (name, operation) = (key.clone(), async move {
            service
                .set_with_stale_async(&key, &value, ttl, stale, timeout)
                .await
        });
        self.native
            .spawn(py, Some(name), operation, |py, ()| Ok(py.None()))
    }

    /// Tries once to take the lock: its id as the service gave it, or `None`.
    fn acquire(&self, py: Python<'_>, key: &str, lease: f64) -> PyResult<Option<String>> {
        let (lease, timeout) = (span(lease, "timeout")?, self.native.timeout);
        py.detach(|| contended(self.service.acquire(key, lease, timeout)))
            .map_err(|error| raise(py, &error, Some(key)))
    }

    fn acquire_async(&self, py: Python<'_>, key: String, lease: f64) -> PyResult<Py<PyAny>> {
        let (service, timeout) = (Arc::clone(&self.service), self.native.timeout);
        let lease = span(lease, "timeout")?;
        let (name, operation) = (key.clone(), async move {
            contended(service.acquire_async(&key, lease, timeout).await)
        });
        self.native.spawn(py, Some(name), operation, |py, id| {
            Ok(id.into_pyobject(py)?.into_any().unbind())
        })
    }
}

/// A lock that the service could not give now is as good as held by another.
fn contended(asked: Result<Option<String>, BackendError>) -> Result<Option<String>, BackendError> {
    asked.or_else(|error| match error.kind() {
        ErrorKind::Transient | ErrorKind::Timeout => Ok(None),
        _ => Err(error),
    })
}

fn with_freshness(py: Python<'_>, found: Option<Entry>) -> PyResult<Py<PyAny>> {
    match found {
        None => Ok(py.None()),
        Some(Entry { value, is_stale }) => Ok((PyBytes::new(py, &value), is_stale)
            .into_pyobject(py)?
            .into_any()
            .unbind()),
    }
}

/// The lives of an entry. Unlike other stores, the service takes no 0 for "without end".
fn lives(
    py: Python<'_>,
    key: &str,
    ttl: Option<f64>,
    stale_ttl: Option<f64>,
) -> PyResult<(Option<Duration>, Option<Duration>)> {
    let refuse = |what: String| {
        let error = BackendError::new(ErrorKind::Permanent, "set", what);
        Err(raise(py, &error, Some(key)))
    };
    let ttl = match ttl {
        Some(seconds) if seconds.is_nan() || seconds <= 0.0 => {
            return refuse(format!(
                "ttl must be a positive number of seconds, got {seconds}"
            ));
        }
        ttl => ttl.map(whole_or_longest),
    };
    match stale_ttl {
        Some(seconds) if seconds.is_nan() || seconds < 0.0 => refuse(format!(
            "stale_ttl must be 0 or a positive number of seconds, got {seconds}"
        )),
        stale_ttl => Ok((ttl, stale_ttl.map(whole_or_longest))),
    }
}

/// What no duration can hold is clamped like all that is longer than the service allows.
fn whole_or_longest(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
