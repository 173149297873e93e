//! Recently decoded mapping keys, so that equal keys share one string with its hash computed.

use pyo3::ffi;
use pyo3::prelude::*;

use super::gil::GilCell;
use super::layout;

/// A power of two; at most 64 bytes of text each.
const SLOTS: usize = 1024;
/// Longer keys are rarely repeated.
const MAX_LEN: usize = 64;

/// Strings by the hash of their text, two to a hash: the newer one, then the older one.
struct Slots([*mut ffi::PyObject; SLOTS]);

// SAFETY: the pointers are only followed with the GIL held.
unsafe impl Send for Slots {}

static CACHE: GilCell<Slots> = GilCell::new(Slots([std::ptr::null_mut(); SLOTS]));

/// A string object for a mapping's key, or null with an exception set. The reference is the caller's.
#[inline]
pub(super) fn key(py: Python<'_>, text: &str) -> *mut ffi::PyObject {
    let bytes = text.as_bytes();
    if bytes.len() > MAX_LEN || bytes.len() < 2 {
        // SAFETY: the GIL is held.
        return unsafe { layout::new_str(text) };
    }
    let slot = slot(bytes);
    let found = CACHE.with(py, |slots| {
        // SAFETY: a slot is null or holds a reference to a compact ASCII string.
        unsafe { take(slots.0[slot], bytes).or_else(|| take(slots.0[slot + 1], bytes)) }
    });
    match found {
        Some(key) => key,
        None => insert(py, slot, text),
    }
}

/// A new reference to `cached` if its text is `bytes`.
///
/// # Safety
/// `cached` is null or a compact ASCII string; the GIL is held.
#[inline(always)]
unsafe fn take(cached: *mut ffi::PyObject, bytes: &[u8]) -> Option<*mut ffi::PyObject> {
    // SAFETY: the caller's promise; the characters follow the string's header.
    unsafe {
        if cached.is_null() || (*cached.cast::<ffi::PyASCIIObject>()).length as usize != bytes.len()
        {
            return None;
        }
        let data = cached.cast::<ffi::PyASCIIObject>().add(1).cast::<u8>();
        same(std::slice::from_raw_parts(data, bytes.len()), bytes).then(|| {
            ffi::Py_INCREF(cached);
            cached
        })
    }
}

/// Whether two slices of the same length of 2 to 64 are equal; without the call that a comparison of
/// unknown length would be.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    // Words that overlap where the length is none of theirs.
    fn words<const N: usize>(a: &[u8], b: &[u8]) -> bool {
        let ends = a.last_chunk::<N>() == b.last_chunk::<N>();
        ends && a
            .chunks_exact(N)
            .zip(b.chunks_exact(N))
            .all(|(a, b)| a.first_chunk::<N>() == b.first_chunk::<N>())
    }
    match a.len() {
        8.. => words::<8>(a, b),
        4.. => words::<4>(a, b),
        _ => words::<2>(a, b),
    }
}

#[cold]
#[inline(never)]
fn insert(py: Python<'_>, slot: usize, text: &str) -> *mut ffi::PyObject {
    // SAFETY: the GIL is held; `made` is a string of our own, so hashing it runs no Python code and
    // stores the hash in it. What leaves the slot is a string too, whose destructor runs none either.
    unsafe {
        let made = layout::new_str(text);
        if made.is_null() || !text.is_ascii() {
            return made;
        }
        ffi::PyObject_Hash(made);
        ffi::Py_INCREF(made);
        let old = CACHE.with(py, |slots| {
            let older = std::mem::replace(&mut slots.0[slot], made);
            std::mem::replace(&mut slots.0[slot + 1], older)
        });
        ffi::Py_XDECREF(old);
        made
    }
}

/// The first of a text's two slots. Eight bytes at a time; quality matters little, as a collision only costs a replacement.
#[inline(always)]
fn slot(bytes: &[u8]) -> usize {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = bytes.len() as u64;
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        hash = (hash ^ u64::from_le_bytes(*word))
            .wrapping_mul(MIX)
            .rotate_left(29);
        rest = after;
    }
    // The last up to seven bytes, each read once.
    let mut tail = 0;
    if let Some((word, after)) = rest.split_first_chunk::<4>() {
        tail = u64::from(u32::from_le_bytes(*word));
        rest = after;
    }
    for &byte in rest {
        tail = tail << 8 | u64::from(byte);
    }
    hash = (hash ^ tail).wrapping_mul(MIX);
    (hash >> (64 - SLOTS.trailing_zeros())) as usize & !1
}
