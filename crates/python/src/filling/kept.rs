//! The forms in which L1 holds a value, each with its weight.

use bytes::Bytes;
use cachekit::payload;
use cachekit_wire::{frame, payload::ARROW};
use pyo3::prelude::*;

use super::Filling;
use crate::{
    core::{Core, Once},
    entry,
    options::Copying,
    serializer::Origin,
    value::{self, Kept},
};

impl Filling {
    /// What L1 holds of an entry: the value that other processes get.
    pub(super) fn twin(&self, py: Python<'_>, core: &Core, stored: &Bytes) -> Option<(Kept, u64)> {
        let opened = entry::open(py, core, stored, self.sealer.as_ref(), Origin::Ours, |_| {
            true
        });
        let object = opened.ok().flatten()?.object;
        isolated(&object).or_else(|| as_stored(stored))
    }

    /// What L1 holds of an entry where it is to hold no plaintext, with its weight.
    pub(super) fn ciphertext(&self, stored: &Bytes) -> Option<(Kept, u64)> {
        let sealer = self
            .sealer
            .as_ref()
            .filter(|sealer| sealer.encryption().encrypts)?;
        let sealed = payload::sealed(stored, &self.core().options.payload, sealer)
            .expect("it was sealed or opened just now");
        let weight = sealed.weight() as u64;
        Some((Kept::Sealed(Box::new(sealed)), weight))
    }
}

/// The value as L1 holds it, with its weight; `None` when it cannot be held, which is said once.
pub(super) fn held(
    py: Python<'_>,
    core: &Core,
    object: &Bound<'_, PyAny>,
    exact: bool,
) -> Option<(Kept, u64)> {
    match value::hold(object, exact, core.options.copy) {
        Ok((held, weight)) => Some((Kept::Plain(held), weight)),
        Err(error) => {
            core.warn_once(py, Once::Uncopyable, || {
                format!("not kept in this process, since the result cannot be copied: {error}")
            });
            None
        }
    }
}

/// A decoded value as L1 holds it, if callers can be given copies of it.
pub(super) fn isolated(object: &Bound<'_, PyAny>) -> Option<(Kept, u64)> {
    let (held, weight) = value::hold(object, true, Copying::Auto).ok()?;
    held.is_isolated().then_some((Kept::Plain(held), weight))
}

/// An entry that is not encrypted as L1 holds its bytes, with their weight; each hit decodes anew.
pub(super) fn as_stored(stored: &Bytes) -> Option<(Kept, u64)> {
    let header = frame::parse(stored).ok()?.header;
    if header.encrypted {
        return None;
    }
    let weight = (stored.len() + size_of::<Bytes>()) as u64;
    // Every hit would copy the columns of a table that does not begin at a round address, which what is cut
    // out of a connection's buffer seldom does.
    let is_round = stored.as_ptr().addr().is_multiple_of(align_of::<u64>());
    let stored = if is_round || header.format != ARROW {
        stored.clone()
    } else {
        Bytes::copy_from_slice(stored)
    };
    Some((Kept::Stored(Box::new(stored)), weight))
}
