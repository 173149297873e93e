//! The decorated object: a native callable with its own vectorcall, so that a hit costs little more
//! than the call itself.
//!
//! It is a plain CPython type made from a spec, since a `#[pyclass]` cannot be called without
//! building a tuple. It has a `__dict__`, into which the Python face puts the function's metadata
//! and the cache's methods, supports weak references, and binds like a function.

use std::{
    ffi::{c_int, c_void},
    mem::offset_of,
    ptr,
};

use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError},
    ffi, intern,
    panic::PanicException,
    prelude::*,
    sync::PyOnceLock,
    types::{PyFunction, PyType},
};

use crate::{answer::answer, core::Core, coroutine, fork, gil, sync_call::RawArgs};

/// A decorated function. Made by [`cached`] only.
#[repr(C)]
struct CachedFunction {
    head: ffi::PyObject,
    vectorcall: Option<ffi::vectorcallfunc>,
    dict: *mut ffi::PyObject,
    weakrefs: *mut ffi::PyObject,
    /// An owned reference to the `Core`; null only after the collector cleared this object.
    core: *mut ffi::PyObject,
}

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
/// What `object.method` is.
static BOUND: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The type of decorated functions.
pub(crate) fn cached_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let made = TYPE.get_or_try_init(py, || {
        let member = |name: &'static std::ffi::CStr, offset: usize| ffi::PyMemberDef {
            name: name.as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: offset as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        };
        // The interpreter keeps pointers into these tables: they live as long as the process.
        let members = Box::leak(Box::new([
            member(
                c"__vectorcalloffset__",
                offset_of!(CachedFunction, vectorcall),
            ),
            member(c"__dictoffset__", offset_of!(CachedFunction, dict)),
            member(c"__weaklistoffset__", offset_of!(CachedFunction, weakrefs)),
            // SAFETY: an all-zero member definition ends the table.
            unsafe { std::mem::zeroed() },
        ]));
        let methods = Box::leak(Box::new([
            ffi::PyMethodDef {
                ml_name: c"__reduce__".as_ptr(),
                ml_meth: ffi::PyMethodDefPointer {
                    PyCFunction: reduce,
                },
                ml_flags: ffi::METH_NOARGS,
                ml_doc: c"Pickles by reference, as functions do; cloudpickle also by value.".as_ptr(),
            },
            ffi::PyMethodDef::zeroed(),
        ]));
        let getset = Box::leak(Box::new([
            ffi::PyGetSetDef {
                name: c"__dict__".as_ptr(),
                get: Some(ffi::PyObject_GenericGetDict),
                set: Some(ffi::PyObject_GenericSetDict),
                doc: ptr::null(),
                closure: ptr::null_mut(),
            },
            ffi::PyGetSetDef {
                name: c"__class__".as_ptr(),
                get: Some(get_class),
                set: None,
                doc: c"That of functions, for who asks isinstance(): it is one in all but its making.".as_ptr(),
                closure: ptr::null_mut(),
            },
            ffi::PyGetSetDef {
                name: c"_core".as_ptr(),
                get: Some(get_core),
                set: None,
                doc: c"The function's engine.".as_ptr(),
                closure: ptr::null_mut(),
            },
            ffi::PyGetSetDef::default(),
        ]));
        let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
        let mut slots = [
            slot(ffi::Py_tp_new, not_to_be_made as *mut c_void),
            slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
            slot(ffi::Py_tp_traverse, traverse as *mut c_void),
            slot(ffi::Py_tp_clear, clear as *mut c_void),
            slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void),
            slot(ffi::Py_tp_descr_get, descr_get as *mut c_void),
            slot(ffi::Py_tp_repr, repr as *mut c_void),
            slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
            slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
            slot(ffi::Py_tp_getset, getset.as_mut_ptr().cast()),
            slot(0, ptr::null_mut()),
        ];
        let mut spec = ffi::PyType_Spec {
            name: c"cachekit._native.CachedFunction".as_ptr(),
            basicsize: size_of::<CachedFunction>() as c_int,
            itemsize: 0,
            flags: (ffi::Py_TPFLAGS_DEFAULT
                | ffi::Py_TPFLAGS_HAVE_GC
                | ffi::Py_TPFLAGS_HAVE_VECTORCALL
                | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR) as _,
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

/// Makes the decorated object around `core`.
pub(crate) fn cached(py: Python<'_>, core: Py<Core>) -> PyResult<Bound<'_, PyAny>> {
    fork::register(py, &core)?;
    let made = cached_type(py)?;
    let is_async = core.get().options.is_async;
    // SAFETY: the type was made for this layout; the fields are initialised before the object is
    // seen by the collector or anybody else.
    unsafe {
        let object = ffi::PyObject_GC_New::<CachedFunction>(made.as_type_ptr());
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        (*object).vectorcall = Some(if is_async { call_async } else { call_sync });
        (*object).dict = ptr::null_mut();
        (*object).weakrefs = ptr::null_mut();
        (*object).core = core.into_ptr();
        ffi::PyObject_GC_Track(object.cast());
        Ok(Bound::from_owned_ptr(py, object.cast()))
    }
}

/// The engine behind a decorated object.
///
/// # Safety
/// `object` must be a `CachedFunction`, and the GIL held.
#[inline]
unsafe fn core_of<'a>(object: *mut ffi::PyObject) -> Option<&'a Bound<'a, Core>> {
    // SAFETY: the caller says what `object` is; `core` is null or an owned reference to a `Core`,
    // and `Bound` has the layout of the pointer inside it.
    unsafe {
        let core = &raw const (*object.cast::<CachedFunction>()).core;
        if (*core).is_null() {
            return None;
        }
        Some(Bound::ref_from_ptr(Python::assume_attached(), &*core).cast_unchecked())
    }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: called once by the interpreter with an object of this type and the GIL held.
    unsafe {
        let this = object.cast::<CachedFunction>();
        ffi::PyObject_GC_UnTrack(object.cast());
        if !(*this).weakrefs.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        clear(object);
        let made = ffi::Py_TYPE(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(made.cast()); // Instances of heap types own a reference to their type.
    }
}

unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: called by the collector with an object of this type.
    unsafe {
        let this = object.cast::<CachedFunction>();
        for child in [ffi::Py_TYPE(object).cast(), (*this).dict, (*this).core] {
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
    // SAFETY: called by the collector or `dealloc` with an object of this type. The field is
    // emptied before the reference is given up, which may run foreign code.
    unsafe {
        let this = object.cast::<CachedFunction>();
        for field in [&raw mut (*this).dict, &raw mut (*this).core] {
            let child = std::mem::replace(&mut *field, ptr::null_mut());
            ffi::Py_XDECREF(child);
        }
    }
    0
}

unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the interpreter passes an object of this type.
        let name = unsafe { core_of(object) }.map_or_else(String::new, |core| core.get().name());
        Ok(format!("<cached function {name}>")
            .into_pyobject(py)?
            .into_any()
            .unbind())
    })
}

