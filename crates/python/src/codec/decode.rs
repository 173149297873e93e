//! MessagePack of the std serializer, as Python objects.
//!
//! Arrays become lists, strings str, binaries bytes; a map's keys are str or bytes. A map whose
//! `__datetime__`, `__date__` or `__time__` is true becomes what its `value` describes. The input may be
//! anything: nothing in it makes more memory be reserved than it has bytes to fill.

use std::fmt;

use cachekit_wire::msgpack::{self, MAX_DEPTH, Reader, Token};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::temporal::{self, Temporal};
use super::{keycache, layout, sentinel};

/// Why bytes are not a value of the std serializer.
#[derive(Debug)]
pub(crate) enum DecodeError {
    /// Not MessagePack, or nested too deep, or followed by something.
    Format(msgpack::DecodeError),
    /// A map's key that is neither str nor bytes, at this byte.
    Key(usize),
    /// An extension type, at this byte.
    Extension(i8, usize),
    /// A map that stands for a date or time whose text does not describe one.
    Moment(PyErr),
    /// The interpreter could not make an object: memory is out.
    Object(PyErr),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format(error) => error.fmt(f),
            Self::Key(at) => write!(
                f,
                "the key of a map at byte {at} is neither a string nor a binary"
            ),
            Self::Extension(code, at) => {
                write!(
                    f,
                    "an extension value of type {code} at byte {at}, which the std serializer never writes"
                )
            }
            Self::Moment(_) => {
                f.write_str("a map that stands for a date or time does not hold ISO 8601 text")
            }
            Self::Object(_) => f.write_str("the interpreter could not make an object"),
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Format(error) => Some(error),
            Self::Moment(error) | Self::Object(error) => Some(error),
            Self::Key(_) | Self::Extension(..) => None,
        }
    }
}

impl From<msgpack::DecodeError> for DecodeError {
    fn from(error: msgpack::DecodeError) -> Self {
        Self::Format(error)
    }
}

/// The object that `bytes` hold.
///
/// # Errors
/// [`DecodeError`] if they are not exactly one document of the std serializer.
pub(crate) fn decode_value<'py>(
    py: Python<'py>,
    bytes: &[u8],
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let mut decoder = Decoder {
        py,
        reader: Reader::new(bytes),
        owed: 0,
    };
    let value = decoder.value(0)?;
    decoder.reader.finish()?;
    Ok(value)
}

struct Decoder<'py, 'a> {
    py: Python<'py>,
    reader: Reader<'a>,
    /// How many values the containers that have been begun still lack. Each takes a byte at least, so
    /// a sum above the rest of the input is a lie, and nothing is reserved on the strength of it.
    owed: usize,
}

