//! Arguments beyond the plain ones: the protocol's normalisation, and extension types for the rest.
//!
//! The extension types and their contents are listed in `docs/keys.md`, which must be changed together
//! with this module.

use cachekit_wire::msgpack::{self, MAX_DEPTH, Sink};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString, PyType};

use super::args::{Scope, compare_text, plain, write_float};
use super::classes::{self, Base, Class, Kind};
use super::keybuf::KeyBuf;
use super::layout::{self, BadText, Int};
use super::refusal::{Refusal, Refused, index_step, key_step};
use super::temporal::{self, Temporal, Zone};
use super::{arrays, frames, identity, remedies};

/// The application types of the extension values in keys.
pub(super) mod code {
    pub(in crate::codec) const SURROGATE_TEXT: i8 = 1;
    pub(in crate::codec) const BIG_INT: i8 = 2;
    pub(in crate::codec) const COMPLEX: i8 = 3;
    pub(in crate::codec) const BYTEARRAY: i8 = 4;
    pub(in crate::codec) const SET: i8 = 5;
    pub(in crate::codec) const FROZENSET: i8 = 6;
    pub(in crate::codec) const MAP: i8 = 7;
    pub(in crate::codec) const DATETIME: i8 = 8;
    pub(in crate::codec) const DATE: i8 = 9;
    pub(in crate::codec) const TIME: i8 = 10;
    pub(in crate::codec) const TIMEDELTA: i8 = 11;
    pub(in crate::codec) const SUBCLASS: i8 = 12;
    pub(in crate::codec) const DATACLASS: i8 = 13;
    pub(in crate::codec) const PYDANTIC: i8 = 14;
    pub(in crate::codec) const NUMPY_SCALAR: i8 = 15;
    pub(in crate::codec) const NUMPY_ARRAY: i8 = 16;
    pub(in crate::codec) const SERIES: i8 = 17;
    pub(in crate::codec) const DATAFRAME: i8 = 18;
    pub(in crate::codec) const PANDAS_MISSING: i8 = 19;
    pub(in crate::codec) const IDENTITY: i8 = 32;
    pub(in crate::codec) const CLASS: i8 = 33;
    pub(in crate::codec) const CACHE_KEY: i8 = 34;
}

const TOO_DEEP: &str =
    "and nested more than 512 deep, or contains itself; build the key with key=…";
const TOO_LONG: &str =
    "and has 2**32 elements or more, which MessagePack cannot hold; build the key with key=…";
const CHANGED: &str = "and changed while it was read; pass an object that no other thread changes";

/// Writes the arguments of one call.
pub(super) struct Encoder<'py, 'out> {
    pub(super) py: Python<'py>,
    pub(super) out: &'out mut KeyBuf,
    pub(super) scope: Scope,
    /// How many bytes of arrays have gone in in the protocol's own form, which bounds them per call.
    pub(super) array_bytes: usize,
}

impl<'py, 'out> Encoder<'py, 'out> {
    #[inline(always)]
    pub(super) fn new(py: Python<'py>, out: &'out mut KeyBuf) -> Self {
        Self {
            py,
            out,
            scope: Scope::Shared,
            array_bytes: 0,
        }
    }

    /// Writes the header of the pair of arguments, and of the positional ones.
    #[inline(always)]
    pub(super) fn pair(&mut self, positional: u32) {
        if positional < 16 {
            self.out.extend(&[0x92, 0x90 | positional as u8]);
        } else {
            self.out.push(0x92);
            msgpack::write_array_header(self.out, positional);
        }
    }

    /// Writes any object that is `depth` containers deep in an argument.
    ///
    /// # Safety
    /// `object` is alive and stays so.
    #[inline(never)]
    pub(super) unsafe fn any(&mut self, object: *mut ffi::PyObject, depth: usize) -> Refused<()> {
        // SAFETY: the caller's promise.
        unsafe {
            if plain(self.out, object) {
                return Ok(());
            }
            let object = Bound::from_borrowed_ptr(self.py, object);
            self.rare(&object, depth)
        }
    }

