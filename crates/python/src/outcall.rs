//! Calls of the user's Python code, which may outlast the interpreter.
//!
//! Before Python 3.14, a daemon thread that wants the GIL back once the interpreter is shutting down
//! is ended by `pthread_exit`, whose unwinding Rust's frames do not survive: the process would abort.
//! It happens wherever bytecode gives up the GIL, so also in the functions, backends and serializers
//! that are called from here. Such a thread stops here instead until the process ends, as Python 3.14
//! has it do and as `PyO3` does where it takes the GIL itself.

use std::{mem, ptr, thread};

use pyo3::{
    ffi,
    prelude::*,
    types::{PyDict, PyString, PyTuple},
};

/// Stops the thread for good when it is dropped, which only unwinding does.
struct Stopped;

impl Drop for Stopped {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}

/// `$function` as one that may unwind, called with the thread stopped if it does.
///
/// `PyO3` declares the interpreter's functions as never unwinding, which the compiler makes use of
/// wherever it knows what is called: hence the volatile read.
macro_rules! may_end_here {
    ($function:path: fn($($argument:ident: $of:ty),*) -> $returned:ty) => {{
        type Plain = unsafe extern "C" fn($($of),*) -> $returned;
        type Unwinding = unsafe extern "C-unwind" fn($($of),*) -> $returned;
        // SAFETY: the same function, and one ABI but for what unwinding means.
        let function = unsafe { mem::transmute::<Plain, Unwinding>($function) };
        // SAFETY: a live local.
        let function = unsafe { ptr::read_volatile(&raw const function) };
        let stopped = Stopped;
        // SAFETY: the caller's promise.
        let returned = unsafe { function($($argument),*) };
        mem::forget(stopped);
        returned
    }};
}

/// Calls `callable` with arguments as a vectorcall passes them.
///
/// # Safety
/// `args` and `kwnames` are as `PyObject_Vectorcall` takes them, and alive during the call.
#[cfg(Py_3_11)]
pub(crate) unsafe fn vectorcall(
    callable: &Bound<'_, PyAny>,
    args: *const *mut ffi::PyObject,
    count: usize,
    kwnames: *mut ffi::PyObject,
) -> PyResult<Py<PyAny>> {
    type Object = *mut ffi::PyObject;
    let function = callable.as_ptr();
    let returned = may_end_here!(ffi::PyObject_Vectorcall:
        fn(function: Object, args: *const Object, count: usize, kwnames: Object) -> Object);
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), returned) }.map(Bound::unbind)
}

/// Calls `callable`.
pub(crate) fn call<'py>(
    callable: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    type Object = *mut ffi::PyObject;
    let (function, args) = (callable.as_ptr(), args.as_ptr());
    let kwargs = kwargs.map_or(ptr::null_mut(), |kwargs| kwargs.as_ptr());
    let returned = may_end_here!(ffi::PyObject_Call:
        fn(function: Object, args: Object, kwargs: Object) -> Object);
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), returned) }
}

/// Calls `callable` with positional arguments.
pub(crate) fn call1<'py, A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>>(
    callable: &Bound<'py, PyAny>,
    args: A,
) -> PyResult<Bound<'py, PyAny>> {
    let args = args.into_pyobject(callable.py()).map_err(Into::into)?;
    call(callable, &args, None)
}

/// Calls the method `name` of `object`.
pub(crate) fn call_method<
    'py,
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
>(
    object: &Bound<'py, PyAny>,
    name: impl IntoPyObject<'py, Target = PyString>,
    args: A,
) -> PyResult<Bound<'py, PyAny>> {
    call1(&object.getattr(name)?, args)
}

/// Resumes an iterator or coroutine; `result` is then a new reference, or null with an exception set.
///
/// # Safety
/// `value` is a live object.
#[cfg(Py_3_10)]
pub(crate) unsafe fn send(
    iterator: &Bound<'_, PyAny>,
    value: *mut ffi::PyObject,
    result: &mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    type Object = *mut ffi::PyObject;
    let (iterator, result) = (iterator.as_ptr(), &raw mut *result);
    may_end_here!(ffi::PyIter_Send:
        fn(iterator: Object, value: Object, result: *mut Object) -> ffi::PySendResult)
}
