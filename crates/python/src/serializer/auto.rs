//! The auto serializer: MessagePack, or what the protocol has for one array, table or series.

use std::borrow::Cow;

use bytes::Bytes;
use cachekit::payload::Body;
use cachekit_wire::{
    frame::Header,
    payload::{ARROW, NUMPY},
};
use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyTuple},
};

use super::{Origin, Refused, arrow, unreadable};
use crate::codec::{self, Auto, Registered};

/// The header's `original_type` of a Series, and of a DataFrame where pyarrow is missing.
const SERIES: &str = "series";
const DATAFRAME: &str = "dataframe";

/// `(types,)`
pub(super) fn new(options: &Bound<'_, PyTuple>) -> PyResult<Auto> {
    let types = options.get_item(0)?.cast_into::<PyTuple>()?;
    Ok(Auto {
        registered: Registered::new(&types)?,
    })
}

fn tables<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyModule>> {
    py.import(intern!(py, "cachekit.serializers._tables"))
}

pub(super) fn encode<'b>(
    auto: &Auto,
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    buffer: &'b mut Vec<u8>,
    limit: u64,
) -> Result<Body<'b>, Refused> {
    let mut named: &'static str = "msgpack";
    let mut parts = None;
    match codec::table_kind(object)? {
        Some(codec::TableKind::Array) => {
            let mut body = vec![0; Body::ROOM];
            if codec::array_body(object, &mut body)? {
                return Ok(Body {
                    bytes: Cow::Owned(body),
                    room: Body::ROOM,
                    format: Cow::Borrowed("msgpack"),
                    original_type: Some(Cow::Borrowed(NUMPY)),
                    compressed: Some(false),
                });
            }
        }
        Some(codec::TableKind::Frame) => {
            let tables = tables(py)?;
            if tables
                .call_method0(intern!(py, "has_pyarrow"))?
                .is_truthy()?
            {
                let write = tables.getattr(intern!(py, "write_frame"))?;
                return arrow::encode(&write, object, limit);
            }
            named = DATAFRAME;
            parts = Some(tables.call_method1(intern!(py, "frame_parts"), (object,)));
        }
        Some(codec::TableKind::Series) => {
            let found = tables(py)?.call_method1(intern!(py, "series_parts"), (object,))?;
            if !found.is_none() {
                named = SERIES;
                parts = Some(Ok(found));
            }
        }
        None => {}
    }
    let parts = parts
        .transpose()
        .map_err(|error| arrow::refused(object, error))?;
    buffer.reserve(256);
    auto.encode(parts.as_ref().unwrap_or(object), buffer)
        .map_err(|error| Refused::unencodable(py, &error))?;
    let mut body = Body::msgpack(buffer);
    body.original_type = Some(Cow::Borrowed(named));
    Ok(body)
}

pub(super) fn decode<'py>(
    auto: &Auto,
    py: Python<'py>,
    body: &[u8],
    header: &Header,
    stored: &Bytes,
    origin: Origin,
) -> Result<Bound<'py, PyAny>, String> {
    let failed = |error: PyErr| unreadable(py, &error);
    let kind = header.original_type.as_deref().unwrap_or_default();
    if header.format == ARROW {
        let read = tables(py).and_then(|tables| tables.getattr(intern!(py, "read_frame")));
        return arrow::decode(py, &read.map_err(failed)?, body, stored, origin).map_err(failed);
    }
    if kind == NUMPY {
        return codec::array_of(py, body).map_err(failed);
    }
    let value = auto
        .decode(py, body, origin == Origin::Ours)
        .map_err(|error| error.to_string())?;
    let of = match kind {
        SERIES => intern!(py, "series_of"),
        DATAFRAME => intern!(py, "frame_of"),
        "msgpack" | "" => return Ok(value),
        other => return Err(format!("a body of an unknown kind, {other:?}")),
    };
    tables(py)
        .and_then(|tables| tables.call_method1(of, (value.cast::<PyDict>()?,)))
        .map_err(failed)
}
