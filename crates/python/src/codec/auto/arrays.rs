//! NumPy arrays and scalars as bodies and within values.

use cachekit_wire::{
    msgpack,
    payload::{read_numpy, write_numpy_head},
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    intern,
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyString, PyTuple},
};

use super::{
    super::{
        arrays::{has_objects, with_bytes},
        classes,
        encode::bound,
        refusal::{Refusal, Refused},
    },
    Auto, DATA, DTYPE, Kind, NDARRAY, SHAPE, parts,
};

const OBJECTS: &str = "whose elements are Python objects, which only their process can read; \
     return .tolist() of it, or convert it with .astype(…)";
const METADATA: &str = "whose element type has metadata, which would be lost; \
     convert it to the type without, .astype(numpy.dtype(….str))";
const EMPTY: &str = "whose elements have no size; return its .shape";
const TOO_LARGE: &str = "with 2**32 elements or more along a dimension or bytes within a value; \
     return it in parts";

/// The class `numpy.ndarray` or its like, if the program has imported NumPy.
fn numpy<'py>(py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
    classes::imported(py, "numpy")
}

/// Whether the object is exactly a NumPy array (or one of a file).
pub(super) fn is_array(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    let Some(numpy) = numpy(py)? else {
        return Ok(false);
    };
    let class = object.get_type();
    Ok(class.is(&numpy.getattr(intern!(py, "ndarray"))?)
        || class.is(&numpy.getattr(intern!(py, "memmap"))?))
}

