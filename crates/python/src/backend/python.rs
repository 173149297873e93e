//! Python's own backends, adapted for the engine: any object with the five methods.
//!
//! Its methods run on the caller's thread, or for coroutines on a thread of the engine's own. What
//! goes wrong in them is a failed operation, never the caller's exception:
//!
//! - A method that hangs holds up a blocking caller for as long: nothing can stop Python code that
//!   does not return, so its own timeouts have to. A coroutine's caller goes on after its budget,
//!   and the method is left to its thread.
//! - Ctrl-C in a method ends the operation, and then reaches the main thread where it always does:
//!   at the next Python instruction, mostly the cached function's first. Other exceptions that are
//!   no `Exception` (`SystemExit`, `asyncio.CancelledError`) go to `sys.unraisablehook`.

use std::time::Duration;

use cachekit_backends::{
    Backend, BackendError, Bytes, Capabilities, ErrorKind, Found, Health, Remaining,
};
use pyo3::{
    exceptions::{PyConnectionError, PyException, PyOSError, PyTimeoutError},
    intern,
    prelude::*,
    types::{PyBytes, PyTuple},
};

/// Any Python object with the five methods of the BaseBackend protocol.
pub(super) struct PythonBackend {
    object: Py<PyAny>,
    /// The exceptions that a circuit breaker does not count: a tuple of classes.
    excluded: Py<PyAny>,
}

/// The methods that make an object a backend.
const METHODS: [&str; 5] = ["get", "set", "delete", "exists", "health_check"];

impl PythonBackend {
    pub(super) fn adopt(object: &Bound<'_, PyAny>, excluded: &Py<PyAny>) -> PyResult<Self> {
        for method in METHODS {
            let found = object.getattr_opt(method)?;
            if !found.is_some_and(|found| found.is_callable()) {
                let message = format!(
                    "backend= got {}, which has no method {method}(); a backend needs {}",
                    object.get_type(),
                    METHODS.join(", ")
                );
                return Err(crate::configuration_error(object.py(), &message));
            }
        }
        Ok(Self {
            object: object.clone().unbind(),
            excluded: excluded.clone_ref(object.py()),
        })
    }

    fn call<R>(
        &self,
        operation: &'static str,
        arguments: impl FnOnce(Python<'_>) -> PyResult<Py<PyTuple>>,
        convert: impl FnOnce(Bound<'_, PyAny>) -> PyResult<R>,
    ) -> Result<R, BackendError> {
        Python::attach(|py| {
            let result = arguments(py)
                .and_then(|arguments| {
                    self.object
                        .bind(py)
                        .call_method1(operation, arguments.bind(py).clone())
                })
                .and_then(convert);
            result.map_err(|error| {
                let failed = classify(py, operation, &error);
                match error.value(py).is_instance(self.excluded.bind(py)) {
                    Ok(true) => failed.uncounted(),
                    _ => failed,
                }
            })
        })
    }
}

/// What a Python backend's exception means.
fn classify(py: Python<'_>, operation: &'static str, error: &PyErr) -> BackendError {
    let value = error.value(py);
    let named = value
        .getattr_opt(intern!(py, "error_type"))
        .ok()
        .flatten()
        .and_then(|kind| kind.getattr_opt(intern!(py, "value")).ok().flatten())
        .and_then(|kind| kind.extract::<String>().ok());
    let kind = match named.as_deref() {
        Some("transient") => ErrorKind::Transient,
        Some("permanent") => ErrorKind::Permanent,
        Some("timeout") => ErrorKind::Timeout,
        Some("authentication") => ErrorKind::Authentication,
        _ if error.is_instance_of::<PyTimeoutError>(py) => ErrorKind::Timeout,
        _ if error.is_instance_of::<PyConnectionError>(py) => ErrorKind::Transient,
        _ if error.is_instance_of::<PyOSError>(py) => ErrorKind::Transient,
        _ => ErrorKind::Unknown,
    };
    let failed = BackendError::new(kind, operation, error.to_string());
    if !error.is_instance_of::<PyException>(py) {
        // It was not the backend's to raise. Last, since even str() looks for an interrupt.
        crate::log::report(py, error.clone_ref(py));
    }
    failed
}

fn one_key(key: &str) -> impl FnOnce(Python<'_>) -> PyResult<Py<PyTuple>> {
    move |py| Ok((key,).into_pyobject(py)?.unbind())
}

impl Backend for PythonBackend {
    fn name(&self) -> &'static str {
        "the custom backend"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn get(&self, key: &str, _: bool, _: Duration) -> Result<Option<Found>, BackendError> {
        self.call("get", one_key(key), |value| {
            if value.is_none() {
                return Ok(None);
            }
            let value = match value.cast::<PyBytes>() {
                Ok(bytes) => Bytes::copy_from_slice(bytes.as_bytes()),
                Err(_) => Bytes::from(value.extract::<Vec<u8>>()?),
            };
            Ok(Some(Found {
                value,
                remaining: Remaining::Unknown,
            }))
        })
    }

    fn set(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        _: Duration,
    ) -> Result<(), BackendError> {
        let arguments = |py: Python<'_>| {
            // The protocol's TTL is in whole seconds; what expires early is stored a little longer.
            let ttl = ttl.map(|ttl| ttl.as_secs_f64().ceil() as u64);
            Ok((key, PyBytes::new(py, value), ttl)
                .into_pyobject(py)?
                .unbind())
        };
        self.call("set", arguments, |_| Ok(()))
    }

    fn delete(&self, key: &str, _: Duration) -> Result<bool, BackendError> {
        self.call("delete", one_key(key), |deleted| deleted.is_truthy())
    }

    fn exists(&self, key: &str, _: Duration) -> Result<bool, BackendError> {
        self.call("exists", one_key(key), |exists| exists.is_truthy())
    }

    fn ttl(&self, _: &str, _: Duration) -> Result<Option<Remaining>, BackendError> {
        Ok(Some(Remaining::Unknown))
    }

    fn expire(&self, _: &str, _: Duration, _: Duration) -> Result<bool, BackendError> {
        Err(BackendError::new(
            ErrorKind::Permanent,
            "expire",
            "this backend cannot change an entry's life",
        ))
    }

    fn health(&self, _: Duration) -> Result<Health, BackendError> {
        let started = std::time::Instant::now();
        let healthy = self.call(
            "health_check",
            |py| Ok(PyTuple::empty(py).unbind()),
            |result| result.get_item(0)?.is_truthy(),
        )?;
        Ok(Health {
            healthy,
            latency: started.elapsed(),
            details: Vec::new(),
        })
    }
}
