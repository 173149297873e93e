//! Python's `logging`, from Rust. Only with the GIL and without locks: handlers are foreign code.

use std::time::Duration;

use cachekit::store::{Event, Guards};
use pyo3::{exceptions::PyKeyboardInterrupt, intern, prelude::*};

/// Logs `message` at `level` ("warning", "info", …) on the logger `cachekit.{area}`.
///
/// A logging handler that fails must not fail the call that is being served; the failure is
/// reported as Python reports exceptions it cannot raise.
pub(crate) fn log(py: Python<'_>, level: &str, area: &str, message: &str) {
    let logged = (|| {
        py.import(intern!(py, "logging"))?
            .call_method1(intern!(py, "getLogger"), (format!("cachekit.{area}"),))?
            .call_method1(level, ("%s", message))
    })();
    if let Err(error) = logged {
        report(py, error);
    }
}

/// Reports an exception that must not be raised here. Ctrl-C is not lost: the main thread raises it
/// at its next Python instruction.
pub(crate) fn report(py: Python<'_>, error: PyErr) {
    if error.is_instance_of::<PyKeyboardInterrupt>(py) {
        let interrupted = py
            .import(intern!(py, "_thread"))
            .and_then(|thread| thread.call_method0(intern!(py, "interrupt_main")));
        if interrupted.is_ok() {
            return;
        }
    }
    error.write_unraisable(py, None);
}

/// Logs what the backends have told since the last time.
pub(crate) fn traced(py: Python<'_>) {
    while let Some((level, text)) = crate::traced::next() {
        log(py, level, "backend", &text);
    }
}

/// Logs what the guards and the backends have seen since the last time.
pub(crate) fn events(py: Python<'_>, guards: &Guards, backend: &str) {
    traced(py);
    while let Some(event) = guards.next_event() {
        match event {
            Event::Down(error) => log(
                py,
                "warning",
                "backend",
                &format!(
                    "{backend} is unavailable ({}: {error}); functions run uncached until it is back",
                    error.kind()
                ),
            ),
            Event::Recovered { lasted, failures } => log(
                py,
                "warning",
                "backend",
                &format!(
                    "{backend} is back after {:.1} s and {failures} failed operations",
                    Duration::as_secs_f64(&lasted)
                ),
            ),
            _ => {}
        }
    }
}
