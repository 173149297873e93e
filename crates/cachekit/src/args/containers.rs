//! Arrays and maps of [`canonical`](super::canonical) while their elements are written.

use cachekit_wire::msgpack;
use serde::{Serialize, ser};

use super::{
    ArgsError, KeyBytes,
    canonical::{Encoder, count},
    entries::{self, Entry},
};

/// An array being written.
pub(super) struct Sequence<'a> {
    out: &'a mut KeyBytes,
    room: usize,
    start: usize,
    declared: Option<u32>,
    written: usize,
}

impl<'a> Sequence<'a> {
    pub(super) fn begin(
        out: &'a mut KeyBytes,
        room: usize,
        declared: Option<usize>,
    ) -> Result<Self, ArgsError> {
        let start = out.len();
        let declared = declared.map(count).transpose()?;
        if let Some(len) = declared {
            msgpack::write_array_header(out, len);
        }
        Ok(Self {
            out,
            room,
            start,
            declared,
            written: 0,
        })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ArgsError> {
        self.written += 1;
        value.serialize(Encoder::within(self.out, self.room))
    }

    fn close(self) -> Result<(), ArgsError> {
        let written = count(self.written)?;
        match self.declared {
            Some(declared) if declared == written => {}
            Some(declared) => {
                return Err(ArgsError(format!(
                    "a sequence declared {declared} elements and serialized {written}; correct its Serialize"
                )));
            }
            None => {
                let mut header = Vec::with_capacity(5);
                msgpack::write_array_header(&mut header, written);
                self.out.insert(self.start, &header);
            }
        }
        Ok(())
    }
}

/// A map being written; it is put in order at its end.
pub(super) struct Map<'a> {
    out: &'a mut KeyBytes,
    room: usize,
    start: usize,
    entries: Vec<Entry>,
}

impl<'a> Map<'a> {
    pub(super) fn begin(out: &'a mut KeyBytes, room: usize) -> Self {
        let start = out.len();
        Self {
            out,
            room,
            start,
            entries: Vec::new(),
        }
    }

    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ArgsError> {
        let from = self.out.len();
        self.value(key)?;
        self.entries.push(Entry {
            key: from - self.start,
            value: self.out.len() - self.start,
        });
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ArgsError> {
        value.serialize(Encoder::within(self.out, self.room))
    }

    fn close(self) -> Result<(), ArgsError> {
        count(self.entries.len())?;
        entries::finish(self.out, self.start, &self.entries)
    }
}

macro_rules! sequences {
    ($($trait:ident::$method:ident),*) => {
        $(impl ser::$trait for Sequence<'_> {
            type Ok = ();
            type Error = ArgsError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ArgsError> {
                self.element(value)
            }

            fn end(self) -> Result<(), ArgsError> {
                self.close()
            }
        })*
    };
}

sequences!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

impl ser::SerializeMap for Map<'_> {
    type Ok = ();
    type Error = ArgsError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ArgsError> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ArgsError> {
        self.value(value)
    }

    fn end(self) -> Result<(), ArgsError> {
        self.close()
    }
}

macro_rules! structs {
    ($($trait:ident),*) => {
        $(impl ser::$trait for Map<'_> {
            type Ok = ();
            type Error = ArgsError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), ArgsError> {
                self.key(name)?;
                self.value(value)
            }

            fn end(self) -> Result<(), ArgsError> {
                self.close()
            }
        })*
    };
}

structs!(SerializeStruct, SerializeStructVariant);
