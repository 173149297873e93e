//! A user's serializer: an object with `serialize` and `deserialize`.

use std::borrow::Cow;

use cachekit::payload::Body;
use cachekit_wire::frame::{Header, Serializer};
use pyo3::{
    exceptions::PyValueError,
    intern,
    prelude::*,
    types::{PyBytes, PyDict, PyTuple},
};

use super::{Refused, roomy, unreadable};
use crate::{codec, outcall};

/// A serializer of the user's.
pub(crate) struct Custom {
    pub(super) object: Py<PyAny>,
    /// Its class's name, as frames have it.
    pub(super) name: String,
}

impl Custom {
    /// `(object,)`
    pub(super) fn new(options: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let object = options.get_item(0)?;
        let name: String = object.get_type().name()?.extract()?;
        if !matches!(Serializer::from_name(&name), Serializer::Other(_)) {
            return Err(PyValueError::new_err(format!(
                "a serializer class named {name:?} would be taken for cachekit's own; rename it"
            )));
        }
        Ok(Self {
            object: object.unbind(),
            name,
        })
    }

    pub(super) fn encode(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
    ) -> Result<Body<'static>, Refused> {
        let custom = self.object.bind(py);
        let made = outcall::call_method(custom, intern!(py, "serialize"), (object,))?;
        let (data, metadata): (Bound<'_, PyAny>, Bound<'_, PyAny>) = made.extract()?;
        let members = metadata.call_method0(intern!(py, "to_dict"))?;
        let members = members.cast::<PyDict>().map_err(PyErr::from)?;
        let text = |name: &str| -> PyResult<Option<Cow<'static, str>>> {
            match members.get_item(name)?.filter(|value| !value.is_none()) {
                Some(value) => Ok(Some(Cow::Owned(value.extract()?))),
                None => Ok(None),
            }
        };
        let compressed = match members.get_item("compressed")? {
            Some(value) => value.is_truthy()?,
            None => false,
        };
        let bytes = codec::with_buffer(&data, roomy)?;
        Ok(Body {
            bytes: Cow::Owned(bytes),
            room: Body::ROOM,
            format: text("format")?.unwrap_or(Cow::Borrowed("msgpack")),
            original_type: text("original_type")?,
            compressed: Some(compressed),
        })
    }

    pub(super) fn decode<'py>(
        &self,
        py: Python<'py>,
        body: &[u8],
        header: &Header,
    ) -> Result<Bound<'py, PyAny>, String> {
        let read = || {
            let members = PyDict::new(py);
            members.set_item("format", &*header.format)?;
            members.set_item("encoding", &*header.encoding)?;
            members.set_item("compressed", header.compressed)?;
            members.set_item("original_type", header.original_type.as_deref())?;
            let metadata = py
                .import(intern!(py, "cachekit.serializers.base"))?
                .getattr(intern!(py, "SerializationMetadata"))?
                .call_method1(intern!(py, "from_dict"), (members,))?;
            let data = PyBytes::new(py, body);
            let custom = self.object.bind(py);
            outcall::call_method(custom, intern!(py, "deserialize"), (data, metadata))
        };
        read().map_err(|error| unreadable(py, &error))
    }
}
