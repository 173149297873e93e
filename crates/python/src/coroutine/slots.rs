//! The slots, methods and attributes of the awaitable, as the interpreter calls them.

use std::ffi::{c_int, c_void};

use pyo3::{
    exceptions::PyRuntimeError,
    ffi, intern,
    prelude::*,
    types::{PyTuple, PyType},
};

use super::{
    CachedCoroutine, Fields, ReplaceNull, Stepped, as_iterator, returned_by_stop, step, stepping,
};
use crate::{core::Core, gil, outcall};

#[cfg(Py_3_10)]
pub(super) unsafe extern "C" fn am_send(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: a slot of this type, with the GIL held and `result` writable.
    let (py, stepped) = stepping(|py| unsafe { step(py, object, value) });
    let (status, object) = match stepped {
        Ok(Stepped::Yielded(value)) => (ffi::PySendResult::PYGEN_NEXT, value.into_ptr()),
        Ok(Stepped::Returned(value)) => (ffi::PySendResult::PYGEN_RETURN, value.into_ptr()),
        Err(error) => {
            error.restore(py);
            (ffi::PySendResult::PYGEN_ERROR, std::ptr::null_mut())
        }
    };
    // SAFETY: as above.
    unsafe { *result = object };
    status
}

pub(super) unsafe extern "C" fn itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot of this type; the interpreter owns the reference that is returned.
    unsafe { ffi::Py_INCREF(object) };
    object
}

pub(super) unsafe extern "C" fn next(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot of this type, with the GIL held.
    let (py, stepped) = stepping(|py| unsafe { step(py, object, ffi::Py_None()) });
    as_iterator(py, stepped)
}

pub(super) unsafe extern "C" fn send(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a method of this type, with the GIL held.
    let (py, stepped) = stepping(|py| unsafe { step(py, object, value) });
    as_iterator(py, stepped)
}

pub(super) unsafe extern "C" fn throw(
    object: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let (py, stepped) = stepping(|py| {
        // SAFETY: a method of this type, with the GIL held; `args` is its argument tuple.
        let (this, args) = unsafe {
            let this = Fields(object.cast());
            (
                this,
                Bound::from_borrowed_ptr(py, args).cast_into_unchecked::<PyTuple>(),
            )
        };
        if this.done() {
            return Err(PyRuntimeError::new_err(
                "cannot reuse already awaited coroutine",
            ));
        }
        if this.inner().is_null() {
            this.set_done(true);
            let kind = args.get_item(0)?;
            let error = if kind.is_instance_of::<PyType>() {
                match args.get_item(1) {
                    Ok(value) if !value.is_none() && value.is_instance(&kind)? => value,
                    Ok(value) if !value.is_none() => kind.call1((value,))?,
                    _ => kind.call0()?,
                }
            } else {
                kind
            };
            return Err(PyErr::from_value(error));
        }
        // SAFETY: `inner` is an owned reference, kept alive during the call.
        let inner = unsafe { Bound::from_borrowed_ptr(py, this.inner()) };
        let thrown = outcall::call_method(&inner, intern!(py, "throw"), args);
        let stepped = returned_by_stop(py, thrown);
        if !matches!(stepped, Ok(Stepped::Yielded(_))) {
            this.set_done(true);
        }
        stepped
    });
    as_iterator(py, stepped)
}

pub(super) unsafe extern "C" fn close(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let (py, closed) = stepping(|py| {
        let this = Fields(object.cast());
        let was_done = this.done();
        this.set_done(true);
        if !was_done && !this.inner().is_null() {
            // SAFETY: a method of this type, with the GIL held; `inner` is an owned reference,
            // kept alive during the call.
            let inner = unsafe { Bound::from_borrowed_ptr(py, this.inner()) };
            outcall::call_method(&inner, intern!(py, "close"), ())?;
        }
        Ok(Stepped::Yielded(py.None()))
    });
    as_iterator(py, closed)
}

/// Reads an attribute of the function for a getter.
unsafe fn of_function(
    object: *mut ffi::PyObject,
    read: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Py<PyAny>>,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of this type, with the GIL held; `core` is an owned reference to a `Core`.
    let (py, value) = stepping(|py| unsafe {
        let this = &*object.cast::<CachedCoroutine>();
        let core = Bound::ref_from_ptr(py, &this.core).cast_unchecked::<Core>();
        read(core.get().func.bind(py)).map(Stepped::Yielded)
    });
    as_iterator(py, value)
}

pub(super) unsafe extern "C" fn name(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of this type.
    unsafe {
        of_function(object, |f| {
            Ok(f.getattr(intern!(f.py(), "__name__"))?.unbind())
        })
    }
}

pub(super) unsafe extern "C" fn qualname(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of this type.
    unsafe {
        of_function(object, |f| {
            Ok(f.getattr(intern!(f.py(), "__qualname__"))?.unbind())
        })
    }
}

