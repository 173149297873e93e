//! The bytes of a call's arguments: what L1 is indexed by and what the stored key is a hash of.
//!
//! They are the MessagePack of `[[args...], {name: value, sorted by name}]` after the protocol's
//! normalisation. What the protocol refuses and programs use goes in as extension types; `docs/keys.md`
//! lists them. This module holds the path of the plain values; [`super::normal`] has the rest.

use cachekit_wire::msgpack::{self, Sink};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::keybuf::KeyBuf;
use super::layout::{self, Text};
use super::normal::Encoder;
use super::refusal::{Refusal, Refused, Unkeyable};

/// How many keyword arguments are put in order without an allocation.
const INLINE_KEYWORDS: usize = 8;

/// Where a key means the same call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// In every process.
    Shared,
    /// In this process only: an object's identity, or a class that cannot be told by its name, is in it.
    Local,
}

/// The names of a function's parameters, by the way they are passed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters {
    /// Those that can be passed by position, in order.
    pub(crate) positional: Vec<String>,
    /// How many of `positional` cannot be passed by name.
    pub(crate) positional_only: usize,
    /// Those that can only be passed by name.
    pub(crate) keyword_only: Vec<String>,
    /// The name of `*args`.
    pub(crate) var_positional: Option<String>,
    /// The name of `**kwargs`.
    pub(crate) var_keyword: Option<String>,
}

/// What of a function's arguments goes into the key, and how.
#[derive(Debug)]
pub(crate) struct ArgPolicy {
    /// Whether the first positional argument is `self` or `cls`.
    method: bool,
    /// Whether every argument counts and none is a receiver.
    plain: bool,
    parameters: Parameters,
    /// By position, whether the argument is left out.
    ignored: Vec<bool>,
    /// Whether positional arguments after the named ones are left out.
    ignores_rest: bool,
    /// The parameters left out when they are passed by name.
    ignored_names: Vec<Py<PyString>>,
    /// Whether keyword arguments that are no parameters are left out.
    ignores_unnamed: bool,
    /// The parameters that can be passed by name.
    named: Vec<Py<PyString>>,
}

impl ArgPolicy {
    /// The policy for a function with these parameters.
    ///
    /// `method`: the first positional argument is `self` or `cls`. `ignore`: names of parameters
    /// (`*args` and `**kwargs` by their names too) that are left out of the key. What is left out is
    /// omitted, not replaced: a later positional argument can only be given by position if the
    /// earlier ones are, so its place in the array of those that count still tells which it is.
    pub(crate) fn new(
        py: Python<'_>,
        parameters: Parameters,
        method: bool,
        ignore: &[String],
    ) -> Self {
        let left_out = |name: &String| ignore.contains(name);
        let intern = |name: &String| PyString::intern(py, name).unbind();
        let named = || {
            parameters
                .positional
                .iter()
                .skip(parameters.positional_only)
                .chain(&parameters.keyword_only)
        };
        Self {
            method,
            plain: !method && ignore.is_empty(),
            ignores_rest: parameters.var_positional.as_ref().is_some_and(left_out),
            ignores_unnamed: parameters.var_keyword.as_ref().is_some_and(left_out),
            ignored: parameters.positional.iter().map(left_out).collect(),
            ignored_names: named().filter(|name| left_out(name)).map(intern).collect(),
            named: named().map(intern).collect(),
            parameters,
        }
    }

    fn ignores_position(&self, index: usize) -> bool {
        self.ignored
            .get(index)
            .copied()
            .unwrap_or(self.ignores_rest)
    }

    /// # Safety
    /// `name` is a live string; the GIL is held.
    unsafe fn ignores_name(&self, name: *mut ffi::PyObject) -> bool {
        // Call sites intern their names; those from a `**mapping` may be equal strings.
        // SAFETY: both are strings, so that comparing runs no Python code.
        let is = |known: &Py<PyString>| unsafe {
            known.as_ptr() == name || ffi::PyUnicode_Compare(known.as_ptr(), name) == 0
        };
        self.ignored_names.iter().any(is) || (self.ignores_unnamed && !self.named.iter().any(is))
    }

    /// What an argument is called in a message.
    fn name_of(&self, position: usize) -> String {
        match (
            self.parameters.positional.get(position),
            &self.parameters.var_positional,
        ) {
            (Some(name), _) => name.clone(),
            (None, Some(rest)) => {
                format!("{rest}[{}]", position - self.parameters.positional.len())
            }
            (None, None) => format!("args[{position}]"),
        }
    }
}

/// Appends the bytes of a call's arguments to `out`; on an error `out` holds a part of them.
///
/// `args` are the positional arguments followed by the values of the keyword arguments, whose names
/// `kwnames` holds, as in a vectorcall (`nargs` without its flag).
///
/// # Safety
/// `args` points to `nargs` objects and then one per name; `kwnames` is null or a tuple of strings; all
/// stay alive during the call.
///
/// # Errors
/// [`Unkeyable`] names the argument, the place inside it, the type and the remedies.
#[inline]
pub(crate) unsafe fn encode_args(
    py: Python<'_>,
    args: *const *mut ffi::PyObject,
    nargs: usize,
    kwnames: *mut ffi::PyObject,
    policy: &ArgPolicy,
    out: &mut KeyBuf,
) -> Result<Scope, Unkeyable> {
    let mut encoder = Encoder::new(py, out);
    // SAFETY: the caller's promise.
    unsafe {
        if policy.plain {
            encoder.pair(nargs as u32);
            for index in 0..nargs {
                if let Err(refusal) = argument(&mut encoder, *args.add(index)) {
                    return Err(Unkeyable::new(policy.name_of(index), refusal));
                }
            }
        } else {
            chosen(&mut encoder, args, nargs, policy)?;
        }
        if kwnames.is_null() {
            encoder.out.push(0x80);
        } else {
            keywords(&mut encoder, args.add(nargs), kwnames, policy)?;
        }
    }
    Ok(encoder.scope)
}

