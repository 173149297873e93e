//! Values of the std serializer, as MessagePack.
//!
//! Taken are None, bool, int of 64 bits, float, str, bytes, list, dict with str or bytes keys,
//! datetime, date and time, exactly of those types; bytearray comes back as bytes, tuple as list,
//! `OrderedDict` as dict. Instances of other subclasses are refused, as a hit would lack what the
//! subclass adds: a `namedtuple` its fields, a `defaultdict` its default, an enumeration's member
//! its identity. Dates and times become `{"__datetime__": true, "value": iso}` and so on, hence a
//! user's dict that reads as one of those is refused.
//!
//! [`Mode`] is where serializers on top of this one differ; [`Std`] is none of them.

use cachekit_wire::msgpack::{self, MAX_DEPTH};
use pyo3::ffi;
use pyo3::prelude::*;

use super::classes;
use super::layout::{self, Int};
use super::refusal::{Refusal, Refused, Unencodable, index_step, key_step};
use super::sentinel;
use super::temporal::{self, Temporal, Zone};

/// What becomes of the objects on which serializers differ. The methods' `object` is alive and stays so.
pub(super) trait Mode {
    /// An integer beyond 64 bits.
    fn big_int(&self, object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Refused<()>;
    /// What precedes the array of a tuple's elements.
    fn tuple_head(out: &mut Vec<u8>);
    /// A dict's key that is neither str nor bytes.
    fn key(&self, key: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Refused<()>;
    /// Whether the encoded string marks a map that stands for something else.
    fn is_mark(encoded: &[u8]) -> bool;
    /// An object of any other type.
    fn other(&self, object: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Refused<()>;
}

/// The std serializer itself.
struct Std;

impl Mode for Std {
    #[cold]
    fn big_int(&self, object: &Bound<'_, PyAny>, _out: &mut Vec<u8>) -> Refused<()> {
        Err(Refusal::new(object, BIG_INT))
    }

    #[inline(always)]
    fn tuple_head(_out: &mut Vec<u8>) {}

    #[cold]
    fn key(&self, key: &Bound<'_, PyAny>, _out: &mut Vec<u8>, _depth: usize) -> Refused<()> {
        Err(Refusal::new(key, super::remedies::dict_key(key)))
    }

    #[inline(always)]
    fn is_mark(encoded: &[u8]) -> bool {
        sentinel::named(encoded).is_some()
    }

    #[cold]
    fn other(&self, object: &Bound<'_, PyAny>, _out: &mut Vec<u8>, _depth: usize) -> Refused<()> {
        Err(Refusal::new(object, super::remedies::value(object)))
    }
}

/// Appends the MessagePack of `object` to `out`; on an error `out` is as before.
pub(crate) fn encode_value(
    _py: Python<'_>,
    object: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
) -> Result<(), Unencodable> {
    encode_as(&Std, object, out)
}

/// As [`encode_value`], in a mode.
pub(super) fn encode_as<M: Mode>(
    mode: &M,
    object: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
) -> Result<(), Unencodable> {
    let start = out.len();
    bound(mode, object, out, 0).map_err(|refusal| {
        out.truncate(start);
        Unencodable::new(refusal)
    })
}

/// Appends what is within an object.
pub(super) fn bound<M: Mode>(
    mode: &M,
    object: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Refused<()> {
    // SAFETY: the object is alive, and the GIL held, for the whole call.
    unsafe { value(mode, object.as_ptr(), out, depth) }
}

/// # Safety
/// `object` is alive and stays so; the GIL is held.
unsafe fn value<M: Mode>(
    mode: &M,
    object: *mut ffi::PyObject,
    out: &mut Vec<u8>,
    depth: usize,
) -> Refused<()> {
    // SAFETY: the caller's promise; each branch has checked the type that its calls need.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if class == &raw mut ffi::PyUnicode_Type {
            return layout::write_str(out, object).map_err(|bad| refuse(object, bad.reason()));
        }
        if class == &raw mut ffi::PyLong_Type {
            match layout::int(object) {
                Int::Signed(value) => msgpack::write_i64(out, value),
                Int::Unsigned(value) => msgpack::write_u64(out, value),
                Int::Big => {
                    let object = Bound::from_borrowed_ptr(Python::assume_attached(), object);
                    return mode.big_int(&object, out);
                }
            }
        } else if class == &raw mut ffi::PyDict_Type {
            return dict(mode, object, out, depth);
        } else if class == &raw mut ffi::PyList_Type {
            return list(mode, object, out, depth);
        } else if object == ffi::Py_None() {
            msgpack::write_nil(out);
        } else if class == &raw mut ffi::PyBool_Type {
            msgpack::write_bool(out, object == ffi::Py_True());
        } else if class == &raw mut ffi::PyFloat_Type {
            msgpack::write_f64(out, ffi::PyFloat_AS_DOUBLE(object));
        } else if class == &raw mut ffi::PyTuple_Type {
            return tuple(mode, object, out, depth);
        } else {
            return other(mode, object, out, depth);
        }
        Ok(())
    }
}

const BIG_INT: &str =
    "and beyond the 64 bits that MessagePack holds; return it as text or as a float";
const TOO_DEEP: &str =
    "and nested more than 512 containers deep, or contains itself; return a flatter structure";
const CHANGED: &str =
    "and changed while it was read; return an object that no other thread changes";
const TOO_LONG: &str = "and has 2**32 elements or more, which MessagePack cannot hold";

#[cold]
#[inline(never)]
unsafe fn refuse(object: *mut ffi::PyObject, reason: &str) -> Box<Refusal> {
    // SAFETY: encoding runs with the GIL held, on an object that is alive.
    let object = unsafe { Bound::from_borrowed_ptr(Python::assume_attached(), object) };
    Refusal::new(&object, reason)
}

/// The number of elements for a container's header, and a check of the depth.
#[inline(always)]
unsafe fn enter(object: *mut ffi::PyObject, len: ffi::Py_ssize_t, depth: usize) -> Refused<u32> {
    // SAFETY: `refuse` asks no more than the caller has.
    unsafe {
        if depth >= MAX_DEPTH {
            return Err(refuse(object, TOO_DEEP));
        }
        u32::try_from(len).map_err(|_| refuse(object, TOO_LONG))
    }
}

unsafe fn dict<M: Mode>(
    mode: &M,
    object: *mut ffi::PyObject,
    out: &mut Vec<u8>,
    depth: usize,
) -> Refused<()> {
    // SAFETY: the object is a dict. Its keys and values are borrowed, so what could run Python code
    // (and thereby change the dict) runs on a reference of our own; `PyDict_Next` tolerates changes.
    unsafe {
        let len = enter(object, ffi::PyDict_Size(object), depth)?;
        msgpack::write_map_header(out, len);
        let mut written = 0;
        let mut position = 0;
        let (mut key, mut item) = (std::ptr::null_mut(), std::ptr::null_mut());
        while ffi::PyDict_Next(object, &raw mut position, &raw mut key, &raw mut item) != 0 {
            let key_class = ffi::Py_TYPE(key);
            if key_class == &raw mut ffi::PyUnicode_Type {
                let start = out.len();
                layout::write_str(out, key)
                    .map_err(|bad| refuse(key, bad.reason()).within(String::from(" key")))?;
                if M::is_mark(&out[start..]) {
                    sentinel_like(object, key, item)?;
                }
            } else if key_class == &raw mut ffi::PyBytes_Type {
                bytes(key, out)?;
            } else {
                let key = Bound::from_borrowed_ptr(Python::assume_attached(), key);
                let at = |refusal: Box<Refusal>| refusal.within(format!(" key {}", key_step(&key)));
                mode.key(&key, out, depth + 1).map_err(at)?;
            }
            if written == len {
                return Err(refuse(object, CHANGED));
            }
            if scalar(ffi::Py_TYPE(item)) {
                value(mode, item, out, depth + 1).map_err(|refusal| at_key(refusal, key))?;
            } else {
                let py = Python::assume_attached();
                let key = Bound::from_borrowed_ptr(py, key);
                let item = Bound::from_borrowed_ptr(py, item);
                value(mode, item.as_ptr(), out, depth + 1)
                    .map_err(|refusal| at_key(refusal, key.as_ptr()))?;
            }
            written += 1;
        }
        if written == len && ffi::PyDict_Size(object) == len as ffi::Py_ssize_t {
            Ok(())
        } else {
            Err(refuse(object, CHANGED))
        }
    }
}

unsafe fn list<M: Mode>(
    mode: &M,
    object: *mut ffi::PyObject,
    out: &mut Vec<u8>,
    depth: usize,
) -> Refused<()> {
    // SAFETY: the object is a list; its size is read anew for every element, and what could run
    // Python code runs on a reference of our own.
    unsafe {
        let len = ffi::PyList_GET_SIZE(object);
        msgpack::write_array_header(out, enter(object, len, depth)?);
        for index in 0..len {
            if index >= ffi::PyList_GET_SIZE(object) {
                return Err(refuse(object, CHANGED));
            }
            element(mode, ffi::PyList_GET_ITEM(object, index), index, out, depth)?;
        }
        if ffi::PyList_GET_SIZE(object) == len {
            Ok(())
        } else {
            Err(refuse(object, CHANGED))
        }
    }
}

unsafe fn tuple<M: Mode>(
    mode: &M,
    object: *mut ffi::PyObject,
    out: &mut Vec<u8>,
    depth: usize,
) -> Refused<()> {
    // SAFETY: the object is a tuple, which cannot change, and which the caller keeps alive.
    unsafe {
        let len = ffi::PyTuple_GET_SIZE(object);
        M::tuple_head(out);
        msgpack::write_array_header(out, enter(object, len, depth)?);
        for index in 0..len {
            element(
                mode,
                ffi::PyTuple_GET_ITEM(object, index),
                index,
                out,
                depth,
            )?;
        }
        Ok(())
    }
}

#[inline(always)]
unsafe fn element<M: Mode>(
    mode: &M,
    item: *mut ffi::PyObject,
    index: ffi::Py_ssize_t,
    out: &mut Vec<u8>,
    depth: usize,
) -> Refused<()> {
    // SAFETY: the item is alive now, and behind a reference of our own if Python code could run.
    unsafe {
        let at = |refusal: Box<Refusal>| refusal.within(index_step(index as usize));
        if scalar(ffi::Py_TYPE(item)) {
            value(mode, item, out, depth + 1).map_err(at)
        } else {
            let item = Bound::from_borrowed_ptr(Python::assume_attached(), item);
            value(mode, item.as_ptr(), out, depth + 1).map_err(at)
        }
    }
}

/// Whether encoding an object of this type cannot run Python code.
#[inline(always)]
fn scalar(class: *mut ffi::PyTypeObject) -> bool {
    class == &raw mut ffi::PyUnicode_Type
        || class == &raw mut ffi::PyLong_Type
        || class == &raw mut ffi::PyFloat_Type
        || class == &raw mut ffi::PyBool_Type
}

unsafe fn bytes(object: *mut ffi::PyObject, out: &mut Vec<u8>) -> Refused<()> {
    // SAFETY: the object is a bytes.
    unsafe {
        let data = ffi::PyBytes_AS_STRING(object).cast::<u8>();
        let len = ffi::Py_SIZE(object) as usize;
        blob(object, std::slice::from_raw_parts(data, len), out)
    }
}

unsafe fn blob(object: *mut ffi::PyObject, data: &[u8], out: &mut Vec<u8>) -> Refused<()> {
    if u32::try_from(data.len()).is_err() {
        // SAFETY: `refuse` asks no more than the caller has.
        return Err(unsafe { refuse(object, layout::BadText::TooLong.reason()) });
    }
    out.reserve(data.len() + 5);
    msgpack::write_bin(out, data);
    Ok(())
}

#[inline(never)]
unsafe fn other<M: Mode>(
    mode: &M,
    object: *mut ffi::PyObject,
    out: &mut Vec<u8>,
    depth: usize,
) -> Refused<()> {
    // SAFETY: the caller's promises, and each branch has checked the type that its calls need.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if class == &raw mut ffi::PyBytes_Type {
            return bytes(object, out);
        }
        if class == &raw mut ffi::PyByteArray_Type {
            let data = ffi::PyByteArray_AsString(object).cast::<u8>();
            let len = ffi::PyByteArray_Size(object) as usize;
            // No Python code runs while the slice lives, so the array cannot be resized.
            return blob(object, std::slice::from_raw_parts(data, len), out);
        }
        let py = Python::assume_attached();
        let bound = Bound::from_borrowed_ptr(py, object);
        let kind = Temporal::exact(py, class)
            .map_err(|error| Refusal::raised(&bound, "type check", error))?;
        match kind {
            Some(Temporal::Delta) | None => {}
            Some(kind) => return moment(&bound, kind, out),
        }
        if classes::is_ordered_dict(&bound) {
            return ordered_dict(mode, &bound, out, depth);
        }
        mode.other(&bound, out, depth)
    }
}

