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
    sync::atomic::{AtomicBool, Ordering},
};

use cachekit_engine::time::Clock;
use cachekit_wire::msgpack::Sink;
use parking_lot::Mutex;
use pyo3::{
    exceptions::PyRuntimeError,
    ffi, intern,
    panic::PanicException,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference},
};

use crate::{
    async_call::AsyncCall,
    clock::CLOCK,
    codec::{self, KeyBuf, Scope},
    core::{Core, Once},
    coroutine,
    operations::Laid,
    sync_call::{self, RawArgs},
    value::hand_out,
};

/// Whether caching is off in this process.
pub(crate) static DISABLED: AtomicBool = AtomicBool::new(false);

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
                ml_doc: c"Pickles by reference, as functions do.".as_ptr(),
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
    register(py, &core)?;
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
        Ok(this.getattr(intern!(py, "__qualname__"))?.unbind())
    })
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
            let core = core_of(object).ok_or_else(collected)?;
            let instance = Bound::from_borrowed_ptr(py, instance);
            core.get().options.bind.call1(py, (this, instance))
        }
    })
}

fn collected() -> PyErr {
    PyRuntimeError::new_err("this cached function was garbage-collected while it was in use")
}

/// Runs `body` as the interpreter expects of a C function: null and an exception on failure, a
/// panic as an exception.
fn guarded(body: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>>) -> *mut ffi::PyObject {
    Python::attach(|py| {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(py)));
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
    })
}

/// How a call is to be answered.
pub(crate) enum Plan {
    /// Through the cache, under the key in the buffer.
    Cached(Scope),
    /// By the function, since the arguments have no key.
    Uncached,
    /// By the function, since the caller asked for that with `_bypass_cache`.
    Bypass,
}

/// Builds the key of a call, or says why there is none.
#[inline]
pub(crate) fn plan(
    py: Python<'_>,
    core: &Bound<'_, Core>,
    args: RawArgs,
    key: &mut KeyBuf,
) -> PyResult<Plan> {
    let this = core.get();
    if !args.kwnames.is_null() && bypassed(py, args) {
        return Ok(Plan::Bypass);
    }
    key.extend(&this.function.prefix());
    if let Some(normalize) = &this.options.normalize {
        return normalized(py, this, normalize, args, key);
    }
    if let Some(function) = &this.options.key {
        return custom_key(py, this, function, args, key);
    }
    Ok(encode(py, this, args, key))
}

#[inline]
fn encode(py: Python<'_>, core: &Core, args: RawArgs, key: &mut KeyBuf) -> Plan {
    // SAFETY: the interpreter passes `count` arguments and the names of those behind them.
    match unsafe { codec::encode_args(py, args.args, args.count, args.kwnames, &core.args, key) } {
        Ok(scope) => Plan::Cached(scope),
        Err(unkeyable) => {
            core.warn_once(py, Once::Unkeyable, || {
                format!("this call runs uncached: {unkeyable}")
            });
            Plan::Uncached
        }
    }
}

/// The key of a call that is first rewritten, so that all its spellings share an entry.
#[cold]
fn normalized(
    py: Python<'_>,
    core: &Core,
    normalize: &Py<PyAny>,
    args: RawArgs,
    key: &mut KeyBuf,
) -> PyResult<Plan> {
    let (positional, keywords) = collect(py, args)?;
    let keywords = keywords.unwrap_or_else(|| PyDict::new(py));
    let rewritten = normalize.call1(py, (positional, keywords))?;
    let (positional, keywords): (Bound<'_, PyTuple>, Bound<'_, PyDict>) = rewritten.extract(py)?;
    let laid = Laid::new(&positional, &keywords)?;
    match &core.options.key {
        Some(function) => custom_key(py, core, function, laid.raw(), key),
        None => Ok(encode(py, core, laid.raw(), key)),
    }
}

