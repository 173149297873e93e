//! Reads CPython's integers and strings in place, without a call into the interpreter.
//!
//! Layouts: `Include/cpython/longintrepr.h` and `Include/cpython/unicodeobject.h`, the same from 3.9
//! to 3.13 but for the integer's header, which changed in 3.12.

use cachekit_wire::msgpack::{self, Sink};
use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Bits per digit of an integer; every 64-bit build has 30.
const DIGIT_BITS: u32 = 30;

#[cfg(not(Py_3_12))]
#[repr(C)]
struct LongLayout {
    base: ffi::PyVarObject,
    digits: [u32; 2],
}

#[cfg(Py_3_12)]
#[repr(C)]
struct LongLayout {
    base: ffi::PyObject,
    tag: usize,
    digits: [u32; 2],
}

/// An integer's value, as far as MessagePack can hold it.
#[derive(Clone, Copy)]
pub(super) enum Int {
    Signed(i64),
    /// Above `i64::MAX`.
    Unsigned(u64),
    /// Beyond 64 bits.
    Big,
}

/// Checks once, at import, that integers are laid out as this module reads them.
pub(super) fn check(py: Python<'_>) -> PyResult<()> {
    let info = py.import("sys")?.getattr("int_info")?;
    let bits: u32 = info.getattr("bits_per_digit")?.extract()?;
    if bits == DIGIT_BITS && cfg!(target_pointer_width = "64") {
        return Ok(());
    }
    Err(PyImportError::new_err(format!(
        "cachekit needs a 64-bit CPython whose integers have {DIGIT_BITS}-bit digits, and this one has \
         {bits}-bit digits; use a python.org, distribution or pyenv build with default options"
    )))
}

/// The value of an integer of one digit (below 2**30 in magnitude), else None.
///
/// # Safety
/// `object` is an `int` or an instance of a subclass; the GIL is held.
#[inline(always)]
pub(super) unsafe fn small_int(object: *mut ffi::PyObject) -> Option<i64> {
    let long = object.cast::<LongLayout>();
    // SAFETY: an int has this layout; the first digit exists even where the value is zero.
    unsafe {
        #[cfg(not(Py_3_12))]
        {
            match (*long).base.ob_size {
                1 => Some(i64::from((*long).digits[0])),
                0 => Some(0),
                -1 => Some(-i64::from((*long).digits[0])),
                _ => None,
            }
        }
        #[cfg(Py_3_12)]
        {
            // The tag holds the number of digits above three bits, the lowest two of which say the
            // sign: 0 positive, 1 zero, 2 negative.
            let tag = (*long).tag;
            (tag < 2 << 3).then(|| (1 - (tag & 3) as i64) * i64::from((*long).digits[0]))
        }
    }
}

/// The value of any integer.
///
/// # Safety
/// `object` is an `int` or an instance of a subclass; the GIL is held.
#[inline]
pub(super) unsafe fn int(object: *mut ffi::PyObject) -> Int {
    // SAFETY: the caller's promise.
    match unsafe { small_int(object) } {
        Some(value) => Int::Signed(value),
        // SAFETY: the caller's promise.
        None => unsafe { wide_int(object) },
    }
}

#[inline(never)]
unsafe fn wide_int(object: *mut ffi::PyObject) -> Int {
    let mut overflow = 0;
    // SAFETY: the object is an int, so neither call can run Python code; the overflow of the second
    // is raised as an OverflowError, which is cleared.
    unsafe {
        let value = ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow);
        if overflow == 0 {
            return Int::Signed(value);
        }
        if overflow < 0 {
            return Int::Big;
        }
        let value = ffi::PyLong_AsUnsignedLongLong(object);
        if value == u64::MAX && !ffi::PyErr_Occurred().is_null() {
            ffi::PyErr_Clear();
            return Int::Big;
        }
        Int::Unsigned(value)
    }
}

