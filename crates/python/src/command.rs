//! The `cachekit` command, and what Python tells it of a program.

use std::ffi::OsString;

use cachekit_cli::application::{Application, Function};
use pyo3::prelude::*;

/// What `cachekit.application.describe` returns.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Described {
    functions: Vec<DescribedFunction>,
    default_backend: Option<String>,
    configured: bool,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct DescribedFunction {
    name: String,
    intent: String,
    by_name: bool,
    namespace: Option<String>,
    ttl: Option<String>,
    serializer: String,
    encrypted: Option<bool>,
    backend: Option<String>,
    problem: Option<String>,
}

impl From<DescribedFunction> for Function {
    fn from(described: DescribedFunction) -> Self {
        Self {
            name: described.name,
            intent: described.intent,
            by_name: described.by_name,
            namespace: described.namespace,
            ttl: described.ttl,
            serializer: described.serializer,
            encrypted: described.encrypted,
            backend: described.backend,
            problem: described.problem,
        }
    }
}

/// Runs the command without the GIL and returns its exit status.
pub(crate) fn run(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| cachekit_cli::run(arguments, Some(&import)))
}

fn import(module: &str) -> Result<Application, String> {
    Python::attach(|py| describe(py, module).map_err(|error| error.value(py).to_string()))
}

fn describe(py: Python<'_>, module: &str) -> PyResult<Application> {
    let described = py
        .import("cachekit.application")?
        .call_method1("describe", (module,))?;
    let described: Described = described.extract()?;
    Ok(Application {
        functions: described
            .functions
            .into_iter()
            .map(Function::from)
            .collect(),
        default_backend: described.default_backend,
        configured: described.configured,
    })
}
