//! Interop mode of one function, and its keys and values by hand.

use std::sync::Arc;

use cachekit::clearing::KnownKeys;
use cachekit_wire::{interop::Operation, msgpack::Sink};
use pyo3::{
    exceptions::PyValueError,
    intern,
    prelude::*,
    types::{PyBytes, PyDict, PyString, PyTuple},
};

use crate::{
    codec::{self, Binding, Bindings, KeyBuf, Parameter, Place, Scope, Unkeyable},
    options::{get, required},
    plan::Plan,
    scratch,
    sync_call::RawArgs,
};

/// What a function in interop mode has.
pub(crate) struct Interop {
    /// Its operation, and the keys of it that this process knows.
    pub(crate) known: Arc<KnownKeys>,
    bindings: Bindings,
    /// Raises if the backend prefixes keys; takes the tenant's name or None.
    pub(crate) check: Py<PyAny>,
}

impl Interop {
    /// Reads what the Python face has checked: `namespace`, `operation`, `check`, and of each of the
    /// `parameters` name, kind (as `inspect` numbers them), default in a tuple or None, and whether it is
    /// left out of keys.
    pub(crate) fn from_dict(dict: &Bound<'_, PyDict>) -> PyResult<Self> {
        let (namespace, operation): (String, String) =
            (get(dict, "namespace")?, get(dict, "operation")?);
        let operation = Operation::new(&namespace, &operation)
            .map_err(|error| crate::configuration_error(dict.py(), &error.to_string()))?;
        let mut parameters = Vec::new();
        for parameter in required(dict, "parameters")?.try_iter()? {
            let (name, kind, default, ignored): (
                Bound<'_, PyString>,
                u8,
                Option<Bound<'_, PyTuple>>,
                bool,
            ) = parameter?.extract()?;
            let place = match kind {
                0 => Place::Positional,
                1 => Place::Either,
                2 => Place::Rest,
                3 => Place::Named,
                4 => Place::Extra,
                other => return Err(PyValueError::new_err(format!("kind of parameter {other}"))),
            };
            let default = default.map(|default| default.get_item(0)).transpose()?;
            parameters.push(Parameter {
                name: name.unbind(),
                place,
                default: default.map(Bound::unbind),
                ignored,
            });
        }
        Ok(Self {
            known: Arc::new(KnownKeys::new(operation)),
            bindings: Bindings::new(parameters),
            check: required(dict, "check")?.unbind(),
        })
    }

    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.check)?;
        self.bindings.traverse(visit)
    }

    /// Appends a call's canonical arguments to `key`.
    ///
    /// # Errors
    /// InteropError for arguments that no other program could name.
    pub(crate) fn plan(&self, py: Python<'_>, args: RawArgs, key: &mut KeyBuf) -> PyResult<Plan> {
        scratch::with(|buffer| {
            buffer.clear();
            // SAFETY: the interpreter passes `count` arguments and the names of those behind them.
            let bound = unsafe {
                self.bindings
                    .encode(py, args.args, args.count, args.kwnames, buffer)
            };
            match bound {
                Ok(Binding::Bound) => {
                    key.extend(buffer);
                    Ok(Plan::Cached(Scope::Shared))
                }
                Ok(Binding::Unbound) => Ok(Plan::Uncached),
                Err(refusal) => Err(refused(py, &refusal)),
            }
        })
    }
}

fn raise(py: Python<'_>, class: &str, message: &str) -> PyErr {
    let made = py
        .import(intern!(py, "cachekit.interop"))
        .and_then(|module| module.getattr(PyString::new(py, class)))
        .and_then(|class| class.call1((message,)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// The `InteropError` for arguments that have no interop key, or what asked to stop while they were read.
pub(crate) fn refused(py: Python<'_>, unkeyable: &Unkeyable) -> PyErr {
    match unkeyable.cause() {
        Some(cause) if unkeyable.interrupts(py) => cause.clone_ref(py),
        cause => {
            let error = raise(py, "InteropError", &unkeyable.to_string());
            error.set_cause(py, cause.map(|cause| cause.clone_ref(py)));
            error
        }
    }
}

/// The canonical bytes of arguments that are bound already.
///
/// # Errors
/// InteropError.
#[pyfunction]
pub(crate) fn interop_args<'py>(
    py: Python<'py>,
    args: Vec<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut out = Vec::with_capacity(64);
    codec::encode_flat(&args, &mut out).map_err(|error| refused(py, &error))?;
    Ok(PyBytes::new(py, &out))
}

/// The key of a call: `namespace:operation:` and the hash of its arguments.
///
/// # Errors
/// InteropError.
#[pyfunction]
pub(crate) fn interop_key(
    py: Python<'_>,
    namespace: &str,
    operation: &str,
    args: Vec<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let operation = Operation::new(namespace, operation)
        .map_err(|error| raise(py, "InteropError", &error.to_string()))?;
    let mut out = Vec::with_capacity(64);
    codec::encode_flat(&args, &mut out).map_err(|error| refused(py, &error))?;
    Ok(operation.key(&out))
}

/// A value as one document.
///
/// # Errors
/// InteropError.
#[pyfunction]
pub(crate) fn interop_encode<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut out = Vec::with_capacity(256);
    match codec::encode_interop(value, &mut out) {
        Ok(()) => Ok(PyBytes::new(py, &out)),
        Err(error) => Err(match error.cause() {
            Some(cause) if error.interrupts(py) => cause.clone_ref(py),
            cause => {
                let raised = raise(py, "InteropError", &error.to_string());
                raised.set_cause(py, cause.map(|cause| cause.clone_ref(py)));
                raised
            }
        }),
    }
}

/// The value of one document.
///
/// # Errors
/// InteropDecodeError.
#[pyfunction]
pub(crate) fn interop_decode<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    codec::decode_interop(py, data)
        .map_err(|error| raise(py, "InteropDecodeError", &error.to_string()))
}
