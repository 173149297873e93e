//! A call's arguments as the function would get them: in the order of their declaration, defaults
//! filled in.

use cachekit_wire::msgpack;
use pyo3::{
    ffi,
    prelude::*,
    types::{PyString, PyTuple},
};

use super::{
    super::refusal::{Unkeyable, index_step},
    args::{Map, any},
};

/// How a parameter takes arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// By position only.
    Positional,
    /// By position or by name.
    Either,
    /// All further positional arguments: `*args`.
    Rest,
    /// By name only.
    Named,
    /// All further named arguments: `**kwargs`.
    Extra,
}

/// One parameter of a function.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: Py<PyString>,
    pub(crate) place: Place,
    /// What it is where no argument is given.
    pub(crate) default: Option<Py<PyAny>>,
    /// Whether it is left out of the key.
    pub(crate) ignored: bool,
}

/// The parameters of an interop function, in the order of their declaration.
#[derive(Debug)]
pub(crate) struct Bindings {
    parameters: Vec<Parameter>,
    /// How many can be given by position.
    positional: usize,
    rest: bool,
    extra: bool,
    counted: u32,
}

/// What became of a call's arguments.
pub(crate) enum Binding {
    /// Their canonical bytes are written.
    Bound,
    /// They do not fit the function, which will say so itself.
    Unbound,
}

impl Bindings {
    pub(crate) fn new(parameters: Vec<Parameter>) -> Self {
        let has = |place| parameters.iter().any(|p| p.place == place);
        let by_position = |p: &&Parameter| matches!(p.place, Place::Positional | Place::Either);
        Self {
            positional: parameters.iter().filter(by_position).count(),
            rest: has(Place::Rest),
            extra: has(Place::Extra),
            counted: parameters.iter().filter(|p| !p.ignored).count() as u32,
            parameters,
        }
    }

    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let defaults = self.parameters.iter().filter_map(|p| p.default.as_ref());
        defaults
            .into_iter()
            .try_for_each(|default| visit.call(default))
    }

    /// Appends the canonical array of a call's arguments to `out`; on an error a part of it.
    ///
    /// # Safety
    /// `args` points to `nargs` objects and then one per name; `kwnames` is null or a tuple of
    /// strings; all stay alive during the call.
    ///
    /// # Errors
    /// [`Unkeyable`] names the parameter, the place inside it, the type and the remedy.
    pub(crate) unsafe fn encode(
        &self,
        py: Python<'_>,
        args: *const *mut ffi::PyObject,
        nargs: usize,
        kwnames: *mut ffi::PyObject,
        out: &mut Vec<u8>,
    ) -> Result<Binding, Unkeyable> {
        // SAFETY: the caller's promise.
        let at = |index: usize| unsafe { Bound::from_borrowed_ptr(py, *args.add(index)) };
        if nargs > self.positional && !self.rest {
            return Ok(Binding::Unbound);
        }
        let mut given: Vec<Option<Bound<'_, PyAny>>> = vec![None; self.parameters.len()];
        for (index, slot) in given
            .iter_mut()
            .enumerate()
            .take(nargs.min(self.positional))
        {
            *slot = Some(at(index));
        }
        let mut extra = Vec::new();
        if !kwnames.is_null() {
            // SAFETY: the caller's promise.
            let names =
                unsafe { Bound::from_borrowed_ptr(py, kwnames).cast_into_unchecked::<PyTuple>() };
            for (index, name) in names.iter().enumerate() {
                let value = at(nargs + index);
                match self.named(&name) {
                    Some(place) if given[place].is_some() => return Ok(Binding::Unbound),
                    Some(place) => given[place] = Some(value),
                    None if self.extra => extra.push((name, value)),
                    None => return Ok(Binding::Unbound),
                }
            }
        }
        msgpack::write_array_header(out, self.counted);
        for (parameter, given) in self.parameters.iter().zip(given) {
            let name = || parameter.name.bind(py).to_string();
            let refused = |refusal| Unkeyable::new(name(), refusal);
            let value = match (parameter.place, given) {
                (Place::Rest, _) if parameter.ignored => continue,
                (Place::Rest, _) => {
                    let further = nargs.saturating_sub(self.positional);
                    msgpack::write_array_header(out, further as u32);
                    for index in 0..further {
                        any(&at(self.positional + index), out, 1)
                            .map_err(|refusal| refused(refusal.within(index_step(index))))?;
                    }
                    continue;
                }
                (Place::Extra, _) if parameter.ignored => continue,
                (Place::Extra, _) => {
                    let mut map = Map::begin(out);
                    for (name, value) in &extra {
                        map.entry(name, |out| any(value, out, 1)).map_err(refused)?;
                    }
                    map.finish();
                    continue;
                }
                (_, Some(value)) => value,
                (_, None) => match &parameter.default {
                    Some(default) => default.bind(py).clone(),
                    None => return Ok(Binding::Unbound),
                },
            };
            if !parameter.ignored {
                any(&value, out, 0).map_err(refused)?;
            }
        }
        Ok(Binding::Bound)
    }

    /// Which parameter that may be given by name is called `name`.
    fn named(&self, name: &Bound<'_, PyAny>) -> Option<usize> {
        let takes_names = |p: &Parameter| matches!(p.place, Place::Either | Place::Named);
        // SAFETY: both are strings, so that comparing runs no Python code. Call sites intern theirs.
        let is = |known: &Py<PyString>| unsafe {
            known.as_ptr() == name.as_ptr()
                || ffi::PyUnicode_Compare(known.as_ptr(), name.as_ptr()) == 0
        };
        self.parameters
            .iter()
            .position(|p| takes_names(p) && is(&p.name))
    }
}
