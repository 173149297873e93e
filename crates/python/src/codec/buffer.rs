//! The memory of objects that share it.

use pyo3::{ffi, prelude::*};

/// Runs `read` on the contiguous memory of an object, whatever it holds. `read` runs no Python code.
///
/// # Errors
/// BufferError or TypeError for an object without such memory.
pub(crate) fn with_buffer<R>(
    object: &Bound<'_, PyAny>,
    read: impl FnOnce(&[u8]) -> R,
) -> PyResult<R> {
    let mut view = std::mem::MaybeUninit::<ffi::Py_buffer>::uninit();
    // SAFETY: on success the view is filled in and holds the memory until it is released; `read` gets
    // it for less than that, and the GIL is held throughout.
    unsafe {
        if ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_SIMPLE) != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        let mut view = view.assume_init();
        let bytes = if view.len == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(view.buf.cast::<u8>(), view.len as usize)
        };
        let result = read(bytes);
        ffi::PyBuffer_Release(&raw mut view);
        Ok(result)
    }
}
