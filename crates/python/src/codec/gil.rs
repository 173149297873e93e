//! Process-wide state that only code holding the GIL touches.

#[cfg(not(Py_GIL_DISABLED))]
use std::cell::RefCell;

use pyo3::Python;

/// A value that is reached with the GIL held and never while Python code could run.
///
/// With the GIL this is a `RefCell`: its flag costs a nanosecond where a mutex costs ten, which is much
/// for a lookup per dictionary key. Without it, it is a mutex.
pub(super) struct GilCell<T> {
    #[cfg(not(Py_GIL_DISABLED))]
    value: RefCell<T>,
    #[cfg(Py_GIL_DISABLED)]
    value: parking_lot::Mutex<T>,
}

// SAFETY: `with` takes proof that the GIL is held, and so at most one thread is inside it.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub(super) const fn new(value: T) -> Self {
        #[cfg(not(Py_GIL_DISABLED))]
        let value = RefCell::new(value);
        #[cfg(Py_GIL_DISABLED)]
        let value = parking_lot::Mutex::new(value);
        Self { value }
    }

    /// Runs `f` on the value.
    ///
    /// `f` must not run Python code, which includes dropping a Python object whose destructor may.
    ///
    /// # Panics
    /// If it was called from within itself.
    #[inline(always)]
    pub(super) fn with<R>(&self, _py: Python<'_>, f: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(not(Py_GIL_DISABLED))]
        let mut value = self.value.borrow_mut();
        #[cfg(Py_GIL_DISABLED)]
        let mut value = self.value.lock();
        f(&mut value)
    }
}