pub(super) unsafe extern "C" fn cr_code(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of this type.
    unsafe {
        of_function(object, |f| {
            Ok(f.getattr(intern!(f.py(), "__code__"))?.unbind())
        })
    }
}

pub(super) unsafe extern "C" fn cr_frame(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of this type, with the GIL held; `inner` is null or an owned reference.
    let (py, value) = stepping(|py| unsafe {
        let inner = Bound::from_borrowed_ptr_or_opt(py, (*object.cast::<CachedCoroutine>()).inner);
        let frame = match inner {
            Some(inner) => inner.getattr_opt(intern!(py, "cr_frame"))?,
            None => None,
        };
        Ok(Stepped::Yielded(
            frame.map_or_else(|| py.None(), Bound::unbind),
        ))
    });
    as_iterator(py, value)
}

pub(super) unsafe extern "C" fn cr_await(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of this type, with the GIL held; `inner` is null or an owned reference.
    let (py, value) = stepping(|py| unsafe {
        let inner = Bound::from_borrowed_ptr_or_opt(py, (*object.cast::<CachedCoroutine>()).inner);
        Ok(Stepped::Yielded(
            inner.map_or_else(|| py.None(), Bound::unbind),
        ))
    });
    as_iterator(py, value)
}

pub(super) unsafe extern "C" fn cr_running(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of this type, with the GIL held; `inner` is null or an owned reference.
    let (py, value) = stepping(|py| unsafe {
        let inner = Bound::from_borrowed_ptr_or_opt(py, (*object.cast::<CachedCoroutine>()).inner);
        let running = match inner {
            Some(inner) => inner.getattr_opt(intern!(py, "cr_running"))?,
            None => None,
        };
        let running = running.map_or(Ok(false), |running| running.is_truthy())?;
        Ok(Stepped::Yielded(
            running.into_pyobject(py)?.to_owned().into_any().unbind(),
        ))
    });
    as_iterator(py, value)
}

pub(super) unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter with an object of this type and the GIL held.
    let untouched = unsafe {
        let this = &*object.cast::<CachedCoroutine>();
        !this.done && this.inner.is_null()
    };
    if !untouched {
        return;
    }
    let warn = |py: Python<'_>| {
        let held = PyErr::take(py); // An exception may be on its way through the caller.
        // SAFETY: as above; `core` is an owned reference to a `Core`.
        let name = unsafe {
            let this = &*object.cast::<CachedCoroutine>();
            Bound::ref_from_ptr(py, &this.core)
                .cast_unchecked::<Core>()
                .get()
                .name()
        };
        let text = std::ffi::CString::new(format!("coroutine '{name}' was never awaited"))
            .unwrap_or_default();
        let kind = py.get_type::<pyo3::exceptions::PyRuntimeWarning>();
        if let Err(error) = PyErr::warn(py, &kind, &text, 1) {
            crate::log::report(py, error);
        }
        if let Some(held) = held {
            held.restore(py);
        }
    };
    // SAFETY: as above. A warning that panics is told of by the panic itself.
    unsafe {
        let run = std::panic::AssertUnwindSafe(|| gil::attached(warn));
        let _ = std::panic::catch_unwind(run);
    }
}

pub(super) unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: called once by the interpreter with an object of this type and the GIL held. A
    // finalizer that resurrects the object ends its deallocation.
    unsafe {
        let this = Fields(object.cast());
        // Only one that was never awaited has something to say at its end.
        if !this.done()
            && this.inner().is_null()
            && ffi::PyObject_CallFinalizerFromDealloc(object) != 0
        {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        if !(*object.cast::<CachedCoroutine>()).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        clear(object);
        ffi::Py_DECREF((*object.cast::<CachedCoroutine>()).core);
        let made = ffi::Py_TYPE(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(made.cast());
    }
}

pub(super) unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with an object of this type.
    unsafe {
        let this = &*object.cast::<CachedCoroutine>();
        let made = ffi::Py_TYPE(object).cast();
        let own = [made, this.core, this.kwnames, this.inner];
        let args = Fields(object.cast()).values();
        for &child in own.iter().chain(args.iter()) {
            if !child.is_null() {
                let stop = visit(child, arg);
                if stop != 0 {
                    return stop;
                }
            }
        }
    }
    0
}

pub(super) unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: called by the collector or `dealloc` with an object of this type. `core` stays until
    // the end, since the getters need it.
    unsafe {
        let this = object.cast::<CachedCoroutine>();
        // Without their values there is nothing left to call the function with.
        (*this).done = true;
        for place in Fields(this).values() {
            ffi::Py_XDECREF(place.replace_null());
        }
        ffi::Py_XDECREF((*this).kwnames.replace_null());
        ffi::Py_XDECREF((*this).inner.replace_null());
    }
    0
}
