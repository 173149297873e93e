//! MessagePack of the std serializer, as Python objects.
//!
//! Arrays become lists, strings str, binaries bytes; a map's keys are str or bytes. A map whose
//! `__datetime__`, `__date__` or `__time__` is true becomes what its `value` describes. The input may be
//! anything: nothing in it makes more memory be reserved than it has bytes to fill.

use std::fmt;

use cachekit_wire::msgpack::{self, MAX_DEPTH, Reader, Token};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

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
    /// What stands for an object of another type does not describe one.
    Value(PyErr),
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
            Self::Value(error) => write!(f, "not what its mark says: {error}"),
            Self::Object(_) => f.write_str("the interpreter could not make an object"),
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Format(error) => Some(error),
            Self::Moment(error) | Self::Value(error) | Self::Object(error) => Some(error),
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
        owed: 1,
        frame: Frame::NONE,
        outer: Vec::new(),
    };
    // SAFETY: the decoder is fresh.
    let object = unsafe { decoder.document() }.map_err(|error| *error)?;
    // SAFETY: a new reference.
    let object = unsafe { Bound::from_owned_ptr(py, object) };
    decoder.reader.finish()?;
    Ok(object)
}

type Object = *mut ffi::PyObject;

/// A container that is being filled.
struct Frame {
    /// Null where there is none.
    container: Object,
    /// In a map, the key whose value comes next; null where a key comes next.
    key: Object,
    filled: usize,
    len: usize,
    is_map: bool,
    /// Whether the map has a key that marks dates or times.
    is_marked: bool,
}

impl Frame {
    const NONE: Self = Self {
        container: std::ptr::null_mut(),
        key: std::ptr::null_mut(),
        filled: 0,
        len: 0,
        is_map: false,
        is_marked: false,
    };
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: both are owned by the frame, or null; frames are dropped with the GIL held.
        unsafe {
            ffi::Py_XDECREF(self.key);
            ffi::Py_XDECREF(self.container);
        }
    }
}

/// Fills containers from the outermost on, without recursion.
struct Decoder<'py, 'a> {
    py: Python<'py>,
    reader: Reader<'a>,
    /// How many keys and values are still to come for what has been begun. Each takes a byte at least, so
    /// a number above the rest of the input is a lie, and nothing is reserved on the strength of it.
    owed: usize,
    /// The innermost container that is not full.
    frame: Frame,
    /// Those around it.
    outer: Vec<Frame>,
}

