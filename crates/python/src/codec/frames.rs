//! pandas' Series and DataFrames in keys, by their content: labels, types, values and `attrs`.
//!
//! pandas is never imported here: without it there is no such object. Values go in as a hash.

use cachekit_wire::keys::content_hash;
use cachekit_wire::msgpack;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arrays::{has_objects, text_of, type_text, with_bytes};
use super::normal::{Encoder, code};
use super::refusal::{Refusal, Refused};

/// How the values of a column or an index are read.
enum Values<'py> {
    /// A hash of this NumPy array's memory.
    Memory(Bound<'py, PyAny>),
    /// One by one.
    Each(Bound<'py, PyAny>),
    /// Numbers of the categories, the categories, and whether these have an order.
    Categories {
        codes: Bound<'py, PyAny>,
        categories: Bound<'py, PyAny>,
        ordered: bool,
    },
}

/// Writes a Series.
#[inline(never)]
pub(super) fn series<'py>(
    encoder: &mut Encoder<'py, '_>,
    series: &Bound<'py, PyAny>,
    depth: usize,
) -> Refused<()> {
    let py = series.py();
    let failed = |error| Refusal::raised(series, "content", error);
    encoder.wrapped(series, code::SERIES, |encoder| {
        let name = series.getattr(intern!(py, "name")).map_err(failed)?;
        encoder
            .bound(&name, depth + 1)
            .map_err(|refusal| refusal.within(String::from(".name")))?;
        labels(encoder, series, "index", depth)?;
        column(encoder, series, depth)?;
        attrs(encoder, series, depth)
    })
}

/// Writes a DataFrame.
#[inline(never)]
pub(super) fn frame<'py>(
    encoder: &mut Encoder<'py, '_>,
    frame: &Bound<'py, PyAny>,
    depth: usize,
) -> Refused<()> {
    let py = frame.py();
    let failed = |error| Refusal::raised(frame, "content", error);
    encoder.wrapped(frame, code::DATAFRAME, |encoder| {
        labels(encoder, frame, "index", depth)?;
        labels(encoder, frame, "columns", depth)?;
        let shape: (usize, usize) = frame
            .getattr(intern!(py, "shape"))
            .and_then(|shape| shape.extract())
            .map_err(failed)?;
        let by_position = frame.getattr(intern!(py, "iloc")).map_err(failed)?;
        let all_rows = pyo3::types::PySlice::full(py);
        for index in 0..shape.1 {
            // By position, as labels may repeat.
            let series = by_position.get_item((&all_rows, index)).map_err(failed)?;
            column(encoder, &series, depth)
                .map_err(|refusal| refusal.within(format!(".iloc[:, {index}]")))?;
        }
        attrs(encoder, frame, depth)
    })
}

/// Writes NA or NaT.
#[inline(never)]
pub(super) fn missing<'py>(
    encoder: &mut Encoder<'py, '_>,
    object: &Bound<'py, PyAny>,
) -> Refused<()> {
    let text = text_of(object).map_err(|error| Refusal::raised(object, "str()", error))?;
    encoder.ext(object, code::PANDAS_MISSING, text.as_bytes())
}

fn attrs<'py>(
    encoder: &mut Encoder<'py, '_>,
    owner: &Bound<'py, PyAny>,
    depth: usize,
) -> Refused<()> {
    let attrs = owner
        .getattr(intern!(owner.py(), "attrs"))
        .map_err(|error| Refusal::raised(owner, "attrs", error))?;
    match attrs.cast::<PyDict>() {
        Ok(dict) if dict.is_empty() => Ok(()),
        _ => encoder
            .bound(&attrs, depth + 1)
            .map_err(|refusal| refusal.within(String::from(".attrs"))),
    }
}

