//! MessagePack: shortest-form writers over a [`Sink`], and a pull [`Reader`] of [`Token`]s.
//!
//! The writers produce what Python's `msgpack.packb(..., use_bin_type=True)` produces: integers and
//! lengths in their shortest form, floats as float64. The reader accepts every well-formed encoding,
//! shortest or not, and hands out strings and binaries as borrowed slices.
//!
//! Format source: <https://github.com/msgpack/msgpack/blob/master/spec.md>.

mod error;
mod read;
mod write;

pub use error::{DecodeError, DecodeErrorKind};
pub use read::{Reader, Token, skip};
pub use write::{
    Sink, write_array_header, write_bin, write_bin_header, write_bool, write_ext, write_f64,
    write_i64, write_map_header, write_nil, write_str, write_str_header, write_u64,
};

/// The deepest nesting of containers that readers follow.
///
/// A scalar has depth 0, an empty array depth 1. [`skip`] enforces it; whoever recurses over
/// [`Reader::next`] does so too, so that hostile nesting cannot exhaust the stack.
pub const MAX_DEPTH: usize = 512;

#[cfg(test)]
mod tests;
