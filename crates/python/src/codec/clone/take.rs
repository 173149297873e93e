//! Templates, made from callers' objects.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use pyo3::{
    ffi,
    prelude::*,
    types::{PyDict, PyList, PyTuple},
};

use super::{
    Held, Shape, Template,
    copy::{Other, call_copy, new_tuple, other, plan},
    nature::{Nature, is_atom, nature},
};

/// Values deeper than this are not taken apart.
pub(super) const MAX_DEPTH: usize = cachekit_wire::msgpack::MAX_DEPTH;

/// The taker's references to an element that it has in hand,
const BOUND: ffi::Py_ssize_t = 1;
/// and to one that is also in the copy of its container that is being made.
const BOUND_AND_COPY: ffi::Py_ssize_t = 2;

/// Holds a value of which callers get exact copies.
pub(super) fn exact(object: &Bound<'_, PyAny>) -> PyResult<Held> {
    let mut taker = Taker::default();
    match taker.take(object, BOUND, 0)? {
        Taken::TooDeep => Ok(Held::Opaque(object.clone().unbind())),
        Taken::Same(Nature::Immutable) => Ok(Held::Shared(object.clone().unbind())),
        Taken::Same(Nature::Opaque) => Ok(Held::Opaque(object.clone().unbind())),
        Taken::Copy(template) => Ok(taker.finish(template)),
    }
}

enum Taken<'py> {
    /// The object goes into the template itself.
    Same(Nature),
    /// This copy does.
    Copy(Bound<'py, PyAny>),
    TooDeep,
}

#[derive(Default)]
pub(super) struct Taker<'py> {
    /// Copies by the containers they were made of, which are kept alive so that no other takes the address.
    memo: HashMap<*mut ffi::PyObject, (Bound<'py, PyAny>, Bound<'py, PyAny>), RandomState>,
    /// The dicts, lists, tuples and sets of the template.
    pub(super) made: Vec<Bound<'py, PyAny>>,
    aliased: bool,
    has_opaque: bool,
    /// Whether there is more than dicts, lists and objects without references.
    mixed: bool,
}

impl<'py> Taker<'py> {
    pub(super) fn finish(self, template: Bound<'py, PyAny>) -> Held {
        let shape = if self.aliased {
            Shape::Aliased
        } else if self.mixed {
            Shape::Mixed
        } else if self.made.len() > 1 {
            Shape::Nested(plan(template.as_ptr()))
        } else if template.is_exact_instance_of::<PyDict>() {
            Shape::FlatDict
        } else {
            Shape::FlatList
        };
        // Without cycles the collector has nothing to find. What is in several places is left to it.
        if !self.aliased {
            for container in &self.made {
                // SAFETY: a container of the garbage collector's kind, which is not being made any more.
                unsafe { ffi::PyObject_GC_UnTrack(container.as_ptr().cast()) };
            }
        }
        Held::Cloned(Template {
            object: template.unbind(),
            shape,
            has_opaque: self.has_opaque,
        })
    }

