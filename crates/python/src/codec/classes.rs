//! What kind of thing a class makes, found out once per class.

use std::collections::HashMap;
use std::sync::Arc;

use cachekit_wire::msgpack;
use foldhash::fast::RandomState;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::gil::GilCell;
use super::identity;
use super::temporal::Temporal;

/// Classes seen, after which all are forgotten; programs that make classes as they run would fill memory.
const MAX_CLASSES: usize = 4096;

/// What an instance contributes to a key.
#[derive(Debug)]
pub(super) enum Kind {
    /// The value of an enumeration's member.
    Enum,
    /// The text of a UUID.
    Uuid,
    /// `str()` of a Decimal, or of an instance of a subclass of UUID.
    Text,
    /// The POSIX form of a path.
    Path,
    /// The result of `__cache_key__()`.
    CacheKey,
    /// The values of these fields, and further attributes.
    Dataclass(Vec<Py<PyString>>),
    /// The fields of a pydantic model, by the major version of pydantic.
    Pydantic(u8),
    NumpyScalar,
    NumpyArray,
    Series,
    DataFrame,
    /// pandas' NA or NaT.
    Missing,
    /// pandas' Timedelta, which holds nanoseconds beyond what a timedelta does.
    Timedelta,
    /// An instance of a subclass of this builtin type.
    Sub(Base),
    /// What cannot be part of a key.
    Foreign,
}

/// The builtin type that a class extends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Base {
    Str,
    Int,
    Float,
    Complex,
    Bytes,
    ByteArray,
    List,
    Tuple,
    Dict,
    Set,
    FrozenSet,
    Temporal(Temporal),
}

/// What has been found out about a class.
#[derive(Debug)]
pub(super) struct Class {
    /// CPython's number for this state of the class; changing the class or a base gives it another.
    version: u32,
    pub(super) kind: Kind,
    /// Whether instances have `__cache_key__()`.
    pub(super) has_cache_key: bool,
    /// The class's name as MessagePack, or its number in this process.
    pub(super) name: Vec<u8>,
    /// Whether `name` tells the class in other processes too.
    pub(super) is_shared: bool,
    /// Attributes of instances that follow from the others.
    pub(super) derived: Vec<Py<PyString>>,
}

type Table = HashMap<usize, Arc<Class>, RandomState>;

static CLASSES: GilCell<Option<Table>> = GilCell::new(None);

/// What is known about `class`.
pub(super) fn of(class: &Bound<'_, PyType>) -> PyResult<Arc<Class>> {
    let py = class.py();
    let version = version(class.as_type_ptr());
    let known = CLASSES.with(py, |table| {
        let entry = table.as_ref()?.get(&(class.as_ptr() as usize))?;
        (version.is_some_and(|v| v == entry.version)).then(|| Arc::clone(entry))
    });
    match known {
        Some(found) => Ok(found),
        None => examine(class),
    }
}

/// The class's version, if it has one at the moment.
///
/// A number is given to at most one state of one class, so together with it the address tells a class
/// apart from a later one at the same place.
fn version(class: *mut ffi::PyTypeObject) -> Option<u32> {
    // SAFETY: the class is alive and the GIL held.
    unsafe {
        #[cfg(not(Py_3_12))]
        if (*class).tp_flags & ffi::Py_TPFLAGS_VALID_VERSION_TAG == 0 {
            return None;
        }
        let version = (*class).tp_version_tag;
        (version != 0).then_some(version)
    }
}

#[inline(never)]
fn examine(class: &Bound<'_, PyType>) -> PyResult<Arc<Class>> {
    let py = class.py();
    // Looking an attribute up gives the class a version if it has none.
    let has_cache_key = class.hasattr(intern!(py, "__cache_key__"))?;
    let kind = kind(class, has_cache_key)?;
    let (name, is_shared) = name(class)?;
    let derived = match kind {
        Kind::Dataclass(_) | Kind::Pydantic(_) | Kind::Sub(_) => derived(class)?,
        _ => Vec::new(),
    };
    let version = version(class.as_type_ptr());
    let lasting = is_shared || has_local_name(class)?;
    let found = Arc::new(Class {
        version: version.unwrap_or(0),
        kind,
        has_cache_key,
        name,
        is_shared,
        derived,
    });
    // A class that its name does not reach yet may still be in the making.
    if version.is_some() && lasting {
        let old = CLASSES.with(py, |table| {
            let table = table.get_or_insert_with(Table::default);
            let forgotten = (table.len() >= MAX_CLASSES).then(|| std::mem::take(table));
            (
                table.insert(class.as_ptr() as usize, Arc::clone(&found)),
                forgotten,
            )
        });
        drop(old);
    }
    Ok(found)
}

