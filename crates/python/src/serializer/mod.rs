//! Serializers: from a result to the body of its entry, and back.
//!
//! A body is wrapped and framed by [`entry`](crate::entry), whatever made it. The classes of
//! `cachekit.serializers` are the same codecs for programs, with the wrapping but without the frame.

mod arrow;
mod auto;
mod custom;
mod json;
mod memory;
mod payloads;
mod sink;

use std::fmt;

use bytes::Bytes;
use cachekit::payload::Body;
use cachekit_wire::frame::{Header, Serializer};
use pyo3::{
    exceptions::{PyException, PyKeyboardInterrupt},
    prelude::*,
    types::PyTuple,
};

pub(crate) use arrow::{check_arrow, check_arrow_shared, is_arrow_text, write_arrow};
pub(crate) use payloads::Payloads;
pub(crate) use sink::Sink;

use crate::codec;

/// The serializer of one function.
pub(crate) enum Codec {
    /// MessagePack that every language reads.
    Standard,
    /// One plain document, for programs in other languages.
    Interop,
    /// What Python programs return.
    Auto(codec::Auto),
    /// JSON, by orjson.
    Orjson(json::Orjson),
    /// Tables as Arrow IPC files, by pyarrow.
    Arrow(arrow::Arrow),
    /// A user's.
    Custom(custom::Custom),
}

/// Who chose the bytes of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Whoever can write to the store.
    Store,
    /// This process, which made them or has read them before, or a holder of the key.
    Ours,
}

/// Why a serializer makes no body of a value.
pub(crate) enum Refused {
    /// The place in the value, what is wrong with it, and the remedy.
    Because(String),
    /// What Python code raised meanwhile, which says the same.
    Raised(PyErr),
}

impl Refused {
    /// What was raised, if it must reach the caller: KeyboardInterrupt and its like.
    pub(crate) fn interrupt(&self, py: Python<'_>) -> Option<PyErr> {
        match self {
            Self::Raised(error) if !error.is_instance_of::<PyException>(py) => {
                Some(error.clone_ref(py))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Because(reason) => f.write_str(reason),
            Self::Raised(error) => Python::attach(|py| {
                write!(
                    f,
                    "the serializer raised {}",
                    error
                        .value(py)
                        .repr()
                        .map_or_else(|_| String::from("an exception"), |text| text.to_string())
                )
            }),
        }
    }
}

impl From<PyErr> for Refused {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl Refused {
    fn unencodable(py: Python<'_>, error: &codec::Unencodable) -> Self {
        match error.cause() {
            Some(cause) if error.interrupts(py) => Self::Raised(cause.clone_ref(py)),
            _ => Self::Because(error.to_string()),
        }
    }
}

impl Codec {
    /// The serializer that the Python face chose: `None` for std, else its kind and what that needs.
    ///
    /// # Errors
    /// TypeError for what the kind does not take.
    pub(crate) fn new(chosen: &Bound<'_, PyAny>) -> PyResult<Self> {
        if chosen.is_none() {
            return Ok(Self::Standard);
        }
        let chosen = chosen.cast::<PyTuple>()?;
        let kind: String = chosen.get_item(0)?.extract()?;
        let rest = chosen.get_slice(1, chosen.len());
        match kind.as_str() {
            "auto" => auto::new(&rest).map(Self::Auto),
            "orjson" => json::Orjson::new(&rest).map(Self::Orjson),
            "arrow" => arrow::Arrow::new(&rest).map(Self::Arrow),
            _ => custom::Custom::new(&rest).map(Self::Custom),
        }
    }

    /// Whether it is the std serializer.
    pub(crate) fn is_standard(&self) -> bool {
        matches!(self, Self::Standard)
    }

    /// Whether L1 holds what is stored of `object`, because nobody can be given copies of what comes
    /// back: a table or an array.
    pub(crate) fn is_table(&self, object: &Bound<'_, PyAny>) -> bool {
        match self {
            Self::Auto(_) => matches!(codec::table_kind(object), Ok(Some(_))),
            Self::Arrow(_) => true,
            _ => false,
        }
    }

    /// How frames name it.
    pub(crate) fn serializer(&self) -> Serializer {
        match self {
            Self::Standard => Serializer::Default,
            Self::Interop => Serializer::Other("interop".to_owned()),
            Self::Auto(_) => Serializer::Auto,
            Self::Orjson(_) => Serializer::Orjson,
            Self::Arrow(_) => Serializer::Arrow,
            Self::Custom(custom) => Serializer::Other(custom.name.clone()),
        }
    }

    /// The body of a value, in `buffer` or a buffer of its own. Who can tell early that it passes
    /// `limit` bytes stops there.
    #[inline]
    pub(crate) fn encode<'b>(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        buffer: &'b mut Vec<u8>,
        limit: u64,
    ) -> Result<Body<'b>, Refused> {
        match self {
            Self::Standard => {
                buffer.reserve(256);
                codec::encode_value(py, object, buffer)
                    .map_err(|error| Refused::unencodable(py, &error))?;
                Ok(Body::msgpack(buffer))
            }
            Self::Interop => {
                codec::encode_interop(object, buffer)
                    .map_err(|error| Refused::unencodable(py, &error))?;
                Ok(Body::msgpack(buffer))
            }
            Self::Auto(auto) => auto::encode(auto, py, object, buffer, limit),
            Self::Orjson(orjson) => orjson.encode(py, object),
            Self::Arrow(arrow) => arrow.encode(py, object, limit),
            Self::Custom(custom) => custom.encode(py, object),
        }
    }

    /// The value of a body, which may lie within `stored`. The error says what is wrong with it.
    #[inline]
    pub(crate) fn decode<'py>(
        &self,
        py: Python<'py>,
        body: &[u8],
        header: &Header,
        stored: &Bytes,
        origin: Origin,
    ) -> Result<Bound<'py, PyAny>, String> {
        match self {
            Self::Standard => codec::decode_value(py, body).map_err(|error| error.to_string()),
            Self::Interop => codec::decode_interop(py, body).map_err(|error| error.to_string()),
            Self::Auto(auto) => auto::decode(auto, py, body, header, stored, origin),
            Self::Orjson(orjson) => orjson.decode(py, body),
            Self::Arrow(arrow) => arrow.decode(py, body, stored, origin),
            Self::Custom(custom) => custom.decode(py, body, header),
        }
    }

    /// Shows the collector what is held.
    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        match self {
            Self::Standard | Self::Interop => Ok(()),
            Self::Auto(auto) => auto.registered.traverse(visit),
            Self::Orjson(orjson) => orjson.traverse(visit),
            Self::Arrow(arrow) => arrow.traverse(visit),
            Self::Custom(custom) => visit.call(&custom.object),
        }
    }
}

/// A body of bytes that a Python library made, with room in front.
fn roomy(bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(Body::ROOM + bytes.len());
    body.resize(Body::ROOM, 0);
    body.extend_from_slice(bytes);
    body
}

/// What went wrong in a library that reads bytes of the store. Ctrl-C meanwhile is not lost.
fn unreadable(py: Python<'_>, error: &PyErr) -> String {
    let text = error.value(py).to_string();
    let line = text.lines().next().unwrap_or_default();
    let told = format!("its serializer cannot read it: {line}");
    if error.is_instance_of::<PyKeyboardInterrupt>(py) {
        // Last, since even str() looks for an interrupt.
        crate::log::report(py, error.clone_ref(py));
    }
    told
}
