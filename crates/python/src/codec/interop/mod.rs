//! Interop mode's arguments and values, between Python objects and `cachekit_wire::interop`.
//!
//! | module | what it does |
//! |---|---|
//! | [`bind`] | a call's arguments in the order of their declaration |
//! | [`args`] | their canonical bytes |
//! | [`encode`], [`decode`] | values |

mod args;
mod bind;
mod decode;
mod encode;

pub(crate) use args::encode_flat;
pub(crate) use bind::{Binding, Bindings, Parameter, Place};
pub(crate) use decode::decode_interop;
pub(crate) use encode::encode_interop;
