//! Hooks for tests: pure conversions and a clock that moves without sleeping.

use std::time::Duration;

use pyo3::prelude::*;

use crate::{clock, codec, namespace};

/// Pushes the process's clock ahead by so many seconds. L1 and the guards see it; stores do not.
#[pyfunction]
fn advance_clock(seconds: f64) {
    clock::advance(Duration::from_secs_f64(seconds));
}

/// How many backends the namespace of that name keeps guards of.
#[pyfunction]
fn guarded(name: &str) -> usize {
    namespace::guarded(name)
}

/// Adds the submodule `_testing`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let testing = PyModule::new(module.py(), "_testing")?;
    testing.add_function(wrap_pyfunction!(advance_clock, &testing)?)?;
    testing.add_function(wrap_pyfunction!(guarded, &testing)?)?;
    codec::testing::register(&testing)?;
    module.add_submodule(&testing)
}
