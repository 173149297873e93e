//! How a call is to be answered: under which key, or without one.

use std::ptr;

use cachekit_wire::{encryption::MAX_TENANT_BYTES, msgpack::Sink};
use pyo3::{
    ffi, intern,
    prelude::*,
    types::{PyDict, PyString, PyTuple},
};

use crate::{
    codec::{self, KeyBuf, Scope, Unkeyable},
    core::{Core, Once},
    outcall,
    sync_call::RawArgs,
};

/// How a call is to be answered.
pub(crate) enum Plan {
    /// Through the cache, under the key in the buffer.
    Cached(Scope),
    /// By the function, since the arguments have no key.
    Uncached,
    /// By the function, since the caller asked for that with `_bypass_cache`.
    Bypass,
    /// As if it had been called without its `_bypass_cache`, which is false.
    Plainly,
}

/// What becomes of the reason why a call has no key.
#[derive(Clone, Copy)]
pub(crate) enum Reason {
    /// The log has it, once.
    Logged,
    /// Nobody hears of it, as nobody has made this call.
    Dropped,
}

impl Reason {
    fn warn_once(self, py: Python<'_>, core: &Core, what: Once, text: impl FnOnce() -> String) {
        if matches!(self, Self::Logged) {
            core.warn_once(py, what, text);
        }
    }
}

/// Builds the key of a call, or says why there is none.
#[inline]
pub(crate) fn plan(
    py: Python<'_>,
    core: &Bound<'_, Core>,
    args: RawArgs,
    key: &mut KeyBuf,
) -> PyResult<Plan> {
    plan_or(Reason::Logged, py, core, args, key)
}

/// As [`plan`], for a call that may be one of several ways to write it.
#[inline]
pub(crate) fn plan_or(
    reason: Reason,
    py: Python<'_>,
    core: &Bound<'_, Core>,
    args: RawArgs,
    key: &mut KeyBuf,
) -> PyResult<Plan> {
    let this = core.get();
    match bypass(py, args) {
        Some(true) => return Ok(Plan::Bypass),
        Some(false) => return Ok(Plan::Plainly),
        None => {}
    }
    key.extend(&this.function.prefix());
    if let Some(interop) = &this.options.interop {
        return interop.plan(py, args, key);
    }
    if let Some(extract) = &this.options.tenant
        && !push_tenant(reason, py, this, extract, args, key)?
    {
        return Ok(Plan::Uncached);
    }
    if let Some(normalize) = &this.options.normalize {
        return normalized(reason, py, this, normalize, args, key);
    }
    if let Some(function) = &this.options.key {
        return custom_key(reason, py, this, function, args, key);
    }
    encode(reason, py, this, args, key)
}

#[inline]
fn encode(
    reason: Reason,
    py: Python<'_>,
    core: &Core,
    args: RawArgs,
    key: &mut KeyBuf,
) -> PyResult<Plan> {
    // SAFETY: the interpreter passes `count` arguments and the names of those behind them.
    match unsafe { codec::encode_args(py, args.args, args.count, args.kwnames, &core.args, key) } {
        Ok(scope) => Ok(Plan::Cached(scope)),
        Err(unkeyable) => refuse(reason, py, core, &unkeyable),
    }
}

