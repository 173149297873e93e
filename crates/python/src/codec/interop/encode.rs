//! Values as one plain MessagePack document: what programs in any language read.
//!
//! Taken are None, bool, int of 64 bits, finite float, str, bytes, list, dict with str keys, datetime,
//! date and time, exactly of those types; bytearray comes back as bytes, tuple as list, `OrderedDict`
//! as dict; maps are written in the order of their keys. Dates and times are the maps that the std serializer has for them.

use cachekit_wire::msgpack::{self, MAX_DEPTH};
use pyo3::{
    ffi,
    prelude::*,
    types::{
        PyBytes, PyDelta, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
    },
};

use super::{
    super::{
        classes,
        layout::{self, Int},
        refusal::{Refusal, Refused, Unencodable, index_step, key_step},
        sentinel,
        temporal::{self, Temporal, Zone},
    },
    args::{Map, count},
};

const BIG_INT: &str = "and outside of -2**63 to 2**64 - 1; return it as text";
const NOT_FINITE: &str =
    "and NaN or infinite, which is not in the interop data model; return None or text instead";
const KEY: &str = "and a dict's keys are str in the interop data model; use text keys";
const TOO_DEEP: &str =
    "and nested more than 512 containers deep, or contains itself; return a flatter structure";
const FOLD: &str =
    "with fold=1, which its ISO text does not hold; attach a time zone or drop the fold";
const UNSETTLED: &str = "with a tzinfo that gives no offset, which its ISO text does not hold; \
     return an aware datetime, or a naive time beside the zone's name";

/// Appends the document of a value to `out`; on an error `out` is as before.
///
/// # Errors
/// [`Unencodable`] names the place, the type and the remedy.
pub(crate) fn encode_interop(
    object: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
) -> Result<(), Unencodable> {
    let start = out.len();
    value(object, out, 0).map_err(|refusal| {
        out.truncate(start);
        Unencodable::new(refusal)
    })
}

