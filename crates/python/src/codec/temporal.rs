//! Dates and times: telling them apart, and their ISO 8601 text in both directions.
//!
//! The text is what `isoformat()` gives, and what `fromisoformat()` of Python 3.9 reads.

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A type of the `datetime` module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Temporal {
    DateTime,
    Date,
    Time,
    Delta,
}

/// The module's C interface, imported at the first use.
pub(super) fn api(py: Python<'_>) -> PyResult<&'static ffi::PyDateTime_CAPI> {
    // SAFETY: the GIL is held; once imported, the interface lives as long as the process.
    unsafe {
        if ffi::PyDateTimeAPI().is_null() {
            ffi::PyDateTime_IMPORT();
        }
        match ffi::PyDateTimeAPI().as_ref() {
            Some(api) => Ok(api),
            None => Err(PyErr::fetch(py)),
        }
    }
}

impl Temporal {
    /// Which of the types `class` is exactly.
    pub(super) fn exact(py: Python<'_>, class: *mut ffi::PyTypeObject) -> PyResult<Option<Self>> {
        let api = api(py)?;
        Ok(if class == api.DateTimeType {
            Some(Self::DateTime)
        } else if class == api.DateType {
            Some(Self::Date)
        } else if class == api.TimeType {
            Some(Self::Time)
        } else if class == api.DeltaType {
            Some(Self::Delta)
        } else {
            None
        })
    }

    /// Which of the types `class` is, or is a subclass of.
    pub(super) fn of(py: Python<'_>, class: *mut ffi::PyTypeObject) -> PyResult<Option<Self>> {
        let api = api(py)?;
        // SAFETY: all are types. A datetime is also a date, hence the order.
        unsafe {
            Ok(if ffi::PyType_IsSubtype(class, api.DateTimeType) != 0 {
                Some(Self::DateTime)
            } else if ffi::PyType_IsSubtype(class, api.DateType) != 0 {
                Some(Self::Date)
            } else if ffi::PyType_IsSubtype(class, api.TimeType) != 0 {
                Some(Self::Time)
            } else if ffi::PyType_IsSubtype(class, api.DeltaType) != 0 {
                Some(Self::Delta)
            } else {
                None
            })
        }
    }
}

/// How a datetime or time stands to time zones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Zone {
    /// It has no `tzinfo`.
    Naive,
    /// It has a `tzinfo` that gives an offset, which the text holds.
    Aware,
    /// It has a `tzinfo` that gives no offset (a time of day in a zone with summer time).
    Unsettled,
}

/// ISO 8601 text of a datetime, date or time.
pub(super) struct Iso {
    pub(super) text: Text,
    pub(super) zone: Zone,
    /// The second of two equal wall-clock times; the text of an aware value implies it.
    pub(super) fold: bool,
}

/// ASCII text without an allocation in the usual case.
pub(super) enum Text {
    Inline([u8; 32], usize),
    Heap(String),
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Inline(bytes, len) => {
                std::str::from_utf8(&bytes[..*len]).expect("digits and punctuation are ASCII")
            }
            Self::Heap(text) => text,
        }
    }
}

struct Writer {
    bytes: [u8; 32],
    len: usize,
}

impl Writer {
    const fn new() -> Self {
        Self {
            bytes: [0; 32],
            len: 0,
        }
    }

