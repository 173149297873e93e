//! From a result to the bytes of its entry, and back.

use bytes::Bytes;
use cachekit::{
    encryption::Sealer,
    payload::{self, Unusable},
};
use cachekit_wire::frame::Extension;
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    answer::slow,
    core::{Core, Once},
    options::Settings,
    scratch,
    serializer::Origin,
};

/// Why a result is not stored.
pub(crate) enum NotStored {
    /// What goes on after "not cached" in a warning of this kind.
    Because(Once, String),
    /// What asked this thread to stop meanwhile: KeyboardInterrupt and its like.
    Interrupted(PyErr),
}

/// All that is said of a result that is to be encrypted: the place in it, and what a library says of it,
/// may quote it.
const UNTOLD: &str = "the serializer does not take it, and why is not logged of a function that encrypts; \
     pass the result to the serializer's serialize() to see";

/// The entry of a result.
pub(crate) fn seal(
    py: Python<'_>,
    core: &Core,
    settings: &Settings,
    object: &Bound<'_, PyAny>,
    sealer: Option<&Sealer>,
    x: Extension,
) -> Result<Bytes, NotStored> {
    let because = |kind, reason: &str| NotStored::Because(kind, format!(": {reason}"));
    let codec = &core.options.codec;
    let mut buffer = Vec::new();
    let body = match codec.encode(py, object, &mut buffer, settings.max_value_bytes) {
        Ok(body) => body,
        Err(refused) => {
            return Err(match refused.interrupt(py) {
                Some(error) => NotStored::Interrupted(error),
                None if sealer.is_some_and(|sealer| sealer.encryption().encrypts) => {
                    because(Once::Unencodable, UNTOLD)
                }
                None => because(Once::Unencodable, &refused.to_string()),
            });
        }
    };
    let sealed = payload::seal(body, &settings.payload, sealer, x)
        .map_err(|error| because(Once::TooLarge, &error.to_string()))?;
    let limit = settings.max_value_bytes;
    if sealed.len() as u64 > limit {
        let reason = format!(
            "the stored value has {} bytes, more than the limit of {limit}; \
             raise CACHEKIT_MAX_VALUE_SIZE or CACHEKIT_MAX_CHUNK_SIZE_MB, or return less",
            sealed.len()
        );
        return Err(because(Once::TooLarge, &reason));
    }
    if core.options.safe_mode && !comes_back_equal(py, core, object, &sealed, sealer) {
        return Err(NotStored::Because(
            Once::Altered,
            " (safe_mode): the stored form does not compare equal to the result; \
             return plain lists, dicts and scalars"
                .to_owned(),
        ));
    }
    Ok(sealed)
}

fn comes_back_equal(
    py: Python<'_>,
    core: &Core,
    object: &Bound<'_, PyAny>,
    sealed: &Bytes,
    sealer: Option<&Sealer>,
) -> bool {
    let back = open(py, core, sealed, sealer, Origin::Ours, |_| true);
    matches!(back, Ok(Some(back)) if matches!(back.object.eq(object), Ok(true)))
}

/// What was in an entry.
pub(crate) struct Opened<'py> {
    /// The value.
    pub(crate) object: Bound<'py, PyAny>,
    /// Whether the entry was encrypted.
    pub(crate) encrypted: bool,
}

/// The value of an entry; `None` where `counts` says that it was cleared.
pub(crate) fn open<'py>(
    py: Python<'py>,
    core: &Core,
    stored: &Bytes,
    sealer: Option<&Sealer>,
    origin: Origin,
    counts: impl FnOnce(&Extension) -> bool,
) -> Result<Option<Opened<'py>>, Unusable> {
    let options = &core.options;
    scratch::with(|buffer| {
        payload::open(stored, &options.payload, sealer, buffer, |body, header| {
            if !counts(&header.x) {
                return Ok(None);
            }
            let codec = &options.codec;
            let encrypted = header.encrypted;
            // Who encrypted it has the key.
            let origin = if encrypted { Origin::Ours } else { origin };
            let object = codec.decode(py, body, header, stored, origin)?;
            Ok(Some(Opened { object, encrypted }))
        })
    })
}

/// What a caller gets of an entry whose bytes are in L1.
///
/// # Errors
/// When the bytes are no entry any more, which is a miss.
pub(crate) fn hand_out(_py: Python<'_>, core: &Core, stored: &Bytes) -> PyResult<Py<PyAny>> {
    slow(
        |py| match open(py, core, stored, None, Origin::Ours, |_| true) {
            Ok(Some(opened)) => Ok(opened.object.unbind()),
            Ok(None) => unreachable!("every entry counts here"),
            Err(unusable) => Err(PyValueError::new_err(unusable.to_string())),
        },
    )
}
