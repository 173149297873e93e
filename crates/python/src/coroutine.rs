//! What calling a cached coroutine function returns: an awaitable that is done at its first step
//! when L1 has the value, and otherwise stands in for the coroutine that brings it.
//!
//! Like a coroutine it does nothing before it is awaited, can be awaited once, and warns when it
//! never was. It satisfies `collections.abc.Coroutine`, so that `asyncio.create_task` takes it.

mod slots;

use std::{
    ffi::{c_int, c_void},
    mem::offset_of,
    ptr,
};

use pyo3::{
    exceptions::{PyRuntimeError, PyStopIteration, PyTypeError},
    ffi, intern,
    prelude::*,
    sync::PyOnceLock,
    types::PyType,
};

use crate::{
    answer::{Awaited, answer_async},
    core::Core,
    object::not_to_be_made,
    outcall,
    sync_call::RawArgs,
};

#[repr(C)]
struct CachedCoroutine {
    /// Its size is the number of arguments, which are stored behind the other fields.
    head: ffi::PyVarObject,
    weakrefs: *mut ffi::PyObject,
    /// Owned: the function's engine.
    core: *mut ffi::PyObject,
    /// Owned: the keywords' names, or null.
    kwnames: *mut ffi::PyObject,
    /// Owned, after a miss: the coroutine that brings the value.
    inner: *mut ffi::PyObject,
    /// How many of the arguments are positional.
    count: usize,
    done: bool,
    /// Owned: the positional values, then one for each name.
    args: [*mut ffi::PyObject; 0],
}

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The fields of a live object, read and written one at a time: foreign code that runs in between
/// may look at the same object.
#[derive(Clone, Copy)]
struct Fields(*mut CachedCoroutine);

impl Fields {
    #[inline]
    fn done(self) -> bool {
        // SAFETY: made from a live object, with the GIL held.
        unsafe { (*self.0).done }
    }

    #[inline]
    fn set_done(self, done: bool) {
        // SAFETY: as in `done`.
        unsafe { (*self.0).done = done }
    }

    #[inline]
    fn inner(self) -> *mut ffi::PyObject {
        // SAFETY: as in `done`.
        unsafe { (*self.0).inner }
    }

    /// The call's arguments, alive as long as the object is.
    #[inline]
    fn args(self) -> RawArgs {
        // SAFETY: as in `done`; the arguments were stored behind the other fields.
        unsafe {
            RawArgs {
                args: (&raw const (*self.0).args).cast(),
                count: (*self.0).count,
                kwnames: (*self.0).kwnames,
            }
        }
    }

    /// The places of the arguments.
    ///
    /// # Safety
    /// Nobody else may use them meanwhile.
    unsafe fn values<'a>(self) -> &'a mut [*mut ffi::PyObject] {
        // SAFETY: as in `args`; the object's size is their number.
        unsafe {
            let first = (&raw mut (*self.0).args).cast();
            std::slice::from_raw_parts_mut(first, (*self.0).head.ob_size as usize)
        }
    }
}

/// Takes the reference out of a field.
trait ReplaceNull {
    fn replace_null(&mut self) -> Self;
}

impl ReplaceNull for *mut ffi::PyObject {
    #[inline]
    fn replace_null(&mut self) -> Self {
        std::mem::replace(self, ptr::null_mut())
    }
}

/// How one step ended.
enum Stepped {
    Yielded(Py<PyAny>),
    Returned(Py<PyAny>),
}

