//! Whether objects that are not taken apart could be changed.

use pyo3::{ffi, prelude::*};

use super::{
    super::{
        classes::{self, Kind},
        temporal::Temporal,
    },
    take::MAX_DEPTH,
};

/// Whether an object that is not taken apart could be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Nature {
    Immutable,
    Opaque,
}

/// Whether an object is of the types that most elements are of: immutable and without references.
///
/// # Safety
/// `object` is alive.
#[inline(always)]
pub(super) unsafe fn is_atom(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller's promise; addresses are only compared.
    unsafe {
        let class = ffi::Py_TYPE(object);
        class == &raw mut ffi::PyUnicode_Type
            || class == &raw mut ffi::PyLong_Type
            || class == &raw mut ffi::PyFloat_Type
            || class == &raw mut ffi::PyBool_Type
            || class == &raw mut ffi::PyBytes_Type
            || object == ffi::Py_None()
    }
}

/// Whether an object that is no container of the builtin kinds could be changed.
pub(super) fn nature(object: &Bound<'_, PyAny>, depth: usize) -> Nature {
    if depth > MAX_DEPTH {
        return Nature::Opaque;
    }
    // SAFETY: the object is alive; addresses are only compared.
    unsafe {
        let class = object.get_type_ptr();
        let plain = is_atom(object.as_ptr())
            || class == &raw mut ffi::PyComplex_Type
            || class == &raw mut ffi::PyRange_Type
            || class == &raw mut ffi::PyFunction_Type
            || class == &raw mut ffi::PyCFunction_Type
            || ffi::PyType_Check(object.as_ptr()) != 0
            || object.as_ptr() == ffi::Py_Ellipsis()
            || object.as_ptr() == ffi::Py_NotImplemented();
        if plain {
            return Nature::Immutable;
        }
        if class == &raw mut ffi::PyTuple_Type || class == &raw mut ffi::PyFrozenSet_Type {
            let all = object.try_iter().and_then(|items| {
                items
                    .map(|item| Ok(nature(&item?, depth + 1)))
                    .collect::<PyResult<Vec<_>>>()
            });
            let immutable = all.is_ok_and(|all| all.iter().all(|&n| n == Nature::Immutable));
            return if immutable {
                Nature::Immutable
            } else {
                Nature::Opaque
            };
        }
    }
    match Temporal::exact(object.py(), object.get_type_ptr()) {
        Ok(Some(_)) => return Nature::Immutable,
        Ok(None) => {}
        Err(_) => return Nature::Opaque,
    }
    match classes::of(&object.get_type()) {
        Ok(class)
            if matches!(
                class.kind,
                Kind::Enum
                    | Kind::Uuid
                    | Kind::Text
                    | Kind::Path
                    | Kind::NumpyScalar
                    | Kind::Missing
                    | Kind::Timedelta
            ) =>
        {
            Nature::Immutable
        }
        _ => Nature::Opaque,
    }
}
