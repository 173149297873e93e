//! Any well-formed document as Python objects.

use std::fmt;

use cachekit_wire::{
    interop::{self, ValueError},
    msgpack::{Reader, Token},
};
use pyo3::{
    intern,
    prelude::*,
    types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PyString, PyTzInfo},
};

use super::super::{sentinel, temporal};

/// The extension type of MessagePack's own timestamps.
const TIMESTAMP: i8 = -1;

/// Why bytes are not an interop value for Python.
#[derive(Debug)]
pub(crate) enum Undecodable {
    /// Not one well-formed document.
    Bytes(ValueError),
    /// Well-formed, with a part that Python has no object for: where, what, and why.
    Part(usize, &'static str, PyErr),
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(error) => error.fmt(f),
            Self::Part(at, what, error) => write!(f, "at byte {at}, {what}: {error}"),
        }
    }
}

/// The object that `bytes` hold. Maps take any key that Python can hash; timestamps are aware
/// datetimes, other extension values are `cachekit.interop.ExtType`.
///
/// # Errors
/// [`Undecodable`].
pub(crate) fn decode_interop<'py>(
    py: Python<'py>,
    bytes: &[u8],
) -> Result<Bound<'py, PyAny>, Undecodable> {
    // From here on lengths are true and nesting is bounded.
    interop::document(bytes).map_err(Undecodable::Bytes)?;
    value(py, &mut Reader::new(bytes))
}

fn value<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> Result<Bound<'py, PyAny>, Undecodable> {
    let at = reader.position();
    let part = |what: &'static str| move |error: PyErr| Undecodable::Part(at, what, error);
    let token = reader
        .next()
        .map_err(|error| Undecodable::Bytes(error.into()))?;
    let Ok(object) = match token {
        Token::Nil => Ok(py.None().into_bound(py)),
        Token::Bool(v) => Ok(PyBool::new(py, v).to_owned().into_any()),
        Token::Int(v) => v.into_pyobject(py).map(Bound::into_any),
        Token::UInt(v) => v.into_pyobject(py).map(Bound::into_any),
        Token::F64(v) => Ok(PyFloat::new(py, v).into_any()),
        Token::Str(v) => Ok(PyString::new(py, v).into_any()),
        Token::Bin(v) => Ok(PyBytes::new(py, v).into_any()),
        Token::Array(n) => {
            let elements: Vec<_> = (0..n)
                .map(|_| value(py, reader))
                .collect::<Result<_, _>>()?;
            return PyList::new(py, elements)
                .map(Bound::into_any)
                .map_err(part("an array"));
        }
        Token::Map(n) => return map(py, reader, n, at),
        Token::Ext(TIMESTAMP, data) => return timestamp(py, data).map_err(part("a timestamp")),
        Token::Ext(code, data) => return extension(py, code, data).map_err(part("an extension")),
    };
    Ok(object)
}

fn map<'py>(
    py: Python<'py>,
    reader: &mut Reader<'_>,
    pairs: u32,
    at: usize,
) -> Result<Bound<'py, PyAny>, Undecodable> {
    let dict = PyDict::new(py);
    let mut marked = None;
    for _ in 0..pairs {
        let key_at = reader.position();
        let key = value(py, reader)?;
        let item = value(py, reader)?;
        if let Ok(name) = key.cast_exact::<PyString>()
            && item.is_exact_instance_of::<PyBool>()
            && item.is_truthy().unwrap_or(false)
        {
            marked = marked.or(name
                .to_str()
                .ok()
                .and_then(|n| sentinel::marked(n.as_bytes())));
        }
        dict.set_item(key, item).map_err(|error| {
            Undecodable::Part(key_at, "a map's key that Python cannot hash", error)
        })?;
    }
    let Some(kind) = marked else {
        return Ok(dict.into_any());
    };
    let text = dict.get_item(sentinel::VALUE).ok().flatten();
    match text.and_then(|text| text.cast_into_exact::<PyString>().ok()) {
        Some(text) => temporal::parse(py, kind, &text)
            .map_err(|error| Undecodable::Part(at, "a map that stands for a date or time", error)),
        None => Ok(dict.into_any()),
    }
}

/// Seconds and nanoseconds since the Unix epoch, the latter floored to Python's microseconds.
fn timestamp<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let (seconds, nanos) = match *data {
        [a, b, c, d] => (i64::from(u32::from_be_bytes([a, b, c, d])), 0),
        [a, b, c, d, e, f, g, h] => {
            let both = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            ((both & 0x3_ffff_ffff) as i64, (both >> 34) as u32)
        }
        [a, b, c, d, e, f, g, h, i, j, k, l] => (
            i64::from_be_bytes([e, f, g, h, i, j, k, l]),
            u32::from_be_bytes([a, b, c, d]),
        ),
        _ => return extension(py, TIMESTAMP, data),
    };
    let module = py.import(intern!(py, "datetime"))?;
    let kwargs = PyDict::new(py);
    kwargs.set_item(intern!(py, "seconds"), seconds)?;
    kwargs.set_item(intern!(py, "microseconds"), nanos / 1000)?;
    let since = module
        .getattr(intern!(py, "timedelta"))?
        .call((), Some(&kwargs))?;
    let utc = PyTzInfo::utc(py)?;
    let epoch = module
        .getattr(intern!(py, "datetime"))?
        .call1((1970, 1, 1, 0, 0, 0, 0, utc))?;
    epoch.add(since)
}

fn extension<'py>(py: Python<'py>, code: i8, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    py.import(intern!(py, "cachekit.interop"))?
        .getattr(intern!(py, "ExtType"))?
        .call1((code, PyBytes::new(py, data)))
}
