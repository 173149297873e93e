//! Copies of templates.
//!
//! A template does not change, and its owner keeps it alive, so what it refers to may be borrowed even
//! where the garbage collector runs Python code in between.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::super::classes;

type Object = *mut ffi::PyObject;

/// A builtin container other than dict and list that copies take apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Other {
    Tuple,
    NamedTuple,
    Set,
    ByteArray,
    /// `OrderedDict`, `defaultdict`, `Counter`.
    Mapping,
    Deque,
}

/// Which other container an object is.
///
/// # Safety
/// `object` is alive.
#[inline]
pub(super) unsafe fn other(py: Python<'_>, object: Object) -> Option<Other> {
    // SAFETY: the caller's promise; addresses of types are only compared.
    unsafe {
        let class = ffi::Py_TYPE(object);
        let flags = ffi::PyType_GetFlags(class);
        const ATOMS: std::ffi::c_ulong = ffi::Py_TPFLAGS_UNICODE_SUBCLASS
            | ffi::Py_TPFLAGS_LONG_SUBCLASS
            | ffi::Py_TPFLAGS_BYTES_SUBCLASS
            | ffi::Py_TPFLAGS_TYPE_SUBCLASS;
        if flags & ATOMS != 0 || class == &raw mut ffi::PyFloat_Type {
            return None;
        }
        if flags & ffi::Py_TPFLAGS_TUPLE_SUBCLASS != 0 {
            if class == &raw mut ffi::PyTuple_Type {
                return Some(Other::Tuple);
            }
            return is_named_tuple(py, class).then_some(Other::NamedTuple);
        }
        if class == &raw mut ffi::PySet_Type {
            Some(Other::Set)
        } else if class == &raw mut ffi::PyByteArray_Type {
            Some(Other::ByteArray)
        } else if flags & ffi::Py_TPFLAGS_DICT_SUBCLASS != 0 {
            classes::is_collections_mapping(py, class).then_some(Other::Mapping)
        } else {
            classes::is_deque(py, class).then_some(Other::Deque)
        }
    }
}

/// Whether instances are tuples with names for the elements and nothing besides.
unsafe fn is_named_tuple(py: Python<'_>, class: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: the class is alive.
    unsafe {
        let bare =
            (*class).tp_basicsize == ffi::PyTuple_Type.tp_basicsize && (*class).tp_dictoffset == 0;
        #[cfg(Py_3_11)]
        let bare = bare && ffi::PyType_GetFlags(class) & ffi::Py_TPFLAGS_MANAGED_DICT == 0;
        let class = Bound::<PyAny>::from_borrowed_ptr(py, class.cast());
        bare && class.hasattr(intern!(py, "_fields")).unwrap_or(false)
    }
}

/// Where containers are within containers, so that a copy does not look for them.
///
/// For each container, from the outermost on: how many of its elements are containers, and for each of
/// these its place (in a list its index, in a dict where `PyDict_Next` finds it) and its own plan.
pub(super) fn plan(object: Object) -> Box<[u32]> {
    let mut plan = Vec::new();
    // SAFETY: called with a template of dicts and lists that is complete and alive.
    unsafe { plan_into(object, &mut plan) };
    plan.into_boxed_slice()
}

unsafe fn plan_into(object: Object, plan: &mut Vec<u32>) {
    let count = plan.len();
    plan.push(0);
    let mut add = |place: ffi::Py_ssize_t, element: Object| {
        // SAFETY: the element is alive.
        if unsafe { is_nested(element) } {
            plan[count] += 1;
            plan.push(u32::try_from(place).expect("`hold` takes no container that large apart"));
            // SAFETY: as above.
            unsafe { plan_into(element, plan) };
        }
    };
    // SAFETY: the caller's promise.
    unsafe {
        if ffi::Py_TYPE(object) == &raw mut ffi::PyList_Type {
            for index in 0..ffi::PyList_GET_SIZE(object) {
                add(index, ffi::PyList_GET_ITEM(object, index));
            }
            return;
        }
        let (mut place, mut next) = (0, 0);
        let mut value = std::ptr::null_mut();
        while ffi::PyDict_Next(object, &raw mut next, std::ptr::null_mut(), &raw mut value) != 0 {
            add(place, value);
            place = next;
        }
    }
}

