//! Python's own backends, adapted for the engine: any object with the five methods.
//!
//! Blocking callers run its methods on their own thread. For a coroutine's call its coroutine
//! methods (`get_async`, …) run as tasks of the caller's event loop, in the caller's context; a
//! method that has no such sister, and whatever no loop waits for, runs on a thread of the engine's
//! own. What goes wrong in them is a failed operation, never the caller's exception:
//!
//! - A method that hangs holds up a blocking caller for as long: nothing can stop Python code that
//!   does not return, so its own timeouts have to. A coroutine's caller goes on after its budget:
//!   the task is cancelled, a method on a thread left to it.
//! - Ctrl-C in a method ends the operation, and then reaches the main thread where it always does:
//!   at the next Python instruction, mostly the cached function's first. Other exceptions that are
//!   no `Exception` (`SystemExit`, `asyncio.CancelledError`) go to `sys.unraisablehook`; those of a
//!   task asyncio raises itself.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cachekit_backends::{
    AsyncBackend, Backend, BackendError, Bytes, Capabilities, ErrorKind, Found, Health, Remaining,
};
use futures_util::future::BoxFuture;
use pyo3::{
    exceptions::{PyConnectionError, PyException, PyOSError, PyTimeoutError},
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyTuple},
};

use crate::{bridge::Here, errand, outcall};

/// Any Python object with the five methods of the BaseBackend protocol.
#[derive(Clone)]
pub(super) struct PythonBackend(Arc<Adopted>);

struct Adopted {
    object: Py<PyAny>,
    /// The exceptions that a circuit breaker does not count: a tuple of classes.
    excluded: Py<PyAny>,
    /// Whether it has the coroutine method of each operation.
    coroutines: [bool; METHODS.len()],
}

/// An operation of a backend; its number is the place of its method.
#[derive(Clone, Copy)]
enum Operation {
    Get,
    Set,
    Delete,
    Exists,
    Health,
}

/// The methods that make an object a backend.
const METHODS: [&str; 5] = ["get", "set", "delete", "exists", "health_check"];

/// Their sisters for asynchronous callers.
const COROUTINE_METHODS: [&str; METHODS.len()] = [
    "get_async",
    "set_async",
    "delete_async",
    "exists_async",
    "health_check_async",
];

impl Operation {
    fn method(self) -> &'static str {
        METHODS[self as usize]
    }
}

/// What a method is given.
enum Arguments<'a> {
    Nothing,
    Key(&'a str),
    Entry(&'a str, &'a [u8], Option<Duration>),
}

impl Arguments<'_> {
    fn tuple(&self, py: Python<'_>) -> PyResult<Py<PyTuple>> {
        let tuple = match *self {
            Arguments::Nothing => PyTuple::empty(py),
            Arguments::Key(key) => (key,).into_pyobject(py)?,
            Arguments::Entry(key, value, ttl) => {
                // The protocol's TTL is in whole seconds; what expires early is stored a little longer.
                let ttl = ttl.map(|ttl| ttl.as_secs_f64().ceil() as u64);
                (key, PyBytes::new(py, value), ttl).into_pyobject(py)?
            }
        };
        Ok(tuple.unbind())
    }

    fn own(&self) -> Owned {
        match *self {
            Arguments::Nothing => Owned::Nothing,
            Arguments::Key(key) => Owned::Key(key.into()),
            Arguments::Entry(key, value, ttl) => {
                Owned::Entry(key.into(), Bytes::copy_from_slice(value), ttl)
            }
        }
    }
}

/// [`Arguments`] that outlive their call.
#[derive(Clone)]
enum Owned {
    Nothing,
    Key(Arc<str>),
    Entry(Arc<str>, Bytes, Option<Duration>),
}

impl Owned {
    fn borrow(&self) -> Arguments<'_> {
        match self {
            Owned::Nothing => Arguments::Nothing,
            Owned::Key(key) => Arguments::Key(key),
            Owned::Entry(key, value, ttl) => Arguments::Entry(key, value, *ttl),
        }
    }
}