/// The class's qualified name as MessagePack text if that leads back to the class, else its number.
fn name(class: &Bound<'_, PyType>) -> PyResult<(Vec<u8>, bool)> {
    let py = class.py();
    let mut encoded = Vec::new();
    if let Some(name) = reachable_name(class)? {
        msgpack::write_str(&mut encoded, &name);
        return Ok((encoded, true));
    }
    // SAFETY: the class is alive.
    let number = unsafe { identity::number(py, class.as_ptr())? };
    msgpack::write_u64(&mut encoded, number);
    Ok((encoded, false))
}

fn has_local_name(class: &Bound<'_, PyType>) -> PyResult<bool> {
    Ok(class.qualname()?.to_string_lossy().contains("<locals>"))
}

/// `module.qualname`, if looking that up gives the class.
fn reachable_name(class: &Bound<'_, PyType>) -> PyResult<Option<String>> {
    let py = class.py();
    let (Ok(module), Ok(qualname)) = (class.module(), class.qualname()) else {
        return Ok(None);
    };
    let (module, qualname) = (module.to_string_lossy(), qualname.to_string_lossy());
    let Some(mut place) = imported(py, &module)? else {
        return Ok(None);
    };
    for part in qualname.split('.') {
        match place.getattr_opt(part)? {
            Some(inner) => place = inner,
            None => return Ok(None),
        }
    }
    Ok(place.is(class).then(|| format!("{module}.{qualname}")))
}

/// A module, if the program has imported it.
pub(super) fn imported<'py>(py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let modules = py
        .import(intern!(py, "sys"))?
        .getattr(intern!(py, "modules"))?;
    Ok(modules
        .cast_into::<PyDict>()?
        .get_item(name)?
        .filter(|m| !m.is_none()))
}

/// Whether `class` is `module.name` or a subclass, where the module has been imported.
pub(super) fn is_sub(class: &Bound<'_, PyType>, module: &str, name: &str) -> PyResult<bool> {
    match lookup(class.py(), module, name)? {
        Some(base) => Ok(is_subtype(class, base.as_type_ptr())),
        None => Ok(false),
    }
}

/// Whether `class` is `module.name`, where the module has been imported.
pub(super) fn is_exactly(class: &Bound<'_, PyType>, module: &str, name: &str) -> PyResult<bool> {
    Ok(lookup(class.py(), module, name)?.is_some_and(|other| other.is(class)))
}

fn lookup<'py>(py: Python<'py>, module: &str, name: &str) -> PyResult<Option<Bound<'py, PyType>>> {
    let Some(module) = imported(py, module)? else {
        return Ok(None);
    };
    Ok(module
        .getattr_opt(name)?
        .and_then(|class| class.cast_into::<PyType>().ok()))
}

fn is_subtype(class: &Bound<'_, PyType>, base: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: both are types. Unlike `issubclass` this runs no Python code.
    unsafe { ffi::PyType_IsSubtype(class.as_type_ptr(), base) != 0 }
}

fn kind(class: &Bound<'_, PyType>, has_cache_key: bool) -> PyResult<Kind> {
    let py = class.py();
    // What the protocol takes comes first: its bytes are shared with other implementations.
    if is_sub(class, "enum", "Enum")? {
        return Ok(Kind::Enum);
    }
    if is_exactly(class, "uuid", "UUID")? {
        return Ok(Kind::Uuid);
    }
    if is_sub(class, "uuid", "UUID")? || is_sub(class, "decimal", "Decimal")? {
        return Ok(Kind::Text);
    }
    if is_sub(class, "pathlib", "PurePath")? {
        return Ok(Kind::Path);
    }
    // What a class says of itself comes before what would be concluded.
    if has_cache_key {
        return Ok(Kind::CacheKey);
    }
    if is_sub(class, "numpy", "generic")? {
        return Ok(Kind::NumpyScalar);
    }
    if is_sub(class, "numpy", "ndarray")? {
        let known = is_exactly(class, "numpy", "ndarray")? || is_exactly(class, "numpy", "memmap")?;
        return Ok(if known {
            Kind::NumpyArray
        } else {
            Kind::Foreign
        });
    }
    if let Some(kind) = pandas_kind(class)? {
        return Ok(kind);
    }
    if class.hasattr(intern!(py, "__dataclass_fields__"))? {
        return dataclass(class);
    }
    if is_sub(class, "pydantic", "BaseModel")? {
        let major = if class.hasattr(intern!(py, "__pydantic_validator__"))? {
            2
        } else {
            1
        };
        return Ok(Kind::Pydantic(major));
    }
    if is_sub(class, "pydantic.v1", "BaseModel")? {
        return Ok(Kind::Pydantic(1));
    }
    match base(class)? {
        Some((base, base_type)) if !has_hidden_state(class, base_type)? => Ok(Kind::Sub(base)),
        _ => Ok(Kind::Foreign),
    }
}

