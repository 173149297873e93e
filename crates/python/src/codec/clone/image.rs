//! Templates as the std serializer's bytes would be decoded.

use pyo3::{
    exceptions::PyTypeError,
    ffi,
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyString, PyTuple},
};

use super::{
    super::{
        classes,
        refusal::type_name,
        temporal::{self, Temporal, Zone},
    },
    Held,
    nature::is_atom,
    take::{MAX_DEPTH, Taker},
};

/// Holds a value that the std serializer has taken, as it would be decoded.
pub(super) fn as_decoded(object: &Bound<'_, PyAny>) -> PyResult<Held> {
    let mut taker = Taker::default();
    let image = image(&mut taker, object, 0)?;
    if taker.made.is_empty() {
        Ok(Held::Shared(image.unbind()))
    } else {
        Ok(taker.finish(image))
    }
}

fn image<'py>(
    taker: &mut Taker<'py>,
    object: &Bound<'py, PyAny>,
    depth: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let class = object.get_type_ptr();
    if depth > MAX_DEPTH {
        return Err(PyTypeError::new_err(
            "nested deeper than the std serializer takes",
        ));
    }
    // Addresses of types are only compared.
    if class == &raw mut ffi::PyDict_Type || classes::is_ordered_dict(object) {
        let copy = PyDict::new(py);
        // SAFETY: both are dicts, the second perhaps with an order of its own, which updating follows.
        if unsafe { ffi::PyDict_Update(copy.as_ptr(), object.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        taker.made.push(copy.clone().into_any());
        let mut position = 0;
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the dict is ours alone, and only values of keys that it has are replaced.
        while unsafe {
            ffi::PyDict_Next(
                copy.as_ptr(),
                &raw mut position,
                &raw mut key,
                &raw mut value,
            )
        } != 0
        {
            // SAFETY: the dict holds it.
            if unsafe { is_atom(value) } {
                continue;
            }
            // SAFETY: as above, and from here on by a reference of ours.
            let value = unsafe { Bound::from_borrowed_ptr(py, value) };
            let inner = image(taker, &value, depth + 1)?;
            if inner.is(&value) {
                continue;
            }
            // SAFETY: as above.
            if unsafe { ffi::PyDict_SetItem(copy.as_ptr(), key, inner.as_ptr()) } != 0 {
                return Err(PyErr::fetch(py));
            }
        }
        return Ok(copy.into_any());
    }
    let list = if let Ok(list) = object.cast_exact::<PyList>() {
        Some(list.get_slice(0, list.len()))
    } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        Some(tuple.to_list())
    } else {
        None
    };
    if let Some(copy) = list {
        taker.made.push(copy.clone().into_any());
        for index in 0..copy.len() {
            let item = copy.get_item(index)?;
            let inner = image(taker, &item, depth + 1)?;
            if !inner.is(&item) {
                copy.set_item(index, inner)?;
            }
        }
        return Ok(copy.into_any());
    }
    scalar_image(py, object)
}

fn scalar_image<'py>(py: Python<'py>, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the object is alive.
    if unsafe { is_atom(object.as_ptr()) } {
        return Ok(object.clone());
    }
    let class = object.get_type_ptr();
    if class == &raw mut ffi::PyByteArray_Type {
        // SAFETY: the object is a bytearray; nothing resizes it while the slice lives.
        let bytes = unsafe {
            let data = ffi::PyByteArray_AsString(object.as_ptr()).cast::<u8>();
            std::slice::from_raw_parts(data, ffi::PyByteArray_Size(object.as_ptr()) as usize)
        };
        return Ok(PyBytes::new(py, bytes).into_any());
    }
    match Temporal::exact(py, class)? {
        Some(kind @ (Temporal::DateTime | Temporal::Date | Temporal::Time)) => {
            let iso = temporal::iso(object, kind)?;
            // What has a time zone comes back with the zone's offset alone.
            if iso.zone == Zone::Naive {
                return Ok(object.clone());
            }
            temporal::parse(py, kind, &PyString::new(py, iso.text.as_str()))
        }
        _ => Err(PyTypeError::new_err(format!(
            "a value of type {} is none that the std serializer has taken",
            type_name(&object.get_type())
        ))),
    }
}
