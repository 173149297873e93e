//! The file that a table is written to: in memory, or a program's file behind its checksum.

use cachekit::payload::Body;
use cachekit_wire::payload::{
    ArrowError, ArrowMeter, CHECKSUM_BYTES, Checksummer, check_arrow_shared, checksum_bytes,
};
use pyo3::{
    exceptions::{PyMemoryError, PyOSError, PyOverflowError, PyTypeError, PyValueError},
    intern,
    prelude::*,
    types::{PyBytes, PyMemoryView, PySlice},
};

use super::memory::{Growing, prefer_large_pages};
use crate::codec;

/// Where what is written goes.
enum Destination {
    /// Behind [`Body::ROOM`] bytes of no meaning.
    Memory(Vec<u8>),
    /// Behind as much room as there was when it was made.
    Object(Growing),
    /// Behind room for the checksum, which is taken on the way.
    File {
        file: Py<PyAny>,
        sum: Box<Checksummer>,
    },
}

/// A file to write an Arrow IPC file to. What would not be read back is refused.
#[pyclass(module = "cachekit._native")]
pub(crate) struct Sink {
    destination: Destination,
    meter: ArrowMeter,
    written: u64,
    /// Of what is written, and with the checksum of a file.
    limit: u64,
    closed: bool,
}

impl Sink {
    fn to(py: Python<'_>, destination: Destination, limit: u64) -> PyResult<Bound<'_, Self>> {
        let sink = Self {
            destination,
            meter: ArrowMeter::default(),
            written: 0,
            limit,
            closed: false,
        };
        Bound::new(py, sink)
    }

    /// What `limit` leaves no room for.
    fn too_long(&self) -> PyErr {
        let limit = self.limit;
        PyOverflowError::new_err(match self.destination {
            Destination::Memory(_) | Destination::Object(_) => format!(
                "whose stored form has more than the {limit} bytes allowed; \
                 raise CACHEKIT_MAX_VALUE_SIZE or CACHEKIT_MAX_CHUNK_SIZE_MB, or return less"
            ),
            Destination::File { .. } => {
                format!("the payload has more than the {limit} bytes allowed")
            }
        })
    }
}

#[pymethods]
impl Sink {
    /// Takes memory for so many bytes that are to be written, which may become more or fewer.
    fn reserve(&mut self, py: Python<'_>, bytes: u64) -> PyResult<()> {
        let room = usize::try_from(bytes.min(self.limit.saturating_sub(self.written)))
            .unwrap_or(usize::MAX);
        match &mut self.destination {
            Destination::Memory(body) => {
                body.try_reserve_exact(room)
                    .map_err(|_| PyMemoryError::new_err(()))?;
                prefer_large_pages(body.spare_capacity_mut());
                Ok(())
            }
            Destination::Object(object) => object.reserve(py, room),
            Destination::File { .. } => Ok(()),
        }
    }

    fn write(&mut self, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        if self.closed {
            return Err(PyValueError::new_err("write to a closed file"));
        }
        let len = codec::with_buffer(data, |bytes| {
            let before = match self.destination {
                Destination::Memory(_) | Destination::Object(_) => 0,
                Destination::File { .. } => CHECKSUM_BYTES as u64,
            };
            self.written += bytes.len() as u64;
            if before + self.written > self.limit {
                return Err(self.too_long());
            }
            self.meter.add(bytes).map_err(unreadable_again)?;
            match &mut self.destination {
                Destination::Memory(body) => body.extend_from_slice(bytes),
                Destination::Object(object) => object.extend(data.py(), bytes)?,
                Destination::File { sum, .. } => sum.add(bytes),
            }
            Ok(bytes.len())
        })??;
        if let Destination::File { file, .. } = &self.destination {
            put_all(file.bind(data.py()), data, len)?;
        }
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
        self.written
    }

    fn writable(&self) -> bool {
        true
    }

    /// Refuses what has been written if its values, each counted where it stands, take too much.
    fn check_shared(&self, expanded: u64) -> PyResult<()> {
        check_arrow_shared(self.written, expanded).map_err(unreadable_again)
    }

    fn readable(&self) -> bool {
        false
    }