/// What a method's result means.
type Convert<R> = fn(Bound<'_, PyAny>) -> PyResult<R>;

impl PythonBackend {
    pub(super) fn adopt(object: &Bound<'_, PyAny>, excluded: &Py<PyAny>) -> PyResult<Self> {
        let has = |method: &str| {
            let found = object.getattr_opt(method)?;
            PyResult::Ok(found.is_some_and(|found| found.is_callable()))
        };
        for method in METHODS {
            if !has(method)? {
                let message = format!(
                    "backend= got {}, which has no method {method}(); a backend needs {}",
                    object.get_type(),
                    METHODS.join(", ")
                );
                return Err(crate::configuration_error(object.py(), &message));
            }
        }
        let mut coroutines = [false; METHODS.len()];
        for (found, method) in coroutines.iter_mut().zip(COROUTINE_METHODS) {
            *found = has(method)?;
        }
        Ok(Self(Arc::new(Adopted {
            object: object.clone().unbind(),
            excluded: excluded.clone_ref(object.py()),
            coroutines,
        })))
    }

    /// Calls a method on this thread.
    fn call<R>(
        &self,
        operation: Operation,
        arguments: &Arguments<'_>,
        convert: Convert<R>,
    ) -> Result<R, BackendError> {
        Python::attach(|py| {
            let result = arguments.tuple(py).and_then(|arguments| {
                let object = self.0.object.bind(py);
                outcall::call_method(object, operation.method(), arguments.bind(py).clone())
            });
            result.and_then(convert).map_err(|error| {
                let failed = self.failed(py, operation, &error);
                if !error.is_instance_of::<PyException>(py) {
                    // It was not the backend's to raise. Last, since even str() looks for an interrupt.
                    crate::log::report(py, error);
                }
                failed
            })
        })
    }

    /// Calls a coroutine method on the caller's event loop, or else the method on a thread.
    async fn call_async<R: Send + 'static>(
        &self,
        operation: Operation,
        arguments: Arguments<'_>,
        convert: Convert<R>,
        limit: Duration,
    ) -> Result<R, BackendError> {
        let arguments = arguments.own();
        let asking = async {
            if self.0.coroutines[operation as usize]
                && let Some(here) = Here::current()
                && let Some(answer) = self.await_on(&here, operation, &arguments, convert).await
            {
                return answer;
            }
            let (this, arguments) = (self.clone(), arguments.clone());
            tokio::task::spawn_blocking(move || this.call(operation, &arguments.borrow(), convert))
                .await
                .unwrap_or_else(|error| {
                    let message = format!("the backend's call did not end normally: {error}");
                    Err(BackendError::new(
                        ErrorKind::Unknown,
                        operation.method(),
                        message,
                    ))
                })
        };
        tokio::time::timeout(limit, asking)
            .await
            .unwrap_or_else(|_| {
                let message = format!("the backend did not answer within {limit:?}");
                Err(BackendError::new(
                    ErrorKind::Timeout,
                    operation.method(),
                    message,
                ))
            })
    }

    /// Awaits a coroutine method on an event loop; `None` when that runs no more.
    async fn await_on<R: Send + 'static>(
        &self,
        here: &Here,
        operation: Operation,
        arguments: &Owned,
        convert: Convert<R>,
    ) -> Option<Result<R, BackendError>> {
        let (this, arguments) = (self.clone(), arguments.clone());
        let call = move |context: &Bound<'_, PyAny>| {
            let py = context.py();
            let method = COROUTINE_METHODS[operation as usize];
            let method = this.0.object.bind(py).getattr(method)?;
            let mut all = vec![method];
            all.extend(arguments.borrow().tuple(py)?.bind(py).iter());
            let awaitable =
                outcall::call_method(context, intern!(py, "run"), PyTuple::new(py, all)?)?;
            Ok(awaitable.unbind())
        };
        let this = self.clone();
        let ended = move |py: Python<'_>, result: PyResult<Bound<'_, PyAny>>| {
            result
                .and_then(convert)
                .map_err(|error| this.failed(py, operation, &error))
        };
        errand::run(here, call, ended).await
    }

    /// What an exception of a method means.
    fn failed(&self, py: Python<'_>, operation: Operation, error: &PyErr) -> BackendError {
        let failed = classify(py, operation.method(), error);
        match error.value(py).is_instance(self.0.excluded.bind(py)) {
            Ok(true) => failed.uncounted(),
            _ => failed,
        }
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
        _ if is_cancelled(py, error) => ErrorKind::Transient,
        _ if error.is_instance_of::<PyOSError>(py) => ErrorKind::Transient,
        _ => ErrorKind::Unknown,
    };
    BackendError::new(kind, operation, error.to_string())
}

/// Whether an exception is that of a cancelled task: its loop is being shut down.
fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    static CANCELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CANCELLED.import(py, "asyncio", "CancelledError");
    class.is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}

