//! Why a value could not be encoded, or an argument not be part of a key, and what to do about it.

use std::fmt;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// How many characters of a mapping key a path shows.
const SHOWN_CHARS: usize = 40;

/// What was found at one place, and the steps that lead there, innermost first while it travels up.
#[derive(Debug)]
pub(super) struct Refusal {
    steps: Vec<String>,
    type_name: String,
    reason: String,
    cause: Option<PyErr>,
}

/// A refusal is rare and large; the encoders return a pointer to it.
pub(super) type Refused<T> = Result<T, Box<Refusal>>;

impl Refusal {
    /// `reason` completes the sentence "<place> is a <type>, ": what is wrong with it and the remedy.
    #[cold]
    pub(super) fn new(object: &Bound<'_, PyAny>, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            steps: Vec::new(),
            type_name: type_name(&object.get_type()),
            reason: reason.into(),
            cause: None,
        })
    }

    /// A refusal because `doing` (a method, a conversion) raised.
    #[cold]
    pub(super) fn raised(object: &Bound<'_, PyAny>, doing: &str, error: PyErr) -> Box<Self> {
        let name = type_name(&error.get_type(object.py()));
        let mut refusal = Self::new(object, format!("whose {doing} raised {name}"));
        refusal.cause = Some(error);
        refusal
    }

    /// A refusal that an exception of our own Python code explains: its text completes the sentence.
    #[cold]
    pub(super) fn explained(object: &Bound<'_, PyAny>, error: PyErr) -> Box<Self> {
        let mut refusal = Self::new(object, error.value(object.py()).to_string());
        refusal.cause = Some(error);
        refusal
    }

    /// Adds the step from a container to the place inside it.
    #[cold]
    pub(super) fn within(mut self: Box<Self>, step: String) -> Box<Self> {
        self.steps.push(step);
        self
    }

    /// The place: `root` and the steps from it.
    pub(super) fn path(&self, root: &str) -> String {
        let mut path = String::from(root);
        for step in self.steps.iter().rev() {
            path.push_str(step);
        }
        path
    }
}

/// The step into a sequence.
#[cold]
pub(super) fn index_step(index: usize) -> String {
    format!("[{index}]")
}

/// The step into a mapping, by a shortened `repr` of a plain key, else by the key's type.
#[cold]
pub(super) fn key_step(key: &Bound<'_, PyAny>) -> String {
    use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};
    let plain = key.is_none()
        || key.is_exact_instance_of::<PyString>()
        || key.is_exact_instance_of::<PyInt>()
        || key.is_exact_instance_of::<PyBytes>()
        || key.is_exact_instance_of::<PyFloat>()
        || key.is_exact_instance_of::<PyBool>();
    if !plain {
        return format!("[<{}>]", type_name(&key.get_type()));
    }
    let text = match key.repr() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => return String::from("[…]"),
    };
    let text = match text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        Some(inner) => format!("\"{inner}\""),
        None => text,
    };
    if text.chars().count() > SHOWN_CHARS {
        let shown: String = text.chars().take(SHOWN_CHARS).collect();
        format!("[{shown}…]")
    } else {
        format!("[{text}]")
    }
}

/// `int`, or `package.module.Class` for what is not a builtin.
pub(super) fn type_name(class: &Bound<'_, PyType>) -> String {
    match class.fully_qualified_name() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => String::from("object of an unnamed type"),
    }
}

/// Whether `error` must reach the caller whatever cachekit was doing: KeyboardInterrupt, SystemExit, CancelledError.
fn interrupts(error: Option<&PyErr>, py: Python<'_>) -> bool {
    error.is_some_and(|e| !e.is_instance_of::<PyException>(py))
}

/// A value that the std serializer does not take: where, of which type, and the remedy.
///
/// `Display` is one line: ``result["a"][3] is a set: serializer="auto" stores sets``.
#[derive(Debug)]
pub(crate) struct Unencodable(Box<Refusal>);

impl Unencodable {
    pub(super) const fn new(refusal: Box<Refusal>) -> Self {
        Self(refusal)
    }

    /// The place inside the value, from `result`: `result["a"][3]`.
    pub(crate) fn path(&self) -> String {
        self.0.path("result")
    }

    /// The qualified name of the type found there.
    pub(crate) fn type_name(&self) -> &str {
        &self.0.type_name
    }

    /// What is wrong with it and what to do.
    pub(crate) fn remedy(&self) -> &str {
        &self.0.reason
    }

    /// The exception that Python code raised while it was encoded, if one did.
    pub(crate) fn cause(&self) -> Option<&PyErr> {
        self.0.cause.as_ref()
    }

    /// Whether the cause is not an `Exception` and therefore has to be raised to the caller.
    pub(crate) fn interrupts(&self, py: Python<'_>) -> bool {
        interrupts(self.cause(), py)
    }
}

impl fmt::Display for Unencodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is of type {}, {}",
            self.path(),
            self.0.type_name,
            self.0.reason
        )
    }
}

/// An argument that cannot be part of a key: which one, where inside it, of which type, and the remedy.
///
/// `Display` is one line that names argument, place, type and remedies.
#[derive(Debug)]
pub(crate) struct Unkeyable {
    argument: String,
    refusal: Box<Refusal>,
}

impl Unkeyable {
    pub(super) fn new(argument: String, refusal: Box<Refusal>) -> Self {
        Self { argument, refusal }
    }

    /// The parameter's name where it is known, else `args[2]`.
    pub(crate) fn argument(&self) -> &str {
        &self.argument
    }

    /// The place inside the arguments: `user["tags"][0]`.
    pub(crate) fn path(&self) -> String {
        self.refusal.path(&self.argument)
    }

    /// The qualified name of the type found there.
    pub(crate) fn type_name(&self) -> &str {
        &self.refusal.type_name
    }

    /// What is wrong with it and what to do.
    pub(crate) fn remedy(&self) -> &str {
        &self.refusal.reason
    }

    /// The exception that Python code raised while the argument was read, if one did.
    pub(crate) fn cause(&self) -> Option<&PyErr> {
        self.refusal.cause.as_ref()
    }

    /// Whether the cause is not an `Exception` and therefore has to be raised to the caller.
    pub(crate) fn interrupts(&self, py: Python<'_>) -> bool {
        interrupts(self.cause(), py)
    }
}

impl fmt::Display for Unkeyable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is of type {}, {}",
            self.path(),
            self.refusal.type_name,
            self.refusal.reason
        )
    }
}