/// An `OrderedDict` keeps its order apart from the dict underneath, so a plain copy is encoded.
fn ordered_dict<M: Mode>(
    mode: &M,
    object: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Refused<()> {
    let plain = object
        .py()
        .get_type::<pyo3::types::PyDict>()
        .call1((object,))
        .map_err(|error| Refusal::raised(object, "copy", error))?;
    // SAFETY: `plain` is a dict of our own and alive.
    unsafe { dict(mode, plain.as_ptr(), out, depth) }
}

fn moment(object: &Bound<'_, PyAny>, kind: Temporal, out: &mut Vec<u8>) -> Refused<()> {
    let iso = temporal::iso(object, kind)
        .map_err(|error| Refusal::raised(object, "isoformat()", error))?;
    match (iso.zone, iso.fold) {
        (Zone::Naive, true) => {
            return Err(Refusal::new(
                object,
                "with fold=1, which its ISO text does not hold; attach a time zone or drop the fold",
            ));
        }
        (Zone::Unsettled, _) => {
            return Err(Refusal::new(
                object,
                "with a tzinfo that gives no offset, which its ISO text does not hold; \
                 return an aware datetime, or a naive time beside the zone's name",
            ));
        }
        _ => {}
    }
    sentinel::write(out, kind, iso.text.as_str());
    Ok(())
}

#[cold]
unsafe fn at_key(refusal: Box<Refusal>, key: *mut ffi::PyObject) -> Box<Refusal> {
    // SAFETY: the key is alive and the GIL held.
    refusal.within(key_step(&unsafe {
        Bound::from_borrowed_ptr(Python::assume_attached(), key)
    }))
}

/// Refuses a dict that would be read as something else: one whose mark is true.
#[inline(never)]
unsafe fn sentinel_like(
    dict: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
    mark: *mut ffi::PyObject,
) -> Refused<()> {
    // SAFETY: all are alive and the GIL held. Whether a plain object is true is told without running
    // Python code; what else there could be would not be stored anyway.
    unsafe {
        let class = ffi::Py_TYPE(mark);
        let plain = scalar(class)
            || mark == ffi::Py_None()
            || class == &raw mut ffi::PyDict_Type
            || class == &raw mut ffi::PyList_Type
            || class == &raw mut ffi::PyTuple_Type
            || class == &raw mut ffi::PyBytes_Type;
        if plain && ffi::PyObject_IsTrue(mark) == 0 {
            return Ok(());
        }
        let py = Python::assume_attached();
        let key = Bound::from_borrowed_ptr(py, key);
        let reason = format!(
            "whose key \"{key}\" marks another type in the stored form, so that it would come back as that; \
             rename the key"
        );
        Err(Refusal::new(&Bound::from_borrowed_ptr(py, dict), reason))
    }
}
