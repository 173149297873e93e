//! JSON by orjson, of values that JSON holds as they are.

use std::borrow::Cow;

use cachekit::payload::Body;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyTuple},
};

use super::{Refused, roomy, unreadable};
use crate::codec;

/// The serializer of JSON.
pub(crate) struct Orjson {
    /// `orjson.dumps`.
    dumps: Py<PyAny>,
    loads: Py<PyAny>,
    option: Py<PyAny>,
}

impl Orjson {
    /// `(dumps, loads, option)`
    pub(super) fn new(options: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let (dumps, loads, option) = options.extract()?;
        Ok(Self {
            dumps,
            loads,
            option,
        })
    }

    pub(super) fn encode(
        &self,
        py: Python<'_>,
        object: &Bound<'_, PyAny>,
    ) -> Result<Body<'static>, Refused> {
        codec::check_json(object).map_err(|error| Refused::unencodable(py, &error))?;
        let text = self
            .dumps
            .bind(py)
            .call1((object, py.None(), &self.option))?;
        let text = text.cast::<PyBytes>().map_err(PyErr::from)?;
        Ok(Body {
            bytes: Cow::Owned(roomy(text.as_bytes())),
            room: Body::ROOM,
            format: Cow::Borrowed("orjson"),
            original_type: Some(Cow::Borrowed("orjson")),
            compressed: Some(false),
        })
    }

    pub(super) fn decode<'py>(
        &self,
        py: Python<'py>,
        body: &[u8],
    ) -> Result<Bound<'py, PyAny>, String> {
        let text = PyBytes::new(py, body);
        self.loads
            .bind(py)
            .call1((text,))
            .map_err(|error| unreadable(py, &error))
    }

    pub(super) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.dumps)?;
        visit.call(&self.loads)
    }
}
