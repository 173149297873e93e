//! A number for an object's identity that no later object can have.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use pyo3::ffi;
use pyo3::prelude::*;

use super::gil::GilCell;

/// How many entries the table has before dead ones are looked for.
const FIRST_SWEEP: usize = 256;

/// Numbered objects by address, each with a weak reference that tells whether it is still that object.
struct Table {
    entries: Option<HashMap<usize, Entry, RandomState>>,
    last: u64,
    sweep_at: usize,
}

struct Entry {
    number: u64,
    reference: Py<PyAny>,
}

static TABLE: GilCell<Table> = GilCell::new(Table {
    entries: None,
    last: 0,
    sweep_at: FIRST_SWEEP,
});

/// The number of `object`: the same as long as it lives, and never another's in this process.
///
/// An address is used again after its object has died, hence the weak reference: it is cleared before
/// the memory is freed, so a live one means the same object.
///
/// # Safety
/// `object` is alive; the GIL is held.
///
/// # Errors
/// TypeError if objects of its type cannot be weakly referenced.
pub(super) unsafe fn number(py: Python<'_>, object: *mut ffi::PyObject) -> PyResult<u64> {
    let known = TABLE.with(py, |table| {
        let entry = table.entries.as_ref()?.get(&(object as usize))?;
        // SAFETY: the entry holds a weak reference.
        unsafe { refers_to(entry.reference.as_ptr(), object) }.then_some(entry.number)
    });
    match known {
        Some(number) => Ok(number),
        // SAFETY: the caller's promise.
        None => unsafe { assign(py, object) },
    }
}

#[cold]
#[inline(never)]
unsafe fn assign(py: Python<'_>, object: *mut ffi::PyObject) -> PyResult<u64> {
    // SAFETY: the object is alive. Making the reference may start the garbage collector, and so
    // run Python code, hence outside the table.
    let reference: Py<PyAny> = unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyWeakref_NewRef(object, std::ptr::null_mut()))?
            .unbind()
    };
    let (number, replaced, dead) = TABLE.with(py, |table| {
        table.last += 1;
        let number = table.last;
        let entries = table.entries.get_or_insert_with(HashMap::default);
        let replaced = entries.insert(object as usize, Entry { number, reference });
        let mut dead = Vec::new();
        if entries.len() >= table.sweep_at {
            // SAFETY: every entry holds a weak reference.
            dead.extend(entries.extract_if(|_, e| unsafe {
                refers_to(e.reference.as_ptr(), std::ptr::null_mut())
            }));
            table.sweep_at = (2 * entries.len()).max(FIRST_SWEEP);
        }
        (number, replaced, dead)
    });
    // Weak references without a callback; dropped here all the same, where anything may run.
    drop((replaced, dead));
    Ok(number)
}

/// Whether `reference` is to `object`; null asks whether its object has died.
///
/// # Safety
/// `reference` is a weak reference; the GIL is held.
#[inline]
unsafe fn refers_to(reference: *mut ffi::PyObject, object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(not(Py_3_13))]
        {
            let referent = ffi::PyWeakref_GetObject(reference);
            referent
                == if object.is_null() {
                    ffi::Py_None()
                } else {
                    object
                }
        }
        #[cfg(Py_3_13)]
        {
            let mut referent = std::ptr::null_mut();
            ffi::PyWeakref_GetRef(reference, &raw mut referent);
            let same = referent == object;
            // The caller holds a reference to `object`; another object's last one could only be this
            // if it died meanwhile, which it cannot with the GIL held.
            ffi::Py_XDECREF(referent);
            same
        }
    }
}

/// How many objects have a number, dead ones that were not yet swept included.
pub(super) fn numbered(py: Python<'_>) -> usize {
    TABLE.with(py, |table| table.entries.as_ref().map_or(0, HashMap::len))
}