/// Puts the call's tenant into the key, after its length; false if the call is nobody's.
#[cold]
fn push_tenant(
    reason: Reason,
    py: Python<'_>,
    core: &Core,
    extract: &Py<PyAny>,
    args: RawArgs,
    key: &mut KeyBuf,
) -> PyResult<bool> {
    let (positional, keywords) = collect(py, args)?;
    let keywords = keywords.unwrap_or_else(|| PyDict::new(py));
    let found = match outcall::call1(extract.bind(py), (positional, keywords)) {
        Ok(found) => found,
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyException>(py) => {
            reason.warn_once(py, core, Once::NoTenant, || {
                let class = error.get_type(py);
                format!("this call runs uncached: its tenant cannot be told, tenant_extractor raised {class}")
            });
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    // The Python face has made it a name or None. Text that UTF-8 cannot hold is no name.
    let tenant = found.extract::<std::borrow::Cow<'_, str>>().ok();
    let Some(tenant) = tenant.filter(|tenant| tenant.len() <= MAX_TENANT_BYTES) else {
        reason.warn_once(py, core, Once::NoTenant, || {
            "this call runs uncached: it is nobody's, tenant_extractor named no tenant \
             (text of up to 1024 bytes, a UUID or a number is one)"
                .to_owned()
        });
        return Ok(false);
    };
    let len = u16::try_from(tenant.len()).expect("at most 1024");
    key.extend(&len.to_be_bytes());
    key.extend(tenant.as_bytes());
    Ok(true)
}

/// What becomes of a call whose arguments have no key.
#[cold]
fn refuse(reason: Reason, py: Python<'_>, core: &Core, unkeyable: &Unkeyable) -> PyResult<Plan> {
    if let Some(cause) = unkeyable.cause().filter(|_| unkeyable.interrupts(py)) {
        return Err(cause.clone_ref(py));
    }
    reason.warn_once(py, core, Once::Unkeyable, || {
        format!("this call runs uncached: {unkeyable}")
    });
    Ok(Plan::Uncached)
}

/// The key of a call that is first rewritten, so that all its spellings share an entry.
#[cold]
fn normalized(
    reason: Reason,
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
        Some(function) => custom_key(reason, py, core, function, laid.raw(), key),
        None => encode(reason, py, core, laid.raw(), key),
    }
}

#[cold]
fn custom_key(
    reason: Reason,
    py: Python<'_>,
    core: &Core,
    function: &Py<PyAny>,
    args: RawArgs,
    key: &mut KeyBuf,
) -> PyResult<Plan> {
    let text = match args.call(py, function) {
        Ok(text) => text,
        Err(error) if error.is_instance_of::<pyo3::exceptions::PyException>(py) => {
            reason.warn_once(py, core, Once::Unkeyable, || {
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
            reason.warn_once(py, core, Once::Unkeyable, || {
                let text = text.bind(py);
                let returned = match text.is_instance_of::<PyString>() {
                    true => "text with lone surrogates, which UTF-8 cannot hold".to_owned(),
                    false => format!("{}, not a str", text.get_type()),
                };
                format!("this call runs uncached: the key= function returned {returned}")
            });
            Ok(Plan::Uncached)
        }
    }
}

/// The truth of the call's `_bypass_cache`, if it has one.
#[inline]
pub(crate) fn bypass(py: Python<'_>, args: RawArgs) -> Option<bool> {
    if args.kwnames.is_null() {
        return None;
    }
    let name = intern!(py, "_bypass_cache");
    // SAFETY: `kwnames` is a tuple of str, as the vectorcall protocol has it, and there is a value
    // for each of them behind the positional ones.
    unsafe {
        let names = Bound::ref_from_ptr(py, &args.kwnames).cast_unchecked::<PyTuple>();
        let at = names
            .iter_borrowed()
            .position(|other| other.is(name) || other.eq(name).unwrap_or(false))?;
        let value = Bound::from_borrowed_ptr(py, *args.args.add(args.count + at));
        Some(value.is_truthy().unwrap_or(true))
    }
}

/// The arguments without `_bypass_cache`, which is the cache's.
pub(crate) fn plainly<'py>(
    py: Python<'py>,
    args: RawArgs,
) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
    let (positional, keywords) = collect(py, args)?;
    let keywords = keywords.unwrap_or_else(|| PyDict::new(py));
    keywords.del_item(intern!(py, "_bypass_cache"))?;
    Ok((positional, keywords))
}

/// Calls the function itself; without `_bypass_cache`, which is the cache's.
pub(crate) fn call_function(
    py: Python<'_>,
    core: &Core,
    args: RawArgs,
    bypass: bool,
) -> PyResult<Py<PyAny>> {
    if !bypass {
        return args.call(py, &core.func);
    }
    let (positional, keywords) = plainly(py, args)?;
    outcall::call(core.func.bind(py), &positional, Some(&keywords)).map(Bound::unbind)
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

/// A call's arguments laid out as the interpreter passes them.
pub(crate) struct Laid<'py> {
    values: Vec<Bound<'py, PyAny>>,
    names: Option<Bound<'py, PyTuple>>,
    count: usize,
}

impl<'py> Laid<'py> {
    pub(crate) fn new(args: &Bound<'py, PyTuple>, kwargs: &Bound<'py, PyDict>) -> PyResult<Self> {
        let mut values: Vec<_> = args.iter().collect();
        let count = values.len();
        values.extend(kwargs.iter().map(|(_, value)| value));
        let names = if kwargs.is_empty() {
            None
        } else {
            Some(PyTuple::new(args.py(), kwargs.keys())?)
        };
        Ok(Self {
            values,
            names,
            count,
        })
    }

    /// The raw form, valid while this lives: `Bound` has the layout of the pointer inside it.
    pub(crate) fn raw(&self) -> RawArgs {
        RawArgs {
            args: self.values.as_ptr().cast::<*mut ffi::PyObject>(),
            count: self.count,
            kwnames: self.names.as_ref().map_or(ptr::null_mut(), Bound::as_ptr),
        }
    }
}
