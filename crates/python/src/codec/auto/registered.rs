//! Instances of the classes that the user registered: no other class is ever looked up or made.

use cachekit_wire::msgpack;
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    ffi, intern,
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple, PyType},
};

use super::{
    super::{
        classes,
        encode::bound,
        refusal::{Refusal, Refused},
    },
    Auto, Kind, parts,
};

/// The classes whose instances are stored, by name.
pub(crate) struct Registered(Vec<Known>);

struct Known {
    class: Py<PyType>,
    name: String,
    kind: Kind,
    /// Of a dataclass.
    fields: Vec<Py<PyString>>,
    /// What instances of a dataclass may have beside fields and attributes: slots of its bases.
    slots: Vec<Py<PyString>>,
}

impl Registered {
    /// The classes of `types`.
    ///
    /// # Errors
    /// TypeError for what is not a class of a kind whose instances can be made anew.
    pub(crate) fn new(types: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let mut known: Vec<Known> = Vec::new();
        for class in types.iter() {
            let class = class.cast_into::<PyType>().map_err(|error| {
                PyTypeError::new_err(format!("types=: classes are expected, not {error}"))
            })?;
            let module = class.module()?;
            let name = format!("{module}.{}", class.qualname()?);
            if known.iter().any(|other| other.name == name) {
                return Err(PyTypeError::new_err(format!(
                    "types=: two classes are named {name}; give one another name"
                )));
            }
            let (kind, fields) = kind(&class, &name)?;
            let slots = match kind {
                Kind::Dataclass => slots(&class, &fields)?,
                _ => Vec::new(),
            };
            known.push(Known {
                class: class.unbind(),
                name,
                kind,
                fields,
                slots,
            });
        }
        Ok(Self(known))
    }

    /// Shows the collector what is held.
    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.0.iter().try_for_each(|known| visit.call(&known.class))
    }

    /// Appends an instance of a registered class; `None` for other objects.
    pub(super) fn encode(
        &self,
        mode: &Auto,
        object: &Bound<'_, PyAny>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Option<Refused<()>> {
        if self.0.is_empty() {
            return None;
        }
        let class = object.get_type();
        let known = self.0.iter().find(|known| known.class.is(&class))?;
        if depth >= msgpack::MAX_DEPTH {
            let reason =
                "and nested more than 512 deep, or contains itself; return a flatter structure";
            return Some(Err(Refusal::new(object, reason)));
        }
        known.kind.write(out);
        msgpack::write_array_header(out, 2);
        msgpack::write_str(out, &known.name);
        Some(known.content(mode, object, out, depth))
    }

    /// The instance that `[class, content]` describes.
    pub(super) fn made<'py>(
        &self,
        kind: Kind,
        described: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (name, content): (String, Bound<'py, PyAny>) = parts(described)?;
        let known = self
            .0
            .iter()
            .find(|known| known.name == name && known.kind == kind)
            .ok_or_else(|| {
                PyTypeError::new_err(format!(
                    "an instance of {name}, which is not registered: AutoSerializer(types=[…])"
                ))
            })?;
        known.made(&content)
    }
}

fn kind(class: &Bound<'_, PyType>, name: &str) -> PyResult<(Kind, Vec<Py<PyString>>)> {
    let py = class.py();
    if classes::is_sub(class, "enum", "Enum")? {
        return Ok((Kind::Enum, Vec::new()));
    }
    if class.hasattr(intern!(py, "__dataclass_fields__"))? {
        if let Some(base) = builtin_base(class)? {
            return Err(PyTypeError::new_err(format!(
                "types=: {name} is a dataclass that derives from {base}, whose content would be lost; make that a field"
            )));
        }
        let fields = py
            .import(intern!(py, "dataclasses"))?
            .call_method1(intern!(py, "fields"), (class,))?;
        let names = fields.try_iter()?.map(|field| {
            let name = field?.getattr(intern!(py, "name"))?;
            Ok(name.cast_into::<PyString>()?.unbind())
        });
        return Ok((Kind::Dataclass, names.collect::<PyResult<_>>()?));
    }
    if classes::is_sub(class, "pydantic", "BaseModel")?
        || classes::is_sub(class, "pydantic.v1", "BaseModel")?
    {
        return Ok((Kind::Model, Vec::new()));
    }
    if class.is_subclass_of::<PyTuple>()? && class.hasattr(intern!(py, "_fields"))? {
        return Ok((Kind::NamedTuple, Vec::new()));
    }
    Err(PyTypeError::new_err(format!(
        "types=: {name} is not an enumeration, a dataclass, a pydantic model or a named tuple; \
         convert its instances to one of these before returning"
    )))
}

/// The builtin class that an instance's layout comes from, if it is another one than `object`: such
/// instances have content beside their attributes.
fn builtin_base(class: &Bound<'_, PyType>) -> PyResult<Option<String>> {
    for base in class.mro().iter() {
        let base = base.cast_into::<PyType>()?;
        // SAFETY: the class is alive.
        let flags = unsafe { ffi::PyType_GetFlags(base.as_type_ptr()) };
        if flags & ffi::Py_TPFLAGS_HEAPTYPE == 0 && !base.is(base.py().get_type::<PyAny>()) {
            return base.name()?.extract().map(Some);
        }
    }
    Ok(None)
}