pub(crate) fn coroutine_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let made = TYPE.get_or_try_init(py, || {
        let method = |name: &'static std::ffi::CStr, function, flags| ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: function,
            ml_flags: flags,
            ml_doc: ptr::null(),
        };
        let pointer = |function| ffi::PyMethodDefPointer {
            PyCFunction: function,
        };
        let methods = Box::leak(Box::new([
            method(c"send", pointer(slots::send), ffi::METH_O),
            method(c"throw", pointer(slots::throw), ffi::METH_VARARGS),
            method(c"close", pointer(slots::close), ffi::METH_NOARGS),
            ffi::PyMethodDef::zeroed(),
        ]));
        let get = |name: &'static std::ffi::CStr, getter: ffi::getter| ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(getter),
            set: None,
            doc: ptr::null(),
            closure: ptr::null_mut(),
        };
        let getset = Box::leak(Box::new([
            get(c"__name__", slots::name),
            get(c"__qualname__", slots::qualname),
            get(c"cr_code", slots::cr_code),
            get(c"cr_frame", slots::cr_frame),
            get(c"cr_running", slots::cr_running),
            get(c"cr_await", slots::cr_await),
            ffi::PyGetSetDef::default(),
        ]));
        let members = Box::leak(Box::new([
            ffi::PyMemberDef {
                name: c"__weaklistoffset__".as_ptr(),
                type_code: ffi::Py_T_PYSSIZET,
                offset: offset_of!(CachedCoroutine, weakrefs) as ffi::Py_ssize_t,
                flags: ffi::Py_READONLY,
                doc: ptr::null(),
            },
            // SAFETY: an all-zero member definition ends the table.
            unsafe { std::mem::zeroed() },
        ]));
        let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
        let mut slots = vec![
            slot(ffi::Py_tp_new, not_to_be_made as *mut c_void),
            slot(ffi::Py_tp_dealloc, slots::dealloc as *mut c_void),
            slot(ffi::Py_tp_finalize, slots::finalize as *mut c_void),
            slot(ffi::Py_tp_traverse, slots::traverse as *mut c_void),
            slot(ffi::Py_tp_clear, slots::clear as *mut c_void),
            slot(ffi::Py_am_await, slots::itself as *mut c_void),
            slot(ffi::Py_tp_iter, slots::itself as *mut c_void),
            slot(ffi::Py_tp_iternext, slots::next as *mut c_void),
            slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
            slot(ffi::Py_tp_getset, getset.as_mut_ptr().cast()),
            slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        ];
        #[cfg(Py_3_10)]
        slots.push(slot(ffi::Py_am_send, slots::am_send as *mut c_void));
        slots.push(slot(0, ptr::null_mut()));
        let mut spec = ffi::PyType_Spec {
            name: c"cachekit._native.CachedCoroutine".as_ptr(),
            basicsize: size_of::<CachedCoroutine>() as c_int,
            itemsize: size_of::<*mut ffi::PyObject>() as c_int,
            flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC) as _,
            slots: slots.as_mut_ptr(),
        };
        // SAFETY: the spec is complete and its tables outlive the type; the result is a new
        // reference or null with an exception set.
        unsafe {
            let made = Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))?;
            PyResult::Ok(made.cast_into_unchecked::<PyType>().unbind())
        }
    })?;
    Ok(made.bind(py))
}

/// Makes the awaitable for one call.
///
/// # Safety
/// The GIL must be held, `core` be a `Core`, and the arguments those of a vectorcall.
pub(crate) unsafe fn create(
    core: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: usize,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: as the caller promises; every reference that is stored is owned, and the object is
    // complete before the collector sees it.
    unsafe {
        let py = Python::assume_attached();
        let made = match coroutine_type(py) {
            Ok(made) => made.as_type_ptr(),
            Err(error) => {
                error.restore(py);
                return ptr::null_mut();
            }
        };
        let named = if kwnames.is_null() {
            0
        } else {
            ffi::PyTuple_GET_SIZE(kwnames) as usize
        };
        let all = (count + named) as ffi::Py_ssize_t;
        let object = ffi::PyObject_GC_NewVar::<CachedCoroutine>(made, all);
        if object.is_null() {
            return ptr::null_mut();
        }
        for (index, place) in Fields(object).values().iter_mut().enumerate() {
            *place = *args.add(index);
            ffi::Py_INCREF(*place);
        }
        ffi::Py_INCREF(core);
        ffi::Py_XINCREF(kwnames);
        (*object).weakrefs = ptr::null_mut();
        (*object).core = core;
        (*object).kwnames = kwnames;
        (*object).count = count;
        (*object).inner = ptr::null_mut();
        (*object).done = false;
        ffi::PyObject_GC_Track(object.cast());
        object.cast()
    }
}

