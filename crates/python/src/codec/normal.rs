//! Arguments beyond the plain ones: the protocol's normalisation, and extension types for the rest.
//!
//! The extension types and their contents are listed in `docs/keys.md`, which must be changed together
//! with this module.

use cachekit_wire::msgpack::{self, MAX_DEPTH, Sink};
use pyo3::{
    ffi,
    prelude::*,
    types::{PyBytes, PyDict, PyFloat, PyInt},
};

use super::{
    args::{Scope, plain, write_float},
    classes::Base,
    keybuf::KeyBuf,
    layout::{self, BadText, Int},
    refusal::{Refusal, Refused, index_step},
    remedies,
    temporal::{self, Temporal, Zone},
};

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
    #[inline(never)]
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
    #[inline(never)]
    pub(super) fn content(
        &mut self,
        object: &Bound<'py, PyAny>,
        base: Base,
        depth: usize,
    ) -> Refused<()> {
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

    #[inline(never)]
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

    #[inline(never)]
    pub(super) fn str(&mut self, object: &Bound<'py, PyAny>) -> Refused<()> {
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
    #[inline]
    pub(super) fn wrapped(
        &mut self,
        object: &Bound<'py, PyAny>,
        code: i8,
        write: impl FnOnce(&mut Self) -> Refused<()>,
    ) -> Refused<()> {
        // The header tells the length, so it can only be written when the data have been.
        let start = self.out.len();
        write(self)?;
        let data = self.out.split_off(start);
        self.ext(object, code, &data)
    }

    /// Puts what has been written from `start` on, whose parts end at these places, into the order of
    /// what `key` gives for a part.
    pub(super) fn reorder<T>(
        &mut self,
        start: usize,
        mut parts: Vec<(std::ops::Range<usize>, T)>,
        key: impl Fn(&(std::ops::Range<usize>, T)) -> std::ops::Range<usize>,
    ) {
        let written = self.out.as_slice();
        if parts.is_sorted_by_key(|part| &written[key(part)]) {
            return;
        }
        parts.sort_by(|a, b| written[key(a)].cmp(&written[key(b)]));
        let written = self.out.split_off(start);
        for (part, _) in parts {
            self.out
                .extend(&written[part.start - start..part.end - start]);
        }
    }

    #[inline(never)]
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

    #[inline(never)]
    fn bytearray(&mut self, object: &Bound<'py, PyAny>) -> Refused<()> {
        // SAFETY: the object is a bytearray or an instance of a subclass; writing runs no Python code,
        // so it is not resized meanwhile.
        let bytes = unsafe {
            let data = ffi::PyByteArray_AsString(object.as_ptr()).cast::<u8>();
            std::slice::from_raw_parts(data, ffi::PyByteArray_Size(object.as_ptr()) as usize)
        };
        self.ext(object, code::BYTEARRAY, bytes)
    }

    pub(super) fn header(&self, object: &Bound<'py, PyAny>, len: ffi::Py_ssize_t) -> Refused<u32> {
        u32::try_from(len).map_err(|_| Refusal::new(object, TOO_LONG))
    }

    #[inline(never)]
    pub(super) fn list(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> Refused<()> {
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

    #[inline(never)]
    pub(super) fn tuple(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> Refused<()> {
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

    #[inline(never)]
    fn set(&mut self, object: &Bound<'py, PyAny>, code: i8, depth: usize) -> Refused<()> {
        // A subclass may iterate as it likes; the set's own content counts.
        let elements =
            unwrapped_set(object).map_err(|error| Refusal::raised(object, "iteration", error))?;
        let len = self.header(object, elements.len() as ffi::Py_ssize_t)?;
        self.wrapped(object, code, |encoder| {
            msgpack::write_array_header(encoder.out, len);
            let start = encoder.out.len();
            let mut parts = Vec::with_capacity(elements.len());
            for element in &elements {
                let start = encoder.out.len();
                encoder
                    .bound(element, depth + 1)
                    .map_err(|refusal| refusal.within(String::from("{…}")))?;
                parts.push((start..encoder.out.len(), ()));
            }
            encoder.reorder(start, parts, |(part, ())| part.clone());
            Ok(())
        })
    }

    #[inline(never)]
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

    #[inline(never)]
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
}

/// The elements of a set or frozenset, whatever its class does about iteration.
fn unwrapped_set<'py>(object: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = object.py();
    // SAFETY: copying from a set takes over its entries without hashing or comparing anew.
    let copy = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PySet_New(object.as_ptr()))? };
    copy.try_iter()?.collect()
}