impl<'py> Decoder<'py, '_> {
    #[inline]
    fn value(&mut self, depth: usize) -> Result<Bound<'py, PyAny>, Box<DecodeError>> {
        let position = self.reader.position();
        let token = self.reader.next().map_err(format)?;
        // SAFETY: the GIL is held; each call gives a new reference or null with the exception set.
        let object = unsafe {
            match token {
                Token::Str(text) => layout::new_str(text),
                Token::Int(value) => ffi::PyLong_FromLongLong(value),
                Token::Nil => return Ok(self.py.None().into_bound(self.py)),
                Token::Bool(value) => ffi::PyBool_FromLong(value.into()),
                Token::F64(value) => ffi::PyFloat_FromDouble(value),
                Token::Map(len) => return self.map(len as usize, depth, position),
                Token::Array(len) => return self.array(len as usize, depth, position),
                Token::UInt(value) => ffi::PyLong_FromUnsignedLongLong(value),
                Token::Bin(data) => ffi::PyBytes_FromStringAndSize(
                    data.as_ptr().cast(),
                    data.len() as ffi::Py_ssize_t,
                ),
                Token::Ext(code, _) => {
                    return Err(Box::new(DecodeError::Extension(code, position)));
                }
            }
        };
        self.made(object)
    }

    /// Takes over a new reference.
    #[inline(always)]
    fn made(&self, object: *mut ffi::PyObject) -> Result<Bound<'py, PyAny>, Box<DecodeError>> {
        // SAFETY: a new reference, or null with the exception set.
        unsafe { Bound::from_owned_ptr_or_err(self.py, object) }.map_err(object_error)
    }

    /// Accounts for a container of `values` elements, keys and values counted apart.
    #[inline(always)]
    fn enter(
        &mut self,
        values: usize,
        depth: usize,
        position: usize,
    ) -> Result<(), Box<DecodeError>> {
        if depth >= MAX_DEPTH {
            return Err(format(msgpack::DecodeError::new(
                position,
                msgpack::DecodeErrorKind::TooDeep,
            )));
        }
        self.owed += values;
        if self.owed > self.reader.remaining().len() {
            return Err(format(msgpack::DecodeError::new(
                position,
                msgpack::DecodeErrorKind::Truncated,
            )));
        }
        Ok(())
    }

    fn array(
        &mut self,
        len: usize,
        depth: usize,
        position: usize,
    ) -> Result<Bound<'py, PyAny>, Box<DecodeError>> {
        self.enter(len, depth, position)?;
        // SAFETY: the GIL is held; the list is ours alone until it is full, and has room for `len`.
        unsafe {
            let list = self.made(ffi::PyList_New(len as ffi::Py_ssize_t))?;
            for index in 0..len {
                self.owed -= 1;
                let item = self.value(depth + 1)?;
                ffi::PyList_SET_ITEM(list.as_ptr(), index as ffi::Py_ssize_t, item.into_ptr());
            }
            Ok(list)
        }
    }

    fn map(
        &mut self,
        len: usize,
        depth: usize,
        position: usize,
    ) -> Result<Bound<'py, PyAny>, Box<DecodeError>> {
        self.enter(2 * len, depth, position)?;
        let dict = self.made(new_dict(len))?;
        let mut marked = None;
        for _ in 0..len {
            self.owed -= 2;
            let at = self.reader.position();
            let key = match self.reader.next().map_err(format)? {
                Token::Str(text) => {
                    if let Some(kind) = sentinel::marked(text.as_bytes()) {
                        marked = Some(kind);
                    }
                    keycache::key(self.py, text)
                }
                // SAFETY: the pointer and length are those of a live slice.
                Token::Bin(data) => unsafe {
                    ffi::PyBytes_FromStringAndSize(
                        data.as_ptr().cast(),
                        data.len() as ffi::Py_ssize_t,
                    )
                },
                _ => return Err(Box::new(DecodeError::Key(at))),
            };
            let key = self.made(key)?;
            let item = self.value(depth + 1)?;
            // SAFETY: the dict is ours alone; hashing and comparing str and bytes runs no Python code.
            if unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), item.as_ptr()) } != 0 {
                return Err(object_error(PyErr::fetch(self.py)));
            }
        }
        if marked.is_some() {
            self.moment(dict)
        } else {
            Ok(dict)
        }
    }

    /// A map with a key that marks dates or times: one of these if the key's value is true.
    #[inline(never)]
    fn moment(&self, dict: Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Box<DecodeError>> {
        let failed = |error| Box::new(DecodeError::Moment(error));
        for (name, kind) in [
            (sentinel::DATETIME, Temporal::DateTime),
            (sentinel::DATE, Temporal::Date),
            (sentinel::TIME, Temporal::Time),
        ] {
            let dict = dict.cast::<pyo3::types::PyDict>().expect("a dict was made");
            let mark = dict.get_item(name).map_err(failed)?;
            if mark.is_some_and(|mark| mark.is_truthy().unwrap_or(false)) {
                let text = dict.as_any().get_item(sentinel::VALUE).map_err(failed)?;
                let text = text
                    .cast_into::<PyString>()
                    .map_err(|error| failed(error.into()))?;
                return temporal::parse(self.py, kind, &text).map_err(failed);
            }
        }
        Ok(dict)
    }
}

impl From<Box<DecodeError>> for DecodeError {
    fn from(error: Box<Self>) -> Self {
        *error
    }
}

#[cold]
fn format(error: msgpack::DecodeError) -> Box<DecodeError> {
    Box::new(DecodeError::Format(error))
}

#[cold]
fn object_error(error: PyErr) -> Box<DecodeError> {
    Box::new(DecodeError::Object(error))
}

/// A dict with room for `len` entries where the interpreter can be asked for that.
#[inline(always)]
fn new_dict(len: usize) -> *mut ffi::PyObject {
    #[cfg(all(unix, not(Py_3_14)))]
    {
        unsafe extern "C" {
            fn _PyDict_NewPresized(used: ffi::Py_ssize_t) -> *mut ffi::PyObject;
        }
        if len > 5 {
            // SAFETY: the GIL is held; the function is exported by every version up to 3.13.
            return unsafe { _PyDict_NewPresized(len as ffi::Py_ssize_t) };
        }
    }
    let _ = len;
    // SAFETY: the GIL is held.
    unsafe { ffi::PyDict_New() }
}