    fn seekable(&self) -> bool {
        false
    }
}

/// What `write(table, sink)` writes, behind [`Body::ROOM`] bytes of no meaning, and whether it is compressed.
///
/// # Errors
/// OverflowError past `limit` bytes, TypeError for what would not be read back, and what `write` raises.
pub(super) fn to_memory(
    write: &Bound<'_, PyAny>,
    table: &Bound<'_, PyAny>,
    limit: u64,
) -> PyResult<(Vec<u8>, bool)> {
    let body = Destination::Memory(vec![0; Body::ROOM]);
    match filled(write, table, body, limit)? {
        (Destination::Memory(mut body), compressed) => {
            body.shrink_to_fit();
            Ok((body, compressed))
        }
        _ => unreachable!("where it goes stays the same"),
    }
}

/// What `write(table, sink)` writes, as an object of its own, behind its checksum if `checked`, and whether it
/// is compressed.
///
/// # Errors
/// As [`to_memory`].
pub(super) fn to_object<'py>(
    write: &Bound<'py, PyAny>,
    table: &Bound<'py, PyAny>,
    checked: bool,
) -> PyResult<(Bound<'py, PyBytes>, bool)> {
    let py = write.py();
    let room = if checked { CHECKSUM_BYTES } else { 0 };
    let object = Destination::Object(Growing::new(py, room)?);
    match filled(write, table, object, u64::MAX)? {
        (Destination::Object(object), compressed) => {
            let bytes = object.finish(py, |bytes| {
                let (sum, body) = bytes.split_at_mut(room);
                if checked {
                    sum.copy_from_slice(&checksum_bytes(body));
                }
            })?;
            Ok((bytes, compressed))
        }
        _ => unreachable!("where it goes stays the same"),
    }
}

/// The destination after `write(table, sink)`, and whether what was written is compressed.
fn filled(
    write: &Bound<'_, PyAny>,
    table: &Bound<'_, PyAny>,
    destination: Destination,
    limit: u64,
) -> PyResult<(Destination, bool)> {
    let sink = Sink::to(write.py(), destination, limit)?;
    let compressed = write.call1((table, &sink))?.extract()?;
    let sink = &mut *sink.borrow_mut();
    sink.meter.finish().map_err(unreadable_again)?;
    sink.closed = true;
    let nothing = Destination::Memory(Vec::new());
    Ok((
        std::mem::replace(&mut sink.destination, nothing),
        compressed,
    ))
}

/// Writes the payload that `write(table, sink)` makes of a table to a file that can seek, and leaves the
/// file behind it: whether the payload is compressed. Its checksum, which is in front, is written last.
///
/// # Errors
/// As [`to_memory`], and what the file raises; the file then ends where it stood before.
pub(super) fn to_file(
    write: &Bound<'_, PyAny>,
    table: &Bound<'_, PyAny>,
    file: &Bound<'_, PyAny>,
    limit: u64,
) -> PyResult<bool> {
    let py = file.py();
    let start = file.call_method0(intern!(py, "tell"))?;
    let seek = |to: &Bound<'_, PyAny>| file.call_method1(intern!(py, "seek"), (to,)).map(drop);
    let put = |bytes: [u8; CHECKSUM_BYTES]| put_all(file, &PyBytes::new(py, &bytes), bytes.len());
    let written = || {
        let destination = Destination::File {
            file: file.clone().unbind(),
            sum: Box::default(),
        };
        let sink = Sink::to(py, destination, limit)?;
        if limit < CHECKSUM_BYTES as u64 {
            return Err(sink.borrow().too_long());
        }
        put([0; CHECKSUM_BYTES])?;
        let compressed = write.call1((table, &sink))?.extract::<bool>()?;
        let sink = sink.borrow();
        sink.meter.finish().map_err(unreadable_again)?;
        let end = file.call_method0(intern!(py, "tell"))?;
        seek(&start)?;
        if let Destination::File { sum, .. } = &sink.destination {
            put(sum.bytes())?;
        }
        seek(&end)?;
        Ok(compressed)
    };
    written().inspect_err(|_: &PyErr| {
        // The error says what went wrong; that what it left cannot be removed either adds nothing.
        let _ = seek(&start).and_then(|()| file.call_method0(intern!(py, "truncate")).map(drop));
    })
}

/// Why what is being written is not stored.
fn unreadable_again(error: ArrowError) -> PyErr {
    let remedy = match error {
        ArrowError::Ratio { .. } => {
            "store it uncompressed, by ArrowSerializer(compression=\"none\") or \
             CACHEKIT_ARROW_COMPRESSION=none"
        }
        _ => "return it in parts",
    };
    PyTypeError::new_err(format!("which would not be read back ({error}); {remedy}"))
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