impl Decoder<'_, '_> {
    /// Reads one document and gives a new reference to it.
    unsafe fn document(&mut self) -> Result<Object, Box<DecodeError>> {
        loop {
            let position = self.reader.position();
            let token = self.reader.next().map_err(format)?;
            self.owed -= 1;
            // SAFETY: the GIL is held; each call gives a new reference or null with the exception set.
            let object = unsafe {
                if self.frame.is_map && self.frame.key.is_null() {
                    self.frame.key = self.key(&token, position)?;
                    continue;
                }
                match token {
                    Token::Str(text) => layout::new_str(text),
                    Token::Int(value) => ffi::PyLong_FromLongLong(value),
                    Token::Nil => new_reference(ffi::Py_None()),
                    Token::Bool(true) => new_reference(ffi::Py_True()),
                    Token::Bool(false) => new_reference(ffi::Py_False()),
                    Token::F64(value) => ffi::PyFloat_FromDouble(value),
                    Token::Map(len) => {
                        let len = len as usize;
                        self.enter(2 * len, position)?;
                        let dict = new_dict(len);
                        if len > 0 && !dict.is_null() {
                            self.open(dict, len, true);
                            continue;
                        }
                        dict
                    }
                    Token::Array(len) => {
                        let len = len as usize;
                        self.enter(len, position)?;
                        let list = ffi::PyList_New(len as ffi::Py_ssize_t);
                        if len > 0 && !list.is_null() {
                            self.open(list, len, false);
                            continue;
                        }
                        list
                    }
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
            if object.is_null() {
                return Err(self.raised());
            }
            // SAFETY: a new reference.
            if let Some(document) = unsafe { self.put(object)? } {
                return Ok(document);
            }
        }
    }

    /// Puts a value into its container, and each container that is thereby full into its own. Gives the
    /// outermost one when that is full.
    #[inline(always)]
    unsafe fn put(&mut self, mut object: Object) -> Result<Option<Object>, Box<DecodeError>> {
        loop {
            let frame = &mut self.frame;
            // SAFETY: the frame's container is ours alone and of the kind that it says, a list with room
            // for `len`; hashing and comparing str and bytes runs no Python code.
            unsafe {
                if frame.is_map {
                    let failed = ffi::PyDict_SetItem(frame.container, frame.key, object) != 0;
                    ffi::Py_DECREF(object);
                    ffi::Py_DECREF(frame.key);
                    frame.key = std::ptr::null_mut();
                    if failed {
                        return Err(self.raised());
                    }
                } else if frame.container.is_null() {
                    return Ok(Some(object));
                } else {
                    ffi::PyList_SET_ITEM(frame.container, frame.filled as ffi::Py_ssize_t, object);
                }
            }
            frame.filled += 1;
            if frame.filled < frame.len {
                return Ok(None);
            }
            object = std::mem::replace(&mut frame.container, std::ptr::null_mut());
            let is_marked = frame.is_marked;
            self.frame = self.outer.pop().unwrap_or(Frame::NONE);
            if is_marked {
                // SAFETY: a new reference to a dict.
                object = unsafe { self.moment(object)? };
            }
        }
    }

    #[inline(always)]
    fn open(&mut self, container: Object, len: usize, is_map: bool) {
        let frame = Frame {
            container,
            len,
            is_map,
            ..Frame::NONE
        };
        let outer = std::mem::replace(&mut self.frame, frame);
        if !outer.container.is_null() {
            self.outer.push(outer);
        }
    }

    /// Accounts for a container of `values` keys and values.
    #[inline(always)]
    fn enter(&mut self, values: usize, position: usize) -> Result<(), Box<DecodeError>> {
        let depth = self.outer.len() + usize::from(!self.frame.container.is_null());
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

    #[inline(always)]
    unsafe fn key(
        &mut self,
        token: &Token<'_>,
        position: usize,
    ) -> Result<Object, Box<DecodeError>> {
        let key = match token {
            Token::Str(text) => {
                self.frame.is_marked |= sentinel::marked(text.as_bytes()).is_some();
                keycache::key(self.py, text)
            }
            // SAFETY: the pointer and length are those of a live slice.
            Token::Bin(data) => unsafe {
                ffi::PyBytes_FromStringAndSize(data.as_ptr().cast(), data.len() as ffi::Py_ssize_t)
            },
            _ => return Err(Box::new(DecodeError::Key(position))),
        };
        if key.is_null() {
            Err(self.raised())
        } else {
            Ok(key)
        }
    }

    /// A map with a key that marks dates or times: one of these if the key's value is true.
    #[inline(never)]
    unsafe fn moment(&self, dict: Object) -> Result<Object, Box<DecodeError>> {
        let failed = |error| Box::new(DecodeError::Moment(error));
        // SAFETY: a new reference to a dict.
        let dict = unsafe { Bound::from_owned_ptr(self.py, dict) };
        for (name, kind) in [
            (sentinel::DATETIME, Temporal::DateTime),
            (sentinel::DATE, Temporal::Date),
            (sentinel::TIME, Temporal::Time),
        ] {
            let mark = dict
                .cast::<PyDict>()
                .expect("a map is made a dict")
                .get_item(name)
                .map_err(failed)?;
            if mark.is_some_and(|mark| mark.is_truthy().unwrap_or(false)) {
                let text = dict.get_item(sentinel::VALUE).map_err(failed)?;
                let text = text
                    .cast_into::<PyString>()
                    .map_err(|error| failed(error.into()))?;
                return temporal::parse(self.py, kind, &text)
                    .map(Bound::into_ptr)
                    .map_err(failed);
            }
        }
        Ok(dict.into_ptr())
    }

    #[cold]
    fn raised(&self) -> Box<DecodeError> {
        Box::new(DecodeError::Object(PyErr::fetch(self.py)))
    }
}

#[inline(always)]
unsafe fn new_reference(object: Object) -> Object {
    // SAFETY: the caller has a live object.
    unsafe { ffi::Py_INCREF(object) };
    object
}

#[cold]
fn format(error: msgpack::DecodeError) -> Box<DecodeError> {
    Box::new(DecodeError::Format(error))
}

/// A dict with room for `len` entries where the interpreter can be asked for that.
#[inline(always)]
pub(super) fn new_dict(len: usize) -> *mut ffi::PyObject {
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
