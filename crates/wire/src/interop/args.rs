//! What canonical arguments have beyond MessagePack's shortest forms.

use super::NotFinite;
use crate::msgpack::{self, Sink};

/// 2^63 and 2^64, which are floats exactly.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// Writes a float: as an integer where it is one of [−2^63, 2^64), so that 1.0 and 1 (and −0.0 and
/// 0) are the same argument in languages that have one kind of number; as float64 otherwise.
///
/// # Errors
/// [`NotFinite`].
pub fn write_float<S: Sink + ?Sized>(out: &mut S, v: f64) -> Result<(), NotFinite> {
    if !v.is_finite() {
        return Err(NotFinite);
    }
    if v.trunc() != v || !(-TWO_63..TWO_64).contains(&v) {
        msgpack::write_f64(out, v);
    } else if v < 0.0 {
        msgpack::write_i64(out, v as i64);
    } else {
        msgpack::write_u64(out, v as u64);
    }
    Ok(())
}

/// Writes an integer of −2^63 to 2^64 − 1 and says whether it is one of these.
#[must_use]
pub fn write_int<S: Sink + ?Sized>(out: &mut S, v: i128) -> bool {
    match (i64::try_from(v), u64::try_from(v)) {
        (Ok(v), _) => msgpack::write_i64(out, v),
        (_, Ok(v)) => msgpack::write_u64(out, v),
        _ => return false,
    }
    true
}

/// Writes a moment, in microseconds since the Unix epoch (floored where the source is finer): as the
/// float of seconds that one division by 10^6 gives, which like any float may be an integer.
pub fn write_micros<S: Sink + ?Sized>(out: &mut S, micros: i64) {
    write_float(out, micros as f64 / 1e6).expect("an integer divided by a million is finite");
}

/// Writes a map of encoded values in the order of its keys' code points.
///
/// Equal keys stay in the order in which they were given; whoever calls it has none.
///
/// # Panics
/// For 2^32 entries, for which the format has no header.
pub fn write_map<S: Sink + ?Sized>(out: &mut S, entries: &mut [(&str, &[u8])]) {
    // UTF-8 sorts as the code points do.
    entries.sort_by_key(|&(key, _)| key);
    msgpack::write_map_header(out, count(entries.len()));
    for (key, value) in entries {
        msgpack::write_str(out, key);
        out.extend(value);
    }
}

/// Writes a set of encoded elements: an array in the order of their bytes, each once.
///
/// # Panics
/// For 2^32 elements, for which the format has no header.
pub fn write_set<S: Sink + ?Sized>(out: &mut S, mut elements: Vec<&[u8]>) {
    elements.sort_unstable();
    elements.dedup();
    msgpack::write_array_header(out, count(elements.len()));
    elements.iter().for_each(|element| out.extend(element));
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("containers of 2^32 elements do not fit memory beside their source")
}