fn pandas_kind(class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    let py = class.py();
    let Some(pandas) = imported(py, "pandas")? else {
        return Ok(None);
    };
    for (name, kind) in [
        ("DataFrame", Kind::DataFrame),
        ("Series", Kind::Series),
        ("Timedelta", Kind::Timedelta),
        ("Timestamp", Kind::Sub(Base::Temporal(Temporal::DateTime))),
    ] {
        if pandas
            .getattr_opt(name)?
            .is_some_and(|other| other.is(class))
        {
            return Ok(Some(kind));
        }
    }
    for name in ["NA", "NaT"] {
        if pandas
            .getattr_opt(name)?
            .is_some_and(|value| value.get_type().is(class))
        {
            return Ok(Some(Kind::Missing));
        }
    }
    Ok(None)
}

fn dataclass(class: &Bound<'_, PyType>) -> PyResult<Kind> {
    let py = class.py();
    let fields = py
        .import(intern!(py, "dataclasses"))?
        .call_method1(intern!(py, "fields"), (class,))?;
    let names = fields
        .cast_into::<PyTuple>()?
        .iter()
        .map(|field| {
            Ok(field
                .getattr(intern!(py, "name"))?
                .cast_into::<PyString>()?
                .unbind())
        })
        .collect::<PyResult<_>>()?;
    Ok(Kind::Dataclass(names))
}

/// The builtin type that `class` extends, if keys can hold its content.
fn base(class: &Bound<'_, PyType>) -> PyResult<Option<(Base, *mut ffi::PyTypeObject)>> {
    let builtins = [
        (Base::Str, &raw mut ffi::PyUnicode_Type),
        (Base::Int, &raw mut ffi::PyLong_Type),
        (Base::Float, &raw mut ffi::PyFloat_Type),
        (Base::Complex, &raw mut ffi::PyComplex_Type),
        (Base::Bytes, &raw mut ffi::PyBytes_Type),
        (Base::ByteArray, &raw mut ffi::PyByteArray_Type),
        (Base::List, &raw mut ffi::PyList_Type),
        (Base::Tuple, &raw mut ffi::PyTuple_Type),
        (Base::Dict, &raw mut ffi::PyDict_Type),
        (Base::Set, &raw mut ffi::PySet_Type),
        (Base::FrozenSet, &raw mut ffi::PyFrozenSet_Type),
    ];
    if let Some(found) = builtins
        .into_iter()
        .find(|(_, base)| is_subtype(class, *base))
    {
        return Ok(Some(found));
    }
    let api = super::temporal::api(class.py())?;
    Ok(Temporal::of(class.py(), class.as_type_ptr())?.map(|kind| {
        let base = match kind {
            Temporal::DateTime => api.DateTimeType,
            Temporal::Date => api.DateType,
            Temporal::Time => api.TimeType,
            Temporal::Delta => api.DeltaType,
        };
        (Base::Temporal(kind), base)
    }))
}