    /// Writes an object that the caller holds a reference to.
    pub(super) fn bound(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> Refused<()> {
        // SAFETY: the reference keeps it alive.
        unsafe { self.any(object.as_ptr(), depth) }
    }

    fn rare(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> Refused<()> {
        if depth >= MAX_DEPTH {
            return Err(Refusal::new(object, TOO_DEEP));
        }
        let class = object.get_type_ptr();
        // The addresses of static types are only compared.
        if class == &raw mut ffi::PyList_Type {
            self.list(object, depth)
        } else if class == &raw mut ffi::PyTuple_Type {
            self.tuple(object, depth)
        } else if class == &raw mut ffi::PyDict_Type {
            self.dict(object, depth)
        } else if let Some(base) = self.builtin(object)? {
            self.content(object, base, depth)
        } else {
            self.instance(object, depth)
        }
    }

    /// Which builtin type the object is exactly an instance of.
    fn builtin(&self, object: &Bound<'py, PyAny>) -> Refused<Option<Base>> {
        let class = object.get_type_ptr();
        Ok(Some(if class == &raw mut ffi::PyLong_Type {
            Base::Int
        } else if class == &raw mut ffi::PyUnicode_Type {
            Base::Str
        } else if class == &raw mut ffi::PyBytes_Type {
            Base::Bytes
        } else if class == &raw mut ffi::PySet_Type {
            Base::Set
        } else if class == &raw mut ffi::PyFrozenSet_Type {
            Base::FrozenSet
        } else if class == &raw mut ffi::PyByteArray_Type {
            Base::ByteArray
        } else if class == &raw mut ffi::PyComplex_Type {
            Base::Complex
        } else {
            let temporal = Temporal::exact(self.py, class)
                .map_err(|error| Refusal::raised(object, "type check", error))?;
            return Ok(temporal.map(Base::Temporal));
        }))
    }

    /// Writes the content that an instance of `base` or of a subclass has as a `base`.
    fn content(&mut self, object: &Bound<'py, PyAny>, base: Base, depth: usize) -> Refused<()> {
        match base {
            Base::Int => self.int(object),
            Base::Str => self.str(object),
            Base::Bytes => {
                let bytes = object
                    .cast::<PyBytes>()
                    .expect("a bytes or an instance of a subclass");
                self.blob(object, bytes.as_bytes())
            }
            Base::Float => {
                let float = object
                    .cast::<PyFloat>()
                    .expect("a float or an instance of a subclass");
                write_float(self.out, float.value());
                Ok(())
            }
            Base::Complex => self.complex(object),
            Base::ByteArray => self.bytearray(object),
            Base::List => self.list(object, depth),
            Base::Tuple => self.tuple(object, depth),
            Base::Dict => self.dict(object, depth),
            Base::Set => self.set(object, code::SET, depth),
            Base::FrozenSet => self.set(object, code::FROZENSET, depth),
            Base::Temporal(kind) => self.temporal(object, kind),
        }
    }

    fn int(&mut self, object: &Bound<'py, PyAny>) -> Refused<()> {
        // SAFETY: the object is an int or an instance of a subclass.
        match unsafe { layout::int(object.as_ptr()) } {
            Int::Signed(value) => msgpack::write_i64(self.out, value),
            Int::Unsigned(value) => msgpack::write_u64(self.out, value),
            Int::Big => {
                let int = self.py.get_type::<PyInt>();
                let bytes = (|| {
                    let bits: usize = int.call_method1("bit_length", (object,))?.extract()?;
                    // One more bit holds the sign.
                    let keywords = PyDict::new(self.py);
                    keywords.set_item("signed", true)?;
                    int.call_method("to_bytes", (object, bits / 8 + 1, "big"), Some(&keywords))
                })()
                .map_err(|error| Refusal::raised(object, "to_bytes()", error))?;
                let bytes = bytes.cast::<PyBytes>().expect("to_bytes gives bytes");
                self.ext(object, code::BIG_INT, bytes.as_bytes())?;
            }
        }
        Ok(())
    }

    fn str(&mut self, object: &Bound<'py, PyAny>) -> Refused<()> {
        // SAFETY: the object is a str or an instance of a subclass, and alive.
        unsafe {
            match layout::write_str(self.out, object.as_ptr()) {
                Ok(()) => Ok(()),
                Err(BadText::Surrogate) => {
                    let mut bytes = Vec::new();
                    layout::transcode(&mut bytes, &layout::text(object.as_ptr()));
                    self.ext(object, code::SURROGATE_TEXT, &bytes)
                }
                Err(BadText::TooLong) => Err(Refusal::new(object, TOO_LONG)),
            }
        }
    }

    fn blob(&mut self, object: &Bound<'py, PyAny>, bytes: &[u8]) -> Refused<()> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Refusal::new(object, TOO_LONG));
        }
        msgpack::write_bin(self.out, bytes);
        Ok(())
    }

    /// Writes an extension value.
    pub(super) fn ext(&mut self, object: &Bound<'py, PyAny>, code: i8, data: &[u8]) -> Refused<()> {
        if u32::try_from(data.len()).is_err() {
            return Err(Refusal::new(object, TOO_LONG));
        }
        msgpack::write_ext(self.out, code, data);
        Ok(())
    }

    /// Writes an extension value whose data are what `write` writes.
    pub(super) fn wrapped(
        &mut self,
        object: &Bound<'py, PyAny>,
        code: i8,
        write: impl FnOnce(&mut Encoder<'py, '_>) -> Refused<()>,
    ) -> Refused<()> {
        let data = self.apart(write)?;
        self.ext(object, code, data.as_slice())
    }

    /// What `write` writes, in a buffer of its own.
    pub(super) fn apart(
        &mut self,
        write: impl FnOnce(&mut Encoder<'py, '_>) -> Refused<()>,
    ) -> Refused<KeyBuf> {
        let mut data = KeyBuf::new();
        let mut inner = Encoder {
            py: self.py,
            out: &mut data,
            scope: self.scope,
            array_bytes: self.array_bytes,
        };
        write(&mut inner)?;
        (self.scope, self.array_bytes) = (inner.scope, inner.array_bytes);
        Ok(data)
    }

    fn complex(&mut self, object: &Bound<'py, PyAny>) -> Refused<()> {
        // SAFETY: the object is a complex or an instance of a subclass; only an instance of an
        // unrelated class would have a method called.
        let (real, imag) = unsafe {
            (
                ffi::PyComplex_RealAsDouble(object.as_ptr()),
                ffi::PyComplex_ImagAsDouble(object.as_ptr()),
            )
        };
        let mut data = [0; 16];
        // Zero has no sign, as in floats.
        let positive = |part: f64| if part == 0.0 { 0.0 } else { part };
        data[..8].copy_from_slice(&positive(real).to_be_bytes());
        data[8..].copy_from_slice(&positive(imag).to_be_bytes());
        self.ext(object, code::COMPLEX, &data)
    }

    fn bytearray(&mut self, object: &Bound<'py, PyAny>) -> Refused<()> {
        // SAFETY: the object is a bytearray or an instance of a subclass; writing runs no Python code,
        // so it is not resized meanwhile.
        let bytes = unsafe {
            let data = ffi::PyByteArray_AsString(object.as_ptr()).cast::<u8>();
            std::slice::from_raw_parts(data, ffi::PyByteArray_Size(object.as_ptr()) as usize)
        };
        self.ext(object, code::BYTEARRAY, bytes)
    }

    fn header(&self, object: &Bound<'py, PyAny>, len: ffi::Py_ssize_t) -> Refused<u32> {
        u32::try_from(len).map_err(|_| Refusal::new(object, TOO_LONG))
    }

    fn list(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> Refused<()> {
        let list = object.as_ptr();
        // SAFETY: the object is a list or an instance of a subclass. Its size is read anew for each
        // element, as what writes one may run Python code; `any` takes a reference of its own then.
        unsafe {
            let len = ffi::PyList_GET_SIZE(list);
            msgpack::write_array_header(self.out, self.header(object, len)?);
            for index in 0..len {
                if index >= ffi::PyList_GET_SIZE(list) {
                    return Err(Refusal::new(object, CHANGED));
                }
                self.any(ffi::PyList_GET_ITEM(list, index), depth + 1)
                    .map_err(|refusal| refusal.within(index_step(index as usize)))?;
            }
            if ffi::PyList_GET_SIZE(list) == len {
                Ok(())
            } else {
                Err(Refusal::new(object, CHANGED))
            }
        }
    }

    fn tuple(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> Refused<()> {
        let tuple = object.as_ptr();
        // SAFETY: the object is a tuple or an instance of a subclass, which do not change.
        unsafe {
            let len = ffi::PyTuple_GET_SIZE(tuple);
            msgpack::write_array_header(self.out, self.header(object, len)?);
            for index in 0..len {
                self.any(ffi::PyTuple_GET_ITEM(tuple, index), depth + 1)
                    .map_err(|refusal| refusal.within(index_step(index as usize)))?;
            }
        }
        Ok(())
    }

    fn dict(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> Refused<()> {
        // SAFETY: the object is a dict or an instance of a subclass.
        let mut entries = unsafe { entries(self.py, object.as_ptr()) };
        let order = key_order(&entries);
        if order == KeyOrder::None {
            return self.map(object, &entries, depth);
        }
        let len = self.header(object, entries.len() as ffi::Py_ssize_t)?;
        sort(&mut entries, order).map_err(|error| Refusal::raised(object, "key order", error))?;
        msgpack::write_map_header(self.out, len);
        for (key, value) in &entries {
            self.key(key)
                .map_err(|refusal| refusal.within(String::from(" key")))?;
            self.bound(value, depth + 1)
                .map_err(|refusal| refusal.within(key_step(key)))?;
        }
        Ok(())
    }

    /// A mapping's key in the protocol's form, where it is not normalised: -0.0 keeps its sign.
    fn key(&mut self, key: &Bound<'py, PyAny>) -> Refused<()> {
        match key.cast_exact::<PyFloat>() {
            Ok(float) => {
                msgpack::write_f64(self.out, float.value());
                Ok(())
            }
            Err(_) => self.bound(key, 0),
        }
    }

    /// A dict whose keys the protocol does not take: pairs in the order of their keys' bytes.
    fn map(
        &mut self,
        object: &Bound<'py, PyAny>,
        entries: &[(Bound<'py, PyAny>, Bound<'py, PyAny>)],
        depth: usize,
    ) -> Refused<()> {
        let mut encoded = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key_bytes = self
                .apart(|encoder| encoder.bound(key, depth + 1))
                .map_err(|refusal| refusal.within(format!(" key {}", key_step(key))))?;
            encoded.push((key_bytes.as_slice().to_vec(), key, value));
        }
        encoded.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        self.wrapped(object, code::MAP, |encoder| {
            for (key_bytes, key, value) in encoded {
                encoder.out.extend(&key_bytes);
                encoder
                    .bound(value, depth + 1)
                    .map_err(|refusal| refusal.within(key_step(key)))?;
            }
            Ok(())
        })
    }

    fn set(&mut self, object: &Bound<'py, PyAny>, code: i8, depth: usize) -> Refused<()> {
        let mut elements = Vec::new();
        // A subclass may iterate as it likes; the set's own content counts.
        let own =
            unwrapped_set(object).map_err(|error| Refusal::raised(object, "iteration", error))?;
        for element in &own {
            let bytes = self
                .apart(|encoder| encoder.bound(element, depth + 1))
                .map_err(|refusal| refusal.within(String::from("{…}")))?;
            elements.push(bytes.as_slice().to_vec());
        }
        elements.sort_unstable();
        let len = self.header(object, elements.len() as ffi::Py_ssize_t)?;
        self.wrapped(object, code, |encoder| {
            msgpack::write_array_header(encoder.out, len);
            for element in &elements {
                encoder.out.extend(element);
            }
            Ok(())
        })
    }

    fn temporal(&mut self, object: &Bound<'py, PyAny>, kind: Temporal) -> Refused<()> {
        if kind == Temporal::Delta {
            return self.timedelta(object);
        }
        let iso = temporal::iso(object, kind)
            .map_err(|error| Refusal::raised(object, "isoformat()", error))?;
        let text = iso.text.as_str();
        let code = match (kind, iso.zone) {
            (_, Zone::Unsettled) => return Err(Refusal::new(object, remedies::UNSETTLED_ZONE)),
            // The protocol's own form.
            (Temporal::DateTime, Zone::Aware) => {
                msgpack::write_str(self.out, text);
                return Ok(());
            }
            (Temporal::DateTime, Zone::Naive) => code::DATETIME,
            (Temporal::Date, _) => code::DATE,
            (Temporal::Time | Temporal::Delta, _) => code::TIME,
        };
        // Two naive wall-clock times an hour apart may differ in their fold alone.
        if iso.fold {
            self.ext(object, code, format!("{text} fold=1").as_bytes())
        } else {
            self.ext(object, code, text.as_bytes())
        }
    }

    fn timedelta(&mut self, object: &Bound<'py, PyAny>) -> Refused<()> {
        // SAFETY: the object is a timedelta or an instance of a subclass, whose fields these read.
        let parts = unsafe {
            [
                ffi::PyDateTime_DELTA_GET_DAYS(object.as_ptr()),
                ffi::PyDateTime_DELTA_GET_SECONDS(object.as_ptr()),
                ffi::PyDateTime_DELTA_GET_MICROSECONDS(object.as_ptr()),
            ]
        };
        self.wrapped(object, code::TIMEDELTA, |encoder| {
            parts
                .iter()
                .for_each(|&part| msgpack::write_i64(encoder.out, i64::from(part)));
            Ok(())
        })
    }

    /// An instance of a class that is not a builtin type.
    fn instance(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> Refused<()> {
        let class = class_of(object)?;
        let py = self.py;
        match &class.kind {
            Kind::Enum => {
                let value = object
                    .getattr(intern!(py, "value"))
                    .map_err(|error| Refusal::raised(object, "value", error))?;
                self.bound(&value, depth + 1)
                    .map_err(|refusal| refusal.within(String::from(".value")))
            }
            Kind::Text => {
                let text = object
                    .str()
                    .map_err(|error| Refusal::raised(object, "str()", error))?;
                self.str(text.as_any())
            }
            Kind::Path => {
                let text = object
                    .call_method0(intern!(py, "as_posix"))
                    .map_err(|error| Refusal::raised(object, "as_posix()", error))?;
                self.bound(&text, depth + 1)
            }
            Kind::CacheKey => self.cache_key(object, &class, depth),
            Kind::Dataclass(fields) => self.wrapped(object, code::DATACLASS, |encoder| {
                encoder.class_name(&class);
                encoder.fields(object, fields, &class, depth)
            }),
            Kind::Pydantic(major) => self.wrapped(object, code::PYDANTIC, |encoder| {
                encoder.class_name(&class);
                encoder.model(object, *major, &class, depth)
            }),
            Kind::NumpyScalar => arrays::scalar(self, object),
            Kind::NumpyArray => arrays::array(self, object, depth),
            Kind::Series => frames::series(self, object, depth),
            Kind::DataFrame => frames::frame(self, object, depth),
            Kind::Missing => frames::missing(self, object),
            Kind::Timedelta => self.wrapped(object, code::SUBCLASS, |encoder| {
                encoder.class_name(&class);
                let text = object
                    .call_method0(intern!(py, "isoformat"))
                    .map_err(|error| Refusal::raised(object, "isoformat()", error))?;
                encoder.bound(&text, depth + 1)
            }),
            Kind::Sub(base) => self.subclass(object, *base, &class, depth),
            Kind::Foreign => Err(Refusal::new(object, remedies::argument(object))),
        }
    }

    fn class_name(&mut self, class: &Class) {
        self.out.extend(&class.name);
        if !class.is_shared {
            self.scope = Scope::Local;
        }
    }

    /// An instance of a builtin type's subclass: in the protocol's form where there is one and it
    /// has all there is, else the class's name, the content and the instance's attributes.
    fn subclass(
        &mut self,
        object: &Bound<'py, PyAny>,
        base: Base,
        class: &Class,
        depth: usize,
    ) -> Refused<()> {
        let attributes = instance_dict(object).filter(|attributes| !attributes.is_empty());
        if attributes.is_none() {
            match base {
                Base::List | Base::Tuple | Base::Dict => return self.content(object, base, depth),
                Base::Temporal(Temporal::DateTime) if !is_naive(object) => {
                    return self.content(object, base, depth);
                }
                _ => {}
            }
        }
        self.wrapped(object, code::SUBCLASS, |encoder| {
            encoder.class_name(class);
            encoder.content(object, base, depth)?;
            match attributes {
                Some(attributes) => encoder.attributes(class, &attributes, &[], depth),
                None => Ok(()),
            }
        })
    }

    /// The fields of a dataclass, and what else its instance holds.
    fn fields(
        &mut self,
        object: &Bound<'py, PyAny>,
        fields: &[Py<PyString>],
        class: &Class,
        depth: usize,
    ) -> Refused<()> {
        let mut values = Vec::with_capacity(fields.len());
        for name in fields {
            let name = name.bind(self.py);
            // A field without a value (`init=False`, never set) is left out.
            match object.getattr_opt(name) {
                Ok(Some(value)) => values.push((name, value)),
                Ok(None) => {}
                Err(error) => return Err(Refusal::raised(object, "field", error)),
            }
        }
        msgpack::write_map_header(self.out, values.len() as u32);
        for (name, value) in values {
            self.bound(name.as_any(), depth + 1)?;
            self.bound(&value, depth + 1)
                .map_err(|refusal| refusal.within(format!(".{name}")))?;
        }
        match instance_dict(object) {
            Some(attributes) => self.attributes(class, &attributes, fields, depth),
            None => Ok(()),
        }
    }

    fn is_among(&self, names: &[Py<PyString>], name: &Bound<'py, PyAny>) -> bool {
        // Attribute names are nearly always interned.
        names.iter().any(|known| known.is(name))
            || names
                .iter()
                .any(|known| known.bind(self.py).as_any().eq(name).unwrap_or(false))
    }

    /// The attributes of an instance other than `except` and than cached properties, if there are any.
    fn attributes(
        &mut self,
        class: &Class,
        attributes: &Bound<'py, PyDict>,
        except: &[Py<PyString>],
        depth: usize,
    ) -> Refused<()> {
        let mut further = Vec::new();
        for (name, value) in attributes {
            if !self.is_among(except, &name) && !self.is_among(&class.derived, &name) {
                further.push((name.to_string(), value));
            }
        }
        if further.is_empty() {
            return Ok(());
        }
        further.sort_by(|(a, _), (b, _)| a.cmp(b));
        msgpack::write_map_header(self.out, further.len() as u32);
        for (name, value) in further {
            msgpack::write_str(self.out, &name);
            self.bound(&value, depth + 1)
                .map_err(|refusal| refusal.within(format!(".{name}")))?;
        }
        Ok(())
    }

    /// The content of a pydantic model: attributes, extra and private ones, and which were set.
    fn model(
        &mut self,
        object: &Bound<'py, PyAny>,
        major: u8,
        class: &Class,
        depth: usize,
    ) -> Refused<()> {
        if let Some(attributes) = instance_dict(object) {
            self.attributes(class, &attributes, &[], depth)?;
        }
        let names: &[&str] = match major {
            1 => &["__private_attributes__", "__fields_set__"],
            _ => &[
                "__pydantic_extra__",
                "__pydantic_private__",
                "__pydantic_fields_set__",
            ],
        };
        for &name in names {
            msgpack::write_str(self.out, name);
            let state = object
                .getattr_opt(name)
                .map_err(|error| Refusal::raised(object, "model state", error))?;
            match state {
                None => msgpack::write_nil(self.out),
                Some(declared) if name == "__private_attributes__" => {
                    self.private(object, &declared, depth)?
                }
                Some(state) => self
                    .bound(&state, depth + 1)
                    .map_err(|refusal| refusal.within(format!(".{name}")))?,
            }
        }
        Ok(())
    }

    /// The private attributes of a model of pydantic 1, which are slots.
    fn private(
        &mut self,
        object: &Bound<'py, PyAny>,
        declared: &Bound<'py, PyAny>,
        depth: usize,
    ) -> Refused<()> {
        let failed = |error| Refusal::raised(object, "private attributes", error);
        let mut names: Vec<String> = declared
            .try_iter()
            .and_then(|names| names.map(|name| name?.extract()).collect())
            .map_err(failed)?;
        names.sort_unstable();
        msgpack::write_map_header(self.out, names.len() as u32);
        for name in names {
            let value = object.getattr_opt(name.as_str()).map_err(failed)?;
            msgpack::write_str(self.out, &name);
            match value {
                None => msgpack::write_nil(self.out),
                Some(value) => self
                    .bound(&value, depth + 1)
                    .map_err(|refusal| refusal.within(format!(".{name}")))?,
            }
        }
        Ok(())
    }

    fn cache_key(
        &mut self,
        object: &Bound<'py, PyAny>,
        class: &Class,
        depth: usize,
    ) -> Refused<()> {
        let key = object
            .call_method0(intern!(self.py, "__cache_key__"))
            .map_err(|error| Refusal::raised(object, "__cache_key__()", error))?;
        self.wrapped(object, code::CACHE_KEY, |encoder| {
            encoder.class_name(class);
            encoder
                .bound(&key, depth + 1)
                .map_err(|refusal| refusal.within(String::from(".__cache_key__()")))
        })
    }

    /// Writes the object that a method was called on, or the class.
    ///
    /// # Safety
    /// `object` is alive and stays so.
    #[inline(never)]
    pub(super) unsafe fn receiver(&mut self, object: *mut ffi::PyObject) -> Refused<()> {
        // SAFETY: the caller's promise.
        let object = unsafe { Bound::from_borrowed_ptr(self.py, object) };
        if let Ok(class) = object.cast::<PyType>() {
            let class =
                classes::of(class).map_err(|error| Refusal::raised(&object, "name", error))?;
            return self.wrapped(&object, code::CLASS, |encoder| {
                encoder.class_name(&class);
                Ok(())
            });
        }
        let class = class_of(&object)?;
        if class.has_cache_key {
            return self.cache_key(&object, &class, 0);
        }
        // SAFETY: the reference keeps it alive.
        match unsafe { identity::number(self.py, object.as_ptr()) } {
            Ok(number) => {
                self.scope = Scope::Local;
                msgpack::write_ext(self.out, code::IDENTITY, &number.to_be_bytes());
                Ok(())
            }
            Err(_) => Err(Refusal::new(&object, remedies::RECEIVER)),
        }
    }
}

fn class_of(object: &Bound<'_, PyAny>) -> Refused<std::sync::Arc<Class>> {
    classes::of(&object.get_type()).map_err(|error| Refusal::raised(object, "class", error))
}

fn is_naive(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is a datetime or an instance of a subclass.
    unsafe { ffi::PyDateTime_DATE_GET_TZINFO(object.as_ptr()) == ffi::Py_None() }
}

/// The instance's own dictionary, if objects of its class have one.
fn instance_dict<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyDict>> {
    // SAFETY: gives a new reference, or null with an AttributeError where there is none.
    let dict = unsafe {
        let dict = ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut());
        if dict.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Bound::from_owned_ptr(object.py(), dict)
    };
    dict.cast_into::<PyDict>().ok()
}

/// The elements of a set or frozenset, whatever its class does about iteration.
fn unwrapped_set<'py>(object: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = object.py();
    // SAFETY: copying from a set takes over its entries without hashing or comparing anew.
    let copy = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PySet_New(object.as_ptr()))? };
    copy.try_iter()?.collect()
}

