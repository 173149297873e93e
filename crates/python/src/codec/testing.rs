//! The codec as functions of a Python module, for the tests and benchmarks of the package.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use super::{ArgPolicy, DecodeError, Held, KeyBuf, Parameters, Scope, Unencodable, Unkeyable};

/// Adds the functions to `module`.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(encode_value, module)?)?;
    module.add_function(wrap_pyfunction!(decode_value, module)?)?;
    module.add_function(wrap_pyfunction!(encode_args, module)?)?;
    module.add_function(wrap_pyfunction!(clone_value, module)?)?;
    module.add_function(wrap_pyfunction!(weigh, module)?)?;
    module.add_function(wrap_pyfunction!(numbered_objects, module)?)?;
    module.add_class::<HeldValue>()?;
    // Frames without optimization are several times as large, which tests of stack use must know.
    module.add("debug_build", cfg!(debug_assertions))
}

fn unencodable(py: Python<'_>, error: &Unencodable) -> PyErr {
    raise(
        py,
        error.to_string(),
        error.cause(),
        error.interrupts(py),
        |exception| {
            exception.setattr("path", error.path())?;
            exception.setattr("type_name", error.type_name())?;
            exception.setattr("remedy", error.remedy())
        },
    )
}

fn unkeyable(py: Python<'_>, error: &Unkeyable) -> PyErr {
    raise(
        py,
        error.to_string(),
        error.cause(),
        error.interrupts(py),
        |exception| {
            exception.setattr("argument", error.argument())?;
            exception.setattr("path", error.path())?;
            exception.setattr("type_name", error.type_name())?;
            exception.setattr("remedy", error.remedy())
        },
    )
}

fn raise(
    py: Python<'_>,
    message: String,
    cause: Option<&PyErr>,
    interrupts: bool,
    describe: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()>,
) -> PyErr {
    if let Some(cause) = cause.filter(|_| interrupts) {
        return cause.clone_ref(py);
    }
    let exception = PyTypeError::new_err(message);
    exception.set_cause(py, cause.map(|cause| cause.clone_ref(py)));
    match describe(exception.value(py)) {
        Ok(()) => exception,
        Err(error) => error,
    }
}

#[pyfunction]
fn encode_value<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = object.py();
    let mut out = Vec::new();
    super::encode_value(py, object, &mut out).map_err(|error| unencodable(py, &error))?;
    Ok(PyBytes::new(py, &out))
}

#[pyfunction]
fn decode_value<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    super::decode_value(py, data)
        .map_err(|error: DecodeError| PyValueError::new_err(error.to_string()))
}

#[pyfunction]
#[pyo3(signature = (args, kwargs=None, *, method=false, ignore=vec![], positional=vec![], positional_only=0,
                    keyword_only=vec![], var_positional=None, var_keyword=None))]
#[allow(
    clippy::too_many_arguments,
    reason = "they are the keywords of a Python function"
)]
fn encode_args<'py>(
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
    method: bool,
    ignore: Vec<String>,
    positional: Vec<String>,
    positional_only: usize,
    keyword_only: Vec<String>,
    var_positional: Option<String>,
    var_keyword: Option<String>,
) -> PyResult<(Bound<'py, PyBytes>, &'static str)> {
    let py = args.py();
    let parameters = Parameters {
        positional,
        positional_only,
        keyword_only,
        var_positional,
        var_keyword,
    };
    let policy = ArgPolicy::new(py, parameters, method, &ignore);
    let mut all: Vec<Bound<'py, PyAny>> = args.iter().collect();
    let mut names: Vec<Bound<'py, PyString>> = Vec::new();
    for (name, value) in kwargs.into_iter().flatten() {
        names.push(name.cast_into::<PyString>()?);
        all.push(value);
    }
    let names = if names.is_empty() {
        None
    } else {
        Some(PyTuple::new(py, names)?)
    };
    let pointers: Vec<*mut ffi::PyObject> = all.iter().map(Bound::as_ptr).collect();
    let mut out = KeyBuf::new();
    // SAFETY: as many objects as there are positional arguments and names, alive in `all`.
    let scope = unsafe {
        super::encode_args(
            py,
            pointers.as_ptr(),
            args.len(),
            names
                .as_ref()
                .map_or(std::ptr::null_mut(), |names| names.as_ptr()),
            &policy,
            &mut out,
        )
    }
    .map_err(|error| unkeyable(py, &error))?;
    let scope = match scope {
        Scope::Shared => "shared",
        Scope::Local => "local",
    };
    Ok((PyBytes::new(py, out.as_slice()), scope))
}

/// One copy of a value, made as L1 does.
#[pyfunction]
#[pyo3(signature = (object, exact=true))]
fn clone_value(object: &Bound<'_, PyAny>, exact: bool) -> PyResult<Py<PyAny>> {
    let held = super::hold(object.py(), object, exact)?;
    super::hand_out(&held, object.py())
}

#[pyfunction]
fn weigh(object: &Bound<'_, PyAny>) -> usize {
    super::weigh(object)
}

#[pyfunction]
fn numbered_objects(py: Python<'_>) -> usize {
    super::identity::numbered(py)
}

/// A value as L1 holds it.
#[pyclass(frozen, module = "cachekit._native._testing")]
struct HeldValue(Held);

#[pymethods]
impl HeldValue {
    #[new]
    #[pyo3(signature = (object, exact=true))]
    fn new(object: &Bound<'_, PyAny>, exact: bool) -> PyResult<Self> {
        Ok(Self(super::hold(object.py(), object, exact)?))
    }

    /// What a caller gets.
    fn hand_out(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        super::hand_out(&self.0, py)
    }

    #[getter]
    fn kind(&self) -> &'static str {
        match &self.0 {
            Held::Shared(_) => "shared",
            Held::Cloned(_) => "cloned",
            Held::Opaque(_) => "opaque",
        }
    }

    #[getter]
    fn is_isolated(&self) -> bool {
        self.0.is_isolated()
    }

    fn weigh(&self, py: Python<'_>) -> usize {
        super::weigh(self.0.object().bind(py))
    }
}
