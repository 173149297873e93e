//! How much memory a value holds.
//!
//! Counted is what the interpreter allocates: headers of objects and of the garbage collector, the
//! tables of containers, the allocator's rounding. Not counted is what others hold as well and would
//! keep if the value went: small integers, interned strings and other small objects with many
//! references, classes, modules and functions.

use std::collections::HashSet;

use foldhash::fast::RandomState;
use pyo3::{ffi, intern, prelude::*};

type Object = *mut ffi::PyObject;

/// How many objects are looked at; the rest of a larger value is taken to be like the part seen.
const MAX_VISITS: usize = 1 << 20;
/// A small object with more references than this is taken to be others' too: an entry's value has one
/// from its container, perhaps one from the caller's copy of that and one from the cache of keys.
const OWN_REFERENCES: ffi::Py_ssize_t = 3;
/// Objects of at least this size are counted once, even if they are met again.
const LARGE: usize = 256;
/// What the garbage collector keeps before each object that it watches.
const GC_HEADER: usize = 16;
/// The allocator hands out multiples of this.
const ALIGNMENT: usize = 16;

/// The bytes that `object` holds, itself included. Takes time in proportion to the value, up to a million
/// objects.
pub(crate) fn weigh(object: &Bound<'_, PyAny>) -> usize {
    let mut scale = Scale {
        py: object.py(),
        weight: 0,
        leaves: Average::default(),
        visits: 0,
        unseen: 0,
        open: vec![object.as_ptr()],
        seen: HashSet::default(),
        foreign: Vec::new(),
    };
    // SAFETY: the object is alive, and nothing in the loop runs Python code, so that what is reached from
    // it stays. Objects that have to be asked for their size are put aside on references of our own.
    unsafe {
        while let Some(next) = scale.open.pop() {
            scale.add(next);
        }
    }
    let foreign = std::mem::take(&mut scale.foreign);
    scale.weight += foreign.iter().map(asked_size).sum::<usize>();
    scale.total()
}

struct Scale<'py> {
    py: Python<'py>,
    weight: usize,
    /// What objects without references weigh.
    leaves: Average,
    visits: usize,
    /// Objects that were not looked at any more.
    unseen: usize,
    /// Objects to be looked at.
    open: Vec<Object>,
    seen: HashSet<Object, RandomState>,
    foreign: Vec<Bound<'py, PyAny>>,
}