/// The characters of a string, in the form in which it holds them.
pub(super) enum Text<'a> {
    /// ASCII, or UTF-8 that the string has cached: to be copied as it is.
    Utf8(&'a [u8]),
    Latin1(&'a [u8]),
    Ucs2(&'a [u16]),
    Ucs4(&'a [u32]),
}

/// Borrows the characters of a string.
///
/// # Safety
/// `object` is a `str` or an instance of a subclass and outlives `'a`; the GIL is held.
#[inline(always)]
pub(super) unsafe fn text<'a>(object: *mut ffi::PyObject) -> Text<'a> {
    // SAFETY: the caller's promise; a compact ASCII string's characters follow its header, and
    // `GET_LENGTH` counts them.
    unsafe {
        if ffi::PyUnicode_IS_COMPACT_ASCII(object) != 0 {
            let data = object.cast::<ffi::PyASCIIObject>().add(1).cast::<u8>();
            let len = (*object.cast::<ffi::PyASCIIObject>()).length as usize;
            return Text::Utf8(std::slice::from_raw_parts(data, len));
        }
        wide_text(object)
    }
}

#[inline(never)]
#[allow(deprecated, reason = "strings that are not ready exist before 3.12")]
unsafe fn wide_text<'a>(object: *mut ffi::PyObject) -> Text<'a> {
    // SAFETY: the caller's promise; `READY` gives a legacy string its canonical form, after which
    // kind, data and length agree.
    unsafe {
        #[cfg(not(Py_3_12))]
        assert_eq!(
            ffi::PyUnicode_READY(object),
            0,
            "out of memory for a legacy string's characters"
        );
        let len = ffi::PyUnicode_GET_LENGTH(object) as usize;
        let compact = object.cast::<ffi::PyCompactUnicodeObject>();
        if ffi::PyUnicode_IS_ASCII(object) == 0 && !(*compact).utf8.is_null() {
            let len = (*compact).utf8_length as usize;
            return Text::Utf8(std::slice::from_raw_parts(
                (*compact).utf8.cast::<u8>(),
                len,
            ));
        }
        let data = ffi::PyUnicode_DATA(object);
        match ffi::PyUnicode_KIND(object) {
            ffi::PyUnicode_1BYTE_KIND if ffi::PyUnicode_IS_ASCII(object) != 0 => {
                Text::Utf8(std::slice::from_raw_parts(data.cast::<u8>(), len))
            }
            ffi::PyUnicode_1BYTE_KIND => {
                Text::Latin1(std::slice::from_raw_parts(data.cast::<u8>(), len))
            }
            ffi::PyUnicode_2BYTE_KIND => {
                Text::Ucs2(std::slice::from_raw_parts(data.cast::<u16>(), len))
            }
            _ => Text::Ucs4(std::slice::from_raw_parts(data.cast::<u32>(), len)),
        }
    }
}

/// Why a string was not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadText {
    /// A lone surrogate, which UTF-8 does not have.
    Surrogate,
    /// 4 GiB or more.
    TooLong,
}

impl BadText {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Surrogate => {
                "and contains a lone surrogate, which UTF-8 cannot hold; \
                 encode it to bytes with errors=\"surrogateescape\" first"
            }
            Self::TooLong => "and has 4 GiB or more, which MessagePack cannot hold",
        }
    }
}

/// Writes a string as MessagePack.
///
/// # Safety
/// As [`text`].
#[inline(always)]
pub(super) unsafe fn write_str<S: Sink>(
    out: &mut S,
    object: *mut ffi::PyObject,
) -> Result<(), BadText> {
    // SAFETY: the caller's promise.
    match unsafe { text(object) } {
        Text::Utf8(bytes) if bytes.len() < u32::MAX as usize => {
            msgpack::write_str_header(out, bytes.len() as u32);
            out.extend(bytes);
            Ok(())
        }
        other => write_wide(out, &other),
    }
}

#[inline(never)]
fn write_wide<S: Sink>(out: &mut S, text: &Text<'_>) -> Result<(), BadText> {
    let len = utf8_len(text)?;
    let len = u32::try_from(len).map_err(|_| BadText::TooLong)?;
    msgpack::write_str_header(out, len);
    transcode(out, text);
    Ok(())
}

