//! The native half of the Python package: conversion, call path, asyncio bridge.

mod answer;
mod async_call;
mod backend;
mod bridge;
mod clock;
mod codec;
#[cfg(unix)]
mod command;
mod core;
mod coroutine;
mod encryption;
mod entry;
mod errand;
mod filling;
mod fork;
mod gil;
mod health;
mod interop;
mod log;
mod namespace;
mod object;
mod operations;
mod options;
mod outcall;
mod plan;
mod scratch;
mod serializer;
mod sync_call;
mod testing;
mod traced;
mod value;

use pyo3::{intern, prelude::*};

/// The Python face's `ConfigurationError`.
fn configuration_error(py: Python<'_>, message: &str) -> PyErr {
    let made = py
        .import(intern!(py, "cachekit.config.validation"))
        .and_then(|module| module.getattr(intern!(py, "ConfigurationError")))
        .and_then(|class| class.call1((message,)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// Whether an exception says that the user's configuration is wrong.
fn is_configuration_error(py: Python<'_>, error: &PyErr) -> bool {
    py.import(intern!(py, "cachekit.config.validation"))
        .and_then(|module| module.getattr(intern!(py, "ConfigurationError")))
        .is_ok_and(|class| error.matches(py, class).unwrap_or(false))
}

#[pymodule(gil_used = true)]
mod _native {
    use std::{ffi::OsString, sync::atomic::Ordering};

    use pyo3::{prelude::*, types::PyDict};

    #[pymodule_export]
    use super::async_call::AsyncCall;
    #[pymodule_export]
    use super::backend::{CachekitIO, NativeBackend};
    #[pymodule_export]
    use super::bridge::LoopBridge;
    #[pymodule_export]
    use super::core::Core;
    #[pymodule_export]
    use super::encryption::{NativeKeychain, has_aes};
    #[pymodule_export]
    use super::health::namespace_health;
    #[pymodule_export]
    use super::interop::{interop_args, interop_decode, interop_encode, interop_key};
    #[pymodule_export]
    use super::serializer::{
        Payloads, Sink, check_arrow, check_arrow_shared, is_arrow_text, write_arrow,
    };
    use super::{answer, fork, namespace, object, testing};

    /// Makes the cached function around `func`.
    #[pyfunction]
    fn cached<'py>(
        py: Python<'py>,
        func: Py<PyAny>,
        options: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        object::cached(py, Py::new(py, Core::create(func, options)?)?)
    }

    /// Turns caching off or on in this process.
    #[pyfunction]
    fn set_disabled(off: bool) {
        answer::DISABLED.store(off, Ordering::Relaxed);
    }

    /// Limits the L1s of this process together.
    #[pyfunction]
    fn set_l1_ceiling(bytes: u64) {
        namespace::set_ceiling(bytes);
    }

    /// Forgets in a forked child what belongs to the parent's threads.
    #[pyfunction]
    fn after_fork(py: Python<'_>) {
        fork::after_fork(py);
    }

    /// Runs the `cachekit` command, whose name comes first, and returns its exit status.
    #[pyfunction]
    fn run_cli(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<u8> {
        #[cfg(unix)]
        return Ok(super::command::run(py, arguments));
        #[cfg(not(unix))]
        {
            let _ = (py, arguments);
            let why = "the cachekit command needs a Unix system";
            Err(pyo3::exceptions::PyOSError::new_err(why))
        }
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        super::codec::check(py)?;
        super::traced::listen();
        module.add("CachedFunction", object::cached_type(py)?)?;
        module.add("CachedCoroutine", super::coroutine::coroutine_type(py)?)?;
        testing::register(module)?;
        let hook = PyDict::new(py);
        hook.set_item("after_in_child", module.getattr("after_fork")?)?;
        py.import("os")?
            .call_method("register_at_fork", (), Some(&hook))?;
        Ok(())
    }
}