unsafe extern "C" fn reduce(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the interpreter passes an object of this type.
        let this = unsafe { Bound::from_borrowed_ptr(py, object) };
        if asks_cloudpickle(py) {
            let handle = this.getattr(intern!(py, "_handle"))?;
            return Ok(handle.call_method0(intern!(py, "reduced"))?.unbind());
        }
        Ok(this.getattr(intern!(py, "__qualname__"))?.unbind())
    })
}

unsafe extern "C" fn get_class(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    guarded(|py| {
        if asks_cloudpickle(py) {
            // It takes functions apart and makes others of their code; of all else it asks `__reduce__`.
            // SAFETY: the interpreter passes an object of this type.
            let this = unsafe { Bound::from_borrowed_ptr(py, object) };
            return Ok(this.get_type().into_any().unbind());
        }
        Ok(PyType::new::<PyFunction>(py).into_any().unbind())
    })
}

/// Whether the Python code that is running is cloudpickle, or a copy of it in another package.
fn asks_cloudpickle(py: Python<'_>) -> bool {
    // SAFETY: the GIL is held; gives a borrowed reference, or null where no Python code is running.
    let globals = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetGlobals()) };
    let name = globals.and_then(|globals| globals.get_item(intern!(py, "__name__")).ok());
    let name = name.and_then(|name| name.extract::<String>().ok());
    name.is_some_and(|name| name.split('.').any(|part| part == "cloudpickle"))
}