/// Writes an index: its names and the values of its levels.
fn labels<'py>(
    encoder: &mut Encoder<'py, '_>,
    owner: &Bound<'py, PyAny>,
    which: &str,
    depth: usize,
) -> Refused<()> {
    let py = owner.py();
    let failed = |error| Refusal::raised(owner, "labels", error);
    let within = |refusal: Box<Refusal>| refusal.within(format!(".{which}"));
    let index = owner.getattr(which).map_err(failed)?;
    let names = index
        .getattr(intern!(py, "names"))
        .and_then(|names| py.get_type::<pyo3::types::PyList>().call1((names,)))
        .map_err(failed)?;
    encoder.bound(&names, depth + 1).map_err(within)?;
    // The frequency of dates is a property of the index that its values do not show.
    let frequency = match index.getattr_opt(intern!(py, "freqstr")).map_err(failed)? {
        Some(frequency) => frequency,
        None => py.None().into_bound(py),
    };
    encoder.bound(&frequency, depth + 1).map_err(within)?;
    let levels: usize = index
        .getattr(intern!(py, "nlevels"))
        .and_then(|n| n.extract())
        .map_err(failed)?;
    msgpack::write_array_header(encoder.out, levels as u32);
    for level in 0..levels {
        let values = index
            .call_method1(intern!(py, "get_level_values"), (level,))
            .map_err(failed)?;
        column(encoder, &values, depth).map_err(within)?;
    }
    Ok(())
}

/// Writes the type, the length and the values of a Series or of a flat Index.
fn column<'py>(
    encoder: &mut Encoder<'py, '_>,
    column: &Bound<'py, PyAny>,
    depth: usize,
) -> Refused<()> {
    let failed = |error| Refusal::raised(column, "values", error);
    let (dtype, len, values) = values(column).map_err(failed)?;
    msgpack::write_str(encoder.out, &dtype);
    msgpack::write_u64(encoder.out, len as u64);
    match values {
        Values::Memory(array) => {
            let hash = with_bytes(&array, content_hash).map_err(failed)?;
            msgpack::write_bin(encoder.out, &hash);
        }
        Values::Each(list) => {
            let start = encoder.out.len();
            encoder.bound(&list, depth + 1)?;
            let encoded = encoder.out.split_off(start);
            msgpack::write_bin(encoder.out, &content_hash(&encoded));
        }
        Values::Categories {
            codes,
            categories,
            ordered,
        } => {
            msgpack::write_bool(encoder.out, ordered);
            let hash = with_bytes(&codes, content_hash).map_err(failed)?;
            msgpack::write_bin(encoder.out, &hash);
            self::column(encoder, &categories, depth)?;
        }
    }
    Ok(())
}

fn values<'py>(column: &Bound<'py, PyAny>) -> PyResult<(String, usize, Values<'py>)> {
    let py = column.py();
    let dtype = column.getattr(intern!(py, "dtype"))?;
    let len = column.len()?;
    let class = dtype.get_type();
    let text = text_of(&dtype)?;
    // NumPy's own types are of classes in NumPy's modules; pandas' extension types in pandas'.
    let module = class.module()?;
    let is_numpy = module.to_string_lossy().starts_with("numpy");
    if is_numpy {
        let array = column.call_method0(intern!(py, "to_numpy"))?;
        let values = if has_objects(&dtype)? {
            Values::Each(column.call_method0(intern!(py, "tolist"))?)
        } else {
            Values::Memory(array)
        };
        return Ok((type_text(&dtype)?, len, values));
    }
    let name = class.name()?;
    let values = match &*name.to_string_lossy() {
        "CategoricalDtype" => {
            let categorical = column.getattr(intern!(py, "array"))?;
            Values::Categories {
                codes: categorical.getattr(intern!(py, "codes"))?,
                categories: categorical.getattr(intern!(py, "categories"))?,
                ordered: categorical.getattr(intern!(py, "ordered"))?.is_truthy()?,
            }
        }
        // The zone is in the type's text; the values are instants.
        "DatetimeTZDtype" => {
            let instants = column
                .getattr_opt(intern!(py, "dt"))?
                .unwrap_or_else(|| column.clone())
                .call_method1(intern!(py, "tz_convert"), (py.None(),))?;
            Values::Memory(instants.call_method0(intern!(py, "to_numpy"))?)
        }
        _ => Values::Each(column.call_method0(intern!(py, "tolist"))?),
    };
    Ok((text, len, values))
}