/// Whether instances may hold more than the base's content and an instance dictionary: slots, or
/// fields of a class written in C.
fn has_hidden_state(class: &Bound<'_, PyType>, base: *mut ffi::PyTypeObject) -> PyResult<bool> {
    let py = class.py();
    // The standard library's own: their content is that of the base.
    for (module, name) in [
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
    ] {
        if is_exactly(class, module, name)? {
            return Ok(false);
        }
    }
    for ancestor in class.mro().iter() {
        let ancestor = ancestor.cast_into::<PyType>()?;
        if ancestor.as_type_ptr() == base {
            break;
        }
        // SAFETY: the class is alive.
        let flags = unsafe { ffi::PyType_GetFlags(ancestor.as_type_ptr()) };
        if flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 {
            return Ok(true);
        }
        let Some(slots) = ancestor
            .getattr(intern!(py, "__dict__"))?
            .get_item("__slots__")
            .ok()
        else {
            continue;
        };
        let names = if slots.is_instance_of::<PyString>() {
            vec![slots]
        } else {
            slots.try_iter()?.collect::<PyResult<_>>()?
        };
        for name in names {
            let name: String = name.extract()?;
            if name != "__dict__" && name != "__weakref__" {
                return Ok(true);
            }
        }
    }
    // A dictionary and a list of weak references take a pointer each.
    // SAFETY: both are types.
    let (own, base) = unsafe { ((*class.as_type_ptr()).tp_basicsize, (*base).tp_basicsize) };
    Ok(own > base + 2 * size_of::<usize>() as ffi::Py_ssize_t)
}

/// Whether `object` is exactly a `collections.OrderedDict`.
pub(super) fn is_ordered_dict(object: &Bound<'_, PyAny>) -> bool {
    collections(object.py()).is_some_and(|known| known.ordered_dict == object.get_type_ptr())
}

/// The names under which an instance's dictionary holds what its class computes from the rest
/// (`functools.cached_property` and its like: attributes with `__get__` alone).
fn derived(class: &Bound<'_, PyType>) -> PyResult<Vec<Py<PyString>>> {
    let py = class.py();
    let mut names = Vec::new();
    for ancestor in class.mro().iter() {
        // SAFETY: the class is alive. Classes of the interpreter have no such attributes.
        let flags = unsafe { ffi::PyType_GetFlags(ancestor.cast::<PyType>()?.as_type_ptr()) };
        if flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 {
            continue;
        }
        let attributes = ancestor.getattr(intern!(py, "__dict__"))?;
        for item in attributes.call_method0(intern!(py, "items"))?.try_iter()? {
            let (name, attribute): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
            let getter = attribute.get_type();
            // Functions, static and class methods have `__get__` too, of types of the interpreter's.
            // SAFETY: the class is alive.
            let flags = unsafe { ffi::PyType_GetFlags(getter.as_type_ptr()) };
            if flags & ffi::Py_TPFLAGS_HEAPTYPE != 0
                && getter.hasattr(intern!(py, "__get__"))?
                && !getter.hasattr(intern!(py, "__set__"))?
                && let Ok(name) = name.cast_into::<PyString>()
            {
                names.push(name.unbind());
            }
        }
    }
    Ok(names)
}

/// Whether `class` is one of the standard library's dicts with a behaviour added.
pub(super) fn is_collections_mapping(py: Python<'_>, class: *mut ffi::PyTypeObject) -> bool {
    collections(py).is_some_and(|known| {
        known.ordered_dict == class || known.defaultdict == class || known.counter == class
    })
}

/// Whether `class` is `collections.deque`.
pub(super) fn is_deque(py: Python<'_>, class: *mut ffi::PyTypeObject) -> bool {
    collections(py).is_some_and(|known| known.deque == class)
}

/// Classes of the module `collections`, which live as long as the process.
struct Collections {
    ordered_dict: *mut ffi::PyTypeObject,
    defaultdict: *mut ffi::PyTypeObject,
    counter: *mut ffi::PyTypeObject,
    deque: *mut ffi::PyTypeObject,
}

// SAFETY: the addresses are only compared.
unsafe impl Send for Collections {}
// SAFETY: as above.
unsafe impl Sync for Collections {}

fn collections(py: Python<'_>) -> Option<&'static Collections> {
    static KNOWN: PyOnceLock<Option<Collections>> = PyOnceLock::new();
    KNOWN
        .get_or_init(py, || {
            let module = py.import("collections").ok()?;
            let address = |name: &str| {
                let class = module.getattr(name).ok()?.cast_into::<PyType>().ok()?;
                // The reference is kept for good, so that the address stays this class's.
                Some(class.into_ptr().cast::<ffi::PyTypeObject>())
            };
            Some(Collections {
                ordered_dict: address("OrderedDict")?,
                defaultdict: address("defaultdict")?,
                counter: address("Counter")?,
                deque: address("deque")?,
            })
        })
        .as_ref()
}
