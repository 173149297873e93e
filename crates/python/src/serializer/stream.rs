//! A table's payload written to a file as it is made.

use cachekit_wire::payload::{CHECKSUM_BYTES, Checksummer};
use pyo3::{
    exceptions::{PyOSError, PyOverflowError, PyValueError},
    intern,
    prelude::*,
    types::{PyBytes, PyMemoryView, PySlice},
};

use crate::codec;

/// Writes the payload that `write(table, sink)` makes of a table to a file that can seek, and leaves the
/// file behind it: whether the payload is compressed. Its checksum, which is in front, is written last.
///
/// # Errors
/// OverflowError past `limit` bytes, and what `write` or the file raises; the file then ends where it
/// stood before.
pub(super) fn write(
    write: &Bound<'_, PyAny>,
    table: &Bound<'_, PyAny>,
    file: &Bound<'_, PyAny>,
    limit: u64,
) -> PyResult<bool> {
    let py = file.py();
    let start = file.call_method0(intern!(py, "tell"))?;
    let seek = |to: &Bound<'_, PyAny>| file.call_method1(intern!(py, "seek"), (to,)).map(drop);
    let written = || {
        let sink = Bound::new(
            py,
            Checked {
                file: file.clone().unbind(),
                sum: Checksummer::default(),
                written: 0,
                limit,
                closed: false,
            },
        )?;
        sink.borrow_mut()
            .put(&PyBytes::new(py, &[0; CHECKSUM_BYTES]), CHECKSUM_BYTES)?;
        let compressed = write.call1((table, &sink))?.extract::<bool>()?;
        let end = file.call_method0(intern!(py, "tell"))?;
        seek(&start)?;
        let sum = sink.borrow().sum.bytes();
        put_all(file, &PyBytes::new(py, &sum), sum.len())?;
        seek(&end)?;
        Ok(compressed)
    };
    written().inspect_err(|_: &PyErr| {
        // The error says what went wrong; that what it left cannot be removed either adds nothing.
        let _ = seek(&start).and_then(|()| file.call_method0(intern!(py, "truncate")).map(drop));
    })
}

/// Writes all `len` bytes of `data`, however few the file takes at once.
fn put_all(file: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>, len: usize) -> PyResult<()> {
    let py = file.py();
    let view = PyMemoryView::from(data)?;
    let mut done = 0;
    while done < len {
        let rest = view.get_item(PySlice::new(py, done as isize, len as isize, 1))?;
        let taken = file.call_method1(intern!(py, "write"), (rest,))?;
        match taken.extract::<usize>()? {
            0 => return Err(PyOSError::new_err("the file takes no more bytes")),
            taken => done += taken,
        }
    }
    Ok(())
}

/// A file behind its checksum, which is taken of what is written to it.
#[pyclass(module = "cachekit._native")]
struct Checked {
    file: Py<PyAny>,
    sum: Checksummer,
    /// With the room for the checksum.
    written: u64,
    limit: u64,
    closed: bool,
}

impl Checked {
    fn put(&mut self, data: &Bound<'_, PyAny>, len: usize) -> PyResult<()> {
        self.written += len as u64;
        if self.written > self.limit {
            let message = format!("the payload has more than the {} bytes allowed", self.limit);
            return Err(PyOverflowError::new_err(message));
        }
        put_all(self.file.bind(data.py()), data, len)
    }
}

#[pymethods]
impl Checked {
    fn write(&mut self, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if self.closed {
            return Err(PyValueError::new_err("write to a closed file"));
        }
        let len = codec::with_buffer(data, |bytes| {
            self.sum.add(bytes);
            bytes.len()
        })?;
        self.put(data, len)?;
        Ok(len)
    }

    fn flush(&self) {}

    fn close(&mut self) {
        self.closed = true;
    }

    #[getter]
    fn closed(&self) -> bool {
        self.closed
    }

    fn tell(&self) -> u64 {
        self.written - CHECKSUM_BYTES as u64
    }

    fn writable(&self) -> bool {
        true
    }

    fn readable(&self) -> bool {
        false
    }

    fn seekable(&self) -> bool {
        false
    }
}
