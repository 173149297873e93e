//! What L1 holds and what a flight delivers, for Python.

use std::sync::Arc;

use bytes::Bytes;
use cachekit::encryption::{Sealed, Sealer};
use cachekit_engine::l1::Entry;
use pyo3::{intern, prelude::*};

use crate::{
    codec::{self, Held},
    core::Core,
    encryption, entry,
    options::Copying,
};

/// What L1 holds.
pub(crate) enum Kept {
    /// A value, ready to be handed out.
    Plain(Held),
    /// Ciphertext, which each hit decrypts and decodes.
    Sealed(Box<Sealed>),
    /// The entry's bytes, which each hit decodes: arrays, tables and what else cannot be copied by
    /// its structure. Readers that need no copy read them in place.
    Stored(Box<Bytes>),
}

/// What a landed flight hands to those who waited.
pub(crate) enum Delivered {
    /// A value that can be handed out any number of times.
    Value(Arc<Entry<Kept>>),
    /// A stored entry, for waiters to decode: nothing is kept in this process.
    Stored(Bytes, Option<Sealer>),
    /// The function's own exception.
    Raised(PyErr),
    /// A result that cannot be shared: each waiter runs the function.
    Unshareable,
}

/// The value as L1 holds it, with its weight.
///
/// # Errors
/// When it can be neither cloned nor shared as `copying` asks.
pub(crate) fn hold(
    object: &Bound<'_, PyAny>,
    exact: bool,
    copying: Copying,
) -> PyResult<(Held, u64)> {
    let py = object.py();
    let weight = codec::weigh(object) as u64;
    if copying == Copying::Never && exact {
        return Ok((Held::Shared(object.clone().unbind()), weight));
    }
    let held = codec::hold(py, object, exact)?;
    if copying == Copying::Always && !held.is_isolated() {
        return Ok((Held::Opaque(deep_copy(object)?), weight));
    }
    Ok((held, weight))
}

/// What a caller gets of a value in L1.
///
/// # Errors
/// What copying the value raises.
#[inline]
pub(crate) fn hand_out(py: Python<'_>, core: &Core, kept: &Kept) -> PyResult<Py<PyAny>> {
    let held = match kept {
        Kept::Plain(held) => held,
        Kept::Sealed(sealed) => return encryption::hand_out(py, core, sealed),
        Kept::Stored(stored) => return entry::hand_out(py, core, stored),
    };
    let copying = core.options.copy;
    if copying == Copying::Always && !held.is_isolated() {
        return deep_copy(held.object().bind(py));
    }
    codec::hand_out(held, py)
}

#[cold]
fn deep_copy(object: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = object.py();
    let copied = py
        .import(intern!(py, "copy"))?
        .call_method1(intern!(py, "deepcopy"), (object,))?;
    Ok(copied.unbind())
}
