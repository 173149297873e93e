//! The arguments of a call as the protocol's bytes, from which its key is made.
//!
//! The bytes are the canonical MessagePack of `[positional, {name: keyword}]`: shortest integers,
//! floats of 64 bits, mappings in the order of their keys, and no negative zero. A Python function
//! that is called with equal arguments has the same bytes. Format source: the public CacheKit
//! protocol.

mod buffer;
mod canonical;
mod containers;
mod entries;
mod shape;

use cachekit_wire::msgpack::{self, Sink};
use serde::Serialize;

pub(crate) use buffer::KeyBytes;
use canonical::Encoder;
use shape::Shape;

/// Why arguments have no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArgsError(String);

impl serde::ser::Error for ArgsError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// The arguments of a call.
///
/// Everything that serde can serialize is one:
///
/// | Rust | the call in Python |
/// |---|---|
/// | `()` | `f()` |
/// | `(1, "two")`, `[1, 2]`, a tuple struct | `f(1, "two")`, `f(1, 2)` |
/// | a struct `{ id: 1, full: true }` | `f(id=1, full=True)` |
/// | anything else: `42`, `"text"`, a `Vec`, a map, an enum, an `Option` | `f(42)`, `f("text")`, … |
/// | [`Arguments`] | `f(1, full=True)` |
///
/// A struct, a tuple or a `()` that is itself the one argument goes into a tuple: `(point,)`. Hash
/// sets have no order of their own, so that equal sets may have different keys: pass a `BTreeSet`.
pub trait Args {
    /// Appends the canonical bytes of these arguments to `out`.
    ///
    /// # Errors
    /// When a value cannot be serialized, is nested more than 512 deep, or when a keyword is no text.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), ArgsError> {
        let mut bytes = KeyBytes::default();
        self.encode_key(&mut bytes)?;
        out.extend_from_slice(&bytes);
        Ok(())
    }

    #[doc(hidden)]
    fn encode_key(&self, out: &mut KeyBytes) -> Result<(), ArgsError>;

    /// The canonical array of interop mode: all arguments in the order of their declaration.
    #[doc(hidden)]
    fn encode_flat(&self, out: &mut KeyBytes) -> Result<(), ArgsError>;
}

const PAIR: u8 = 0x92;
const NO_ARGUMENTS: u8 = 0x90;
const NO_KEYWORDS: u8 = 0x80;

impl<T: Serialize + ?Sized> Args for T {
    fn encode_key(&self, out: &mut KeyBytes) -> Result<(), ArgsError> {
        out.push(PAIR);
        match shape::of(self)? {
            Shape::Nothing => out.extend(&[NO_ARGUMENTS, NO_KEYWORDS]),
            Shape::Tuple => {
                self.serialize(Encoder::all(out))?;
                out.push(NO_KEYWORDS);
            }
            Shape::Struct => {
                out.push(NO_ARGUMENTS);
                self.serialize(Encoder::all(out))?;
            }
            Shape::Sequence | Shape::Map | Shape::Scalar => {
                msgpack::write_array_header(out, 1);
                self.serialize(Encoder::one(out))?;
                out.push(NO_KEYWORDS);
            }
        }
        Ok(())
    }

    fn encode_flat(&self, out: &mut KeyBytes) -> Result<(), ArgsError> {
        match shape::of(self)? {
            Shape::Nothing => out.push(NO_ARGUMENTS),
            Shape::Tuple | Shape::Struct => self.serialize(Encoder::flat(out))?,
            Shape::Sequence | Shape::Map | Shape::Scalar => {
                msgpack::write_array_header(out, 1);
                self.serialize(Encoder::interop(out))?;
            }
        }
        Ok(())
    }
}

/// Positional and keyword arguments together, each listed by a value of its own.
///
/// `positional` is a tuple or a sequence, `keywords` a struct or a map with text as keys; `()` is
/// none of either.
///
/// ```
/// # use cachekit::args::{Args, Arguments};
/// #[derive(serde::Serialize)]
/// struct Options {
///     age: u32,
/// }
///
/// let mut bytes = Vec::new();
/// Arguments::new(("alice",), Options { age: 30 }).encode(&mut bytes)?;
/// assert_eq!(bytes, b"\x92\x91\xa5alice\x81\xa3age\x1e");
/// # Ok::<(), cachekit::args::ArgsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arguments<P, K> {
    positional: P,
    keywords: K,
}

impl<P: Serialize, K: Serialize> Arguments<P, K> {
    /// The arguments of `f(*positional, **keywords)`.
    pub fn new(positional: P, keywords: K) -> Self {
        Self {
            positional,
            keywords,
        }
    }
}

impl<P: Serialize, K: Serialize> Args for Arguments<P, K> {
    fn encode_key(&self, out: &mut KeyBytes) -> Result<(), ArgsError> {
        out.push(PAIR);
        match shape::of(&self.positional)? {
            Shape::Nothing => out.push(NO_ARGUMENTS),
            Shape::Tuple | Shape::Sequence => self.positional.serialize(Encoder::all(out))?,
            Shape::Struct | Shape::Map | Shape::Scalar => {
                return Err(ArgsError(
                    "positional arguments are a tuple or a sequence".into(),
                ));
            }
        }
        let start = out.len();
        match shape::of(&self.keywords)? {
            Shape::Nothing => out.push(NO_KEYWORDS),
            Shape::Struct | Shape::Map => self.keywords.serialize(Encoder::all(out))?,
            Shape::Tuple | Shape::Sequence | Shape::Scalar => {
                return Err(ArgsError("keyword arguments are a struct or a map".into()));
            }
        }
        entries::check_names(&out[start..])
    }

    fn encode_flat(&self, _: &mut KeyBytes) -> Result<(), ArgsError> {
        Err(ArgsError(
            "interop arguments have no names: pass all of them in a tuple, or in a struct, in the \
             order of their declaration"
                .into(),
        ))
    }
}

#[cfg(test)]
mod tests;
