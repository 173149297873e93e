//! What kind of value something serializes as, found without serializing it.

use serde::{
    Serialize, Serializer,
    ser::{self, Impossible},
};

use super::ArgsError;

/// The outermost kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A unit.
    Nothing,
    /// A tuple, a tuple struct or an array of fixed length.
    Tuple,
    /// A struct with named fields.
    Struct,
    /// A sequence of any length.
    Sequence,
    /// A map.
    Map,
    /// Anything else.
    Scalar,
}

/// The shape of `value`.
pub(super) fn of<T: Serialize + ?Sized>(value: &T) -> Result<Shape, ArgsError> {
    match value.serialize(Probe) {
        Err(Seen::Shape(shape)) => Ok(shape),
        Err(Seen::Failed(error)) => Err(error),
        Ok(never) => match never {},
    }
}

/// Ends with the first thing it is told, as an "error".
struct Probe;

enum Never {}

#[derive(Debug, thiserror::Error)]
enum Seen {
    #[error("a shape")]
    Shape(Shape),
    #[error(transparent)]
    Failed(ArgsError),
}

impl ser::Error for Seen {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Failed(ArgsError::custom(message))
    }
}

impl From<Shape> for Seen {
    fn from(shape: Shape) -> Self {
        Self::Shape(shape)
    }
}

type Told<T> = Result<T, Seen>;

macro_rules! scalars {
    ($($method:ident($type:ty)),* $(,)?) => {
        $(fn $method(self, _: $type) -> Told<Never> {
            Err(Shape::Scalar.into())
        })*
    };
}

impl Serializer for Probe {
    type Ok = Never;
    type Error = Seen;
    type SerializeSeq = Impossible<Never, Seen>;
    type SerializeTuple = Impossible<Never, Seen>;
    type SerializeTupleStruct = Impossible<Never, Seen>;
    type SerializeTupleVariant = Impossible<Never, Seen>;
    type SerializeMap = Impossible<Never, Seen>;
    type SerializeStruct = Impossible<Never, Seen>;
    type SerializeStructVariant = Impossible<Never, Seen>;

    scalars! {
        serialize_bool(bool),
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64), serialize_i128(i128),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_u128(u128),
        serialize_f32(f32), serialize_f64(f64), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
    }

    fn serialize_none(self) -> Told<Never> {
        Err(Shape::Scalar.into())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Told<Never> {
        Err(Shape::Scalar.into())
    }

    fn serialize_unit(self) -> Told<Never> {
        Err(Shape::Nothing.into())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Told<Never> {
        Err(Shape::Nothing.into())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Told<Never> {
        Err(Shape::Scalar.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Told<Never> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Told<Never> {
        Err(Shape::Scalar.into())
    }

    fn serialize_seq(self, _: Option<usize>) -> Told<Self::SerializeSeq> {
        Err(Shape::Sequence.into())
    }

    fn serialize_tuple(self, _: usize) -> Told<Self::SerializeTuple> {
        Err(Shape::Tuple.into())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Told<Self::SerializeTupleStruct> {
        Err(Shape::Tuple.into())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Told<Self::SerializeTupleVariant> {
        Err(Shape::Scalar.into())
    }

    fn serialize_map(self, _: Option<usize>) -> Told<Self::SerializeMap> {
        Err(Shape::Map.into())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Told<Self::SerializeStruct> {
        Err(Shape::Struct.into())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Told<Self::SerializeStructVariant> {
        Err(Shape::Scalar.into())
    }
}
