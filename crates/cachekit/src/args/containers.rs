//! Arrays and maps of [`canonical`](super::canonical) while their elements are written.

use cachekit_wire::{interop, msgpack};
use serde::{Serialize, ser};

use super::{
    ArgsError, KeyBytes,
    canonical::{Encoder, Rules, count},
    entries::{self, Entry},
};

/// An array being written.
pub(super) struct Sequence<'a> {
    out: &'a mut KeyBytes,
    room: usize,
    rules: Rules,
    start: usize,
    declared: Option<u32>,
    written: usize,
    /// Of a set, where each element ends, from `start`.
    ends: Vec<usize>,
}

impl<'a> Sequence<'a> {
    pub(super) fn begin(
        out: &'a mut KeyBytes,
        room: usize,
        rules: Rules,
        declared: Option<usize>,
    ) -> Result<Self, ArgsError> {
        let start = out.len();
        let declared = declared.map(count).transpose()?;
        if let Some(len) = declared.filter(|_| rules != Rules::Set) {
            msgpack::write_array_header(out, len);
        }
        Ok(Self {
            out,
            room,
            rules,
            start,
            declared,
            written: 0,
            ends: Vec::new(),
        })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ArgsError> {
        self.written += 1;
        value.serialize(Encoder::within(self.out, self.room, self.rules.within()))?;
        if self.rules == Rules::Set {
            self.ends.push(self.out.len() - self.start);
        }
        Ok(())
    }

    fn close(self) -> Result<(), ArgsError> {
        if self.rules == Rules::Set {
            let written = self.out.split_off(self.start);
            let starts = std::iter::once(0).chain(self.ends.iter().copied());
            let elements = starts.zip(&self.ends).map(|(from, &to)| &written[from..to]);
            interop::write_set(self.out, elements.collect());
            return Ok(());
        }
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
    rules: Rules,
    start: usize,
    entries: Vec<Entry>,
}

impl<'a> Map<'a> {
    pub(super) fn begin(out: &'a mut KeyBytes, room: usize, rules: Rules) -> Self {
        let start = out.len();
        Self {
            out,
            room,
            rules,
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
        value.serialize(Encoder::within(self.out, self.room, self.rules.within()))
    }

    fn close(self) -> Result<(), ArgsError> {
        count(self.entries.len())?;
        match self.rules {
            Rules::Auto => entries::finish(self.out, self.start, &self.entries),
            Rules::Flat => entries::finish_flat(self.out, self.start, &self.entries),
            Rules::Interop | Rules::Set => {
                entries::finish_text(self.out, self.start, &self.entries)
            }
        }
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
