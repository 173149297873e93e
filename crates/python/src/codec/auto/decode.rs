use cachekit_wire::msgpack::{self, DecodeErrorKind, MAX_DEPTH, Reader, Token};
use pyo3::{
    exceptions::PyValueError,
    ffi, intern,
    prelude::*,
    types::{PyBool, PyBytes, PyComplex, PyDelta, PyDict, PyFrozenSet, PyList, PySet, PyString},
};

use super::{
    super::{
        decode::{DecodeError, new_dict},
        keycache, layout, sentinel,
        temporal::{self, Temporal},
    },
    Auto, EXTENSION, FROZEN, Kind, NDARRAY, SET, TUPLE, UUID, VALUE, arrays, parts, tables,
};

type Decoded<T> = Result<T, Box<DecodeError>>;

/// How many containers may be within each other: a tuple or set takes two.
const DEEPEST: usize = 2 * MAX_DEPTH + 2;

/// The object of exactly one document.
pub(super) fn document<'py>(
    py: Python<'py>,
    bytes: &[u8],
    mode: &Auto,
    trusted: bool,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let mut decoder = Decoder {
        py,
        reader: Reader::new(bytes),
        owed: 1,
        mode,
        trusted,
    };
    let object = decoder.value(0).map_err(|error| *error)?;
    decoder.reader.finish()?;
    Ok(object)
}

struct Decoder<'py, 'a> {
    py: Python<'py>,
    reader: Reader<'a>,
    /// How many keys and values are still to come for what has been begun; each takes a byte at least.
    owed: usize,
    mode: &'a Auto,
    /// Whether tables are read unchecked.
    trusted: bool,
}

fn value_error(error: PyErr) -> Box<DecodeError> {
    Box::new(DecodeError::Value(error))
}

