//! Entering Rust from the interpreter's own calls, which hold the GIL without PyO3 knowing it.

use pyo3::prelude::*;

/// Runs `body` with PyO3 told that this thread holds the GIL, so that objects which it drops go at
/// once. While the interpreter is shutting down PyO3 refuses to attach; the GIL is held all the same.
///
/// # Safety
/// The calling thread holds the GIL.
pub(crate) unsafe fn attached<R>(body: impl FnOnce(Python<'_>) -> R) -> R {
    let mut body = Some(body);
    let mut run = |py: Python<'_>| body.take().map(|body| body(py));
    match Python::try_attach(&mut run).flatten() {
        Some(result) => result,
        None => {
            // SAFETY: the caller's promise.
            let py = unsafe { Python::assume_attached() };
            run(py).expect("`body` has not run, since attaching was refused")
        }
    }
}
