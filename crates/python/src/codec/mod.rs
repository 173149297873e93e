//! Conversion between Python objects and the protocol's MessagePack, and what L1 does with objects.
//!
//! | module | what it does |
//! |---|---|
//! | [`args`], [`normal`] | the bytes of a call's arguments |
//! | [`encode`], [`decode`] | values of the std serializer |
//! | [`auto`] | values of the auto serializer |
//! | [`interop`] | arguments and values of interop mode |
//! | [`clone`] | values that L1 hands out, isolated from each other |
//! | [`weigh`] | how much memory a value holds |
//!
//! Everything here runs with the GIL held and holds no lock while Python code may run.

mod args;
mod arrays;
mod auto;
mod buffer;
mod classes;
mod clone;
mod decode;
mod dicts;
mod encode;
mod frames;
mod gil;
mod identity;
mod instances;
mod interop;
mod json;
mod keybuf;
mod keycache;
mod layout;
mod normal;
mod refusal;
mod remedies;
mod sentinel;
mod temporal;
pub(crate) mod testing;
mod weigh;

pub(crate) use args::{ArgPolicy, Parameters, Scope, encode_args};
pub(crate) use auto::{Auto, Registered, TableKind, array_body, array_of, table_kind};
pub(crate) use buffer::with_buffer;
pub(crate) use clone::{Held, hand_out, hold};
pub(crate) use decode::{DecodeError, decode_value};
pub(crate) use encode::encode_value;
pub(crate) use interop::{
    Binding, Bindings, Parameter, Place, decode_interop, encode_flat, encode_interop,
};
pub(crate) use json::check_json;
pub(crate) use keybuf::KeyBuf;
pub(crate) use refusal::{Unencodable, Unkeyable};
pub(crate) use weigh::weigh;

/// Checks, when the module is imported, that this interpreter lays objects out as the codec reads them.
pub(crate) fn check(py: pyo3::Python<'_>) -> pyo3::PyResult<()> {
    layout::check(py)
}
