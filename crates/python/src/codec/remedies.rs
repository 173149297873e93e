//! What to do about a value that cannot be stored, or an argument that cannot be part of a key.

use pyo3::prelude::*;
use pyo3::types::{
    PyComplex, PyDelta, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PyMapping, PySet, PyString,
    PyTuple,
};

use super::classes;

/// For a receiver without a key of its own and without weak references.
pub(super) const RECEIVER: &str = "which cannot be weakly referenced, so that its identity cannot be followed; \
     give the class a __cache_key__() method, or add \"__weakref__\" to its __slots__";

/// For a time whose zone gives no offset.
pub(super) const UNSETTLED_ZONE: &str = "with a tzinfo that gives no offset, so that its text does not tell the zone; \
     pass an aware datetime, or a naive time beside the zone's name";

/// For NumPy's extended precision, whose bytes are partly padding.
pub(super) const LONG_DOUBLE: &str = "whose type has bytes without meaning or holds objects; \
     convert it with .astype(\"float64\") or .item(), or build the key with key=…";

/// For an argument of a type that nothing else covers.
pub(super) fn argument(object: &Bound<'_, PyAny>) -> String {
    let own = "give the class a __cache_key__() method, leave the parameter out with ignore=(…), \
         or build the key with key=…";
    let hint = if is_a(object, "numpy", "ndarray") {
        "pass numpy.asarray(…) of it, or build the key with key=…"
    } else if object.is_callable() {
        "leave the parameter out with ignore=(…), or build the key with key=…"
    } else if object.hasattr("__next__").unwrap_or(false)
        || object.is_instance_of::<pyo3::types::PyRange>()
    {
        "pass a tuple or list of its elements, or leave the parameter out with ignore=(…)"
    } else if object.is_instance_of::<pyo3::types::PyMemoryView>() {
        "pass bytes(…) of it"
    } else {
        own
    };
    format!("which has no place in a cache key; {hint}")
}

/// For a value of a type that the std serializer does not take.
pub(super) fn value(object: &Bound<'_, PyAny>) -> String {
    let remedy = if is_a(object, "enum", "Enum") {
        "return its .value"
    } else if is_a(object, "numpy", "generic") {
        "return its .item()"
    } else if is_a(object, "pandas", "DataFrame") {
        "choose serializer=\"arrow\" or serializer=\"auto\""
    } else if is_a(object, "polars", "DataFrame") || is_a(object, "pyarrow", "Table") {
        "choose serializer=\"arrow\""
    } else if is_plain_set(object)
        || is_a(object, "numpy", "ndarray")
        || is_a(object, "pandas", "Series")
        || is_a(object, "uuid", "UUID")
    {
        "choose serializer=\"auto\""
    } else if is_a(object, "pandas", "Timestamp") {
        "return its .to_pydatetime()"
    } else if object.is_instance_of::<PyTuple>() && object.hasattr("_asdict").unwrap_or(false) {
        "whose field names a list does not keep; return tuple(…) of it, or its ._asdict()"
    } else if object.is_instance_of::<PyTuple>() {
        "return tuple(…) of it"
    } else if object.is_instance_of::<PyDict>() {
        "whose class adds what a dict does not keep; return dict(…) of it"
    } else if object.is_instance_of::<PyList>() {
        "return list(…) of it"
    } else if object.is_instance_of::<PyString>() {
        "return str(…) of it"
    } else if object.is_instance_of::<PyInt>() {
        "return int(…) of it"
    } else if object.is_instance_of::<PyFloat>() {
        "return float(…) of it"
    } else if object.is_instance_of::<PyDelta>() {
        "return its .total_seconds()"
    } else if object.is_instance_of::<PyComplex>() {
        "return its .real and .imag"
    } else if is_a(object, "decimal", "Decimal") || is_a(object, "pathlib", "PurePath") {
        "return str(…) of it"
    } else if object.hasattr("__dataclass_fields__").unwrap_or(false) {
        "return dataclasses.asdict(…) of it"
    } else if object.hasattr("model_dump").unwrap_or(false) {
        "return its .model_dump()"
    } else if object.hasattr("__next__").unwrap_or(false) || object.cast::<PyMapping>().is_ok() {
        "return a list or dict of its elements"
    } else {
        "return plain data, choose another serializer=, or keep results in this process with backend=None"
    };
    format!("which serializer=\"std\" does not store; {remedy}")
}

/// For a value of a type that JSON does not have.
pub(super) fn json_value(object: &Bound<'_, PyAny>) -> String {
    let remedy = if object.hasattr("isoformat").unwrap_or(false) {
        "return its .isoformat(), or choose serializer=\"auto\""
    } else if is_a(object, "uuid", "UUID") || is_a(object, "decimal", "Decimal") {
        "return str(…) of it, or choose serializer=\"auto\""
    } else {
        "return plain lists, dicts and scalars, or choose serializer=\"auto\""
    };
    format!("which JSON does not have, so that it would come back as something else; {remedy}")
}

/// What is stored, but not with what a subclass adds.
const PLAIN: [(&str, &str); 6] = [
    ("pandas", "DataFrame"),
    ("pandas", "Series"),
    ("polars", "DataFrame"),
    ("uuid", "UUID"),
    ("builtins", "set"),
    ("builtins", "frozenset"),
];

/// For a value of a type that the auto serializer does not take.
pub(super) fn auto_value(object: &Bound<'_, PyAny>) -> String {
    let is_model = object.hasattr("__dataclass_fields__").unwrap_or(false)
        || object.hasattr("model_dump").unwrap_or(false)
        || object.hasattr("_asdict").unwrap_or(false)
        || is_a(object, "enum", "Enum");
    let remedy = if is_model {
        let name = object.get_type().qualname();
        let name = name.map_or_else(|_| String::from("its class"), |name| name.to_string());
        format!("register its class: serializer=AutoSerializer(types=[{name}])")
    } else if let Some((module, class)) = PLAIN.iter().find(|(m, c)| is_of_subclass(object, m, c)) {
        let class = match *module {
            "builtins" => (*class).to_owned(),
            module => format!("{module}.{class}"),
        };
        format!("return {class}(…) of it")
    } else if is_a(object, "polars", "DataFrame") || is_a(object, "pyarrow", "Table") {
        String::from("return it by itself, with serializer=\"arrow\"")
    } else if is_a(object, "numpy", "ndarray") {
        String::from("return numpy.asarray(…) of it")
    } else {
        let text = value(object);
        let remedy = text.split_once("; ").map_or(&*text, |(_, remedy)| remedy);
        remedy.to_owned()
    };
    format!("which serializer=\"auto\" does not store; {remedy}")
}

/// For a key of a dict.
pub(super) fn dict_key(key: &Bound<'_, PyAny>) -> String {
    let remedy = if key.is_instance_of::<PyString>() {
        "use str(…) of it"
    } else {
        "use text keys, or choose serializer=\"auto\", which keeps other ones"
    };
    format!("and a dict's keys are str or bytes in serializer=\"std\"; {remedy}")
}

fn is_plain_set(object: &Bound<'_, PyAny>) -> bool {
    object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>()
}

/// Whether the object is an instance of a class of a module that has been imported.
fn is_a(object: &Bound<'_, PyAny>, module: &str, class: &str) -> bool {
    matches!(classes::is_sub(&object.get_type(), module, class), Ok(true))
}

fn is_of_subclass(object: &Bound<'_, PyAny>, module: &str, class: &str) -> bool {
    is_a(object, module, class)
        && matches!(
            classes::is_exactly(&object.get_type(), module, class),
            Ok(false)
        )
}
