//! Instances in keys: of enumerations, dataclasses, models, subclasses, and what methods are called on.

use cachekit_wire::msgpack::{self, Sink};
use pyo3::{
    ffi, intern,
    prelude::*,
    types::{PyDict, PyString, PyType},
};

use super::{
    args::Scope,
    arrays,
    classes::{self, Base, Class, Kind},
    frames, identity,
    normal::{Encoder, code},
    refusal::{Refusal, Refused},
    remedies,
    temporal::Temporal,
};

impl<'py> Encoder<'py, '_> {
    /// An instance of a class that is not a builtin type.
    #[inline(never)]
    pub(super) fn instance(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> Refused<()> {
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
            Kind::Uuid => self.uuid(object),
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
            Kind::Dataclass(fields) => self.dataclass(object, fields, &class, depth),
            Kind::Pydantic(major) => self.pydantic(object, *major, &class, depth),
            Kind::NumpyScalar => arrays::scalar(self, object),
            Kind::NumpyArray => arrays::array(self, object, depth),
            Kind::Series => frames::series(self, object, depth),
            Kind::DataFrame => frames::frame(self, object, depth),
            Kind::Missing => frames::missing(self, object),
            Kind::Timedelta => self.timedelta_with_nanoseconds(object, &class),
            Kind::Sub(base) => self.subclass(object, *base, &class, depth),
            Kind::Foreign => Err(Refusal::new(object, remedies::argument(object))),
        }
    }

    /// What `str()` of a UUID is, without running the Python code of that.
    #[inline(never)]
    fn uuid(&mut self, object: &Bound<'py, PyAny>) -> Refused<()> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number: u128 = object
            .getattr(intern!(self.py, "int"))
            .and_then(|number| number.extract())
            .map_err(|error| Refusal::raised(object, "int", error))?;
        let mut text = [b'-'; 36];
        let mut digits = (0..32)
            .rev()
            .map(|place| DIGITS[(number >> (4 * place)) as usize & 15]);
        for (place, character) in text.iter_mut().enumerate() {
            if !matches!(place, 8 | 13 | 18 | 23) {
                *character = digits
                    .next()
                    .expect("36 places with 4 hyphens have 32 digits");
            }
        }
        msgpack::write_str_header(self.out, text.len() as u32);
        self.out.extend(&text);
        Ok(())
    }

    #[inline(never)]
    fn dataclass(
        &mut self,
        object: &Bound<'py, PyAny>,
        fields: &[Py<PyString>],
        class: &Class,
        depth: usize,
    ) -> Refused<()> {
        self.wrapped(object, code::DATACLASS, |encoder| {
            encoder.class_name(class);
            encoder.fields(object, fields, class, depth)
        })
    }

    #[inline(never)]
    fn pydantic(
        &mut self,
        object: &Bound<'py, PyAny>,
        major: u8,
        class: &Class,
        depth: usize,
    ) -> Refused<()> {
        self.wrapped(object, code::PYDANTIC, |encoder| {
            encoder.class_name(class);
            encoder.model(object, major, class, depth)
        })
    }

    fn timedelta_with_nanoseconds(
        &mut self,
        object: &Bound<'py, PyAny>,
        class: &Class,
    ) -> Refused<()> {
        let text = object
            .call_method0(intern!(self.py, "isoformat"))
            .map_err(|error| Refusal::raised(object, "isoformat()", error))?;
        self.wrapped(object, code::SUBCLASS, |encoder| {
            encoder.class_name(class);
            encoder.bound(&text, 0)
        })
    }

    fn class_name(&mut self, class: &Class) {
        self.out.extend(&class.name);
        if !class.is_shared {
            self.scope = Scope::Local;
        }
    }

    /// An instance of a builtin type's subclass: in the protocol's form where there is one and it
    /// has all there is, else the class's name, the content and the instance's attributes.
    #[inline(never)]
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

    #[inline(never)]
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
