//! What most programs need: `use cachekit::prelude::*`.

pub use crate::{
    Cache, CacheBuilder, Error, ErrorKind, Function, Stats, Value,
    args::{Args, Arguments},
};
