//! Arguments as canonical bytes: what the key of an interop call is a hash of.

use cachekit_wire::{
    interop::{self, NotFinite},
    msgpack::{self, MAX_DEPTH},
};
use pyo3::{
    ffi, intern,
    prelude::*,
    types::{PyBytes, PyDate, PyDateAccess, PyDateTime, PyDelta, PyDeltaAccess, PyDict, PyFloat},
    types::{PyFrozenSet, PyList, PyString, PyTimeAccess, PyTuple, PyTzInfoAccess},
};

use super::super::{
    classes::{self, Base, Kind},
    layout::{self, Int},
    refusal::{Refusal, Refused, Unkeyable, index_step, key_step},
    temporal::Temporal,
};

const MODEL: &str = "which is not in the interop data model; pass None, bool, int, float, str, bytes, list, tuple, dict \
     with text keys, set, aware datetime, UUID, Enum, Path or Decimal, or leave the parameter out with ignore=(…)";
const BIG_INT: &str = "and outside of -2**63 to 2**64 - 1; pass it as text";
const NOT_FINITE: &str =
    "and NaN or infinite, which is not in the interop data model; pass None or text instead";
const NAIVE: &str =
    "without a time zone, so that it is no moment that other programs know; attach a tzinfo";
const KEY: &str = "and a dict's keys are text in the interop data model; use str(…) of it";
const TOO_DEEP: &str = "and nested more than 512 deep, or contains itself; pass flatter arguments";
const TOO_LONG: &str = "and has 2**32 elements or more, which MessagePack cannot hold";

