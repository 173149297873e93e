//! The codecs for programs: payloads with their checksum or envelope, without a frame.

use bytes::Bytes;
use cachekit::payload::PayloadPolicy;
use cachekit_wire::{
    envelope::{Compression, EnvelopeError},
    frame::{Header, Serializer},
    payload::ARROW,
};
use pyo3::{
    exceptions::PyTypeError,
    intern,
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyBytes, PyTuple},
};

use super::{Codec, Origin, Refused};
use crate::codec;

fn serialization_error(py: Python<'_>, message: &str) -> PyErr {
    let made = py
        .import(intern!(py, "cachekit.serializers.base"))
        .and_then(|module| module.getattr(intern!(py, "SerializationError")))
        .and_then(|class| class.call1((message,)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// Payloads of one serializer.
#[pyclass(frozen, module = "cachekit._native")]
pub(crate) struct Payloads {
    codec: Codec,
    policy: PayloadPolicy,
}

#[pymethods]
impl Payloads {
    /// `chosen` as the decorator's option `serializer` is: None for std, else a kind and what it needs.
    #[new]
    fn new(chosen: &Bound<'_, PyAny>, integrity: bool) -> PyResult<Self> {
        let codec = Codec::new(chosen)?;
        Ok(Self {
            policy: PayloadPolicy {
                serializer: codec.serializer(),
                bare: false,
                integrity,
                compression: Compression::Fast,
            },
            codec,
        })
    }

    /// The payload of a value, and the header's format, original type and compressed flag.
    ///
    /// # Errors
    /// TypeError for what the serializer does not take; SerializationError past 512 MiB.
    fn serialize<'py>(
        &self,
        py: Python<'py>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        if let Codec::Arrow(arrow) = &self.codec {
            let (payload, compressed) = arrow.payload(value)?;
            return (payload, ARROW, ARROW, compressed).into_pyobject(py);
        }
        let mut buffer = Vec::new();
        let body = self
            .codec
            .encode(py, value, &mut buffer, u64::MAX)
            .map_err(|refused| match refused {
                Refused::Because(reason) => PyTypeError::new_err(reason),
                Refused::Raised(error) => error,
            })?;
        let (header, payload) = body
            .wrap(&self.policy)
            .map_err(|error: EnvelopeError| serialization_error(py, &error.to_string()))?;
        let parts = (
            PyBytes::new(py, payload.as_slice()),
            &*header.format,
            header.original_type.as_deref(),
            header.compressed,
        );
        parts.into_pyobject(py)
    }

    /// Writes the payload of a table to a file: whether it is compressed. Nothing of more than
    /// `limit` bytes is left there.
    ///
    /// # Errors
    /// TypeError for what the serializer does not take; OverflowError past the limit.
    fn write_table(
        &self,
        table: &Bound<'_, PyAny>,
        file: &Bound<'_, PyAny>,
        limit: u64,
    ) -> PyResult<bool> {
        match &self.codec {
            Codec::Arrow(arrow) => arrow.write(table, file, limit),
            _ => Err(PyTypeError::new_err("this serializer makes no tables")),
        }
    }

    /// The value of a payload that its metadata describes so.
    ///
    /// # Errors
    /// SerializationError for damaged or foreign bytes.
    fn deserialize<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        format: Option<String>,
        original_type: Option<String>,
        compressed: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let stored = match data.extract::<PyBackedBytes>() {
            // What never changes need not be copied; a bytearray, which can, is copied by this too.
            Ok(bytes) => Bytes::from_owner(bytes),
            Err(_) => codec::with_buffer(data, Bytes::copy_from_slice)?,
        };
        let mut header = Header::msgpack(self.policy.serializer.clone(), false);
        if let Some(format) = format {
            header.format = format.into();
            header.compressed = compressed;
        } else if self.policy.serializer == Serializer::Auto {
            // A caller who kept no metadata: what there is tells itself.
            header = cachekit_wire::payload::guess_auto(&stored, self.policy.integrity);
        }
        if let Some(original_type) = original_type {
            header.original_type = Some(original_type.into());
        }
        let mut scratch = Vec::new();
        let fail = |message: &str| serialization_error(py, message);
        let body =
            cachekit::payload::unwrap(&mut header, &stored, self.policy.integrity, &mut scratch)
                .map_err(|error| fail(&error))?;
        self.codec
            .decode(py, body, &header, &stored, Origin::Store)
            .map_err(|error| fail(&error))
    }
}