/// Copies dicts and lists within each other. Gives a new reference, or null with an exception set.
///
/// # Safety
/// `object` is a live dict or list whose elements are such, or objects without references, and which
/// nobody changes; `plan` is what [`plan`] gave for it.
pub(super) unsafe fn nested(object: Object, plan: &[u32]) -> Object {
    // SAFETY: the caller's promise.
    unsafe { Planned { plan: plan.iter() }.copy(object) }
}

struct Planned<'a> {
    plan: std::slice::Iter<'a, u32>,
}

impl Planned<'_> {
    #[inline(always)]
    fn next(&mut self) -> u32 {
        *self
            .plan
            .next()
            .expect("a plan has a count and places for every container of its template")
    }

    unsafe fn copy(&mut self, template: Object) -> Object {
        // SAFETY: as for `nested`.
        unsafe {
            if ffi::Py_TYPE(template) == &raw mut ffi::PyDict_Type {
                self.dict(template)
            } else {
                self.list(template)
            }
        }
    }

    #[inline(always)]
    unsafe fn dict(&mut self, template: Object) -> Object {
        // SAFETY: as for `nested`. Setting a key that the dict has, to which the very object leads,
        // changes the value alone.
        unsafe {
            let copy = ffi::PyDict_Copy(template);
            if copy.is_null() {
                return copy;
            }
            for _ in 0..self.next() {
                let mut place = self.next() as ffi::Py_ssize_t;
                let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
                ffi::PyDict_Next(template, &raw mut place, &raw mut key, &raw mut value);
                if !replace_value(copy, key, self.copy(value)) {
                    return std::ptr::null_mut();
                }
            }
            copy
        }
    }

    #[inline(always)]
    unsafe fn list(&mut self, template: Object) -> Object {
        // SAFETY: as for `nested`. The copy has the template's elements until they are replaced, and so
        // is whole at any time; it owns a reference to each, which is released when that one is replaced.
        unsafe {
            let copy = ffi::PyList_GetSlice(template, 0, ffi::PyList_GET_SIZE(template));
            if copy.is_null() {
                return copy;
            }
            for _ in 0..self.next() {
                let index = self.next() as ffi::Py_ssize_t;
                let item = ffi::PyList_GET_ITEM(template, index);
                let inner = self.copy(item);
                if inner.is_null() {
                    ffi::Py_DECREF(copy);
                    return inner;
                }
                ffi::PyList_SET_ITEM(copy, index, inner);
                ffi::Py_DECREF(item);
            }
            copy
        }
    }
}

/// # Safety
/// `object` is alive.
#[inline(always)]
unsafe fn is_nested(object: Object) -> bool {
    // SAFETY: the caller's promise.
    let class = unsafe { ffi::Py_TYPE(object) };
    class == &raw mut ffi::PyDict_Type || class == &raw mut ffi::PyList_Type
}

/// Sets `key` to the new reference `value`. On failure `dict` and `value` are released.
unsafe fn replace_value(dict: Object, key: Object, value: Object) -> bool {
    // SAFETY: the dict is ours; `value` is a new reference or null with an exception set.
    unsafe {
        let done = !value.is_null() && ffi::PyDict_SetItem(dict, key, value) == 0;
        ffi::Py_XDECREF(value);
        if !done {
            ffi::Py_DECREF(dict);
        }
        done
    }
}

/// Copies any containers, each of which is in one place.
///
/// # Safety
/// `object` is a live container; nobody changes it or what is in it.
pub(super) unsafe fn mixed(py: Python<'_>, object: Object) -> Object {
    // SAFETY: the caller's promise.
    unsafe { Copier { py, memo: None }.copy(object) }
}