    /// `ours`: how many references to `object` are the taker's, besides that of the container it is in.
    fn take(
        &mut self,
        object: &Bound<'py, PyAny>,
        ours: ffi::Py_ssize_t,
        depth: usize,
    ) -> PyResult<Taken<'py>> {
        let class = object.get_type_ptr();
        let is_dict = class == &raw mut ffi::PyDict_Type;
        let is_list = class == &raw mut ffi::PyList_Type;
        let other = match is_dict || is_list {
            true => None,
            // SAFETY: the object is alive.
            false => unsafe { other(object.py(), object.as_ptr()) },
        };
        if !is_dict && !is_list && other.is_none() {
            return Ok(self.leaf(object));
        }
        if depth >= MAX_DEPTH {
            return Ok(Taken::TooDeep);
        }
        // What only its container and we refer to cannot be met again.
        // SAFETY: the object is alive.
        let may_recur = depth == 0 || unsafe { ffi::Py_REFCNT(object.as_ptr()) } > 1 + ours;
        if may_recur && let Some((_, known)) = self.memo.get(&object.as_ptr()) {
            self.aliased = true;
            return Ok(Taken::Copy(known.clone()));
        }
        self.mixed |= other.is_some();
        match other {
            None if is_dict => self.dict(object, may_recur, depth),
            None => self.list(object, may_recur, depth),
            Some(Other::Tuple | Other::NamedTuple) => self.tuple(object, may_recur, depth),
            Some(Other::Set) => self.set(object, may_recur),
            Some(Other::ByteArray) => {
                // SAFETY: gives a new reference, or null with the exception set.
                let copy =
                    unsafe { owned(object.py(), ffi::PyByteArray_FromObject(object.as_ptr()))? };
                self.remember(object, &copy, may_recur);
                Ok(Taken::Copy(copy))
            }
            Some(Other::Mapping) => self.mapping(object, may_recur, depth),
            Some(Other::Deque) => self.deque(object, may_recur, depth),
        }
    }

    fn leaf(&mut self, object: &Bound<'py, PyAny>) -> Taken<'py> {
        let nature = nature(object, 0);
        self.has_opaque |= nature == Nature::Opaque;
        // SAFETY: the object is alive.
        self.mixed |= unsafe { ffi::PyObject_IS_GC(object.as_ptr()) } != 0;
        Taken::Same(nature)
    }

    fn remember(&mut self, object: &Bound<'py, PyAny>, copy: &Bound<'py, PyAny>, may_recur: bool) {
        if may_recur {
            self.memo
                .insert(object.as_ptr(), (object.clone(), copy.clone()));
        }
    }

    fn dict(
        &mut self,
        object: &Bound<'py, PyAny>,
        may_recur: bool,
        depth: usize,
    ) -> PyResult<Taken<'py>> {
        let py = object.py();
        // Merging into a new dict gives the compact form that is the fastest to copy.
        // SAFETY: both are dicts.
        let copy = unsafe {
            let copy = owned(py, ffi::PyDict_New())?;
            if ffi::PyDict_Merge(copy.as_ptr(), object.as_ptr(), 1) != 0 {
                return Err(PyErr::fetch(py));
            }
            copy
        };
        self.remember(object, &copy, may_recur);
        self.made.push(copy.clone());
        self.values(&copy, depth, |dict, key, value| {
            // SAFETY: the dict is ours; replacing the value of a key leaves the iteration intact.
            unsafe { ffi::PyDict_SetItem(dict, key, value) }
        })
    }

    /// Replaces the values of a dict of ours by copies.
    fn values(
        &mut self,
        copy: &Bound<'py, PyAny>,
        depth: usize,
        set: impl Fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> std::ffi::c_int,
    ) -> PyResult<Taken<'py>> {
        let py = copy.py();
        let mut position = 0;
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the dict is ours alone, and only values of keys that it has are replaced.
        while unsafe {
            ffi::PyDict_Next(
                copy.as_ptr(),
                &raw mut position,
                &raw mut key,
                &raw mut value,
            )
        } != 0
        {
            // SAFETY: both are alive.
            if unsafe { is_atom(value) } {
                continue;
            }
            // SAFETY: as above.
            let value = unsafe { Bound::from_borrowed_ptr(py, value) };
            match self.take(&value, BOUND_AND_COPY, depth + 1)? {
                Taken::Same(_) => {}
                Taken::TooDeep => return Ok(Taken::TooDeep),
                Taken::Copy(inner) => {
                    if set(copy.as_ptr(), key, inner.as_ptr()) != 0 {
                        return Err(PyErr::fetch(py));
                    }
                }
            }
        }
        Ok(Taken::Copy(copy.clone()))
    }

    fn list(
        &mut self,
        object: &Bound<'py, PyAny>,
        may_recur: bool,
        depth: usize,
    ) -> PyResult<Taken<'py>> {
        let list = object.cast::<PyList>().expect("the type was checked");
        let copy = list.get_slice(0, list.len());
        self.remember(object, copy.as_any(), may_recur);
        self.made.push(copy.clone().into_any());
        for index in 0..copy.len() {
            // SAFETY: the list is ours alone, and its length stays.
            let item = unsafe { ffi::PyList_GET_ITEM(copy.as_ptr(), index as ffi::Py_ssize_t) };
            // SAFETY: the list holds it.
            if unsafe { is_atom(item) } {
                continue;
            }
            // SAFETY: as above.
            let item = unsafe { Bound::from_borrowed_ptr(object.py(), item) };
            match self.take(&item, BOUND_AND_COPY, depth + 1)? {
                Taken::Same(_) => {}
                Taken::TooDeep => return Ok(Taken::TooDeep),
                Taken::Copy(inner) => copy.set_item(index, inner)?,
            }
        }
        Ok(Taken::Copy(copy.into_any()))
    }

    fn tuple(
        &mut self,
        object: &Bound<'py, PyAny>,
        may_recur: bool,
        depth: usize,
    ) -> PyResult<Taken<'py>> {
        let py = object.py();
        let tuple = object.cast::<PyTuple>().expect("the type was checked");
        let mut items = Vec::with_capacity(tuple.len());
        let (mut nature, mut changes) = (Nature::Immutable, false);
        for item in tuple {
            match self.take(&item, BOUND, depth + 1)? {
                Taken::Same(Nature::Immutable) => items.push(item),
                Taken::Same(Nature::Opaque) => {
                    nature = Nature::Opaque;
                    items.push(item);
                }
                Taken::TooDeep => return Ok(Taken::TooDeep),
                Taken::Copy(inner) => {
                    changes = true;
                    items.push(inner);
                }
            }
        }
        if !changes {
            return Ok(Taken::Same(nature));
        }
        // A container in it may lead back to the tuple, and have made the copy already.
        if let Some((_, known)) = self.memo.get(&object.as_ptr()) {
            self.aliased = true;
            return Ok(Taken::Copy(known.clone()));
        }
        // SAFETY: the class is tuple or a subclass without further fields; the tuple is filled before
        // anyone sees it.
        let copy = unsafe {
            let copy = owned(
                py,
                new_tuple(object.get_type_ptr(), items.len() as ffi::Py_ssize_t),
            )?;
            for (index, item) in items.into_iter().enumerate() {
                ffi::PyTuple_SET_ITEM(copy.as_ptr(), index as ffi::Py_ssize_t, item.into_ptr());
            }
            copy
        };
        self.remember(object, &copy, may_recur);
        self.made.push(copy.clone());
        Ok(Taken::Copy(copy))
    }

    fn set(&mut self, object: &Bound<'py, PyAny>, may_recur: bool) -> PyResult<Taken<'py>> {
        // SAFETY: gives a new reference, or null with the exception set.
        let copy = unsafe { owned(object.py(), ffi::PySet_New(object.as_ptr()))? };
        self.remember(object, &copy, may_recur);
        self.made.push(copy.clone());
        // What is in a set can be hashed, and is shared.
        for item in copy.try_iter()? {
            self.has_opaque |= nature(&item?, 0) == Nature::Opaque;
        }
        Ok(Taken::Copy(copy))
    }

    fn mapping(
        &mut self,
        object: &Bound<'py, PyAny>,
        may_recur: bool,
        depth: usize,
    ) -> PyResult<Taken<'py>> {
        // SAFETY: gives a new reference, or null with the exception set.
        let copy = unsafe { owned(object.py(), call_copy(object.py(), object.as_ptr()))? };
        self.remember(object, &copy, may_recur);
        self.values(&copy, depth, |mapping, key, value| {
            // SAFETY: the mapping is ours; the class keeps its own books of the keys, which stay.
            unsafe { ffi::PyObject_SetItem(mapping, key, value) }
        })
    }

    fn deque(
        &mut self,
        object: &Bound<'py, PyAny>,
        may_recur: bool,
        depth: usize,
    ) -> PyResult<Taken<'py>> {
        // SAFETY: gives a new reference, or null with the exception set.
        let copy = unsafe { owned(object.py(), call_copy(object.py(), object.as_ptr()))? };
        self.remember(object, &copy, may_recur);
        for index in 0..copy.len()? {
            match self.take(&copy.get_item(index)?, BOUND_AND_COPY, depth + 1)? {
                Taken::Same(_) => {}
                Taken::TooDeep => return Ok(Taken::TooDeep),
                Taken::Copy(inner) => copy.set_item(index, inner)?,
            }
        }
        Ok(Taken::Copy(copy))
    }
}

/// # Safety
/// `object` is a new reference, or null with an exception set.
unsafe fn owned(py: Python<'_>, object: *mut ffi::PyObject) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the caller's promise.
    unsafe { Bound::from_owned_ptr_or_err(py, object) }
}