unsafe extern "C" fn get_core(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    guarded(|_| {
        // SAFETY: the interpreter passes an object of this type.
        let core = unsafe { core_of(object) }.ok_or_else(collected)?;
        Ok(core.clone().into_any().unbind())
    })
}

unsafe extern "C" fn descr_get(
    object: *mut ffi::PyObject,
    instance: *mut ffi::PyObject,
    _owner: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guarded(|py| {
        // SAFETY: the interpreter passes an object of this type and an instance or null.
        unsafe {
            let this = Bound::from_borrowed_ptr(py, object);
            if instance.is_null() || instance == ffi::Py_None() {
                return Ok(this.unbind());
            }
            let instance = Bound::from_borrowed_ptr(py, instance);
            let bound = BOUND.import(py, "cachekit.binding", "BoundCachedMethod")?;
            Ok(bound.call1((this, instance))?.unbind())
        }
    })
}

/// `tp_new` of types whose instances only this library makes.
pub(crate) unsafe extern "C" fn not_to_be_made(
    _class: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guarded(|_| {
        Err(PyTypeError::new_err(
            "cached functions and their coroutines are made by @cache only",
        ))
    })
}

fn collected() -> PyErr {
    PyRuntimeError::new_err("this cached function was garbage-collected while it was in use")
}

/// Runs `body` as the interpreter expects of a C function: null and an exception on failure, a
/// panic as an exception.
fn guarded(body: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>>) -> *mut ffi::PyObject {
    // SAFETY: only called from slots, methods and getters, which run with the GIL held.
    let (py, result) = unsafe {
        let run = std::panic::AssertUnwindSafe(|| gil::attached(body));
        (Python::assume_attached(), std::panic::catch_unwind(run))
    };
    match result {
        Ok(Ok(object)) => object.into_ptr(),
        Ok(Err(error)) => {
            error.restore(py);
            ptr::null_mut()
        }
        Err(payload) => {
            let text = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "panic without a message".to_owned());
            PanicException::new_err((text,)).restore(py);
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn call_sync(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the vectorcall protocol: an object of this type, `count` arguments, names or null.
    let (core, count) = unsafe { (core_of(object), ffi::PyVectorcall_NARGS(nargsf) as usize) };
    let raw = RawArgs {
        args,
        count,
        kwnames,
    };
    guarded_hit(|py| answer(py, core.ok_or_else(collected)?, raw))
}

/// [`guarded`] without attaching: the interpreter's own call holds the GIL.
#[inline]
fn guarded_hit(body: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>>) -> *mut ffi::PyObject {
    // SAFETY: only called from vectorcall functions, which run with the GIL held.
    let py = unsafe { Python::assume_attached() };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(py))) {
        Ok(Ok(object)) => object.into_ptr(),
        Ok(Err(error)) => {
            error.restore(py);
            ptr::null_mut()
        }
        Err(payload) => guarded(|_| std::panic::resume_unwind(payload)),
    }
}

unsafe extern "C" fn call_async(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the vectorcall protocol: an object of this type, `count` arguments, names or null;
    // the GIL is held.
    unsafe {
        let count = ffi::PyVectorcall_NARGS(nargsf) as usize;
        let core = (*object.cast::<CachedFunction>()).core;
        if core.is_null() {
            return guarded(|_| Err(collected()));
        }
        coroutine::create(core, args, count, kwnames)
    }
}