/// The slots of a class and its bases that are none of its fields.
fn slots(class: &Bound<'_, PyType>, fields: &[Py<PyString>]) -> PyResult<Vec<Py<PyString>>> {
    let py = class.py();
    let slot = py
        .import(intern!(py, "types"))?
        .getattr(intern!(py, "MemberDescriptorType"))?;
    let mut slots = Vec::new();
    for base in class.mro().iter() {
        let members = base.getattr(intern!(py, "__dict__"))?;
        for item in members.call_method0(intern!(py, "items"))?.try_iter()? {
            let (name, member): (Bound<'_, PyString>, Bound<'_, PyAny>) = item?.extract()?;
            if member.get_type().is(&slot) && !is_among(fields, &name) {
                slots.push(name.unbind());
            }
        }
    }
    Ok(slots)
}

fn is_among(names: &[Py<PyString>], name: &Bound<'_, PyAny>) -> bool {
    names
        .iter()
        .any(|known| known.bind(name.py()).as_any().eq(name).unwrap_or(false))
}

/// Whether an instance has attributes of its own.
fn has_attributes(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    match object.getattr_opt(intern!(object.py(), "__dict__"))? {
        Some(attributes) => attributes.is_truthy(),
        None => Ok(false),
    }
}

impl Known {
    fn content(
        &self,
        mode: &Auto,
        object: &Bound<'_, PyAny>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Refused<()> {
        let py = object.py();
        let raised = |error| Refusal::raised(object, "state", error);
        let state = match self.kind {
            Kind::Dataclass => return self.fields(mode, object, out, depth),
            Kind::Enum => self.member(object).map_err(raised)?.ok_or_else(|| {
                let reason = "without a name of its own, a combination of flags; return its .value";
                Refusal::new(object, reason)
            })?,
            Kind::Model => object
                .call_method0(intern!(py, "__getstate__"))
                .map_err(raised)?,
            _ if has_attributes(object).map_err(raised)? => {
                let reason =
                    "with attributes beside its fields, which would be lost; make them fields";
                return Err(Refusal::new(object, reason));
            }
            _ => PyList::new(
                py,
                object
                    .try_iter()
                    .and_then(|items| items.collect::<PyResult<Vec<_>>>())
                    .map_err(raised)?,
            )
            .map_err(raised)?
            .into_any(),
        };
        bound(mode, &state, out, depth + 1)
    }

    /// The name of an enumeration's member; `None` for a combination of flags, which has none, or one
    /// (`A|B`) that is no member's.
    fn member<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = object.py();
        let name = object.getattr(intern!(py, "name"))?;
        let members = self.class.bind(py).getattr(intern!(py, "__members__"))?;
        let is_name = name.is_instance_of::<PyString>() && members.contains(&name)?;
        Ok(is_name.then_some(name))
    }

    fn fields(
        &self,
        mode: &Auto,
        object: &Bound<'_, PyAny>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Refused<()> {
        let py = object.py();
        let raised = |error| Refusal::raised(object, "state", error);
        let class = classes::of(&object.get_type()).map_err(raised)?;
        let beside = |name: &Bound<'_, PyAny>| {
            let reason = format!("with an attribute {name} that is not a field; make it one");
            Refusal::new(object, reason)
        };
        for name in &self.slots {
            let name = name.bind(py);
            if object.getattr_opt(name).map_err(raised)?.is_some() {
                return Err(beside(name));
            }
        }
        if let Some(state) = object.getattr_opt("__dict__").map_err(raised)? {
            for name in state.try_iter().map_err(raised)? {
                let name = name.map_err(raised)?;
                if !is_among(&self.fields, &name) && !is_among(&class.derived, &name) {
                    return Err(beside(&name));
                }
            }
        }
        msgpack::write_map_header(out, self.fields.len() as u32);
        for name in &self.fields {
            let name = name.bind(py);
            let value = object.getattr(name).map_err(raised)?;
            bound(mode, name.as_any(), out, depth + 1)?;
            bound(mode, &value, out, depth + 1)
                .map_err(|refusal| refusal.within(format!(".{name}")))?;
        }
        Ok(())
    }

    /// An instance as it was, without running its constructor or validators.
    fn made<'py>(&self, content: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = content.py();
        let class = self.class.bind(py);
        match self.kind {
            Kind::Enum => class.get_item(content),
            Kind::NamedTuple => class.call_method1(intern!(py, "_make"), (content,)),
            Kind::Model => {
                let object = class.call_method1(intern!(py, "__new__"), (class,))?;
                object.call_method1(intern!(py, "__setstate__"), (content,))?;
                Ok(object)
            }
            _ => {
                let values = content.cast::<PyDict>()?;
                if values.len() != self.fields.len() {
                    return Err(PyValueError::new_err(format!(
                        "an instance of {} with other fields than it has now",
                        self.name
                    )));
                }
                let base = py.get_type::<PyAny>();
                let object = base.call_method1(intern!(py, "__new__"), (class,))?;
                for name in &self.fields {
                    let name = name.bind(py);
                    let value = values.get_item(name)?.ok_or_else(|| {
                        PyValueError::new_err(format!(
                            "an instance of {} without its field {name}",
                            self.name
                        ))
                    })?;
                    base.call_method1(intern!(py, "__setattr__"), (&object, name, value))?;
                }
                Ok(object)
            }
        }
    }
}
