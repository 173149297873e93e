//! Whether JSON holds a value as it is, so that it comes back equal.

use cachekit_wire::msgpack::MAX_DEPTH;
use pyo3::{
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple},
};

use super::refusal::{Refusal, Refused, Unencodable, index_step, key_step};
use super::{layout, remedies};

/// Refuses what JSON would alter; tuples come back as lists, as from the std serializer.
pub(crate) fn check_json(object: &Bound<'_, PyAny>) -> Result<(), Unencodable> {
    check(object, 0).map_err(Unencodable::new)
}

fn check(object: &Bound<'_, PyAny>, depth: usize) -> Refused<()> {
    if object.is_exact_instance_of::<PyString>()
        || object.is_none()
        || object.is_exact_instance_of::<PyBool>()
    {
        return Ok(()); // orjson itself refuses lone surrogates.
    }
    if object.is_exact_instance_of::<PyInt>() {
        // SAFETY: the object is an int, and alive.
        return match unsafe { layout::int(object.as_ptr()) } {
            layout::Int::Big => Err(Refusal::new(
                object,
                "and beyond 64 bits; return it as text, or choose serializer=\"auto\"",
            )),
            _ => Ok(()),
        };
    }
    if let Ok(number) = object.cast_exact::<PyFloat>() {
        use pyo3::types::PyFloatMethods;
        return if number.value().is_finite() {
            Ok(())
        } else {
            Err(Refusal::new(
                object,
                "and not finite, which JSON has no number for; return None in its place",
            ))
        };
    }
    if depth >= MAX_DEPTH {
        return Err(Refusal::new(
            object,
            "and nested more than 512 containers deep, or contains itself; return a flatter structure",
        ));
    }
    if let Ok(dict) = object.cast_exact::<PyDict>() {
        for (key, value) in dict {
            if !key.is_exact_instance_of::<PyString>() {
                let reason = "and a JSON object's keys are text; use text keys, \
                              or choose serializer=\"auto\", which keeps other ones";
                let step = format!(" key {}", key_step(&key));
                return Err(Refusal::new(&key, reason).within(step));
            }
            check(&value, depth + 1).map_err(|refusal| refusal.within(key_step(&key)))?;
        }
        return Ok(());
    }
    let within = |index: usize, item: &Bound<'_, PyAny>| {
        check(item, depth + 1).map_err(|refusal| refusal.within(index_step(index)))
    };
    if let Ok(list) = object.cast_exact::<PyList>() {
        return list
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| within(i, &item));
    }
    if let Ok(tuple) = object.cast_exact::<PyTuple>() {
        return tuple
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| within(i, &item));
    }
    Err(Refusal::new(object, remedies::json_value(object)))
}