impl Scale<'_> {
    fn total(&self) -> usize {
        self.weight + self.unseen * self.leaves.value()
    }

    unsafe fn add(&mut self, object: Object) {
        // SAFETY: the object is alive; each branch has checked the type that it reads.
        unsafe {
            let class = ffi::Py_TYPE(object);
            if class == &raw mut ffi::PyUnicode_Type {
                self.leaf(object, str_size(object));
            } else if class == &raw mut ffi::PyLong_Type {
                self.leaf(object, int_size(object));
            } else if class == &raw mut ffi::PyFloat_Type {
                self.leaf(object, size_of::<ffi::PyFloatObject>());
            } else if class == &raw mut ffi::PyBytes_Type {
                self.leaf(
                    object,
                    (*class).tp_basicsize as usize + ffi::Py_SIZE(object) as usize,
                );
            } else if object == ffi::Py_None() || class == &raw mut ffi::PyBool_Type {
            } else if class == &raw mut ffi::PyDict_Type {
                if self.first(object) {
                    self.weight += dict_size(object);
                    self.entries(object);
                }
            } else if class == &raw mut ffi::PyList_Type {
                if self.first(object) {
                    let list = object.cast::<ffi::PyListObject>();
                    self.weight += block(GC_HEADER + (*class).tp_basicsize as usize)
                        + block((*list).allocated as usize * size_of::<Object>());
                    self.elements((*list).ob_item, ffi::PyList_GET_SIZE(object));
                }
            } else if class == &raw mut ffi::PyTuple_Type {
                if self.first(object) {
                    let len = ffi::PyTuple_GET_SIZE(object);
                    self.weight += block(
                        GC_HEADER
                            + (*class).tp_basicsize as usize
                            + len as usize * size_of::<Object>(),
                    );
                    let tuple = object.cast::<ffi::PyTupleObject>();
                    self.elements((&raw const (*tuple).ob_item).cast::<Object>(), len);
                }
            } else {
                self.other(object, class);
            }
        }
    }

    /// Adds an object without references, unless others hold it too.
    #[inline(always)]
    unsafe fn leaf(&mut self, object: Object, size: usize) {
        // SAFETY: the object is alive.
        let references = unsafe { ffi::Py_REFCNT(object) };
        let counts = if size < LARGE {
            references <= OWN_REFERENCES
        } else {
            references == 1 || self.seen.insert(object)
        };
        let weight = if counts { block(size) } else { 0 };
        self.weight += weight;
        self.leaves.add(weight);
    }

    /// Whether a container is met for the first time.
    #[inline(always)]
    unsafe fn first(&mut self, object: Object) -> bool {
        // SAFETY: the object is alive.
        unsafe { ffi::Py_REFCNT(object) == 1 || self.seen.insert(object) }
    }

    #[inline(always)]
    unsafe fn elements(&mut self, items: *const Object, len: ffi::Py_ssize_t) {
        let items = match len {
            0 => &[],
            // SAFETY: the array has `len` objects; a list or tuple in the making has nulls.
            _ => unsafe { std::slice::from_raw_parts(items, len as usize) },
        };
        let room = MAX_VISITS - self.visits;
        self.unseen += items.len().saturating_sub(room);
        for &item in items.iter().take(room).filter(|item| !item.is_null()) {
            // SAFETY: what a live container holds is alive.
            unsafe { self.child(item) };
        }
    }

    /// Leaves are added at once, containers later.
    #[inline(always)]
    unsafe fn child(&mut self, object: Object) {
        if self.visits == MAX_VISITS {
            self.unseen += 1;
            return;
        }
        self.visits += 1;
        // SAFETY: the object is alive.
        unsafe {
            let class = ffi::Py_TYPE(object);
            let leaf = class == &raw mut ffi::PyUnicode_Type
                || class == &raw mut ffi::PyLong_Type
                || class == &raw mut ffi::PyFloat_Type;
            if leaf {
                self.add(object)
            } else {
                self.open.push(object)
            }
        }
    }

    unsafe fn entries(&mut self, dict: Object) {
        let mut position = 0;
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the object is a dict, which nothing changes meanwhile.
        unsafe {
            while ffi::PyDict_Next(dict, &raw mut position, &raw mut key, &raw mut value) != 0 {
                self.child(key);
                self.child(value);
            }
        }
    }

    #[inline(never)]
    unsafe fn other(&mut self, object: Object, class: *mut ffi::PyTypeObject) {
        // SAFETY: the object is alive; each branch has checked the type that it reads.
        unsafe {
            if class == &raw mut ffi::PyByteArray_Type {
                if self.first(object) {
                    let array = object.cast::<ffi::PyByteArrayObject>();
                    self.weight +=
                        block((*class).tp_basicsize as usize) + block((*array).ob_alloc as usize);
                }
            } else if class == &raw mut ffi::PySet_Type || class == &raw mut ffi::PyFrozenSet_Type {
                if self.first(object) {
                    self.weight += set_size(object);
                    self.referents(object, class);
                }
            } else if is_shared_kind(object) {
            } else if ffi::PyObject_IS_GC(object) != 0 {
                // Of an object with references of its own, what is not also others' goes with it.
                let own = self.visits == 0
                    || ffi::Py_REFCNT(object) <= OWN_REFERENCES
                    || is_builtin(class);
                if own && self.seen.insert(object) {
                    self.foreign.push(Bound::from_borrowed_ptr(self.py, object));
                    if !tells_its_size(self.py, class) {
                        self.referents(object, class);
                    }
                }
            } else if ffi::Py_REFCNT(object) <= OWN_REFERENCES || self.seen.insert(object) {
                self.foreign.push(Bound::from_borrowed_ptr(self.py, object));
            }
        }
    }

    /// Has what an object refers to added later.
    unsafe fn referents(&mut self, object: Object, class: *mut ffi::PyTypeObject) {
        unsafe extern "C" fn visit(
            object: Object,
            scale: *mut std::ffi::c_void,
        ) -> std::ffi::c_int {
            // SAFETY: `scale` is the one given below, which nobody else uses meanwhile.
            unsafe { (*scale.cast::<Scale<'_>>()).child(object) };
            0
        }
        // SAFETY: the type's own function visits what the object refers to, which stays alive with it.
        unsafe {
            if let Some(traverse) = (*class).tp_traverse {
                traverse(object, visit, (&raw mut *self).cast());
            }
        }
    }
}

/// Whether a class written in Python defines `__sizeof__`, and so counts what its instances refer to.
unsafe fn tells_its_size(py: Python<'_>, class: *mut ffi::PyTypeObject) -> bool {
    let name = intern!(py, "__sizeof__");
    // SAFETY: a ready type has a tuple of its ancestors; looking a string up in a type's dict runs no
    // Python code, and one of the interpreter's own types may have none to look in.
    unsafe {
        let ancestors = (*class).tp_mro;
        for index in 0..ffi::PyTuple_GET_SIZE(ancestors) {
            let ancestor = ffi::PyTuple_GET_ITEM(ancestors, index).cast::<ffi::PyTypeObject>();
            if is_builtin(ancestor) {
                return false;
            }
            if ffi::PyDict_Contains((*ancestor).tp_dict, name.as_ptr()) == 1 {
                return true;
            }
        }
        false
    }
}

#[derive(Default)]
struct Average {
    sum: usize,
    count: usize,
}

impl Average {
    #[inline(always)]
    fn add(&mut self, weight: usize) {
        self.sum += weight;
        self.count += 1;
    }

    fn value(&self) -> usize {
        self.sum / self.count.max(1)
    }
}

/// A block of the allocator for `size` bytes.
#[inline(always)]
const fn block(size: usize) -> usize {
    (size + ALIGNMENT - 1) & !(ALIGNMENT - 1)
}

/// Whether an object of this kind is the program's rather than a value's.
unsafe fn is_shared_kind(object: Object) -> bool {
    // SAFETY: the object is alive.
    unsafe {
        let class = ffi::Py_TYPE(object);
        ffi::PyType_Check(object) != 0
            || class == &raw mut ffi::PyModule_Type
            || class == &raw mut ffi::PyFunction_Type
            || class == &raw mut ffi::PyCFunction_Type
            || class == &raw mut ffi::PyMethodDescr_Type
            || class == &raw mut ffi::PyGetSetDescr_Type
            || class == &raw mut ffi::PyProperty_Type
            || class == &raw mut ffi::PyCode_Type
    }
}

/// Whether a class is one of the interpreter's or of an extension module.
unsafe fn is_builtin(class: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: the class is alive.
    unsafe { ffi::PyType_GetFlags(class) & ffi::Py_TPFLAGS_HEAPTYPE == 0 }
}

unsafe fn str_size(object: Object) -> usize {
    // SAFETY: the object is a string; a compact one is followed by its characters.
    unsafe {
        let len = ffi::PyUnicode_GET_LENGTH(object) as usize + 1;
        if ffi::PyUnicode_IS_COMPACT_ASCII(object) != 0 {
            return size_of::<ffi::PyASCIIObject>() + len;
        }
        let compact = object.cast::<ffi::PyCompactUnicodeObject>();
        let width = ffi::PyUnicode_KIND(object) as usize;
        let utf8 = if (*compact).utf8.is_null() {
            0
        } else {
            block((*compact).utf8_length as usize + 1)
        };
        size_of::<ffi::PyCompactUnicodeObject>() + len * width + utf8
    }
}

unsafe fn int_size(object: Object) -> usize {
    // SAFETY: the object is an int. Its size field counts digits of 30 bits, with the sign mixed in.
    unsafe {
        #[cfg(not(Py_3_12))]
        let digits = (*object.cast::<ffi::PyVarObject>()).ob_size.unsigned_abs();
        #[cfg(Py_3_12)]
        let digits = *object
            .cast::<usize>()
            .add(size_of::<ffi::PyObject>() / size_of::<usize>())
            >> 3;
        ffi::PyLong_Type.tp_basicsize as usize + 4 * digits.max(1)
    }
}

/// A dict's size by the number of its entries, as if it had been filled one by one.
unsafe fn dict_size(object: Object) -> usize {
    // SAFETY: the object is a dict.
    let used = unsafe { ffi::PyDict_Size(object) } as usize;
    // SAFETY: the type lives as long as the process.
    let base = block(GC_HEADER + unsafe { ffi::PyDict_Type.tp_basicsize } as usize);
    if used == 0 {
        return base;
    }
    // A table of n slots has room for two thirds of them, and an index of one to four bytes a slot.
    let mut slots = 8_usize;
    while slots * 2 / 3 < used {
        slots *= 2;
    }
    let index = match slots {
        0..=128 => 1,
        129..=32768 => 2,
        _ => 4,
    };
    // SAFETY: the object is a dict.
    let entry = if cfg!(Py_3_11) && unsafe { has_text_keys(object) } {
        16
    } else {
        24
    };
    let header = if cfg!(Py_3_11) { 32 } else { 40 };
    base + block(header + slots * index + slots * 2 / 3 * entry)
}

/// Whether the first key of a dict is text, as then all are in nearly every dict.
unsafe fn has_text_keys(object: Object) -> bool {
    let mut position = 0;
    let mut key = std::ptr::null_mut();
    // SAFETY: the object is a dict.
    unsafe {
        ffi::PyDict_Next(
            object,
            &raw mut position,
            &raw mut key,
            std::ptr::null_mut(),
        ) != 0
            && ffi::Py_TYPE(key) == &raw mut ffi::PyUnicode_Type
    }
}

unsafe fn set_size(object: Object) -> usize {
    // SAFETY: the object is a set or frozenset, whose header has room for a table of eight.
    unsafe {
        let base = block(GC_HEADER + (*ffi::Py_TYPE(object)).tp_basicsize as usize);
        let used = ffi::PySet_Size(object) as usize;
        // A table grows by four when it is three fifths full, and has 16 bytes a slot.
        let mut slots = 8_usize;
        while slots * 3 / 5 < used {
            slots *= 2;
        }
        if slots == 8 {
            base
        } else {
            base + block(16 * slots)
        }
    }
}

/// What an object says of its own size: an array's or frame's memory, else `__sizeof__()`.
fn asked_size(object: &Bound<'_, PyAny>) -> usize {
    let py = object.py();
    // SAFETY: the object is alive.
    let header = if unsafe { ffi::PyObject_IS_GC(object.as_ptr()) } != 0 {
        GC_HEADER
    } else {
        0
    };
    let size = || -> PyResult<usize> {
        let own: usize = object.call_method0(intern!(py, "__sizeof__"))?.extract()?;
        let data = match object.getattr_opt(intern!(py, "nbytes"))? {
            Some(nbytes) => nbytes.extract().unwrap_or(0),
            None => 0,
        };
        Ok(own.max(data))
    };
    // An object that cannot say its size has at least that of its class.
    let size = size().unwrap_or_else(|_| {
        // SAFETY: the class is alive as long as the object.
        unsafe { (*object.get_type_ptr()).tp_basicsize as usize }
    });
    block(header + size)
}
