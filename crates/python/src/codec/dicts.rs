//! Dicts in keys: in the protocol's order where it has one.

use cachekit_wire::msgpack;
use pyo3::{
    ffi,
    prelude::*,
    types::{PyBool, PyBytes, PyFloat, PyInt, PyString},
};

use super::{
    args::compare_text,
    layout::{self, Int},
    normal::{Encoder, code},
    refusal::{Refusal, Refused, key_step},
};

impl<'py> Encoder<'py, '_> {
    #[inline(never)]
    pub(super) fn dict(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> Refused<()> {
        // SAFETY: the object is a dict or an instance of a subclass.
        let mut entries = unsafe { entries(self.py, object.as_ptr()) };
        let order = key_order(&entries);
        if order == KeyOrder::None {
            return self.map(object, &entries, depth);
        }
        let len = self.header(object, entries.len() as ffi::Py_ssize_t)?;
        sort(&mut entries, order).map_err(|error| Refusal::raised(object, "key order", error))?;
        msgpack::write_map_header(self.out, len);
        for (key, value) in &entries {
            self.key(key)
                .map_err(|refusal| refusal.within(String::from(" key")))?;
            self.bound(value, depth + 1)
                .map_err(|refusal| refusal.within(key_step(key)))?;
        }
        Ok(())
    }

    /// A mapping's key in the protocol's form, where it is not normalised: -0.0 keeps its sign.
    fn key(&mut self, key: &Bound<'py, PyAny>) -> Refused<()> {
        match key.cast_exact::<PyFloat>() {
            Ok(float) => {
                msgpack::write_f64(self.out, float.value());
                Ok(())
            }
            Err(_) => self.bound(key, 0),
        }
    }

    /// A dict whose keys the protocol does not take: pairs in the order of their keys' bytes.
    #[inline(never)]
    fn map(
        &mut self,
        object: &Bound<'py, PyAny>,
        entries: &[Entry<'py>],
        depth: usize,
    ) -> Refused<()> {
        self.wrapped(object, code::MAP, |encoder| {
            let start = encoder.out.len();
            let mut parts = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let start = encoder.out.len();
                encoder
                    .bound(key, depth + 1)
                    .map_err(|refusal| refusal.within(format!(" key {}", key_step(key))))?;
                let end_of_key = encoder.out.len();
                encoder
                    .bound(value, depth + 1)
                    .map_err(|refusal| refusal.within(key_step(key)))?;
                parts.push((start..encoder.out.len(), end_of_key));
            }
            encoder.reorder(start, parts, |(part, end_of_key)| part.start..*end_of_key);
            Ok(())
        })
    }
}

type Entry<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// The entries of a dict, on references of their own: what is done with them may change the dict.
unsafe fn entries<'py>(py: Python<'py>, dict: *mut ffi::PyObject) -> Vec<Entry<'py>> {
    // SAFETY: the caller has a dict; nothing within the loop runs Python code.
    unsafe {
        let mut entries = Vec::with_capacity(ffi::PyDict_Size(dict) as usize);
        let mut position = 0;
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        while ffi::PyDict_Next(dict, &raw mut position, &raw mut key, &raw mut value) != 0 {
            entries.push((
                Bound::from_borrowed_ptr(py, key),
                Bound::from_borrowed_ptr(py, value),
            ));
        }
        entries
    }
}

/// How the protocol orders a dict's keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyOrder {
    /// At most one key, of a type that the protocol takes.
    Single,
    Text,
    Bytes,
    Numbers,
    /// It does not: keys of other types, or of several that do not compare.
    None,
}

fn key_order(entries: &[Entry<'_>]) -> KeyOrder {
    let mut orders = entries.iter().map(|(key, _)| {
        if key.is_exact_instance_of::<PyString>() {
            // SAFETY: the key is a string and alive.
            let text = unsafe { layout::text(key.as_ptr()) };
            if layout::is_utf8(&text) {
                KeyOrder::Text
            } else {
                KeyOrder::None
            }
        } else if key.is_exact_instance_of::<PyBytes>() {
            KeyOrder::Bytes
        } else if key.is_exact_instance_of::<PyInt>() {
            // SAFETY: the key is an int.
            if matches!(unsafe { layout::int(key.as_ptr()) }, Int::Big) {
                KeyOrder::None
            } else {
                KeyOrder::Numbers
            }
        } else if key.is_exact_instance_of::<PyBool>() {
            KeyOrder::Numbers
        } else if let Ok(float) = key.cast_exact::<PyFloat>() {
            // A NaN has no place among others.
            if float.value().is_nan() && entries.len() > 1 {
                KeyOrder::None
            } else {
                KeyOrder::Numbers
            }
        } else if key.is_none() {
            if entries.len() == 1 {
                KeyOrder::Single
            } else {
                KeyOrder::None
            }
        } else {
            KeyOrder::None
        }
    });
    let Some(first) = orders.next() else {
        return KeyOrder::Single;
    };
    if orders.all(|order| order == first) {
        first
    } else {
        KeyOrder::None
    }
}

fn sort(entries: &mut [Entry<'_>], order: KeyOrder) -> PyResult<()> {
    match order {
        KeyOrder::Text => {
            // SAFETY: all keys are strings.
            entries.sort_by(|(a, _), (b, _)| unsafe { compare_text(a.as_ptr(), b.as_ptr()) });
        }
        KeyOrder::Bytes => entries.sort_by(|(a, _), (b, _)| bytes_of(a).cmp(bytes_of(b))),
        KeyOrder::Numbers => {
            let mut failed = None;
            entries.sort_by(|(a, _), (b, _)| {
                a.compare(b).unwrap_or_else(|error| {
                    failed = Some(error);
                    std::cmp::Ordering::Equal
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
        }
        KeyOrder::Single | KeyOrder::None => {}
    }
    Ok(())
}

fn bytes_of<'a>(key: &'a Bound<'_, PyAny>) -> &'a [u8] {
    key.cast::<PyBytes>().map_or(&[], |bytes| bytes.as_bytes())
}
