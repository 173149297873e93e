//! Any serializable value as the MessagePack that keys are made of.

use cachekit_wire::{
    interop,
    msgpack::{self, MAX_DEPTH},
};
use serde::{Serialize, Serializer};

use super::{
    ArgsError, KeyBytes,
    containers::{Map, Sequence},
};
use crate::interop::SET;

/// The extension type of an integer beyond 64 bits, as Python's arguments have it: signed, big-endian.
const BIG_INT: i8 = 2;

/// By which rules values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// Those of automatic keys.
    Auto,
    /// Those of interop mode.
    Interop,
    /// Those of interop mode, for the tuple or struct of all arguments: an array either way.
    Flat,
    /// Those of interop mode, for a sequence that is a set.
    Set,
}

impl Rules {
    pub(super) fn is_interop(self) -> bool {
        self != Self::Auto
    }

    /// Those for the elements of a container.
    pub(super) fn within(self) -> Self {
        match self {
            Self::Auto => Self::Auto,
            Self::Interop | Self::Flat | Self::Set => Self::Interop,
        }
    }
}

/// Writes one value.
pub(super) struct Encoder<'a> {
    out: &'a mut KeyBytes,
    /// How many containers may still be nested here.
    room: usize,
    rules: Rules,
}

impl<'a> Encoder<'a> {
    /// For one argument.
    pub(super) fn one(out: &'a mut KeyBytes) -> Self {
        Self::within(out, MAX_DEPTH, Rules::Auto)
    }

    /// For one argument in interop mode.
    pub(super) fn interop(out: &'a mut KeyBytes) -> Self {
        Self::within(out, MAX_DEPTH, Rules::Interop)
    }

    /// For the tuple or struct of all arguments in interop mode.
    pub(super) fn flat(out: &'a mut KeyBytes) -> Self {
        Self::within(out, MAX_DEPTH + 1, Rules::Flat)
    }

    /// For the tuple or struct of all arguments, which is no part of any of them.
    pub(super) fn all(out: &'a mut KeyBytes) -> Self {
        Self::within(out, MAX_DEPTH + 1, Rules::Auto)
    }

    /// For an element of a container in which `room` more may be nested.
    pub(super) fn within(out: &'a mut KeyBytes, room: usize, rules: Rules) -> Self {
        Self { out, room, rules }
    }

    /// Begins a container.
    fn deeper(self) -> Result<Self, ArgsError> {
        let room = self.room.checked_sub(1).ok_or_else(|| {
            ArgsError(format!(
                "nested more than {MAX_DEPTH} deep; pass flatter arguments"
            ))
        })?;
        Ok(Self::within(self.out, room, self.rules))
    }

    /// Begins the map of one entry that an enum's variant with content is.
    fn variant(self, name: &str) -> Result<Self, ArgsError> {
        let inner = self.deeper()?;
        msgpack::write_map_header(inner.out, 1);
        msgpack::write_str(inner.out, name);
        Ok(inner)
    }

    fn sequence(self, declared: Option<usize>) -> Result<Sequence<'a>, ArgsError> {
        let inner = self.deeper()?;
        Sequence::begin(inner.out, inner.room, inner.rules, declared)
    }

    fn map(self) -> Result<Map<'a>, ArgsError> {
        let inner = self.deeper()?;
        Ok(Map::begin(inner.out, inner.room, inner.rules))
    }
}

pub(super) fn count(len: usize) -> Result<u32, ArgsError> {
    u32::try_from(len).map_err(|_| {
        ArgsError(format!(
            "{len} elements, more than MessagePack holds; pass fewer"
        ))
    })
}

fn beyond_64_bits() -> ArgsError {
    ArgsError("an integer outside of -2^63 to 2^64 - 1; pass it as text".into())
}

/// An integer beyond 64 bits, with as many bytes as Python gives it: `bits // 8 + 1`.
fn big_int(out: &mut KeyBytes, negative: bool, low: u128, magnitude: u128) {
    let bits = (u128::BITS - magnitude.leading_zeros()) as usize;
    let mut bytes = [if negative { 0xff } else { 0 }; 17];
    bytes[1..].copy_from_slice(&low.to_be_bytes());
    msgpack::write_ext(out, BIG_INT, &bytes[bytes.len() - (bits / 8 + 1)..]);
}