fn found(value: Bound<'_, PyAny>) -> PyResult<Option<Found>> {
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
}

fn truth(value: Bound<'_, PyAny>) -> PyResult<bool> {
    value.is_truthy()
}

fn stored(_: Bound<'_, PyAny>) -> PyResult<()> {
    Ok(())
}

/// The first of the pair that a health check returns.
fn well(pair: Bound<'_, PyAny>) -> PyResult<bool> {
    pair.get_item(0)?.is_truthy()
}

fn health(healthy: bool, started: Instant) -> Health {
    Health {
        healthy,
        latency: started.elapsed(),
        details: Vec::new(),
    }
}

fn no_expire() -> BackendError {
    BackendError::new(
        ErrorKind::Permanent,
        "expire",
        "this backend cannot change an entry's life",
    )
}

impl Backend for PythonBackend {
    fn name(&self) -> &'static str {
        "the custom backend"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn get(&self, key: &str, _: bool, _: Duration) -> Result<Option<Found>, BackendError> {
        self.call(Operation::Get, &Arguments::Key(key), found)
    }

    fn set(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        _: Duration,
    ) -> Result<(), BackendError> {
        self.call(Operation::Set, &Arguments::Entry(key, value, ttl), stored)
    }

    fn delete(&self, key: &str, _: Duration) -> Result<bool, BackendError> {
        self.call(Operation::Delete, &Arguments::Key(key), truth)
    }

    fn exists(&self, key: &str, _: Duration) -> Result<bool, BackendError> {
        self.call(Operation::Exists, &Arguments::Key(key), truth)
    }

    fn ttl(&self, _: &str, _: Duration) -> Result<Option<Remaining>, BackendError> {
        Ok(Some(Remaining::Unknown))
    }

    fn expire(&self, _: &str, _: Duration, _: Duration) -> Result<bool, BackendError> {
        Err(no_expire())
    }

    fn health(&self, _: Duration) -> Result<Health, BackendError> {
        let started = Instant::now();
        let healthy = self.call(Operation::Health, &Arguments::Nothing, well)?;
        Ok(health(healthy, started))
    }

    fn aio(&self) -> Option<&dyn AsyncBackend> {
        self.0.coroutines.contains(&true).then_some(self)
    }
}

impl AsyncBackend for PythonBackend {
    fn get<'a>(
        &'a self,
        key: &'a str,
        _: bool,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Option<Found>, BackendError>> {
        Box::pin(self.call_async(Operation::Get, Arguments::Key(key), found, timeout))
    }

    fn set<'a>(
        &'a self,
        key: &'a str,
        value: &'a [u8],
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        let entry = Arguments::Entry(key, value, ttl);
        Box::pin(self.call_async(Operation::Set, entry, stored, timeout))
    }

    fn delete<'a>(
        &'a self,
        key: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool, BackendError>> {
        Box::pin(self.call_async(Operation::Delete, Arguments::Key(key), truth, timeout))
    }

    fn delete_many<'a>(
        &'a self,
        keys: &'a [&'a str],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<u64, BackendError>> {
        Box::pin(async move {
            let started = Instant::now();
            let mut removed = 0;
            for key in keys {
                let left = timeout.saturating_sub(started.elapsed());
                removed += u64::from(AsyncBackend::delete(self, key, left).await?);
            }
            Ok(removed)
        })
    }

    fn exists<'a>(
        &'a self,
        key: &'a str,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<bool, BackendError>> {
        Box::pin(self.call_async(Operation::Exists, Arguments::Key(key), truth, timeout))
    }

    fn ttl<'a>(
        &'a self,
        _: &'a str,
        _: Duration,
    ) -> BoxFuture<'a, Result<Option<Remaining>, BackendError>> {
        Box::pin(async { Ok(Some(Remaining::Unknown)) })
    }

    fn expire<'a>(
        &'a self,
        _: &'a str,
        _: Duration,
        _: Duration,
    ) -> BoxFuture<'a, Result<bool, BackendError>> {
        Box::pin(async { Err(no_expire()) })
    }

    fn health(&self, timeout: Duration) -> BoxFuture<'_, Result<Health, BackendError>> {
        Box::pin(async move {
            let started = Instant::now();
            let asked = self.call_async(Operation::Health, Arguments::Nothing, well, timeout);
            Ok(health(asked.await?, started))
        })
    }
}
