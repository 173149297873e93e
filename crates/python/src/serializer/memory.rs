//! Memory for what is large.

use std::mem::{self, MaybeUninit};
use std::{ptr, slice};

use pyo3::{exceptions::PyMemoryError, ffi, prelude::*, types::PyBytes};

/// Asks the system to back memory that is about to be filled with large pages, where they make up most of
/// it: each small page costs a fault of its own when it is first touched.
pub(super) fn prefer_large_pages(memory: &mut [MaybeUninit<u8>]) {
    #[cfg(target_os = "linux")]
    {
        const LARGE: usize = 2 << 20;
        let start = memory.as_mut_ptr().align_offset(LARGE);
        let whole = memory.len().saturating_sub(start) / LARGE * LARGE;
        if whole > 0 {
            let first = memory.as_mut_ptr().wrapping_add(start);
            // SAFETY: the pages are those of a slice that the caller may write to, and what they hold stays as it
            // is. That the system has no large pages is no error.
            unsafe { libc::madvise(first.cast(), whole, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

unsafe extern "C" {
    /// Gives a bytes object to which this is the only reference another size; on failure the object is gone
    /// and the reference null.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// A bytes object while it is made, when nobody else refers to it.
pub(super) struct Growing {
    object: Py<PyBytes>,
    /// How much of the object is filled.
    len: usize,
}

impl Growing {
    const LEAST: usize = 4096;

    /// One that begins with so many zeros.
    pub(super) fn new(py: Python<'_>, zeros: usize) -> PyResult<Self> {
        // SAFETY: without contents a new object is made, whose memory is still to be filled.
        let object = unsafe {
            let object =
                ffi::PyBytes_FromStringAndSize(ptr::null(), Self::LEAST as ffi::Py_ssize_t);
            Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked()
        };
        let mut growing = Self {
            object: object.unbind(),
            len: 0,
        };
        growing.extend(py, &vec![0; zeros])?;
        Ok(growing)
    }

    /// Takes memory for so many further bytes.
    pub(super) fn reserve(&mut self, py: Python<'_>, bytes: usize) -> PyResult<()> {
        if bytes > self.spare().len() {
            self.resize(py, self.len.saturating_add(bytes))?;
            prefer_large_pages(self.spare());
        }
        Ok(())
    }

    pub(super) fn extend(&mut self, py: Python<'_>, bytes: &[u8]) -> PyResult<()> {
        if bytes.len() > self.spare().len() {
            self.reserve(py, bytes.len().max(self.len))?;
        }
        let spare = &mut self.spare()[..bytes.len()];
        // SAFETY: memory of the object that has the bytes' length, which nobody can have a part of.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), spare.as_mut_ptr().cast(), bytes.len()) };
        self.len += bytes.len();
        Ok(())
    }

    /// The object, after `complete` has had a last look at what it is filled with.
    pub(super) fn finish(
        mut self,
        py: Python<'_>,
        complete: impl FnOnce(&mut [u8]),
    ) -> PyResult<Bound<'_, PyBytes>> {
        let len = self.len;
        // SAFETY: as much of the memory has been filled.
        complete(unsafe { &mut *(ptr::from_mut(&mut self.memory()[..len]) as *mut [u8]) });
        self.resize(py, self.len)?;
        Ok(self.object.into_bound(py))
    }

    /// The object's memory.
    fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        let object = self.object.as_ptr();
        // SAFETY: an object of bytes that nobody else refers to, so that its memory may be written to.
        unsafe {
            let start = ffi::PyBytes_AsString(object).cast::<MaybeUninit<u8>>();
            slice::from_raw_parts_mut(start, ffi::PyBytes_Size(object) as usize)
        }
    }

    fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        let len = self.len;
        &mut self.memory()[len..]
    }

    fn resize(&mut self, py: Python<'_>, size: usize) -> PyResult<()> {
        let size = ffi::Py_ssize_t::try_from(size).map_err(|_| PyMemoryError::new_err(()))?;
        let nothing = PyBytes::new(py, b"").unbind();
        let mut object = mem::replace(&mut self.object, nothing).into_ptr();
        // SAFETY: the only reference to the object, which is replaced by one to what it has become; after a
        // failure the object is gone.
        unsafe {
            if _PyBytes_Resize(&raw mut object, size) != 0 {
                self.len = 0;
                return Err(PyErr::fetch(py));
            }
            self.object = Bound::from_owned_ptr(py, object)
                .cast_into_unchecked()
                .unbind();
        }
        Ok(())
    }
}
