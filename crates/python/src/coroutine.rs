//! What calling a cached coroutine function returns: an awaitable that is done at its first step
//! when L1 has the value, and otherwise stands in for the coroutine that brings it.
//!
//! Like a coroutine it does nothing before it is awaited, can be awaited once, and warns when it
//! never was. It satisfies `collections.abc.Coroutine`, so that `asyncio.create_task` takes it.

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
    types::{PyTuple, PyType},
};

use crate::{
    core::Core,
    object::{Awaited, answer_async},
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
            method(c"send", pointer(send), ffi::METH_O),
            method(c"throw", pointer(throw), ffi::METH_VARARGS),
            method(c"close", pointer(close), ffi::METH_NOARGS),
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
            get(c"__name__", name),
            get(c"__qualname__", qualname),
            get(c"cr_code", cr_code),
            get(c"cr_frame", cr_frame),
            get(c"cr_running", cr_running),
            get(c"cr_await", cr_await),
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
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_finalize, finalize as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_am_await, itself as *mut c_void),
            slot(ffi::Py_tp_iter, itself as *mut c_void),
            slot(ffi::Py_tp_iternext, next as *mut c_void),
            slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
            slot(ffi::Py_tp_getset, getset.as_mut_ptr().cast()),
            slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        ];
        #[cfg(Py_3_10)]
        slots.push(slot(ffi::Py_am_send, am_send as *mut c_void));
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
        let sent = ffi::PyIter_Send(inner.as_ptr(), value, &raw mut result);
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
            inner.call_method0(intern!(py, "__next__"))
        } else {
            inner.call_method1(intern!(py, "send"), (value,))
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

#[cfg(Py_3_10)]
unsafe extern "C" fn am_send(
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
            (ffi::PySendResult::PYGEN_ERROR, ptr::null_mut())
        }
    };
    // SAFETY: as above.
    unsafe { *result = object };
    status
}

unsafe extern "C" fn itself(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot of this type; the interpreter owns the reference that is returned.
    unsafe { ffi::Py_INCREF(object) };
    object
}

unsafe extern "C" fn next(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot of this type, with the GIL held.
    let (py, stepped) = stepping(|py| unsafe { step(py, object, ffi::Py_None()) });
    as_iterator(py, stepped)
}

unsafe extern "C" fn send(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a method of this type, with the GIL held.
    let (py, stepped) = stepping(|py| unsafe { step(py, object, value) });
    as_iterator(py, stepped)
}

unsafe extern "C" fn throw(
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
        let thrown = inner.call_method1(intern!(py, "throw"), args);
        let stepped = returned_by_stop(py, thrown);
        if !matches!(stepped, Ok(Stepped::Yielded(_))) {
            this.set_done(true);
        }
        stepped
    });
    as_iterator(py, stepped)
}

unsafe extern "C" fn close(
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
            inner.call_method0(intern!(py, "close"))?;
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

unsafe extern "C" fn name(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: a getter of this type.
    unsafe {
        of_function(object, |f| {
            Ok(f.getattr(intern!(f.py(), "__name__"))?.unbind())
        })
    }
}

unsafe extern "C" fn qualname(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: a getter of this type.
    unsafe {
        of_function(object, |f| {
            Ok(f.getattr(intern!(f.py(), "__qualname__"))?.unbind())
        })
    }
}

unsafe extern "C" fn cr_code(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: a getter of this type.
    unsafe {
        of_function(object, |f| {
            Ok(f.getattr(intern!(f.py(), "__code__"))?.unbind())
        })
    }
}

unsafe extern "C" fn cr_frame(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
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

unsafe extern "C" fn cr_await(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: a getter of this type, with the GIL held; `inner` is null or an owned reference.
    let (py, value) = stepping(|py| unsafe {
        let inner = Bound::from_borrowed_ptr_or_opt(py, (*object.cast::<CachedCoroutine>()).inner);
        Ok(Stepped::Yielded(
            inner.map_or_else(|| py.None(), Bound::unbind),
        ))
    });
    as_iterator(py, value)
}

unsafe extern "C" fn cr_running(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
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

unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: called by the interpreter with an object of this type and the GIL held.
    let untouched = unsafe {
        let this = &*object.cast::<CachedCoroutine>();
        !this.done && this.inner.is_null()
    };
    if !untouched {
        return;
    }
    Python::attach(|py| {
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
            error.write_unraisable(py, None);
        }
        if let Some(held) = held {
            held.restore(py);
        }
    });
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
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

unsafe extern "C" fn traverse(
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

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
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