/// Copies any containers and keeps which are the same.
///
/// # Safety
/// As for [`mixed`].
pub(super) unsafe fn aliased(py: Python<'_>, object: Object) -> Object {
    // SAFETY: the caller's promise.
    unsafe {
        Copier {
            py,
            memo: Some(HashMap::default()),
        }
        .copy(object)
    }
}

struct Copier<'py> {
    py: Python<'py>,
    /// The copies made so far by the containers they are copies of, if these may recur. The references
    /// are borrowed: each copy is owned by the copy of the container around it.
    memo: Option<HashMap<Object, Object, RandomState>>,
}

impl Copier<'_> {
    /// A new reference to a copy of a container, or to the object itself; null with an exception set.
    unsafe fn copy(&mut self, object: Object) -> Object {
        // SAFETY: as for `mixed`; what the memo has is alive, as the outermost copy is.
        unsafe {
            if let Some(&known) = self.memo.as_ref().and_then(|memo| memo.get(&object)) {
                ffi::Py_INCREF(known);
                return known;
            }
            let class = ffi::Py_TYPE(object);
            if class == &raw mut ffi::PyDict_Type {
                return self.dict(object);
            }
            if class == &raw mut ffi::PyList_Type {
                return self.list(object);
            }
            match other(self.py, object) {
                None => {
                    ffi::Py_INCREF(object);
                    object
                }
                Some(Other::Tuple | Other::NamedTuple) => self.tuple(object),
                Some(Other::Set) => self.remember(object, ffi::PySet_New(object)),
                Some(Other::ByteArray) => {
                    self.remember(object, ffi::PyByteArray_FromObject(object))
                }
                Some(Other::Mapping) => self.mapping(object),
                Some(Other::Deque) => self.deque(object),
            }
        }
    }

    fn remember(&mut self, template: Object, copy: Object) -> Object {
        if let Some(memo) = &mut self.memo
            && !copy.is_null()
        {
            memo.insert(template, copy);
        }
        copy
    }

    unsafe fn dict(&mut self, template: Object) -> Object {
        // SAFETY: as for `Planned::dict`.
        unsafe {
            let copy = self.remember(template, ffi::PyDict_Copy(template));
            if copy.is_null() {
                return copy;
            }
            // The collector does not see the template, and a copy takes that over where no value is set.
            let mut hidden = ffi::PyObject_GC_IsTracked(copy) == 0;
            let mut position = 0;
            let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
            while ffi::PyDict_Next(template, &raw mut position, &raw mut key, &raw mut value) != 0 {
                let inner = self.copy(value);
                if inner == value {
                    ffi::Py_DECREF(inner);
                } else if !replace_value(copy, key, inner) {
                    return std::ptr::null_mut();
                }
                if hidden && ffi::PyObject_IS_GC(value) != 0 {
                    if ffi::PyObject_GC_IsTracked(copy) == 0 {
                        ffi::PyObject_GC_Track(copy.cast());
                    }
                    hidden = false;
                }
            }
            copy
        }
    }

    unsafe fn list(&mut self, template: Object) -> Object {
        // SAFETY: as for `Planned::list`.
        unsafe {
            let len = ffi::PyList_GET_SIZE(template);
            let copy = self.remember(template, ffi::PyList_GetSlice(template, 0, len));
            if copy.is_null() {
                return copy;
            }
            for index in 0..len {
                let item = ffi::PyList_GET_ITEM(template, index);
                let inner = self.copy(item);
                if inner.is_null() {
                    ffi::Py_DECREF(copy);
                    return inner;
                }
                // The copy's reference to the element is the one released, be it the same object.
                ffi::PyList_SET_ITEM(copy, index, inner);
                ffi::Py_DECREF(item);
            }
            copy
        }
    }

    /// A tuple is copied if something in it is.
    unsafe fn tuple(&mut self, template: Object) -> Object {
        // SAFETY: the object is a tuple or an instance of a subclass without further fields. A tuple of
        // our own is filled before anyone sees it; unfilled it holds nulls, which its destructor takes.
        unsafe {
            if !self.changes(template) {
                ffi::Py_INCREF(template);
                return template;
            }
            let len = ffi::PyTuple_GET_SIZE(template);
            let copy = new_tuple(ffi::Py_TYPE(template), len);
            let copy = self.remember(template, copy);
            if copy.is_null() {
                return copy;
            }
            for index in 0..len {
                let inner = self.copy(ffi::PyTuple_GET_ITEM(template, index));
                if inner.is_null() {
                    ffi::Py_DECREF(copy);
                    return inner;
                }
                ffi::PyTuple_SET_ITEM(copy, index, inner);
            }
            copy
        }
    }

    /// Whether a tuple has a container in it, at any depth of tuples.
    unsafe fn changes(&self, template: Object) -> bool {
        // SAFETY: the object is a tuple or an instance of a subclass.
        unsafe {
            (0..ffi::PyTuple_GET_SIZE(template)).any(|index| {
                let item = ffi::PyTuple_GET_ITEM(template, index);
                is_nested(item)
                    || match other(self.py, item) {
                        None => false,
                        Some(Other::Tuple | Other::NamedTuple) => self.changes(item),
                        Some(_) => true,
                    }
            })
        }
    }

    unsafe fn mapping(&mut self, template: Object) -> Object {
        // SAFETY: the object is a dict subclass of the standard library.
        unsafe {
            let copy = self.remember(template, call_copy(self.py, template));
            if copy.is_null() {
                return copy;
            }
            let mut position = 0;
            let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
            while ffi::PyDict_Next(template, &raw mut position, &raw mut key, &raw mut value) != 0 {
                let inner = self.copy(value);
                let done = !inner.is_null()
                    && (inner == value || ffi::PyObject_SetItem(copy, key, inner) == 0);
                ffi::Py_XDECREF(inner);
                if !done {
                    ffi::Py_DECREF(copy);
                    return std::ptr::null_mut();
                }
            }
            copy
        }
    }

    unsafe fn deque(&mut self, template: Object) -> Object {
        // SAFETY: the object is a deque, a sequence; `GetItem` gives a new reference.
        unsafe {
            let copy = self.remember(template, call_copy(self.py, template));
            if copy.is_null() {
                return copy;
            }
            for index in 0..ffi::PySequence_Size(template) {
                let item = ffi::PySequence_GetItem(template, index);
                let inner = if item.is_null() {
                    item
                } else {
                    self.copy(item)
                };
                let done = !inner.is_null()
                    && (inner == item || ffi::PySequence_SetItem(copy, index, inner) == 0);
                ffi::Py_XDECREF(inner);
                ffi::Py_XDECREF(item);
                if !done {
                    ffi::Py_DECREF(copy);
                    return std::ptr::null_mut();
                }
            }
            copy
        }
    }
}

/// An unfilled tuple of the class `class`.
///
/// # Safety
/// `class` is tuple or a subclass without further fields.
pub(super) unsafe fn new_tuple(class: *mut ffi::PyTypeObject, len: ffi::Py_ssize_t) -> Object {
    // SAFETY: the caller's promise; a tuple's class has an allocator.
    unsafe {
        if class == &raw mut ffi::PyTuple_Type {
            return ffi::PyTuple_New(len);
        }
        let allocate = (*class)
            .tp_alloc
            .expect("every type that is ready has an allocator");
        allocate(class, len)
    }
}

/// What the method `copy` gives.
///
/// # Safety
/// `object` is alive.
pub(super) unsafe fn call_copy(py: Python<'_>, object: Object) -> Object {
    // SAFETY: the caller's promise.
    let object = unsafe { Bound::from_borrowed_ptr(py, object) };
    match object.call_method0(intern!(py, "copy")) {
        Ok(copy) => copy.into_ptr(),
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}