/// Why elements of this type would not come back, if so.
fn lost(dtype: &Bound<'_, PyAny>) -> PyResult<Option<&'static str>> {
    Ok(if has_objects(dtype)? {
        Some(OBJECTS)
    } else if has_metadata(dtype)? {
        Some(METADATA)
    } else if dtype.getattr(intern!(dtype.py(), "itemsize"))?.eq(0)? {
        Some(EMPTY)
    } else {
        None
    })
}

/// Whether an element type, or one within it, has metadata, which no text of it has.
fn has_metadata(dtype: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = dtype.py();
    if !dtype.getattr(intern!(py, "metadata"))?.is_none() {
        return Ok(true);
    }
    let base = dtype.getattr(intern!(py, "base"))?;
    if !base.is(dtype) {
        return has_metadata(&base);
    }
    let fields = dtype.getattr(intern!(py, "fields"))?;
    if !fields.is_none() {
        for field in fields.call_method0(intern!(py, "values"))?.try_iter()? {
            if has_metadata(&field?.get_item(0)?)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The protocol's text of an element type, if it leads back to the type.
fn type_text(dtype: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    let py = dtype.py();
    if !dtype.getattr(intern!(py, "names"))?.is_none()
        || !dtype.getattr(intern!(py, "subdtype"))?.is_none()
    {
        return Ok(None);
    }
    let text = dtype.str()?;
    let numpy = py.import(intern!(py, "numpy"))?;
    match numpy.call_method1(intern!(py, "dtype"), (&text,)) {
        Ok(same) if same.eq(dtype)? => Ok(Some(text.extract()?)),
        _ => Ok(None),
    }
}

fn dims(array: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u32>>> {
    let shape = array
        .getattr(intern!(array.py(), "shape"))?
        .cast_into::<PyTuple>()?;
    let shape: Vec<u64> = shape.iter().map(|n| n.extract()).collect::<PyResult<_>>()?;
    Ok(shape.iter().map(|n| u32::try_from(*n).ok()).collect())
}

fn raised<'a, 'py>(object: &'a Bound<'py, PyAny>) -> impl Fn(PyErr) -> Box<Refusal> + use<'a, 'py> {
    |error| Refusal::raised(object, "content", error)
}

/// Appends the protocol's body of a value that is one array; false where it has no form for it.
pub(crate) fn array_body(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<bool> {
    let py = object.py();
    if !is_array(object)? {
        return Ok(false);
    }
    let dtype = object.getattr(intern!(py, "dtype"))?;
    if lost(&dtype)?.is_some() {
        return Ok(false);
    }
    let (Some(text), Some(dims)) = (type_text(&dtype)?, dims(object)?) else {
        return Ok(false);
    };
    if write_numpy_head(&text, &dims, out).is_none() {
        return Ok(false);
    }
    with_bytes(object, |data| out.extend_from_slice(data))?;
    Ok(true)
}

/// The array of such a body.
pub(crate) fn array_of<'py>(py: Python<'py>, body: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let array =
        read_numpy(body).ok_or_else(|| PyValueError::new_err("the body is not an array's"))?;
    let shape = PyTuple::new(py, &array.shape)?;
    made(py, element_type(py, array.dtype)?, &shape, array.data)
}

/// An element type of bytes' text, which may be anything.
fn element_type<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import(intern!(py, "numpy"))?
        .call_method1(intern!(py, "dtype"), (text,))
}

/// An array of our own, with these elements.
pub(super) fn made<'py>(
    py: Python<'py>,
    dtype: Bound<'py, PyAny>,
    shape: &Bound<'py, PyTuple>,
    data: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    if has_objects(&dtype)? {
        return Err(PyTypeError::new_err("an array of objects"));
    }
    let size: usize = dtype.getattr(intern!(py, "itemsize"))?.extract()?;
    let mut bytes = size;
    let is_empty = shape
        .iter()
        .any(|d| d.extract::<usize>().is_ok_and(|d| d == 0));
    if size == 0 && !is_empty {
        return Err(PyValueError::new_err("an array of elements without a size"));
    }
    for dimension in shape.iter() {
        let dimension: usize = dimension.extract()?;
        bytes = bytes
            .checked_mul(dimension)
            .ok_or_else(|| PyValueError::new_err("an array larger than memory"))?;
    }
    if bytes != data.len() {
        return Err(PyValueError::new_err(
            "an array whose elements are not as many as its shape says",
        ));
    }
    let numpy = py.import(intern!(py, "numpy"))?;
    let array = numpy.call_method1(intern!(py, "empty"), (shape, dtype))?;
    if !data.is_empty() {
        let flat = array
            .call_method1(intern!(py, "reshape"), (-1,))?
            .call_method1(intern!(py, "view"), (numpy.getattr(intern!(py, "uint8"))?,))?;
        let buffer = pyo3::buffer::PyBuffer::<u8>::get(&flat)?;
        buffer.copy_from_slice(py, data)?;
    }
    Ok(array)
}

/// Appends an array within a value.
pub(super) fn encode(
    mode: &Auto,
    object: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Refused<()> {
    let raised = raised(object);
    let py = object.py();
    let dtype = object.getattr(intern!(py, "dtype")).map_err(&raised)?;
    if let Some(reason) = lost(&dtype).map_err(&raised)? {
        return Err(Refusal::new(object, reason));
    }
    let Some(dims) = dims(object).map_err(&raised)? else {
        return Err(Refusal::new(object, TOO_LARGE));
    };
    let shape = |out: &mut Vec<u8>| {
        msgpack::write_array_header(out, dims.len() as u32);
        for dimension in &dims {
            msgpack::write_u64(out, u64::from(*dimension));
        }
    };
    let data = |out: &mut Vec<u8>| {
        let fits = with_bytes(object, |data| {
            let fits = u32::try_from(data.len()).is_ok();
            if fits {
                msgpack::write_bin(out, data);
            }
            fits
        })
        .map_err(&raised)?;
        if fits {
            Ok(())
        } else {
            Err(Refusal::new(object, TOO_LARGE))
        }
    };
    if let Some(text) = type_text(&dtype).map_err(&raised)? {
        msgpack::write_map_header(out, 4);
        msgpack::write_str(out, NDARRAY);
        msgpack::write_bool(out, true);
        msgpack::write_str(out, DATA);
        data(out)?;
        msgpack::write_str(out, SHAPE);
        shape(out);
        msgpack::write_str(out, DTYPE);
        msgpack::write_str(out, &text);
        return Ok(());
    }
    let descr = format(py)
        .and_then(|format| format.call_method1(intern!(py, "dtype_to_descr"), (&dtype,)))
        .map_err(&raised)?;
    Kind::Array.write(out);
    msgpack::write_array_header(out, 3);
    bound(mode, &descr, out, depth + 1)?;
    shape(out);
    data(out)
}

/// NumPy's own way to describe element types as plain data.
fn format(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    Ok(py.import(intern!(py, "numpy.lib.format"))?.into_any())
}

/// The array of a map with the protocol's mark.
pub(super) fn of_map<'py>(map: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
    let py = map.py();
    let get = |name: &str| {
        map.get_item(name)?
            .ok_or_else(|| PyValueError::new_err("an array without a part"))
    };
    let dtype: String = get(DTYPE)?.extract()?;
    let shape = get(SHAPE)?.cast_into::<PyList>()?.to_tuple();
    let data = get(DATA)?.cast_into::<PyBytes>()?;
    made(py, element_type(py, &dtype)?, &shape, data.as_bytes())
}

/// The array of `[descr, shape, elements]`.
pub(super) fn of_parts<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    let (descr, shape, data): (Bound<'py, PyAny>, Bound<'py, PyList>, Bound<'py, PyBytes>) =
        parts(value)?;
    let dtype = format(py)?.call_method1(intern!(py, "descr_to_dtype"), (descr,))?;
    made(py, dtype, &shape.to_tuple(), data.as_bytes())
}

/// Appends a scalar.
pub(super) fn encode_scalar(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Refused<()> {
    let raised = raised(object);
    let py = object.py();
    let dtype = object.getattr(intern!(py, "dtype")).map_err(&raised)?;
    let text = match lost(&dtype).map_err(&raised)? {
        Some(_) => None,
        None => type_text(&dtype).map_err(&raised)?,
    };
    let Some(text) = text else {
        return Err(Refusal::new(
            object,
            "which has no text for its type; return its .item()",
        ));
    };
    let data = object
        .call_method0(intern!(py, "tobytes"))
        .and_then(|data| Ok(data.cast_into::<PyBytes>()?))
        .map_err(&raised)?;
    Kind::Scalar.write(out);
    msgpack::write_array_header(out, 2);
    msgpack::write_str(out, &text);
    msgpack::write_bin(out, data.as_bytes());
    Ok(())
}

/// The scalar of `[dtype, bytes]`.
pub(super) fn scalar_of<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    let (dtype, data): (String, Bound<'py, PyBytes>) = parts(value)?;
    let dtype = element_type(py, &dtype)?;
    let one = made(py, dtype, &PyTuple::empty(py), data.as_bytes())?;
    let scalar = one.get_item(PyTuple::empty(py))?;
    // An element of an array ends where only NULs follow; a scalar keeps them.
    let dtype = one.getattr(intern!(py, "dtype"))?;
    let kind: String = dtype.getattr(intern!(py, "kind"))?.extract()?;
    let (width, nul) = match kind.as_str() {
        "S" => (1, PyBytes::new(py, b"\0").into_any()),
        "U" => (4, PyString::new(py, "\0").into_any()),
        _ => return Ok(scalar),
    };
    let length = data.as_bytes().len() / width;
    if scalar.len()? == length {
        return Ok(scalar);
    }
    let whole = scalar.call_method1(intern!(py, "ljust"), (length, nul))?;
    scalar.get_type().call1((whole,))
}
