//! The standard serializer's payload for Python: MessagePack, in the protocol's envelope or bare.

use cachekit_wire::envelope::{self, Compression};
use pyo3::{exceptions::PyTypeError, intern, prelude::*, types::PyBytes};

use crate::{codec, scratch};

fn serialization_error(py: Python<'_>, message: &str) -> PyErr {
    let made = py
        .import(intern!(py, "cachekit.serializers.base"))
        .and_then(|module| module.getattr(intern!(py, "SerializationError")))
        .and_then(|class| class.call1((message,)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// The payload of a value: MessagePack, with `integrity` in an envelope of LZ4 and checksum.
///
/// # Errors
/// TypeError for what the standard serializer does not take; SerializationError past 512 MiB.
#[pyfunction]
pub(crate) fn serialize_std<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    integrity: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut body = Vec::with_capacity(256);
    if let Err(error) = codec::encode_value(py, value, &mut body) {
        return Err(match error.cause() {
            Some(cause) => cause.clone_ref(py),
            None => PyTypeError::new_err(error.to_string()),
        });
    }
    if !integrity {
        return Ok(PyBytes::new(py, &body));
    }
    let mut out = Vec::with_capacity(body.len() / 2 + 64);
    envelope::seal(&body, "msgpack", Compression::Fast, &mut out)
        .map_err(|error| serialization_error(py, &error.to_string()))?;
    Ok(PyBytes::new(py, &out))
}

/// The value of a payload.
///
/// # Errors
/// SerializationError for damaged or foreign bytes.
#[pyfunction]
pub(crate) fn deserialize_std<'py>(
    py: Python<'py>,
    data: &[u8],
    integrity: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let decode = |body: &[u8]| {
        codec::decode_value(py, body).map_err(|error| serialization_error(py, &error.to_string()))
    };
    if !integrity {
        return decode(data);
    }
    scratch::with(|opened| {
        envelope::open(data, opened)
            .map_err(|error| serialization_error(py, &error.to_string()))?;
        decode(opened)
    })
}