/// Takes the first step, or resumes the coroutine inside.
///
/// # Safety
/// `object` must be a `CachedCoroutine`, and the GIL held.
#[inline]
unsafe fn step(
    py: Python<'_>,
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> PyResult<Stepped> {
    // SAFETY: as the caller promises.
    let this = Fields(object.cast());
    if this.done() {
        return Err(PyRuntimeError::new_err(
            "cannot reuse already awaited coroutine",
        ));
    }
    if this.inner().is_null() {
        // SAFETY: `Py_None` is immortal or at least alive.
        if value != unsafe { ffi::Py_None() } {
            return Err(PyTypeError::new_err(
                "can't send non-None value to a just-started coroutine",
            ));
        }
        this.set_done(true);
        // SAFETY: `core` is an owned reference to a `Core`, kept alive by the clone; the arguments are
        // alive as long as the object, which its caller holds.
        let awaited = unsafe {
            let core = Bound::from_borrowed_ptr(py, (*this.0).core).cast_into_unchecked::<Core>();
            answer_async(py, &core, this.args())?
        };
        match awaited {
            Awaited::Value(value) => return Ok(Stepped::Returned(value)),
            Awaited::Coroutine(inner) => {
                let inner = awaitable(inner.into_bound(py))?.into_ptr();
                // SAFETY: the object is alive; the field takes the reference over.
                unsafe { (*this.0).inner = inner };
                this.set_done(false);
            }
        }
    }
    // SAFETY: `inner` is an owned reference; it is kept alive while it runs, which may close and
    // free this object.
    let inner = unsafe { Bound::from_borrowed_ptr(py, this.inner()) };
    let stepped = resume(py, &inner, value);
    if !matches!(stepped, Ok(Stepped::Yielded(_))) {
        this.set_done(true);
    }
    stepped
}

/// The iterator behind what the function returned: itself when it is a coroutine.
fn awaitable<'py>(returned: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = returned.py();
    if returned.hasattr(intern!(py, "send"))? {
        return Ok(returned);
    }
    returned.call_method0(intern!(py, "__await__"))
}

fn resume(
    py: Python<'_>,
    inner: &Bound<'_, PyAny>,
    value: *mut ffi::PyObject,
) -> PyResult<Stepped> {
    #[cfg(Py_3_10)]
    // SAFETY: `inner` is an iterator and `value` a live object; the result is a new reference, or
    // null with an exception set.
    unsafe {
        let mut result = ptr::null_mut();
        let sent = outcall::send(inner, value, &mut result);
        let result = Bound::from_owned_ptr_or_err(py, result)?.unbind();
        Ok(if sent == ffi::PySendResult::PYGEN_NEXT {
            Stepped::Yielded(result)
        } else {
            Stepped::Returned(result)
        })
    }
    #[cfg(not(Py_3_10))]
    {
        // SAFETY: `value` is a live object.
        let value = unsafe { Bound::from_borrowed_ptr(py, value) };
        let sent = if value.is_none() && !inner.hasattr(intern!(py, "send"))? {
            outcall::call_method(inner, intern!(py, "__next__"), ())
        } else {
            outcall::call_method(inner, intern!(py, "send"), (value,))
        };
        returned_by_stop(py, sent)
    }
}

/// Turns a `StopIteration` into the value that it carries.
fn returned_by_stop(py: Python<'_>, sent: PyResult<Bound<'_, PyAny>>) -> PyResult<Stepped> {
    match sent {
        Ok(yielded) => Ok(Stepped::Yielded(yielded.unbind())),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            let value = error.value(py).getattr(intern!(py, "value"))?;
            Ok(Stepped::Returned(value.unbind()))
        }
        Err(error) => Err(error),
    }
}

/// Gives a step's outcome to the interpreter as an iterator does.
fn as_iterator(py: Python<'_>, stepped: PyResult<Stepped>) -> *mut ffi::PyObject {
    match stepped {
        Ok(Stepped::Yielded(value)) => value.into_ptr(),
        Ok(Stepped::Returned(value)) => {
            // An instance, since a tuple or exception as the bare value would be unpacked.
            match py.get_type::<PyStopIteration>().call1((value,)) {
                Ok(stop) => PyErr::from_value(stop).restore(py),
                Err(error) => error.restore(py),
            }
            ptr::null_mut()
        }
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// Runs `body` with panics as exceptions; the interpreter's own call holds the GIL.
#[inline]
fn stepping(
    body: impl FnOnce(Python<'_>) -> PyResult<Stepped>,
) -> (Python<'static>, PyResult<Stepped>) {
    // SAFETY: only called from slots and methods, which run with the GIL held.
    let py = unsafe { Python::assume_attached() };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(py)));
    (
        py,
        caught.unwrap_or_else(|_| Err(pyo3::panic::PanicException::new_err(("see stderr",)))),
    )
}