#[cold]
fn custom_key(
    py: Python<'_>,
    core: &Core,
    function: &Py<PyAny>,
    args: RawArgs,
    key: &mut KeyBuf,
) -> PyResult<Plan> {
    let text = match args.call(py, function) {
        Ok(text) => text,
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyException>(py) => {
            core.warn_once(py, Once::Unkeyable, || {
                format!("this call runs uncached: the key= function failed: {error}")
            });
            return Ok(Plan::Uncached);
        }
        Err(error) => return Err(error),
    };
    match text.extract::<std::borrow::Cow<'_, str>>(py) {
        Ok(text) => {
            key.extend(text.as_bytes());
            Ok(Plan::Cached(Scope::Shared))
        }
        Err(_) => {
            core.warn_once(py, Once::Unkeyable, || {
                let kind = text.bind(py).get_type();
                format!("this call runs uncached: the key= function returned {kind}, not a str")
            });
            Ok(Plan::Uncached)
        }
    }
}

fn bypassed(py: Python<'_>, args: RawArgs) -> bool {
    let name = intern!(py, "_bypass_cache");
    // SAFETY: `kwnames` is a tuple of str, as the vectorcall protocol has it.
    let names = unsafe { Bound::ref_from_ptr(py, &args.kwnames).cast_unchecked::<PyTuple>() };
    names
        .iter_borrowed()
        .any(|other| other.is(name) || other.eq(name).unwrap_or(false))
}

/// Calls the function itself; without `_bypass_cache`, which is the cache's.
fn call_function(py: Python<'_>, core: &Core, args: RawArgs, bypass: bool) -> PyResult<Py<PyAny>> {
    if !bypass {
        return args.call(py, &core.func);
    }
    let (positional, keywords) = collect(py, args)?;
    if let Some(keywords) = &keywords {
        keywords.del_item(intern!(py, "_bypass_cache"))?;
    }
    core.func.call(py, positional, keywords.as_ref())
}

