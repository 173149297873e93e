//! NumPy scalars and arrays in keys, by their content.
//!
//! NumPy is never imported here: without it there is no such object.

use cachekit_wire::keys::content_hash;
use cachekit_wire::msgpack::{self, Sink};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::buffer::with_buffer;
use super::normal::{Encoder, code};
use super::refusal::{Refusal, Refused};
use super::remedies;

/// The protocol's name for its form of a one-dimensional array.
const ARRAY_V1: &str = "__array_v1__";
/// The protocol takes arrays of at most this many bytes,
const MAX_ARRAY_BYTES: usize = 100_000;
/// and calls with at most this many bytes of arrays.
const MAX_CALL_BYTES: usize = 5_000_000;

/// What of an array's type and shape decides its form.
struct Shape<'py> {
    dtype: Bound<'py, PyAny>,
    /// The type as text: `<i8`, or the description of a structure.
    type_text: String,
    dims: Vec<u64>,
    /// The content in bytes, in row-major order.
    bytes: usize,
    has_objects: bool,
}

fn shape<'py>(array: &Bound<'py, PyAny>) -> PyResult<Shape<'py>> {
    let py = array.py();
    let dtype = array.getattr(intern!(py, "dtype"))?;
    let type_text = type_text(&dtype)?;
    Ok(Shape {
        dims: array
            .getattr(intern!(py, "shape"))?
            .cast_into::<PyTuple>()?
            .extract_dims()?,
        bytes: array.getattr(intern!(py, "nbytes"))?.extract()?,
        has_objects: has_objects(&dtype)?,
        type_text,
        dtype,
    })
}

trait Dims {
    fn extract_dims(&self) -> PyResult<Vec<u64>>;
}

impl Dims for Bound<'_, PyTuple> {
    fn extract_dims(&self) -> PyResult<Vec<u64>> {
        self.iter().map(|n| n.extract()).collect()
    }
}

/// NumPy's text for a type; that of a structure names its fields.
pub(super) fn type_text(dtype: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = dtype.py();
    let structured = !dtype.getattr(intern!(py, "names"))?.is_none();
    let text = if structured {
        dtype.getattr(intern!(py, "descr"))?.repr()?.into_any()
    } else {
        dtype.getattr(intern!(py, "str"))?
    };
    text.extract()
}

/// Whether the memory holds pointers instead of the values, which then have to be read one by one.
pub(super) fn has_objects(dtype: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = dtype.py();
    let kind: String = dtype.getattr(intern!(py, "kind"))?.extract()?;
    Ok(kind == "T" || dtype.getattr(intern!(py, "hasobject"))?.extract()?)
}

/// Whether values of the type have bytes without meaning, which differ at random.
fn is_padded(dtype: &Bound<'_, PyAny>) -> PyResult<bool> {
    let code: String = dtype.getattr(intern!(dtype.py(), "char"))?.extract()?;
    Ok(code == "g" || code == "G")
}

/// Runs `write` on the array's content in row-major order, without a copy where it is stored so.
pub(super) fn with_bytes<R>(
    array: &Bound<'_, PyAny>,
    write: impl FnOnce(&[u8]) -> R,
) -> PyResult<R> {
    let py = array.py();
    let numpy = py.import(intern!(py, "numpy"))?;
    let flat = numpy
        .call_method1(intern!(py, "ascontiguousarray"), (array,))?
        .call_method1(intern!(py, "reshape"), (-1,))?
        .call_method1(intern!(py, "view"), (numpy.getattr(intern!(py, "uint8"))?,))?;
    with_buffer(&flat, write)
}