impl<'a> Serializer for Encoder<'a> {
    type Ok = ();
    type Error = ArgsError;
    type SerializeSeq = Sequence<'a>;
    type SerializeTuple = Sequence<'a>;
    type SerializeTupleStruct = Sequence<'a>;
    type SerializeTupleVariant = Sequence<'a>;
    type SerializeMap = Map<'a>;
    type SerializeStruct = Map<'a>;
    type SerializeStructVariant = Map<'a>;

    fn serialize_bool(self, v: bool) -> Result<(), ArgsError> {
        msgpack::write_bool(self.out, v);
        Ok(())
    }

    fn serialize_i8(self, v: i8) -> Result<(), ArgsError> {
        self.serialize_i64(v.into())
    }

    fn serialize_i16(self, v: i16) -> Result<(), ArgsError> {
        self.serialize_i64(v.into())
    }

    fn serialize_i32(self, v: i32) -> Result<(), ArgsError> {
        self.serialize_i64(v.into())
    }

    fn serialize_i64(self, v: i64) -> Result<(), ArgsError> {
        msgpack::write_i64(self.out, v);
        Ok(())
    }

    fn serialize_i128(self, v: i128) -> Result<(), ArgsError> {
        match (i64::try_from(v), u64::try_from(v)) {
            (Ok(v), _) => msgpack::write_i64(self.out, v),
            (_, Ok(v)) => msgpack::write_u64(self.out, v),
            _ if self.rules.is_interop() => return Err(beyond_64_bits()),
            _ => big_int(self.out, v < 0, v as u128, v.unsigned_abs()),
        }
        Ok(())
    }

    fn serialize_u8(self, v: u8) -> Result<(), ArgsError> {
        self.serialize_u64(v.into())
    }

    fn serialize_u16(self, v: u16) -> Result<(), ArgsError> {
        self.serialize_u64(v.into())
    }

    fn serialize_u32(self, v: u32) -> Result<(), ArgsError> {
        self.serialize_u64(v.into())
    }

    fn serialize_u64(self, v: u64) -> Result<(), ArgsError> {
        msgpack::write_u64(self.out, v);
        Ok(())
    }

    fn serialize_u128(self, v: u128) -> Result<(), ArgsError> {
        match u64::try_from(v) {
            Ok(v) => msgpack::write_u64(self.out, v),
            Err(_) if self.rules.is_interop() => return Err(beyond_64_bits()),
            Err(_) => big_int(self.out, false, v, v),
        }
        Ok(())
    }

    fn serialize_f32(self, v: f32) -> Result<(), ArgsError> {
        self.serialize_f64(v.into())
    }

    fn serialize_f64(self, v: f64) -> Result<(), ArgsError> {
        if self.rules.is_interop() {
            return interop::write_float(self.out, v)
                .map_err(|error| ArgsError(format!("{error}; pass an Option or text")));
        }
        // Zero has no sign: 0.0 and -0.0 are equal.
        msgpack::write_f64(self.out, if v == 0.0 { 0.0 } else { v });
        Ok(())
    }

    fn serialize_char(self, v: char) -> Result<(), ArgsError> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, v: &str) -> Result<(), ArgsError> {
        count(v.len())?;
        msgpack::write_str(self.out, v);
        Ok(())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), ArgsError> {
        count(v.len())?;
        msgpack::write_bin(self.out, v);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), ArgsError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), ArgsError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), ArgsError> {
        msgpack::write_nil(self.out);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), ArgsError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), ArgsError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), ArgsError> {
        match self.rules {
            Rules::Interop if name == SET => {
                value.serialize(Self::within(self.out, self.room, Rules::Set))
            }
            _ => value.serialize(self),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), ArgsError> {
        value.serialize(self.variant(variant)?)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Sequence<'a>, ArgsError> {
        self.sequence(len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Sequence<'a>, ArgsError> {
        self.sequence(Some(len))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        len: usize,
    ) -> Result<Sequence<'a>, ArgsError> {
        self.sequence(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Sequence<'a>, ArgsError> {
        self.variant(variant)?.sequence(Some(len))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Map<'a>, ArgsError> {
        self.map()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Map<'a>, ArgsError> {
        self.map()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Map<'a>, ArgsError> {
        self.variant(variant)?.map()
    }
}