    fn put(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn digits<const N: usize>(&mut self, mut value: u32) {
        for place in (0..N).rev() {
            self.bytes[self.len + place] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        self.len += N;
    }

    fn date(&mut self, year: u32, month: u32, day: u32) {
        self.digits::<4>(year);
        self.put(b'-');
        self.digits::<2>(month);
        self.put(b'-');
        self.digits::<2>(day);
    }

    fn time(&mut self, hour: u32, minute: u32, second: u32, micros: u32) {
        self.digits::<2>(hour);
        self.put(b':');
        self.digits::<2>(minute);
        self.put(b':');
        self.digits::<2>(second);
        if micros != 0 {
            self.put(b'.');
            self.digits::<6>(micros);
        }
    }

    const fn finish(self) -> Text {
        Text::Inline(self.bytes, self.len)
    }
}

/// The text of a datetime, date or time, or of an instance of a subclass.
///
/// Runs Python code for a `tzinfo` other than UTC and for subclasses.
pub(super) fn iso(object: &Bound<'_, PyAny>, kind: Temporal) -> PyResult<Iso> {
    let exact = Temporal::exact(object.py(), object.get_type_ptr())?.is_some();
    match kind {
        Temporal::DateTime => datetime_iso(object, exact),
        Temporal::Date => date_iso(object, exact),
        Temporal::Time => time_iso(object, exact),
        Temporal::Delta => Err(PyValueError::new_err("a timedelta has no ISO text")),
    }
}

fn datetime_iso(object: &Bound<'_, PyAny>, exact: bool) -> PyResult<Iso> {
    let ptr = object.as_ptr();
    // SAFETY: the object is a datetime, whose fields these read.
    let (zone, fold) = unsafe {
        (
            ffi::PyDateTime_DATE_GET_TZINFO(ptr),
            ffi::PyDateTime_DATE_GET_FOLD(ptr) != 0,
        )
    };
    // SAFETY: `None` and the UTC singleton are only compared by address.
    let (naive, utc) = unsafe {
        (
            zone == ffi::Py_None(),
            zone == ffi::PyDateTime_TimeZone_UTC(),
        )
    };
    if !exact || !(naive || utc) {
        return called_iso(object, naive, fold);
    }
    let mut out = Writer::new();
    // SAFETY: as above; the getters give small non-negative numbers.
    unsafe {
        out.date(
            ffi::PyDateTime_GET_YEAR(ptr) as u32,
            ffi::PyDateTime_GET_MONTH(ptr) as u32,
            ffi::PyDateTime_GET_DAY(ptr) as u32,
        );
        out.put(b'T');
        out.time(
            ffi::PyDateTime_DATE_GET_HOUR(ptr) as u32,
            ffi::PyDateTime_DATE_GET_MINUTE(ptr) as u32,
            ffi::PyDateTime_DATE_GET_SECOND(ptr) as u32,
            ffi::PyDateTime_DATE_GET_MICROSECOND(ptr) as u32,
        );
    }
    if utc {
        for &byte in b"+00:00" {
            out.put(byte);
        }
    }
    let zone = if utc { Zone::Aware } else { Zone::Naive };
    Ok(Iso {
        text: out.finish(),
        zone,
        fold,
    })
}

fn date_iso(object: &Bound<'_, PyAny>, exact: bool) -> PyResult<Iso> {
    if !exact {
        return called_iso(object, true, false);
    }
    let ptr = object.as_ptr();
    let mut out = Writer::new();
    // SAFETY: the object is a date, whose fields these read.
    unsafe {
        out.date(
            ffi::PyDateTime_GET_YEAR(ptr) as u32,
            ffi::PyDateTime_GET_MONTH(ptr) as u32,
            ffi::PyDateTime_GET_DAY(ptr) as u32,
        );
    }
    Ok(Iso {
        text: out.finish(),
        zone: Zone::Naive,
        fold: false,
    })
}

fn time_iso(object: &Bound<'_, PyAny>, exact: bool) -> PyResult<Iso> {
    let ptr = object.as_ptr();
    // SAFETY: the object is a time, whose fields these read.
    let (naive, fold) = unsafe {
        (
            ffi::PyDateTime_TIME_GET_TZINFO(ptr) == ffi::Py_None(),
            ffi::PyDateTime_TIME_GET_FOLD(ptr) != 0,
        )
    };
    if !exact || !naive {
        return called_iso(object, naive, fold);
    }
    let mut out = Writer::new();
    // SAFETY: as above; the getters give small non-negative numbers.
    unsafe {
        out.time(
            ffi::PyDateTime_TIME_GET_HOUR(ptr) as u32,
            ffi::PyDateTime_TIME_GET_MINUTE(ptr) as u32,
            ffi::PyDateTime_TIME_GET_SECOND(ptr) as u32,
            ffi::PyDateTime_TIME_GET_MICROSECOND(ptr) as u32,
        );
    }
    Ok(Iso {
        text: out.finish(),
        zone: Zone::Naive,
        fold,
    })
}

#[inline(never)]
fn called_iso(object: &Bound<'_, PyAny>, naive: bool, fold: bool) -> PyResult<Iso> {
    let text: String = object
        .call_method0(intern!(object.py(), "isoformat"))?
        .extract()?;
    // The date's hyphens come before the T, a time's offset after eight characters of time.
    let time = text.split_once('T').map_or(&text[..], |(_, time)| time);
    let zone = if naive {
        Zone::Naive
    } else if time.contains(['+', '-', 'Z']) {
        Zone::Aware
    } else {
        Zone::Unsettled
    };
    Ok(Iso {
        text: Text::Heap(text),
        zone,
        fold,
    })
}

/// The datetime, date or time that `text` describes; ValueError if it does not.
pub(super) fn parse<'py>(
    py: Python<'py>,
    kind: Temporal,
    text: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    let api = api(py)?;
    let iso = text.to_cow()?;
    let made = match (kind, fields(&iso)) {
        (
            Temporal::DateTime,
            Some(Fields {
                date: Some(d),
                time: Some(t),
                utc,
            }),
        ) => {
            let zone = if utc { api.TimeZone_UTC } else { none() };
            // SAFETY: the interface checks the ranges; zone is None or a tzinfo.
            unsafe {
                (api.DateTime_FromDateAndTime)(
                    d[0],
                    d[1],
                    d[2],
                    t[0],
                    t[1],
                    t[2],
                    t[3],
                    zone,
                    api.DateTimeType,
                )
            }
        }
        (
            Temporal::Date,
            Some(Fields {
                date: Some(d),
                time: None,
                ..
            }),
        ) => {
            // SAFETY: the interface checks the ranges.
            unsafe { (api.Date_FromDate)(d[0], d[1], d[2], api.DateType) }
        }
        (
            Temporal::Time,
            Some(Fields {
                date: None,
                time: Some(t),
                utc: false,
            }),
        ) => {
            // SAFETY: the interface checks the ranges.
            unsafe { (api.Time_FromTime)(t[0], t[1], t[2], t[3], none(), api.TimeType) }
        }
        _ => return called_parse(py, kind, &iso, api),
    };
    // SAFETY: a new reference, or null with the exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, made) }
}

fn none() -> *mut ffi::PyObject {
    // SAFETY: only takes an address.
    unsafe { ffi::Py_None() }
}

#[inline(never)]
fn called_parse<'py>(
    py: Python<'py>,
    kind: Temporal,
    iso: &str,
    api: &'static ffi::PyDateTime_CAPI,
) -> PyResult<Bound<'py, PyAny>> {
    let class = match kind {
        Temporal::DateTime => api.DateTimeType,
        Temporal::Date => api.DateType,
        Temporal::Time => api.TimeType,
        Temporal::Delta => return Err(PyValueError::new_err("a timedelta has no ISO text")),
    };
    // SAFETY: the interface's types live as long as the process.
    let class = unsafe { Bound::from_borrowed_ptr(py, class.cast()) };
    // Other languages write Z, which `fromisoformat` reads from 3.11 on.
    let zulu = iso.strip_suffix('Z').map(|start| format!("{start}+00:00"));
    let iso = zulu.as_deref().unwrap_or(iso);
    class.call_method1(intern!(py, "fromisoformat"), (iso,))
}

