//! What the guards before a backend are doing, as Python sees it.

use std::time::UNIX_EPOCH;

use cachekit::store::Guards;
use cachekit_engine::time::Clock;
use pyo3::{
    prelude::*,
    types::{PyDict, PyList},
};

use crate::{clock::CLOCK, core::now, namespace};

/// What `guards` are doing, of those that are on.
pub(crate) fn of<'py>(py: Python<'py>, guards: &Guards) -> PyResult<Bound<'py, PyDict>> {
    let (report, at) = (PyDict::new(py), now());
    if let Some(breaker) = guards.breaker() {
        let seen = breaker.snapshot(at);
        let part = PyDict::new(py);
        part.set_item("state", seen.state.name())?;
        part.set_item("failure_count", seen.failure_count)?;
        part.set_item("success_count", seen.success_count)?;
        part.set_item("half_open_permits", seen.half_open_permits)?;
        part.set_item("last_failure_time", seen.last_failure.map(wall_seconds))?;
        part.set_item("next_attempt", seen.next_attempt.map(wall_seconds))?;
        let (limits, config) = (breaker.config(), PyDict::new(py));
        config.set_item("failure_threshold", limits.failure_threshold)?;
        config.set_item("success_threshold", limits.success_threshold)?;
        config.set_item("recovery_timeout", limits.recovery_timeout.as_secs_f64())?;
        config.set_item("half_open_requests", limits.half_open_requests)?;
        part.set_item("config", config)?;
        report.set_item("circuit_breaker", part)?;
    }
    if let Some(backpressure) = guards.backpressure() {
        let seen = backpressure.snapshot();
        let part = PyDict::new(py);
        part.set_item("max_concurrent", seen.max_concurrent)?;
        part.set_item("current_requests", seen.current)?;
        part.set_item("queue_size", seen.queue_size)?;
        part.set_item("queue_depth", seen.waiting)?;
        part.set_item("rejected_requests", seen.rejected)?;
        report.set_item("backpressure", part)?;
    }
    if let Some(timeout) = guards.timeout() {
        let seen = timeout.snapshot();
        let part = PyDict::new(py);
        part.set_item("current_timeout", seen.current.as_secs_f64())?;
        part.set_item("base_timeout", seen.initial.as_secs_f64())?;
        part.set_item("average_duration", seen.average.map(|d| d.as_secs_f64()))?;
        part.set_item("samples", seen.samples)?;
        report.set_item("adaptive_timeout", part)?;
    }
    Ok(report)
}

/// What the guards of a namespace are doing, one report for each backend that its functions use.
#[pyfunction]
pub(crate) fn namespace_health<'py>(
    py: Python<'py>,
    name: Option<&str>,
) -> PyResult<Bound<'py, PyList>> {
    let reports = PyList::empty(py);
    for guards in namespace::guards(name.unwrap_or("default")) {
        reports.append(of(py, &guards)?)?;
    }
    Ok(reports)
}

/// A tick as seconds of wall-clock time since the epoch.
fn wall_seconds(tick: cachekit_engine::time::Tick) -> f64 {
    let at = now();
    let wall = CLOCK.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    (wall + tick.since(at))
        .saturating_sub(at.since(tick))
        .as_secs_f64()
}