/// The arguments as a tuple and a dict.
pub(crate) fn collect<'py>(
    py: Python<'py>,
    args: RawArgs,
) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
    // SAFETY: the interpreter passes `count` arguments, then one for each name.
    unsafe {
        let at = |index: usize| Bound::from_borrowed_ptr(py, *args.args.add(index));
        let positional = PyTuple::new(py, (0..args.count).map(at))?;
        if args.kwnames.is_null() {
            return Ok((positional, None));
        }
        let names = Bound::ref_from_ptr(py, &args.kwnames).cast_unchecked::<PyTuple>();
        let keywords = PyDict::new(py);
        for (index, name) in names.iter_borrowed().enumerate() {
            keywords.set_item(name, at(args.count + index))?;
        }
        Ok((positional, Some(keywords)))
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

#[inline]
fn answer(py: Python<'_>, core: &Bound<'_, Core>, args: RawArgs) -> PyResult<Py<PyAny>> {
    let this = core.get();
    if DISABLED.load(Ordering::Relaxed) {
        return slow(|py| {
            let bypass = !args.kwnames.is_null() && bypassed(py, args);
            call_function(py, this, args, bypass)
        });
    }
    let mut key = KeyBuf::new();
    let scope = match plan(py, core, args, &mut key)? {
        Plan::Cached(scope) => scope,
        Plan::Uncached => return slow(|py| call_function(py, this, args, false)),
        Plan::Bypass => return slow(|py| call_function(py, this, args, true)),
    };
    let now = CLOCK.coarse();
    if let Some(hit) = this.function.lookup(key.as_slice(), now) {
        this.function.stats.l1_hit(now);
        if hit.refresh {
            slow(|py| refresh_later(py, core, &hit.entry, args));
        }
        return hand_out(py, &hit.entry.value, this.options.copy);
    }
    slow(|py| sync_call::call_missed(py, core, key.as_slice(), scope, args))
}

/// Leaves the hit path: what follows may drop Python objects and release the GIL, for which PyO3
/// must know that this thread holds it.
#[cold]
#[inline(never)]
fn slow<R>(body: impl FnOnce(Python<'_>) -> R) -> R {
    Python::attach(body)
}

/// Hands the refresh that is due to the Python face's background workers.
fn refresh_later(
    py: Python<'_>,
    core: &Bound<'_, Core>,
    entry: &cachekit_engine::l1::Entry<codec::Held>,
    args: RawArgs,
) {
    let scheduled = collect(py, args).and_then(|(positional, keywords)| {
        py.import(intern!(py, "cachekit._background"))?
            .call_method1(intern!(py, "refresh_later"), (core, positional, keywords))
    });
    match scheduled {
        Ok(accepted) if accepted.is_truthy().unwrap_or(false) => {}
        Ok(_) => entry.end_refresh(), // At capacity or not copyable: a later hit asks again.
        Err(error) => {
            entry.end_refresh();
            error.write_unraisable(py, None);
        }
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

/// What awaiting a call comes to.
pub(crate) enum Awaited {
    /// The value, at once.
    Value(Py<PyAny>),
    /// A coroutine that brings it.
    Coroutine(Py<PyAny>),
}

/// Answers an awaited call from L1, or makes the coroutine that does.
#[inline]
pub(crate) fn answer_async(
    py: Python<'_>,
    core: &Bound<'_, Core>,
    args: RawArgs,
) -> PyResult<Awaited> {
    let this = core.get();
    let mut key = KeyBuf::new();
    let plan = if DISABLED.load(Ordering::Relaxed) {
        let bypass = !args.kwnames.is_null() && bypassed(py, args);
        if bypass { Plan::Bypass } else { Plan::Uncached }
    } else {
        plan(py, core, args, &mut key)?
    };
    let scope = match plan {
        Plan::Cached(scope) => scope,
        Plan::Uncached => {
            return slow(|py| call_function(py, this, args, false).map(Awaited::Coroutine));
        }
        Plan::Bypass => {
            return slow(|py| call_function(py, this, args, true).map(Awaited::Coroutine));
        }
    };
    let now = CLOCK.coarse();
    if let Some(hit) = this.function.lookup(key.as_slice(), now) {
        this.function.stats.l1_hit(now);
        if hit.refresh {
            slow(|py| refresh_later(py, core, &hit.entry, args));
        }
        return hand_out(py, &hit.entry.value, this.options.copy).map(Awaited::Value);
    }
    slow(|py| {
        let (positional, keywords) = collect(py, args)?;
        let call = AsyncCall::create(
            py,
            core.clone().unbind(),
            key.as_slice(),
            scope,
            positional.unbind(),
            keywords.map(Bound::unbind),
            false,
        );
        static DRIVE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let drive = DRIVE.import(py, "cachekit._drive", "drive")?;
        drive
            .call1((call,))
            .map(|coroutine| Awaited::Coroutine(coroutine.unbind()))
    })
}

/// Every engine of this process, for a forked child.
static CORES: Mutex<Vec<Py<PyWeakrefReference>>> = Mutex::new(Vec::new());

/// Makes an engine known to [`after_fork`].
fn register(py: Python<'_>, core: &Py<Core>) -> PyResult<()> {
    let reference = PyWeakrefReference::new(core.bind(py))?.unbind();
    let mut all = CORES.lock();
    all.push(reference);
    // Now and then, those of functions that are gone; dropping a weak reference runs no code.
    if all.len().is_power_of_two() {
        all.retain(|reference| reference.bind(py).upgrade().is_some());
    }
    Ok(())
}

/// Makes every engine forget what belongs to the parent process's threads.
pub(crate) fn after_fork(py: Python<'_>) {
    let all: Vec<_> = CORES
        .lock()
        .iter()
        .map(|reference| reference.clone_ref(py))
        .collect();
    for reference in all {
        if let Some(core) = reference.bind(py).upgrade_as::<Core>().ok().flatten() {
            core.get().after_fork();
        }
    }
}