const fn is_surrogate(c: u32) -> bool {
    c & 0xffff_f800 == 0xd800
}

/// The length of `text` in UTF-8.
fn utf8_len(text: &Text<'_>) -> Result<usize, BadText> {
    let wide =
        |c: u32| 1 + usize::from(c > 0x7f) + usize::from(c > 0x7ff) + usize::from(c > 0xffff);
    match text {
        Text::Utf8(bytes) => Ok(bytes.len()),
        Text::Latin1(bytes) => Ok(bytes.len() + bytes.iter().filter(|&&b| b > 0x7f).count()),
        Text::Ucs2(units) => {
            if units.iter().any(|&u| is_surrogate(u32::from(u))) {
                return Err(BadText::Surrogate);
            }
            Ok(units.iter().map(|&u| wide(u32::from(u))).sum())
        }
        Text::Ucs4(units) => {
            if units.iter().any(|&u| is_surrogate(u)) {
                return Err(BadText::Surrogate);
            }
            Ok(units.iter().map(|&u| wide(u)).sum())
        }
    }
}

/// Whether `text` has a form in UTF-8.
pub(super) fn is_utf8(text: &Text<'_>) -> bool {
    utf8_len(text).is_ok()
}

/// Appends `text` in UTF-8; lone surrogates take three bytes, as in Python's "surrogatepass".
pub(super) fn transcode<S: Sink>(out: &mut S, text: &Text<'_>) {
    match text {
        Text::Utf8(bytes) => out.extend(bytes),
        Text::Latin1(bytes) => transcode_units(out, bytes),
        Text::Ucs2(units) => transcode_units(out, units),
        Text::Ucs4(units) => transcode_units(out, units),
    }
}

fn transcode_units<S: Sink, U: Copy + Into<u32>>(out: &mut S, units: &[U]) {
    let mut block = [0_u8; 256];
    // A unit takes at most four bytes.
    for units in units.chunks(block.len() / 4) {
        let mut len = 0;
        for &unit in units {
            let c: u32 = unit.into();
            if c < 0x80 {
                block[len] = c as u8;
                len += 1;
            } else if c < 0x800 {
                block[len] = 0xc0 | (c >> 6) as u8;
                block[len + 1] = continuation(c);
                len += 2;
            } else if c < 0x1_0000 {
                block[len] = 0xe0 | (c >> 12) as u8;
                block[len + 1] = continuation(c >> 6);
                block[len + 2] = continuation(c);
                len += 3;
            } else {
                block[len] = 0xf0 | (c >> 18) as u8;
                block[len + 1] = continuation(c >> 12);
                block[len + 2] = continuation(c >> 6);
                block[len + 3] = continuation(c);
                len += 4;
            }
        }
        out.extend(&block[..len]);
    }
}

const fn continuation(c: u32) -> u8 {
    0x80 | (c & 0x3f) as u8
}

/// Makes a string from checked UTF-8, or null with an exception set.
///
/// # Safety
/// The GIL is held.
#[inline]
pub(super) unsafe fn new_str(text: &str) -> *mut ffi::PyObject {
    // The interpreter shares strings of no and of one Latin-1 character.
    if text.len() > 1 && text.is_ascii() {
        // SAFETY: a fresh ASCII string has room for `len` characters after its header, and nobody
        // else has seen it.
        unsafe {
            let object = ffi::PyUnicode_New(text.len() as ffi::Py_ssize_t, 0x7f);
            if !object.is_null() {
                let data = object.cast::<ffi::PyASCIIObject>().add(1).cast::<u8>();
                std::ptr::copy_nonoverlapping(text.as_ptr(), data, text.len());
            }
            object
        }
    } else {
        // SAFETY: the pointer and length are those of a live slice.
        unsafe {
            ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as ffi::Py_ssize_t)
        }
    }
}
