//! Values of the auto serializer, as MessagePack.
//!
//! Beyond what std takes, and as published writers have it, a tuple, set, frozenset, UUID or array within
//! a value is a map with a mark: `{"__tuple__": true, "value": […]}`. What they do not take is a map
//! of one entry whose key is an extension value of type [`EXTENSION`] that holds one byte, a [`Kind`]:
//! no reader of theirs takes such a key for anything, so that they refuse the entry as a whole. The same
//! goes for dicts with other keys than str and bytes, which are maps as they stand. See `docs/wire.md`.

mod arrays;
mod decode;
mod encode;
mod registered;

use cachekit_wire::msgpack;
use pyo3::prelude::*;

pub(crate) use arrays::{array_body, array_of};
pub(crate) use registered::Registered;

use super::{classes, decode::DecodeError, encode::encode_as, refusal::Unencodable};

/// The MessagePack extension type of the keys that say what a map of ours stands for: "C".
const EXTENSION: i8 = 0x43;

/// What a map of ours stands for, and what its value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// Decimal: its text.
    Decimal = 1,
    /// timedelta: `[days, seconds, microseconds]`.
    Delta = 2,
    /// complex: `[real, imaginary]`.
    Complex = 3,
    /// An int beyond 64 bits: two's complement, big-endian.
    BigInt = 4,
    /// A NumPy array of a type that the protocol's form has no text for: `[descr, shape, elements]`.
    Array = 5,
    /// A NumPy scalar: `[dtype, bytes]`.
    Scalar = 6,
    /// A pandas DataFrame: an Arrow IPC file.
    Frame = 7,
    /// A pandas Series: an Arrow IPC file of one column.
    Series = 8,
    /// A member of a registered enumeration: `[class, name]`.
    Enum = 9,
    /// An instance of a registered dataclass: `[class, {field: value}]`.
    Dataclass = 10,
    /// A registered pydantic model: `[class, state]`.
    Model = 11,
    /// An instance of a registered named tuple: `[class, [values]]`.
    NamedTuple = 12,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::*;
        [
            Decimal, Delta, Complex, BigInt, Array, Scalar, Frame, Series, Enum, Dataclass, Model,
            NamedTuple,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }

    /// Writes what precedes the value.
    fn write(self, out: &mut Vec<u8>) {
        msgpack::write_map_header(out, 1);
        msgpack::write_ext(out, EXTENSION, &[self as u8]);
    }
}

/// The marks of the protocol's maps, beside those of std.
const UUID: &str = "__uuid__";
const TUPLE: &str = "__tuple__";
const SET: &str = "__set__";
const NDARRAY: &str = "__ndarray__";
const VALUE: &str = "value";
const FROZEN: &str = "frozen";
const DATA: &str = "data";
const SHAPE: &str = "shape";
const DTYPE: &str = "dtype";

/// How the auto serializer encodes: with the classes that the user registered.
pub(crate) struct Auto {
    pub(crate) registered: Registered,
}

impl Auto {
    /// Appends the MessagePack of `object` to `out`; on an error `out` is as before.
    pub(crate) fn encode(
        &self,
        object: &Bound<'_, PyAny>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unencodable> {
        encode_as(self, object, out)
    }

    /// The object that `bytes` hold. Tables in it are checked unless the bytes are `trusted`.
    ///
    /// # Errors
    /// If they are not exactly one document of the auto serializer, or hold an instance of a class that
    /// is not registered.
    pub(crate) fn decode<'py>(
        &self,
        py: Python<'py>,
        bytes: &[u8],
        trusted: bool,
    ) -> Result<Bound<'py, PyAny>, DecodeError> {
        decode::document(py, bytes, self, trusted)
    }
}

/// The kinds of value for which the protocol has a body of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableKind {
    /// A NumPy array.
    Array,
    /// A pandas DataFrame.
    Frame,
    /// A pandas Series.
    Series,
}

/// Whether a value is of one of these kinds. No library is imported for that.
pub(crate) fn table_kind(object: &Bound<'_, PyAny>) -> PyResult<Option<TableKind>> {
    let class = object.get_type();
    // SAFETY: the class is alive.
    let flags = unsafe { pyo3::ffi::PyType_GetFlags(class.as_type_ptr()) };
    let is_basic = flags
        & (pyo3::ffi::Py_TPFLAGS_DICT_SUBCLASS
            | pyo3::ffi::Py_TPFLAGS_LIST_SUBCLASS
            | pyo3::ffi::Py_TPFLAGS_TUPLE_SUBCLASS
            | pyo3::ffi::Py_TPFLAGS_LONG_SUBCLASS
            | pyo3::ffi::Py_TPFLAGS_UNICODE_SUBCLASS)
        != 0;
    if is_basic {
        Ok(None)
    } else if arrays::is_array(object)? {
        Ok(Some(TableKind::Array))
    } else if classes::is_exactly(&class, "pandas", "DataFrame")? {
        Ok(Some(TableKind::Frame))
    } else if classes::is_exactly(&class, "pandas", "Series")? {
        Ok(Some(TableKind::Series))
    } else {
        Ok(None)
    }
}

/// The elements of a list that must have as many as the tuple asked for.
fn parts<'py, T>(list: &Bound<'py, PyAny>) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    list.cast::<pyo3::types::PyList>()?.to_tuple().extract()
}

/// The functions of `cachekit.serializers._tables`, which need pandas.
fn tables<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyModule>> {
    py.import(pyo3::intern!(py, "cachekit.serializers._tables"))
}
