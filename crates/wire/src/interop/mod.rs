//! Interop mode (interop/v1): keys and values that every CacheKit SDK makes and reads alike.
//!
//! | module | what it has |
//! |---|---|
//! | `name` | the two names of an operation, and the key of a call |
//! | `args` | what is special about the arguments that a key is a hash of |
//! | `value` | stored values: one MessagePack document, without frame or envelope |
//!
//! The arguments of a call are one canonical document: the flat array of the bound arguments in the
//! order of their declaration, defaults included, `*args` as one array and `**kwargs` as one map.
//! Equal arguments have equal bytes in every language: integers and lengths in their shortest form,
//! no float that an integer can be, maps by key, sets by their elements' bytes.
//! Format source: the public CacheKit protocol.

mod args;
mod name;
mod value;

pub use args::{write_float, write_int, write_map, write_micros, write_set};
pub use name::{NameError, Operation};
pub use value::{Unwritable, ValueError, document, normalized};

/// A float that interop mode does not take: a NaN or an infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("NaN and infinities are not in the interop data model")]
pub struct NotFinite;

#[cfg(test)]
mod tests;
