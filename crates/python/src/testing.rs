//! Hooks for tests: pure conversions and a clock that moves without sleeping.

use std::time::Duration;

use pyo3::{
    prelude::*,
    types::{PyDict, PyList},
};

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

/// The library's tables of settings, by name of the table: of each setting its name, variables, kind,
/// default as a variable's text, least, above, most, and whether it is secret.
#[pyfunction]
fn settings(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    use cachekit::settings::{CACHEKITIO, FILE, Kind, MEMCACHED, PROCESS, REDIS, Range};

    let tables = PyDict::new(py);
    for (name, table) in [
        ("REDIS", REDIS),
        ("CACHEKITIO", CACHEKITIO),
        ("FILE", FILE),
        ("MEMCACHED", MEMCACHED),
        ("PROCESS", PROCESS),
    ] {
        let rows = PyList::empty(py);
        for setting in table {
            let (kind, range, choices) = match setting.kind {
                Kind::Choice(choices) => ("text", Range::default(), choices),
                Kind::Boolean => ("boolean", Range::default(), &[][..]),
                Kind::Integer(range) => ("integer", range, &[][..]),
                Kind::Number(range) => ("number", range, &[][..]),
                Kind::Name(most) => {
                    let most = Some(most as f64);
                    (
                        "name",
                        Range {
                            most,
                            ..Range::default()
                        },
                        &[][..],
                    )
                }
                Kind::Servers => ("servers", Range::default(), &[][..]),
                Kind::Keys => ("keys", Range::default(), &[][..]),
                Kind::Mode(least) => {
                    let least = Some(f64::from(least));
                    (
                        "mode",
                        Range {
                            least,
                            ..Range::default()
                        },
                        &[][..],
                    )
                }
                _ => ("text", Range::default(), &[][..]),
            };
            rows.append((
                setting.name,
                setting.variables.to_vec(),
                (kind, choices.to_vec()),
                setting.default,
                (range.least, range.above, range.most),
                setting.secret,
            ))?;
        }
        tables.set_item(name, rows)?;
    }
    Ok(tables)
}

/// Adds the submodule `_testing`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let testing = PyModule::new(module.py(), "_testing")?;
    testing.add_function(wrap_pyfunction!(advance_clock, &testing)?)?;
    testing.add_function(wrap_pyfunction!(guarded, &testing)?)?;
    testing.add_function(wrap_pyfunction!(settings, &testing)?)?;
    codec::testing::register(&testing)?;
    module.add_submodule(&testing)
}