struct Fields {
    date: Option<[i32; 3]>,
    time: Option<[i32; 4]>,
    utc: bool,
}

/// Reads `YYYY-MM-DD`, `HH:MM:SS[.ffffff]` or both with a T between, and `Z` or `+00:00` after them.
fn fields(iso: &str) -> Option<Fields> {
    let bytes = iso.as_bytes();
    let (date, rest) = if bytes.get(4) == Some(&b'-') {
        let (date, rest) = bytes.split_at_checked(10)?;
        if date[7] != b'-' {
            return None;
        }
        let date = [
            number(&date[..4])?,
            number(&date[5..7])?,
            number(&date[8..])?,
        ];
        match rest.split_first() {
            None => {
                return Some(Fields {
                    date: Some(date),
                    time: None,
                    utc: false,
                });
            }
            Some((b'T', rest)) => (Some(date), rest),
            Some(_) => return None,
        }
    } else {
        (None, bytes)
    };
    let (time, rest) = rest.split_at_checked(8)?;
    if time[2] != b':' || time[5] != b':' {
        return None;
    }
    let mut time = [
        number(&time[..2])?,
        number(&time[3..5])?,
        number(&time[6..])?,
        0,
    ];
    let rest = match rest.split_first() {
        Some((b'.', rest)) => {
            let (micros, rest) = rest.split_at_checked(6)?;
            time[3] = number(micros)?;
            rest
        }
        _ => rest,
    };
    let utc = match rest {
        b"" => false,
        b"Z" | b"+00:00" => true,
        _ => return None,
    };
    Some(Fields {
        date,
        time: Some(time),
        utc,
    })
}

fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + i32::from(digit - b'0'))
    })
}