/// # Safety
/// `object` is alive; the GIL is held.
#[inline(always)]
unsafe fn argument(encoder: &mut Encoder<'_, '_>, object: *mut ffi::PyObject) -> Refused<()> {
    // SAFETY: the caller's promise.
    unsafe {
        if plain(encoder.out, object) {
            Ok(())
        } else {
            encoder.any(object, 0)
        }
    }
}

/// Writes the most frequent exact types and says whether it did.
///
/// # Safety
/// `object` is alive; the GIL is held.
#[inline(always)]
pub(super) unsafe fn plain(out: &mut KeyBuf, object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller's promise; each branch has checked the type that its calls need.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if class == &raw mut ffi::PyLong_Type {
            if let Some(value) = layout::small_int(object) {
                msgpack::write_i64(out, value);
                return true;
            }
        } else if class == &raw mut ffi::PyUnicode_Type {
            if let Text::Utf8(bytes) = layout::text(object)
                && bytes.len() < u32::MAX as usize
            {
                msgpack::write_str_header(out, bytes.len() as u32);
                out.extend(bytes);
                return true;
            }
        } else if class == &raw mut ffi::PyFloat_Type {
            write_float(out, ffi::PyFloat_AS_DOUBLE(object));
            return true;
        } else if object == ffi::Py_None() {
            msgpack::write_nil(out);
            return true;
        } else if class == &raw mut ffi::PyBool_Type {
            msgpack::write_bool(out, object == ffi::Py_True());
            return true;
        }
        false
    }
}

/// Zero has no sign in a key; a NaN keeps its bits.
#[inline(always)]
pub(super) fn write_float(out: &mut KeyBuf, value: f64) {
    msgpack::write_f64(out, if value == 0.0 { 0.0 } else { value });
}

/// The positional arguments of a method, or of a function with ignored parameters.
#[inline(never)]
unsafe fn chosen(
    encoder: &mut Encoder<'_, '_>,
    args: *const *mut ffi::PyObject,
    nargs: usize,
    policy: &ArgPolicy,
) -> Result<(), Unkeyable> {
    let counted = (0..nargs)
        .filter(|&index| !policy.ignores_position(index))
        .count();
    encoder.pair(counted as u32);
    for index in (0..nargs).filter(|&index| !policy.ignores_position(index)) {
        // SAFETY: the caller of `encode_args` promises that many live arguments.
        let written = unsafe {
            let object = *args.add(index);
            if index == 0 && policy.method {
                encoder.receiver(object)
            } else {
                argument(encoder, object)
            }
        };
        written.map_err(|refusal| Unkeyable::new(policy.name_of(index), refusal))?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Keyword {
    name: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
}

#[inline(never)]
unsafe fn keywords(
    encoder: &mut Encoder<'_, '_>,
    values: *const *mut ffi::PyObject,
    kwnames: *mut ffi::PyObject,
    policy: &ArgPolicy,
) -> Result<(), Unkeyable> {
    // SAFETY: the caller of `encode_args` promises a tuple of strings and a live value for each.
    unsafe {
        let given = ffi::PyTuple_GET_SIZE(kwnames) as usize;
        let unset = Keyword {
            name: std::ptr::null_mut(),
            value: std::ptr::null_mut(),
        };
        let mut inline = [unset; INLINE_KEYWORDS];
        let mut heap = Vec::new();
        let all: &mut [Keyword] = if given <= INLINE_KEYWORDS {
            &mut inline[..given]
        } else {
            heap.resize(given, unset);
            &mut heap
        };
        let mut counted = 0;
        for index in 0..given {
            let name = ffi::PyTuple_GET_ITEM(kwnames, index as ffi::Py_ssize_t);
            if policy.plain || !policy.ignores_name(name) {
                all[counted] = Keyword {
                    name,
                    value: *values.add(index),
                };
                counted += 1;
            }
        }
        let counted = &mut all[..counted];
        if counted.len() > 1 {
            counted.sort_unstable_by(|a, b| compare_text(a.name, b.name));
        }
        msgpack::write_map_header(encoder.out, counted.len() as u32);
        for keyword in counted {
            layout::write_str(encoder.out, keyword.name)
                .map_err(|bad| bad_name(encoder.py, keyword.name, bad))?;
            argument(encoder, keyword.value).map_err(|refusal| {
                Unkeyable::new(
                    Bound::from_borrowed_ptr(encoder.py, keyword.name).to_string(),
                    refusal,
                )
            })?;
        }
        Ok(())
    }
}

#[cold]
unsafe fn bad_name(py: Python<'_>, name: *mut ffi::PyObject, bad: layout::BadText) -> Unkeyable {
    // SAFETY: the name is alive.
    let name = unsafe { Bound::from_borrowed_ptr(py, name) };
    Unkeyable::new(
        String::from("the name of a keyword argument"),
        Refusal::new(&name, bad.reason()),
    )
}

/// Orders strings by code point, which is the order of their UTF-8 too.
///
/// # Safety
/// Both are live strings; the GIL is held.
#[inline]
pub(super) unsafe fn compare_text(
    a: *mut ffi::PyObject,
    b: *mut ffi::PyObject,
) -> std::cmp::Ordering {
    // SAFETY: the caller's promise; comparing two strings runs no Python code and cannot fail.
    unsafe {
        match (layout::text(a), layout::text(b)) {
            (Text::Utf8(a), Text::Utf8(b)) => a.cmp(b),
            _ => ffi::PyUnicode_Compare(a, b).cmp(&0),
        }
    }
}