/// Appends the canonical array of `args`, which are bound already, to `out`.
///
/// # Errors
/// [`Unkeyable`] names the place, the type and the remedy.
pub(crate) fn encode_flat(args: &[Bound<'_, PyAny>], out: &mut Vec<u8>) -> Result<(), Unkeyable> {
    msgpack::write_array_header(out, args.len() as u32);
    for (index, arg) in args.iter().enumerate() {
        any(arg, out, 0).map_err(|refusal| Unkeyable::new(format!("args[{index}]"), refusal))?;
    }
    Ok(())
}

/// Appends the canonical form of an object that is `depth` containers deep.
pub(super) fn any(object: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Refused<()> {
    let class = object.get_type_ptr();
    // The addresses of static types are only compared.
    if class == &raw mut ffi::PyLong_Type {
        int(object, out)
    } else if class == &raw mut ffi::PyUnicode_Type {
        text(object, out)
    } else if object.is_none() {
        msgpack::write_nil(out);
        Ok(())
    } else if class == &raw mut ffi::PyBool_Type {
        // SAFETY: takes the address of an immortal object.
        msgpack::write_bool(out, object.as_ptr() == unsafe { ffi::Py_True() });
        Ok(())
    } else if class == &raw mut ffi::PyFloat_Type {
        float(object, out)
    } else if depth >= MAX_DEPTH {
        Err(Refusal::new(object, TOO_DEEP))
    } else if let Some(base) = builtin(object)? {
        content(object, base, out, depth)
    } else {
        instance(object, out, depth)
    }
}

/// Which builtin container, binary or moment the object is exactly an instance of.
fn builtin(object: &Bound<'_, PyAny>) -> Refused<Option<Base>> {
    let class = object.get_type_ptr();
    Ok(Some(if class == &raw mut ffi::PyList_Type {
        Base::List
    } else if class == &raw mut ffi::PyTuple_Type {
        Base::Tuple
    } else if class == &raw mut ffi::PyDict_Type {
        Base::Dict
    } else if class == &raw mut ffi::PyBytes_Type {
        Base::Bytes
    } else if class == &raw mut ffi::PyByteArray_Type {
        Base::ByteArray
    } else if class == &raw mut ffi::PySet_Type {
        Base::Set
    } else if class == &raw mut ffi::PyFrozenSet_Type {
        Base::FrozenSet
    } else {
        let temporal = Temporal::exact(object.py(), class)
            .map_err(|error| Refusal::raised(object, "type check", error))?;
        return Ok(temporal.map(Base::Temporal));
    }))
}

/// Writes what an instance of `base` or of a subclass holds as a `base`.
fn content(object: &Bound<'_, PyAny>, base: Base, out: &mut Vec<u8>, depth: usize) -> Refused<()> {
    match base {
        Base::Int => int(object, out),
        Base::Str => text(object, out),
        Base::Float => float(object, out),
        Base::Bytes => {
            let bytes = object.cast::<PyBytes>().expect("a bytes or a subclass");
            blob(object, bytes.as_bytes(), out)
        }
        Base::ByteArray => {
            // SAFETY: a bytearray or an instance of a subclass; nothing resizes it while the slice lives.
            let bytes = unsafe {
                let data = ffi::PyByteArray_AsString(object.as_ptr()).cast::<u8>();
                std::slice::from_raw_parts(data, ffi::PyByteArray_Size(object.as_ptr()) as usize)
            };
            blob(object, bytes, out)
        }
        Base::List => {
            let list = object.cast::<PyList>().expect("a list or a subclass");
            sequence(object, &list.to_tuple(), out, depth)
        }
        Base::Tuple => {
            let tuple = object.cast::<PyTuple>().expect("a tuple or a subclass");
            sequence(object, tuple, out, depth)
        }
        Base::Dict => map(object, out, depth),
        Base::Set | Base::FrozenSet => set(object, out, depth),
        Base::Temporal(Temporal::DateTime) => moment(object, out),
        Base::Complex | Base::Temporal(_) => Err(Refusal::new(object, MODEL)),
    }
}

/// Writes an instance of a class that is no builtin type.
fn instance(object: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Refused<()> {
    let py = object.py();
    let class = classes::of(&object.get_type())
        .map_err(|error| Refusal::raised(object, "type check", error))?;
    let raised = |method| move |error| Refusal::raised(object, method, error);
    match class.kind {
        Kind::Enum => {
            let value = object
                .getattr(intern!(py, "value"))
                .map_err(raised("value"))?;
            any(&value, out, depth + 1).map_err(|refusal| refusal.within(String::from(".value")))
        }
        Kind::Uuid | Kind::Text => {
            let written = object.str().map_err(raised("str()"))?;
            text(written.as_any(), out)
        }
        Kind::Path => {
            let written = object
                .call_method0(intern!(py, "as_posix"))
                .map_err(raised("as_posix()"))?;
            any(&written, out, depth + 1)
        }
        Kind::Sub(base) => content(object, base, out, depth),
        _ => Err(Refusal::new(object, MODEL)),
    }
}

fn int(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Refused<()> {
    // SAFETY: the object is an int or an instance of a subclass.
    match unsafe { layout::int(object.as_ptr()) } {
        Int::Signed(value) => msgpack::write_i64(out, value),
        Int::Unsigned(value) => msgpack::write_u64(out, value),
        Int::Big => return Err(Refusal::new(object, BIG_INT)),
    }
    Ok(())
}

fn text(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Refused<()> {
    // SAFETY: the object is a str or an instance of a subclass, and alive.
    unsafe { layout::write_str(out, object.as_ptr()) }
        .map_err(|bad| Refusal::new(object, bad.reason()))
}

fn float(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Refused<()> {
    let value = object
        .cast::<PyFloat>()
        .expect("a float or a subclass")
        .value();
    interop::write_float(out, value).map_err(|NotFinite| Refusal::new(object, NOT_FINITE))
}

fn blob(object: &Bound<'_, PyAny>, bytes: &[u8], out: &mut Vec<u8>) -> Refused<()> {
    count(object, bytes.len())?;
    msgpack::write_bin(out, bytes);
    Ok(())
}

pub(super) fn count(object: &Bound<'_, PyAny>, len: usize) -> Refused<u32> {
    u32::try_from(len).map_err(|_| Refusal::new(object, TOO_LONG))
}

/// Writes the elements as an array. They are a tuple, which does not change while Python code runs.
pub(super) fn sequence(
    object: &Bound<'_, PyAny>,
    elements: &Bound<'_, PyTuple>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Refused<()> {
    msgpack::write_array_header(out, count(object, elements.len())?);
    for (index, element) in elements.iter_borrowed().enumerate() {
        any(&element, out, depth + 1).map_err(|refusal| refusal.within(index_step(index)))?;
    }
    Ok(())
}

/// Writes a dict, or what a subclass holds as one, in the order of its keys.
fn map(object: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Refused<()> {
    let dict = object.cast::<PyDict>().expect("a dict or a subclass");
    // A list of its own: what writes a value may run Python code, and that may change the dict.
    let entries = dict
        .copy()
        .map_err(|error| Refusal::raised(object, "copy", error))?
        .items();
    count(object, entries.len())?;
    let mut map = Map::begin(out);
    for entry in entries.iter() {
        let entry = entry.cast_into::<PyTuple>().expect("items are pairs");
        let (key, value) = (entry.get_borrowed_item(0), entry.get_borrowed_item(1));
        let (key, value) = (key.expect("a pair"), value.expect("a pair"));
        map.entry(&key, |out| any(&value, out, depth + 1))?;
    }
    map.finish();
    Ok(())
}

/// A map that is put in order when all of it is there.
pub(super) struct Map<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    /// Where each entry's key ends, and its value.
    ends: Vec<(usize, usize)>,
}

impl<'a> Map<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self {
            out,
            start,
            ends: Vec::new(),
        }
    }

    /// Writes a key, which must be text, and lets `write` write its value.
    pub(super) fn entry(
        &mut self,
        key: &Bound<'_, PyAny>,
        write: impl FnOnce(&mut Vec<u8>) -> Refused<()>,
    ) -> Refused<()> {
        let at_key = |reason| Refusal::new(key, reason).within(format!(" key {}", key_step(key)));
        let Ok(name) = key.cast::<PyString>() else {
            return Err(at_key(KEY));
        };
        // SAFETY: the key is a str and alive.
        let name = unsafe { layout::text(name.as_ptr()) };
        if !layout::is_utf8(&name) {
            return Err(at_key(layout::BadText::Surrogate.reason()));
        }
        layout::transcode(self.out, &name);
        let key_end = self.out.len();
        write(self.out).map_err(|refusal| refusal.within(key_step(key)))?;
        self.ends.push((key_end, self.out.len()));
        Ok(())
    }

    pub(super) fn finish(self) {
        let written = self.out.split_off(self.start);
        let mut from = 0;
        let mut entries: Vec<(&str, &[u8])> = Vec::with_capacity(self.ends.len());
        for (key_end, end) in self.ends {
            let (key_end, end) = (key_end - self.start, end - self.start);
            let key = std::str::from_utf8(&written[from..key_end]).expect("checked when written");
            entries.push((key, &written[key_end..end]));
            from = end;
        }
        interop::write_map(self.out, &mut entries);
    }
}

fn set(object: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: usize) -> Refused<()> {
    // Its own content counts, however a subclass iterates.
    // SAFETY: copying from a set takes over its entries without hashing or comparing anew.
    let copy =
        unsafe { Bound::from_owned_ptr_or_err(object.py(), ffi::PyFrozenSet_New(object.as_ptr())) };
    let copy = copy.map_err(|error| Refusal::raised(object, "copy", error))?;
    let copy = copy.cast_into::<PyFrozenSet>().expect("it was made as one");
    count(object, copy.len())?;
    let start = out.len();
    let mut ends = Vec::with_capacity(copy.len());
    for element in copy.iter() {
        any(&element, out, depth + 1).map_err(|refusal| refusal.within(String::from("{…}")))?;
        ends.push(out.len() - start);
    }
    let written = out.split_off(start);
    let mut from = 0;
    let elements = ends.into_iter().map(|end| {
        let element = &written[from..end];
        from = end;
        element
    });
    interop::write_set(out, elements.collect());
    Ok(())
}

/// Writes an aware datetime: the microseconds from the epoch to it.
fn moment(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Refused<()> {
    let moment = object
        .cast::<PyDateTime>()
        .expect("a datetime or a subclass");
    if moment.get_tzinfo().is_none() {
        return Err(Refusal::new(object, NAIVE));
    }
    let offset = moment
        .call_method0(intern!(object.py(), "utcoffset"))
        .map_err(|error| Refusal::raised(object, "utcoffset()", error))?;
    let Ok(offset) = offset.cast::<PyDelta>() else {
        return Err(Refusal::new(object, NAIVE));
    };
    let offset = (i64::from(offset.get_days()) * 86_400 + i64::from(offset.get_seconds()))
        * 1_000_000
        + i64::from(offset.get_microseconds());
    let date = moment.cast::<PyDate>().expect("a datetime is a date");
    let days = days_since_epoch(
        i64::from(date.get_year()),
        i64::from(date.get_month()),
        i64::from(date.get_day()),
    );
    let seconds =
        ((days * 24 + i64::from(moment.get_hour())) * 60 + i64::from(moment.get_minute())) * 60
            + i64::from(moment.get_second());
    let micros = seconds * 1_000_000 + i64::from(moment.get_microsecond()) - offset;
    interop::write_micros(out, micros);
    Ok(())
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar, of a year from 1 on.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have their leap day at the end.
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