impl<'py, 'a> Decoder<'py, 'a> {
    fn token(&mut self) -> Decoded<Token<'a>> {
        self.owed -= 1;
        self.reader
            .next()
            .map_err(|error| Box::new(DecodeError::Format(error)))
    }

    fn value(&mut self, depth: usize) -> Decoded<Bound<'py, PyAny>> {
        let token = self.token()?;
        self.object(token, depth)
    }

    fn object(&mut self, token: Token<'a>, depth: usize) -> Decoded<Bound<'py, PyAny>> {
        let py = self.py;
        // SAFETY: each call gives a new reference, or null with the exception set.
        let object = unsafe {
            match token {
                Token::Str(text) => layout::new_str(text),
                Token::Int(value) => ffi::PyLong_FromLongLong(value),
                Token::UInt(value) => ffi::PyLong_FromUnsignedLongLong(value),
                Token::F64(value) => ffi::PyFloat_FromDouble(value),
                Token::Nil => return Ok(py.None().into_bound(py)),
                Token::Bool(value) => return Ok(PyBool::new(py, value).to_owned().into_any()),
                Token::Bin(data) => return Ok(PyBytes::new(py, data).into_any()),
                Token::Array(len) => return self.list(len as usize, depth),
                Token::Map(len) => return self.map(len as usize, depth),
                Token::Ext(code, _) => {
                    return Err(Box::new(DecodeError::Extension(
                        code,
                        self.reader.position(),
                    )));
                }
            }
        };
        // SAFETY: as above.
        unsafe { Bound::from_owned_ptr_or_err(py, object) }
            .map_err(|error| Box::new(DecodeError::Object(error)))
    }

    /// Accounts for a container of `values` keys and values.
    fn enter(&mut self, values: usize, depth: usize) -> Decoded<()> {
        let refused = |kind| {
            let error = msgpack::DecodeError::new(self.reader.position(), kind);
            Err(Box::new(DecodeError::Format(error)))
        };
        if depth >= DEEPEST {
            return refused(DecodeErrorKind::TooDeep);
        }
        self.owed += values;
        if self.owed > self.reader.remaining().len() {
            return refused(DecodeErrorKind::Truncated);
        }
        Ok(())
    }

    fn list(&mut self, len: usize, depth: usize) -> Decoded<Bound<'py, PyAny>> {
        self.enter(len, depth)?;
        // SAFETY: a new reference, or null with the exception set. The list is nobody else's until it is
        // full; dropped before that, its empty places are null, which its type allows.
        unsafe {
            let list = ffi::PyList_New(len as ffi::Py_ssize_t);
            let list = Bound::from_owned_ptr_or_err(self.py, list)
                .map_err(|error| Box::new(DecodeError::Object(error)))?;
            for index in 0..len {
                let item = self.value(depth + 1)?;
                ffi::PyList_SET_ITEM(list.as_ptr(), index as ffi::Py_ssize_t, item.into_ptr());
            }
            Ok(list)
        }
    }

    fn map(&mut self, len: usize, depth: usize) -> Decoded<Bound<'py, PyAny>> {
        self.enter(2 * len, depth)?;
        let py = self.py;
        // SAFETY: a new reference, or null with the exception set.
        let dict = unsafe { Bound::from_owned_ptr_or_err(py, new_dict(len)) }
            .map_err(|error| Box::new(DecodeError::Object(error)))?
            .cast_into::<PyDict>()
            .expect("it was made as a dict");
        let mut is_marked = false;
        for _ in 0..len {
            let key = match self.token()? {
                Token::Str(text) => {
                    is_marked |= is_mark(text);
                    // SAFETY: a new reference, or null with the exception set.
                    unsafe { Bound::from_owned_ptr_or_err(py, keycache::key(py, text)) }
                        .map_err(|error| Box::new(DecodeError::Object(error)))?
                }
                Token::Ext(EXTENSION, &[kind]) if len == 1 => {
                    let value = self.value(depth + 1)?;
                    return self.ours(kind, &value);
                }
                token => self.object(token, depth + 1)?,
            };
            let value = self.value(depth + 1)?;
            dict.set_item(key, value).map_err(value_error)?;
        }
        if is_marked {
            self.marked(dict).map_err(value_error)
        } else {
            Ok(dict.into_any())
        }
    }

    /// What a map with one of the protocol's marks stands for: itself, if the mark is not true.
    #[inline(never)]
    fn marked(&self, map: Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let is = |mark: &str| -> PyResult<bool> {
            Ok(map
                .get_item(mark)?
                .is_some_and(|value| value.is(PyBool::new(py, true))))
        };
        let value = || {
            map.get_item(VALUE)?
                .ok_or_else(|| PyValueError::new_err("a marked map without its value"))
        };
        for (mark, kind) in [
            (sentinel::DATETIME, Temporal::DateTime),
            (sentinel::DATE, Temporal::Date),
            (sentinel::TIME, Temporal::Time),
        ] {
            if is(mark)? {
                return temporal::parse(py, kind, value()?.cast::<PyString>()?);
            }
        }
        if is(TUPLE)? {
            return Ok(value()?.cast::<PyList>()?.to_tuple().into_any());
        }
        if is(SET)? {
            let items = value()?;
            let items = items.cast::<PyList>()?;
            let frozen = map.get_item(FROZEN)?;
            return if frozen.is_some_and(|frozen| frozen.is(PyBool::new(py, true))) {
                Ok(PyFrozenSet::new(py, items)?.into_any())
            } else {
                Ok(PySet::new(py, items)?.into_any())
            };
        }
        if is(UUID)? {
            return py
                .import(intern!(py, "uuid"))?
                .call_method1(intern!(py, "UUID"), (value()?.cast::<PyString>()?,));
        }
        if is(NDARRAY)? {
            return arrays::of_map(&map);
        }
        Ok(map.into_any())
    }

    #[inline(never)]
    fn ours(&self, kind: u8, value: &Bound<'py, PyAny>) -> Decoded<Bound<'py, PyAny>> {
        match Kind::from_byte(kind) {
            Some(kind) => self.ours_of(kind, value).map_err(value_error),
            None => Err(value_error(PyValueError::new_err(format!(
                "a value of kind {kind}, which a later version may know"
            )))),
        }
    }

    fn ours_of(&self, kind: Kind, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        match kind {
            Kind::Decimal => py
                .import(intern!(py, "decimal"))?
                .call_method1(intern!(py, "Decimal"), (value.cast::<PyString>()?,)),
            Kind::Delta => {
                let (days, seconds, microseconds): (i32, i32, i32) = parts(value)?;
                Ok(PyDelta::new(py, days, seconds, microseconds, true)?.into_any())
            }
            Kind::Complex => {
                let (real, imaginary): (f64, f64) = parts(value)?;
                Ok(PyComplex::from_doubles(py, real, imaginary).into_any())
            }
            Kind::BigInt => {
                let bytes = value.cast::<PyBytes>()?;
                let kwargs = PyDict::new(py);
                kwargs.set_item(intern!(py, "signed"), true)?;
                py.get_type::<pyo3::types::PyInt>().call_method(
                    intern!(py, "from_bytes"),
                    (bytes, intern!(py, "big")),
                    Some(&kwargs),
                )
            }
            Kind::Array => arrays::of_parts(value),
            Kind::Scalar => arrays::scalar_of(value),
            Kind::Frame => {
                tables(py)?.call_method1(intern!(py, "read_frame"), (value, self.trusted))
            }
            Kind::Series => {
                tables(py)?.call_method1(intern!(py, "nested_series"), (value, self.trusted))
            }
            Kind::Enum | Kind::Dataclass | Kind::Model | Kind::NamedTuple => {
                self.mode.registered.made(kind, value)
            }
        }
    }
}

fn is_mark(text: &str) -> bool {
    text.starts_with("__")
        && (sentinel::marked(text.as_bytes()).is_some()
            || matches!(text, UUID | TUPLE | SET | NDARRAY))
}