fn value(object: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Refused<()> {
    let class = object.get_type_ptr();
    // The addresses of static types are only compared.
    if class == &raw mut ffi::PyUnicode_Type {
        // SAFETY: the object is a str and alive.
        return unsafe { layout::write_str(out, object.as_ptr()) }
            .map_err(|bad| Refusal::new(object, bad.reason()));
    }
    if class == &raw mut ffi::PyLong_Type {
        // SAFETY: the object is an int.
        match unsafe { layout::int(object.as_ptr()) } {
            Int::Signed(value) => msgpack::write_i64(out, value),
            Int::Unsigned(value) => msgpack::write_u64(out, value),
            Int::Big => return Err(Refusal::new(object, BIG_INT)),
        }
    } else if class == &raw mut ffi::PyFloat_Type {
        let float = object.cast::<PyFloat>().expect("a float").value();
        if !float.is_finite() {
            return Err(Refusal::new(object, NOT_FINITE));
        }
        msgpack::write_f64(out, float);
    } else if object.is_none() {
        msgpack::write_nil(out);
    } else if class == &raw mut ffi::PyBool_Type {
        // SAFETY: takes the address of an immortal object.
        msgpack::write_bool(out, object.as_ptr() == unsafe { ffi::Py_True() });
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        blob(object, bytes.as_bytes(), out)?;
    } else if depth >= MAX_DEPTH {
        return Err(Refusal::new(object, TOO_DEEP));
    } else {
        return container(object, out, depth);
    }
    Ok(())
}

fn blob(object: &Bound<'_, PyAny>, bytes: &[u8], out: &mut Vec<u8>) -> Refused<()> {
    count(object, bytes.len())?;
    msgpack::write_bin(out, bytes);
    Ok(())
}

fn container(object: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Refused<()> {
    let py = object.py();
    if object.is_exact_instance_of::<PyDict>() || classes::is_ordered_dict(object) {
        return map(object, out, depth);
    }
    if let Ok(list) = object.cast_exact::<PyList>() {
        return sequence(object, &list.to_tuple(), out, depth);
    }
    if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        return sequence(object, tuple, out, depth);
    }
    let class = object.get_type_ptr();
    if class == &raw mut ffi::PyByteArray_Type {
        // SAFETY: the object is a bytearray; nothing resizes it while the slice lives.
        let bytes = unsafe {
            let data = ffi::PyByteArray_AsString(object.as_ptr()).cast::<u8>();
            std::slice::from_raw_parts(data, ffi::PyByteArray_Size(object.as_ptr()) as usize)
        };
        return blob(object, bytes, out);
    }
    let kind =
        Temporal::exact(py, class).map_err(|error| Refusal::raised(object, "type check", error))?;
    match kind {
        Some(Temporal::Delta) | None => Err(Refusal::new(object, foreign(object))),
        Some(kind) => moment(object, kind, out),
    }
}

/// Writes elements, which are a tuple so that no Python code can change them meanwhile.
fn sequence(
    object: &Bound<'_, PyAny>,
    elements: &Bound<'_, PyTuple>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Refused<()> {
    msgpack::write_array_header(out, count(object, elements.len())?);
    for (index, element) in elements.iter_borrowed().enumerate() {
        value(&element, out, depth + 1).map_err(|refusal| refusal.within(index_step(index)))?;
    }
    Ok(())
}

fn map(object: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Refused<()> {
    // An OrderedDict keeps its order apart from the dict underneath, so a plain copy is read; it is
    // also out of reach for what Python code may run meanwhile.
    let plain = PyDict::new(object.py());
    let dict = object.cast::<PyDict>().expect("a dict or an OrderedDict");
    plain
        .update(dict.as_mapping())
        .map_err(|error| Refusal::raised(object, "copy", error))?;
    count(object, plain.len())?;
    let mut map = Map::begin(out);
    for (key, item) in plain.iter() {
        // A subclass may be more than its text, as a member of an enumeration is.
        let Ok(name) = key.cast_exact::<PyString>() else {
            return Err(Refusal::new(&key, KEY).within(format!(" key {}", key_step(&key))));
        };
        let marks = |name: &str| sentinel::marked(name.as_bytes()).is_some();
        if name.to_str().is_ok_and(marks) && item.is_truthy().unwrap_or(true) {
            let reason = format!(
                "whose key \"{key}\" marks a date or time in the stored form, so that it would come back as one; \
                 rename the key"
            );
            return Err(Refusal::new(object, reason));
        }
        map.entry(&key, |out| value(&item, out, depth + 1))?;
    }
    map.finish();
    Ok(())
}

/// What to do about a value of a type that is not in the data model.
#[cold]
fn foreign(object: &Bound<'_, PyAny>) -> String {
    let is = |module: &str, class: &str| {
        matches!(classes::is_sub(&object.get_type(), module, class), Ok(true))
    };
    let remedy = if is("enum", "Enum") {
        "return its .value"
    } else if is("numpy", "generic") {
        "return its .item()"
    } else if is("numpy", "ndarray") || is("pandas", "Series") {
        "return its .tolist()"
    } else if is("pandas", "Timestamp") {
        "return its .to_pydatetime()"
    } else if object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>() {
        "return a list of its elements"
    } else if is("uuid", "UUID")
        || is("decimal", "Decimal")
        || is("pathlib", "PurePath")
        || object.is_instance_of::<PyString>()
    {
        "return str(…) of it"
    } else if object.is_instance_of::<PyInt>() {
        "return int(…) of it"
    } else if object.is_instance_of::<PyFloat>() {
        "return float(…) of it"
    } else if object.is_instance_of::<PyTuple>() || object.is_instance_of::<PyList>() {
        "return list(…) of it"
    } else if object.is_instance_of::<PyDict>() {
        "return dict(…) of it"
    } else if object.is_instance_of::<PyDelta>() {
        "return its .total_seconds()"
    } else {
        "return None, bool, int, float, str, bytes, list, dict with str keys, datetime, date or time"
    };
    format!("which is not in the interop data model; {remedy}")
}

fn moment(object: &Bound<'_, PyAny>, kind: Temporal, out: &mut Vec<u8>) -> Refused<()> {
    let iso = temporal::iso(object, kind)
        .map_err(|error| Refusal::raised(object, "isoformat()", error))?;
    match (iso.zone, iso.fold) {
        (Zone::Naive, true) => return Err(Refusal::new(object, FOLD)),
        (Zone::Unsettled, _) => return Err(Refusal::new(object, UNSETTLED)),
        _ => {}
    }
    sentinel::write(out, kind, iso.text.as_str());
    Ok(())
}
