//! How much memory a value holds, told from how it serializes.
//!
//! Rust has no way to ask a value for the memory behind it. Serialization visits all of it, so the
//! bytes of its text, of its vectors and of its maps are added up as the standard library and the
//! system's allocator lay them out. What serialization does not show (a `Box`, spare capacity,
//! skipped fields) is not seen.

use serde::{Serialize, Serializer, ser};

/// The bytes that `value` and an `Arc` of it hold.
pub(crate) fn of<T: Serialize>(value: &T) -> u64 {
    let mut heap = 0;
    // A value that cannot be serialized weighs what it showed until then.
    let _ = value.serialize(Weigher { heap: &mut heap });
    allocation((2 * size_of::<usize>() + size_of::<T>()) as u64).saturating_add(heap)
}

/// What the allocator takes for `bytes`: a word of its own, in steps of 16, 32 at least.
fn allocation(bytes: u64) -> u64 {
    match bytes {
        0 => 0,
        bytes => (bytes.saturating_add(8 + 15) & !15).max(32),
    }
}

/// The place that a value takes within its owner.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    size: u64,
    align: u64,
}

impl Place {
    const fn scalar(size: u64) -> Self {
        Self { size, align: size }
    }

    /// A pointer, a length and a capacity.
    const VEC: Self = Self { size: 24, align: 8 };
    const MAP: Self = Self { size: 48, align: 8 };

    fn beside(self, other: Self) -> Self {
        Self {
            size: self.size + other.size,
            align: self.align.max(other.align),
        }
    }

    fn padded(self) -> Self {
        Self {
            size: self.size.next_multiple_of(self.align.max(1)),
            ..self
        }
    }

    fn larger(self, other: Self) -> Self {
        if other.size > self.size { other } else { self }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the value cannot be serialized")]
struct Unseen;

impl ser::Error for Unseen {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self
    }
}

/// Adds what lies outside of a value to `heap`, and gives the place of the value itself.
struct Weigher<'a> {
    heap: &'a mut u64,
}

impl<'a> Weigher<'a> {
    fn block(self, bytes: usize) -> Result<Place, Unseen> {
        *self.heap += allocation(bytes as u64);
        Ok(Place::VEC)
    }

    fn fields(self) -> Fields<'a> {
        Fields {
            heap: self.heap,
            sum: Place::default(),
        }
    }

    fn elements(self) -> Elements<'a> {
        Elements {
            heap: self.heap,
            count: 0,
            keys: Place::default(),
            values: Place::default(),
        }
    }
}

macro_rules! scalars {
    ($($method:ident($type:ty)),* $(,)?) => {
        $(fn $method(self, _: $type) -> Result<Place, Unseen> {
            Ok(Place::scalar(size_of::<$type>() as u64))
        })*
    };
}

impl<'a> Serializer for Weigher<'a> {
    type Ok = Place;
    type Error = Unseen;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Fields<'a>;
    type SerializeTupleStruct = Fields<'a>;
    type SerializeTupleVariant = Fields<'a>;
    type SerializeMap = Elements<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    scalars! {
        serialize_bool(bool),
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64), serialize_i128(i128),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_u128(u128),
        serialize_f32(f32), serialize_f64(f64), serialize_char(char),
    }

    // The form that is nearer to the memory: 16 bytes for a UUID and not its text.
    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_str(self, v: &str) -> Result<Place, Unseen> {
        self.block(v.len())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<Place, Unseen> {
        self.block(v.len())
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<Place, Unseen> {
        self.block(value.to_string().len())
    }

    fn serialize_none(self) -> Result<Place, Unseen> {
        Ok(Place::default())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Place, Unseen> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Place, Unseen> {
        Ok(Place::default())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Place, Unseen> {
        Ok(Place::default())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<Place, Unseen> {
        Ok(Place::scalar(1))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Place, Unseen> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Place, Unseen> {
        value
            .serialize(self)
            .map(|place| place.beside(Place::scalar(1)).padded())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Elements<'a>, Unseen> {
        Ok(self.elements())
    }

    fn serialize_tuple(self, _: usize) -> Result<Fields<'a>, Unseen> {
        Ok(self.fields())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Unseen> {
        Ok(self.fields())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Unseen> {
        Ok(self.fields())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Elements<'a>, Unseen> {
        Ok(self.elements())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Unseen> {
        Ok(self.fields())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Unseen> {
        Ok(self.fields())
    }
}

/// A tuple or struct: its fields lie within it.
struct Fields<'a> {
    heap: &'a mut u64,
    sum: Place,
}

impl Fields<'_> {
    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unseen> {
        let place = value.serialize(Weigher { heap: self.heap })?;
        self.sum = self.sum.beside(place);
        Ok(())
    }
}

/// A sequence or map: its elements lie in a block of their own, all in places of one size.
struct Elements<'a> {
    heap: &'a mut u64,
    count: u64,
    keys: Place,
    values: Place,
}

impl ser::SerializeSeq for Elements<'_> {
    type Ok = Place;
    type Error = Unseen;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unseen> {
        let place = value.serialize(Weigher { heap: self.heap })?;
        self.count += 1;
        self.values = self.values.larger(place);
        Ok(())
    }

    fn end(self) -> Result<Place, Unseen> {
        *self.heap += allocation(self.count.saturating_mul(self.values.size));
        Ok(Place::VEC)
    }
}

impl ser::SerializeMap for Elements<'_> {
    type Ok = Place;
    type Error = Unseen;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unseen> {
        let place = key.serialize(Weigher { heap: self.heap })?;
        self.count += 1;
        self.keys = self.keys.larger(place);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unseen> {
        let place = value.serialize(Weigher { heap: self.heap })?;
        self.values = self.values.larger(place);
        Ok(())
    }

    fn end(self) -> Result<Place, Unseen> {
        // A hash table has a power of two of buckets, at most 7/8 of them used, and a byte per
        // bucket besides. A B-tree's nodes are about as full, and its first one has 11 places.
        let buckets = match self.count {
            0 => 0,
            count => (count * 8 / 7 + 1).next_power_of_two().max(8),
        };
        let pair = self.keys.beside(self.values).padded();
        *self.heap += allocation(buckets.saturating_mul(pair.size + 1));
        Ok(Place::MAP)
    }
}

macro_rules! fields {
    ($($trait:ident::$method:ident),*; $($named:ident),*) => {
        $(impl ser::$trait for Fields<'_> {
            type Ok = Place;
            type Error = Unseen;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unseen> {
                self.add(value)
            }

            fn end(self) -> Result<Place, Unseen> {
                Ok(self.sum.padded())
            }
        })*
        $(impl ser::$named for Fields<'_> {
            type Ok = Place;
            type Error = Unseen;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _: &'static str,
                value: &T,
            ) -> Result<(), Unseen> {
                self.add(value)
            }

            fn end(self) -> Result<Place, Unseen> {
                Ok(self.sum.padded())
            }
        })*
    };
}

fields!(
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field;
    SerializeStruct,
    SerializeStructVariant
);