type Entry<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// The entries of a dict, on references of their own: what is done with them may change the dict.
unsafe fn entries<'py>(py: Python<'py>, dict: *mut ffi::PyObject) -> Vec<Entry<'py>> {
    // SAFETY: the caller has a dict; nothing within the loop runs Python code.
    unsafe {
        let mut entries = Vec::with_capacity(ffi::PyDict_Size(dict) as usize);
        let mut position = 0;
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        while ffi::PyDict_Next(dict, &raw mut position, &raw mut key, &raw mut value) != 0 {
            entries.push((
                Bound::from_borrowed_ptr(py, key),
                Bound::from_borrowed_ptr(py, value),
            ));
        }
        entries
    }
}

/// How the protocol orders a dict's keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyOrder {
    /// At most one key, of a type that the protocol takes.
    Single,
    Text,
    Bytes,
    Numbers,
    /// It does not: keys of other types, or of several that do not compare.
    None,
}

fn key_order(entries: &[Entry<'_>]) -> KeyOrder {
    let mut orders = entries.iter().map(|(key, _)| {
        if key.is_exact_instance_of::<PyString>() {
            // SAFETY: the key is a string and alive.
            let text = unsafe { layout::text(key.as_ptr()) };
            if layout::is_utf8(&text) {
                KeyOrder::Text
            } else {
                KeyOrder::None
            }
        } else if key.is_exact_instance_of::<PyBytes>() {
            KeyOrder::Bytes
        } else if key.is_exact_instance_of::<PyInt>() {
            // SAFETY: the key is an int.
            if matches!(unsafe { layout::int(key.as_ptr()) }, Int::Big) {
                KeyOrder::None
            } else {
                KeyOrder::Numbers
            }
        } else if key.is_exact_instance_of::<PyBool>() {
            KeyOrder::Numbers
        } else if let Ok(float) = key.cast_exact::<PyFloat>() {
            // A NaN has no place among others.
            if float.value().is_nan() && entries.len() > 1 {
                KeyOrder::None
            } else {
                KeyOrder::Numbers
            }
        } else if key.is_none() {
            if entries.len() == 1 {
                KeyOrder::Single
            } else {
                KeyOrder::None
            }
        } else {
            KeyOrder::None
        }
    });
    let Some(first) = orders.next() else {
        return KeyOrder::Single;
    };
    if orders.all(|order| order == first) {
        first
    } else {
        KeyOrder::None
    }
}

fn sort(entries: &mut [Entry<'_>], order: KeyOrder) -> PyResult<()> {
    match order {
        // SAFETY: all keys are strings.
        KeyOrder::Text => {
            entries.sort_by(|(a, _), (b, _)| unsafe { compare_text(a.as_ptr(), b.as_ptr()) })
        }
        KeyOrder::Bytes => entries.sort_by(|(a, _), (b, _)| bytes_of(a).cmp(bytes_of(b))),
        KeyOrder::Numbers => {
            let mut failed = None;
            entries.sort_by(|(a, _), (b, _)| {
                a.compare(b).unwrap_or_else(|error| {
                    failed = Some(error);
                    std::cmp::Ordering::Equal
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
        }
        KeyOrder::Single | KeyOrder::None => {}
    }
    Ok(())
}

fn bytes_of<'a>(key: &'a Bound<'_, PyAny>) -> &'a [u8] {
    key.cast::<PyBytes>().map_or(&[], |bytes| bytes.as_bytes())
}
