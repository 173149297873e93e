//! Tables as Arrow IPC files. pyarrow makes and reads them, through the functions of
//! `cachekit.serializers._tables`; the memory is ours on both ways.

use std::borrow::Cow;
use std::ffi::{c_int, c_void};

use bytes::Bytes;
use cachekit::payload::Body;
use cachekit_wire::payload::ARROW;
use pyo3::{
    exceptions::{PyBufferError, PyOverflowError, PyTypeError, PyValueError},
    ffi,
    prelude::*,
    types::{PyBytes, PyTuple},
};

use super::{Origin, Refused, sink, unreadable};
use crate::codec;

/// The serializer of tables.
pub(crate) struct Arrow {
    /// `write(table, sink) -> bool`: whether what it wrote is compressed.
    write: Py<PyAny>,
    /// `read(buffer, trusted) -> table`.
    read: Py<PyAny>,
}

impl Arrow {
    /// `(write, read)`
    pub(super) fn new(options: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let (write, read) = options.extract()?;
        Ok(Self { write, read })
    }

    pub(super) fn encode(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        limit: u64,
    ) -> Result<Body<'static>, Refused> {
        encode(self.write.bind(py), object, limit)
    }

    /// Writes a payload to a file, piece by piece: whether it is compressed.
    pub(super) fn write(
        &self,
        table: &Bound<'_, PyAny>,
        file: &Bound<'_, PyAny>,
        limit: u64,
    ) -> PyResult<bool> {
        let write = self.write.bind(table.py());
        sink::to_file(write, table, file, limit).map_err(|error| of_table(table, error))
    }

    /// A payload, which has its checksum whatever the settings, as an object of its own; and whether it is
    /// compressed.
    pub(super) fn payload<'py>(
        &self,
        table: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyBytes>, bool)> {
        let write = self.write.bind(table.py());
        sink::to_object(write, table, true).map_err(|error| of_table(table, error))
    }

    pub(super) fn decode<'py>(
        &self,
        py: Python<'py>,
        body: &[u8],
        stored: &Bytes,
        origin: Origin,
    ) -> Result<Bound<'py, PyAny>, String> {
        decode(py, self.read.bind(py), body, stored, origin).map_err(|error| unreadable(py, &error))
    }

    pub(super) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.write)?;
        visit.call(&self.read)
    }
}

/// The body that `write` makes of a table.
pub(super) fn encode(
    write: &Bound<'_, PyAny>,
    object: &Bound<'_, PyAny>,
    limit: u64,
) -> Result<Body<'static>, Refused> {
    let (bytes, compressed) =
        sink::to_memory(write, object, limit).map_err(|error| refused(object, error))?;
    Ok(Body {
        bytes: Cow::Owned(bytes),
        room: Body::ROOM,
        format: Cow::Borrowed(ARROW),
        original_type: Some(Cow::Borrowed(ARROW)),
        compressed: Some(compressed),
    })
}

/// Checks what an Arrow IPC file would take in memory.
///
/// # Errors
/// ValueError for a file that is not to be read.
#[pyfunction]
#[pyo3(signature = (file, /))]
pub(crate) fn check_arrow(file: &Bound<'_, PyAny>) -> PyResult<()> {
    codec::with_buffer(file, cachekit_wire::payload::check_arrow)?
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Checks what the values of an Arrow IPC file of `stored` bytes take, each counted where it stands.
///
/// # Errors
/// ValueError for a file that is not to be read.
#[pyfunction]
#[pyo3(signature = (stored, expanded, /))]
pub(crate) fn check_arrow_shared(stored: u64, expanded: u64) -> PyResult<()> {
    cachekit_wire::payload::check_arrow_shared(stored, expanded)
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

/// The Arrow IPC file that `write(table, sink)` writes.
///
/// # Errors
/// TypeError for what would not be read back, and what `write` raises.
#[pyfunction]
#[pyo3(signature = (write, table, /))]
pub(crate) fn write_arrow<'py>(
    write: &Bound<'py, PyAny>,
    table: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    Ok(sink::to_object(write, table, false)?.0)
}

/// Whether an Arrow column of text without missing values, whose offsets and values these are, is sound:
/// `count` texts from `first` on, by offsets of eight bytes if `is_large` and else of four.
#[pyfunction]
#[pyo3(signature = (offsets, values, is_large, first, count, /))]
pub(crate) fn is_arrow_text(
    offsets: &Bound<'_, PyAny>,
    values: &Bound<'_, PyAny>,
    is_large: bool,
    first: usize,
    count: usize,
) -> PyResult<bool> {
    let width = if is_large { 8 } else { 4 };
    codec::with_buffer(offsets, |offsets| {
        codec::with_buffer(values, |values| {
            let start = first.checked_mul(width);
            let len = count
                .checked_add(1)
                .and_then(|count| count.checked_mul(width));
            let offsets = start
                .and_then(|start| offsets.get(start..))
                .zip(len)
                .and_then(|(offsets, len)| offsets.get(..len));
            offsets.is_some_and(|offsets| {
                cachekit_wire::payload::is_arrow_text(offsets, values, is_large)
            })
        })
    })?
}

/// A TypeError of our Python code completes the sentence "result is a <type>, ".
pub(super) fn refused(object: &Bound<'_, PyAny>, error: PyErr) -> Refused {
    let py = object.py();
    if error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyOverflowError>(py) {
        return Refused::Because(of_type(object, &error));
    }
    Refused::Raised(error)
}

/// A TypeError of our Python code, as a whole sentence.
fn of_table(table: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyTypeError>(table.py()) {
        return PyTypeError::new_err(of_type(table, &error));
    }
    error
}

/// What a refusal of our Python code says of an object.
fn of_type(object: &Bound<'_, PyAny>, error: &PyErr) -> String {
    let class = object.get_type().fully_qualified_name();
    let class = class.map_or_else(|_| String::from("object"), |name| name.to_string());
    format!("result is of type {class}, {}", error.value(object.py()))
}

/// The table that `read` makes of a body, over the stored bytes themselves where it lies in them.
pub(super) fn decode<'py>(
    py: Python<'py>,
    read: &Bound<'py, PyAny>,
    body: &[u8],
    stored: &Bytes,
    origin: Origin,
) -> PyResult<Bound<'py, PyAny>> {
    let within = stored.as_ptr_range();
    let body = if within.contains(&body.as_ptr()) {
        stored.slice_ref(body)
    } else {
        Bytes::copy_from_slice(body)
    };
    read.call1((
        Bound::new(py, Stored { bytes: body })?,
        origin == Origin::Ours,
    ))
}

/// Stored bytes, read-only, for who reads them through the buffer protocol.
#[pyclass(frozen, module = "cachekit._native")]
struct Stored {
    bytes: Bytes,
}

#[pymethods]
impl Stored {
    /// # Safety
    /// `view` is one to fill in, as the interpreter passes it.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let bytes = &slf.get().bytes;
        // SAFETY: the view is as promised; it refers to this object, whose bytes never move or change.
        let filled = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                bytes.as_ptr().cast_mut().cast::<c_void>(),
                bytes.len() as ffi::Py_ssize_t,
                1,
                flags,
            )
        };
        if filled == 0 {
            Ok(())
        } else {
            Err(PyErr::take(slf.py()).unwrap_or_else(|| PyBufferError::new_err("no buffer")))
        }
    }

    fn __len__(&self) -> usize {
        self.bytes.len()
    }
}
