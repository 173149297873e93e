//! Values that L1 hands out so that no caller's change reaches another caller.
//!
//! [`hold`] looks at a value once. What is immutable all through is handed out as it is; builtin
//! containers become a template of our own, of which every caller gets a copy; other objects are handed
//! out as they are. A template is reachable by nobody else: it is even hidden from the garbage
//! collector, which has nothing to find in it and needs no time for it.

mod copy;
mod image;
mod nature;
mod take;

use pyo3::ffi;
use pyo3::prelude::*;

/// A value in L1, with what is known about handing it out.
#[derive(Debug)]
pub(crate) enum Held {
    /// Immutable all through: every caller gets the object itself.
    Shared(Py<PyAny>),
    /// Builtin containers: every caller gets a copy.
    Cloned(Template),
    /// Another object: every caller gets the object itself, although it may be changed.
    Opaque(Py<PyAny>),
}

/// Containers that nobody but L1 refers to.
#[derive(Debug)]
pub(crate) struct Template {
    object: Py<PyAny>,
    shape: Shape,
    /// Whether objects that could be changed are in it, which copies share.
    has_opaque: bool,
}

/// How a template is copied.
#[derive(Debug)]
enum Shape {
    /// A dict without containers.
    FlatDict,
    /// A list without containers.
    FlatList,
    /// Dicts and lists within each other, and objects without references. The plan tells their places.
    Nested(Box<[u32]>),
    /// Any containers, each in one place.
    Mixed,
    /// Containers that are in several places, or within themselves.
    Aliased,
}

impl Held {
    /// The object that is held: itself, or the template.
    ///
    /// A template must not get into a caller's hands; this is for weighing.
    pub(crate) fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Shared(object) | Self::Opaque(object) => object,
            Self::Cloned(template) => &template.object,
        }
    }

    /// Whether callers share no object that could be changed.
    pub(crate) fn is_isolated(&self) -> bool {
        match self {
            Self::Shared(_) => true,
            Self::Cloned(template) => !template.has_opaque,
            Self::Opaque(_) => false,
        }
    }
}

/// Takes a value into L1.
///
/// `exact`: the value comes back as it is, containers as containers of the same types and contents. This
/// is for results that stay in the process, and for values that any serializer has decoded. Otherwise the
/// value is one that [`encode_value`](super::encode_value) has taken, and comes back as
/// [`decode_value`](super::decode_value) would give it: tuples as lists, bytearrays as bytes.
///
/// Values nested more than 512 containers deep are held as they are.
///
/// # Errors
/// MemoryError; TypeError for what the std serializer does not take, if not `exact`; what comparing a
/// dict's keys raises.
pub(crate) fn hold(_py: Python<'_>, object: &Bound<'_, PyAny>, exact: bool) -> PyResult<Held> {
    if exact {
        take::exact(object)
    } else {
        image::as_decoded(object)
    }
}

/// What a caller gets. The caller of this function keeps `held` alive until it returns.
///
/// # Errors
/// MemoryError; what comparing a dict's keys raises.
#[inline]
pub(crate) fn hand_out(held: &Held, py: Python<'_>) -> PyResult<Py<PyAny>> {
    match held {
        Held::Shared(object) | Held::Opaque(object) => Ok(object.clone_ref(py)),
        Held::Cloned(template) => {
            let object = template.object.as_ptr();
            // SAFETY: the template is alive, and of the shape that was found when it was made.
            unsafe {
                let copy = match &template.shape {
                    Shape::FlatDict => ffi::PyDict_Copy(object),
                    Shape::FlatList => {
                        ffi::PyList_GetSlice(object, 0, ffi::PyList_GET_SIZE(object))
                    }
                    Shape::Nested(plan) => copy::nested(object, plan),
                    Shape::Mixed => copy::mixed(py, object),
                    Shape::Aliased => copy::aliased(py, object),
                };
                Bound::from_owned_ptr_or_err(py, copy).map(Bound::unbind)
            }
        }
    }
}
