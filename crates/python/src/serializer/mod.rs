//! Serializers: from a result to the body of its entry, and back.

mod standard;

use bytes::Bytes;
use cachekit::payload::Body;
use cachekit_wire::frame::{Header, Serializer};
use pyo3::prelude::*;

pub(crate) use standard::{deserialize_std, serialize_std};

use crate::codec;

/// The serializer of one function.
pub(crate) enum Codec {
    /// MessagePack that every language reads.
    Standard,
    /// One plain document, for programs in other languages.
    Interop,
}

/// Why a serializer makes no body of a value.
pub(crate) enum Refused {
    /// The place in the value, what is wrong with it, and the remedy.
    Because(String),
    /// What asked this thread to stop meanwhile: KeyboardInterrupt and its like.
    Interrupted(PyErr),
}

impl From<(Python<'_>, codec::Unencodable)> for Refused {
    fn from((py, error): (Python<'_>, codec::Unencodable)) -> Self {
        match error.cause() {
            Some(cause) if error.interrupts(py) => Self::Interrupted(cause.clone_ref(py)),
            _ => Self::Because(error.to_string()),
        }
    }
}

impl Codec {
    /// What the Python face chose.
    pub(crate) fn new(_chosen: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self::Standard)
    }

    /// How frames name it.
    pub(crate) fn serializer(&self) -> Serializer {
        match self {
            Self::Standard => Serializer::Default,
            Self::Interop => Serializer::Other("interop".to_owned()),
        }
    }

    /// Whether what hits get of a result has to be read from its body: it may differ from the result
    /// in more than the std serializer's ways.
    pub(crate) fn is_read_back(&self) -> bool {
        matches!(self, Self::Interop)
    }

    /// The body of a value, in `buffer` or a buffer of its own.
    #[inline]
    pub(crate) fn encode<'b>(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Body<'b>, Refused> {
        match self {
            Self::Standard => {
                buffer.reserve(256);
                let encoded = codec::encode_value(py, object, buffer);
                encoded.map_err(|error| Refused::from((py, error)))?;
                Ok(Body::msgpack(buffer))
            }
            Self::Interop => {
                let encoded = codec::encode_interop(object, buffer);
                encoded.map_err(|error| Refused::from((py, error)))?;
                Ok(Body::msgpack(buffer))
            }
        }
    }

    /// The value of a body, which may lie within `stored`. The error says what is wrong with it.
    #[inline]
    pub(crate) fn decode<'py>(
        &self,
        py: Python<'py>,
        body: &[u8],
        _header: &Header,
        _stored: &Bytes,
    ) -> Result<Bound<'py, PyAny>, String> {
        match self {
            Self::Standard => codec::decode_value(py, body).map_err(|error| error.to_string()),
            Self::Interop => codec::decode_interop(py, body).map_err(|error| error.to_string()),
        }
    }
}