/// Writes an array.
#[inline(never)]
pub(super) fn array<'py>(
    encoder: &mut Encoder<'py, '_>,
    array: &Bound<'py, PyAny>,
    depth: usize,
) -> Refused<()> {
    let failed = |error| Refusal::raised(array, "content", error);
    let shape = shape(array).map_err(failed)?;
    if is_padded(&shape.dtype).map_err(failed)? {
        return Err(Refusal::new(array, remedies::LONG_DOUBLE));
    }
    if let Some(code) = protocol_type(&shape, encoder.array_bytes) {
        encoder.array_bytes += shape.bytes;
        return protocol_array(encoder, array, &shape, code).map_err(failed);
    }
    encoder.wrapped(array, code::NUMPY_ARRAY, |encoder| {
        msgpack::write_str(encoder.out, &shape.type_text);
        msgpack::write_array_header(encoder.out, shape.dims.len() as u32);
        shape
            .dims
            .iter()
            .for_each(|&n| msgpack::write_u64(encoder.out, n));
        if shape.has_objects {
            let values = array
                .call_method0(intern!(array.py(), "tolist"))
                .map_err(failed)?;
            encoder.bound(&values, depth + 1)
        } else {
            let hash = with_bytes(array, content_hash).map_err(failed)?;
            msgpack::write_bin(encoder.out, &hash);
            Ok(())
        }
    })
}

/// The protocol's code for the array's type, if it takes the array.
fn protocol_type(shape: &Shape<'_>, so_far: usize) -> Option<&'static str> {
    let small = shape.dims.len() == 1
        && shape.bytes <= MAX_ARRAY_BYTES
        && so_far + shape.bytes <= MAX_CALL_BYTES;
    if !small {
        return None;
    }
    match &shape.type_text[1..] {
        "i4" => Some("i32"),
        "i8" => Some("i64"),
        "f4" => Some("f32"),
        "f8" => Some("f64"),
        _ => None,
    }
}

fn protocol_array(
    encoder: &mut Encoder<'_, '_>,
    array: &Bound<'_, PyAny>,
    shape: &Shape<'_>,
    code: &str,
) -> PyResult<()> {
    let py = array.py();
    let hash = if shape.type_text.starts_with('>') {
        let swapped = shape
            .dtype
            .call_method1(intern!(py, "newbyteorder"), ("<",))?;
        with_bytes(
            &array.call_method1(intern!(py, "astype"), (swapped,))?,
            content_hash,
        )?
    } else {
        with_bytes(array, content_hash)?
    };
    let mut hex = String::with_capacity(2 * hash.len());
    for byte in hash {
        for digit in [byte >> 4, byte & 15] {
            hex.push(
                char::from_digit(u32::from(digit), 16)
                    .expect("four bits are one hexadecimal digit"),
            );
        }
    }
    msgpack::write_array_header(encoder.out, 4);
    msgpack::write_str(encoder.out, ARRAY_V1);
    msgpack::write_array_header(encoder.out, 1);
    msgpack::write_u64(encoder.out, shape.dims[0]);
    msgpack::write_str(encoder.out, code);
    msgpack::write_str(encoder.out, &hex);
    Ok(())
}

/// Writes a scalar: its type and its bytes.
#[inline(never)]
pub(super) fn scalar<'py>(
    encoder: &mut Encoder<'py, '_>,
    scalar: &Bound<'py, PyAny>,
) -> Refused<()> {
    let py = scalar.py();
    let content = || -> PyResult<Option<(String, Bound<'py, PyBytes>)>> {
        let dtype = scalar.getattr(intern!(py, "dtype"))?;
        if has_objects(&dtype)? || is_padded(&dtype)? {
            return Ok(None);
        }
        let bytes = scalar
            .call_method0(intern!(py, "tobytes"))?
            .cast_into::<PyBytes>()?;
        Ok(Some((type_text(&dtype)?, bytes)))
    };
    let Some((text, bytes)) =
        content().map_err(|error| Refusal::raised(scalar, "content", error))?
    else {
        return Err(Refusal::new(scalar, remedies::LONG_DOUBLE));
    };
    encoder.wrapped(scalar, code::NUMPY_SCALAR, |encoder| {
        msgpack::write_str(encoder.out, &text);
        encoder.out.extend(bytes.as_bytes());
        Ok(())
    })
}

/// Text that Python's `str()` gives for an object.
pub(super) fn text_of(object: &Bound<'_, PyAny>) -> PyResult<String> {
    object.str()?.cast_into::<PyString>()?.extract()
}
