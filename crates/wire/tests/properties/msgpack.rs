//! MessagePack against `rmp` and `rmp-serde`, implementations of others.

use std::fmt;

use cachekit_wire::msgpack::{
    DecodeError, DecodeErrorKind, MAX_DEPTH, Reader, Token, skip, write_array_header, write_bin,
    write_bool, write_ext, write_f64, write_i64, write_map_header, write_nil, write_str, write_u64,
};
use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::Damage;

/// Any MessagePack value but extensions. Floats are compared by their bits.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(u64),
    Str(String),
    Bin(Vec<u8>),
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

/// Integers as likely at the width boundaries as anywhere.
fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -300..300_i64,
        (0..64_u32, -2..=2_i64).prop_map(|(bit, near)| (1_i64 << bit).wrapping_add(near)),
        (0..64_u32, -2..=2_i64)
            .prop_map(|(bit, near)| (1_i64 << bit).wrapping_neg().wrapping_add(near)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        integer().prop_map(Value::Int),
        (i64::MAX as u64 + 1..).prop_map(Value::UInt),
        any::<u64>().prop_map(Value::Float),
        any::<String>().prop_map(Value::Str),
        "[a-z]{0,300}".prop_map(Value::Str),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bin),
    ];
    leaf.prop_recursive(5, 100, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
            prop::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
        ]
    })
}

fn ours(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Nil => write_nil(out),
        Value::Bool(v) => write_bool(out, *v),
        Value::Int(v) => write_i64(out, *v),
        Value::UInt(v) => write_u64(out, *v),
        Value::Float(bits) => write_f64(out, f64::from_bits(*bits)),
        Value::Str(v) => write_str(out, v),
        Value::Bin(v) => write_bin(out, v),
        Value::Array(items) => {
            write_array_header(out, items.len() as u32);
            items.iter().for_each(|v| ours(v, out));
        }
        Value::Map(pairs) => {
            write_map_header(out, pairs.len() as u32);
            pairs.iter().for_each(|(k, v)| {
                ours(k, out);
                ours(v, out);
            });
        }
    }
}

fn theirs(value: &Value, out: &mut Vec<u8>) {
    use rmp::encode;
    match value {
        Value::Nil => encode::write_nil(out).expect("a Vec"),
        Value::Bool(v) => encode::write_bool(out, *v).expect("a Vec"),
        Value::Int(v) => {
            encode::write_sint(out, *v).expect("a Vec");
        }
        Value::UInt(v) => {
            encode::write_uint(out, *v).expect("a Vec");
        }
        Value::Float(bits) => encode::write_f64(out, f64::from_bits(*bits)).expect("a Vec"),
        Value::Str(v) => encode::write_str(out, v).expect("a Vec"),
        Value::Bin(v) => encode::write_bin(out, v).expect("a Vec"),
        Value::Array(items) => {
            encode::write_array_len(out, items.len() as u32).expect("a Vec");
            items.iter().for_each(|v| theirs(v, out));
        }
        Value::Map(pairs) => {
            encode::write_map_len(out, pairs.len() as u32).expect("a Vec");
            pairs.iter().for_each(|(k, v)| {
                theirs(k, out);
                theirs(v, out);
            });
        }
    }
}

/// Reads one value with recursion bounded as its users bound it; extensions become binaries.
fn read(reader: &mut Reader<'_>, depth: usize) -> Result<Value, DecodeError> {
    let deeper = |reader: &Reader<'_>| {
        if depth == MAX_DEPTH {
            Err(DecodeError::new(
                reader.position(),
                DecodeErrorKind::TooDeep,
            ))
        } else {
            Ok(depth + 1)
        }
    };
    Ok(match reader.next()? {
        Token::Nil => Value::Nil,
        Token::Bool(v) => Value::Bool(v),
        Token::Int(v) => Value::Int(v),
        Token::UInt(v) => Value::UInt(v),
        Token::F64(v) => Value::Float(v.to_bits()),
        Token::Str(v) => Value::Str(v.to_owned()),
        Token::Bin(v) | Token::Ext(_, v) => Value::Bin(v.to_vec()),
        Token::Array(n) => {
            let depth = deeper(reader)?;
            // What `Reader::next` promises: this never takes more than the input has.
            assert!(n as usize <= reader.remaining().len());
            let mut items = Vec::with_capacity(n as usize);
            for _ in 0..n {
                items.push(read(reader, depth)?);
            }
            Value::Array(items)
        }
        Token::Map(n) => {
            let depth = deeper(reader)?;
            assert!(n as usize <= reader.remaining().len() / 2);
            let mut pairs = Vec::with_capacity(n as usize);
            for _ in 0..n {
                pairs.push((read(reader, depth)?, read(reader, depth)?));
            }
            Value::Map(pairs)
        }
    })
}

fn read_all(bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = read(&mut reader, 0)?;
    reader.finish()?;
    Ok(value)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Nil)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
                Ok(Value::Bool(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
                Ok(Value::Int(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
                Ok(i64::try_from(v).map_or(Value::UInt(v), Value::Int))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
                Ok(Value::Float(v.to_bits()))
            }
            fn visit_str<E>(self, v: &str) -> Result<Value, E> {
                Ok(Value::Str(v.to_owned()))
            }
            fn visit_bytes<E>(self, v: &[u8]) -> Result<Value, E> {
                Ok(Value::Bin(v.to_vec()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = vec![];
                while let Some(v) = seq.next_element()? {
                    items.push(v);
                }
                Ok(Value::Array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut pairs = vec![];
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Value::Map(pairs))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

proptest! {
    #[test]
    fn writes_the_bytes_that_rmp_writes(value in value()) {
        let (mut a, mut b) = (vec![], vec![]);
        ours(&value, &mut a);
        theirs(&value, &mut b);
        prop_assert_eq!(a, b);
    }

    #[test]
    fn reads_back_as_itself_and_as_rmp_serde_reads_it(value in value()) {
        let mut bytes = vec![];
        ours(&value, &mut bytes);
        prop_assert_eq!(read_all(&bytes), Ok(value.clone()));
        prop_assert_eq!(rmp_serde::from_slice::<Value>(&bytes).ok(), Some(value));
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(skip(&mut reader), Ok(()));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn extensions_are_those_of_rmp(ty in any::<i8>(), data in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut a, mut b) = (vec![], vec![]);
        write_ext(&mut a, ty, &data);
        rmp::encode::write_ext_meta(&mut b, data.len() as u32, ty).expect("a Vec");
        b.extend_from_slice(&data);
        prop_assert_eq!(&a, &b);
        prop_assert_eq!(Reader::new(&a).next(), Ok(Token::Ext(ty, &data)));
    }

    #[test]
    fn no_proper_prefix_is_a_value(value in value(), end in any::<prop::sample::Index>()) {
        let mut bytes = vec![];
        ours(&value, &mut bytes);
        let end = end.index(bytes.len());
        prop_assert!(read_all(&bytes[..end]).is_err());
        prop_assert!(skip(&mut Reader::new(&bytes[..end])).is_err());
    }

    /// Where rmp-serde and this reader both find a value, it is the same one.
    #[test]
    fn damaged_values_read_as_rmp_serde_reads_them(value in value(), damage in Damage::any()) {
        let mut bytes = vec![];
        ours(&value, &mut bytes);
        damage.to(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let read = read(&mut reader, 0);
        let mut skipped = Reader::new(&bytes);
        prop_assert_eq!(read.is_ok(), skip(&mut skipped).is_ok());
        if let Ok(value) = read {
            prop_assert_eq!(reader.position(), skipped.position());
            let theirs = rmp_serde::from_slice::<Value>(&bytes);
            let foreign = bytes.iter().any(|b| (0xc7..=0xca).contains(b) || (0xd4..=0xd8).contains(b));
            match theirs {
                // Extensions have no serde form, and a float32's NaN may widen to other bits.
                _ if foreign => {}
                Ok(theirs) => prop_assert_eq!(value, theirs),
                Err(error) => prop_assert!(false, "{value:?} read here, {error} by rmp-serde"),
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = Reader::new(&bytes);
        loop {
            let before = reader.position();
            match reader.next() {
                Ok(_) => prop_assert!(reader.position() > before),
                Err(error) => {
                    prop_assert_eq!(reader.position(), before, "a failed read does not move");
                    prop_assert_eq!(error.position(), before);
                    break;
                }
            }
        }
        prop_assert_eq!(
            read(&mut Reader::new(&bytes), 0).is_ok(),
            skip(&mut Reader::new(&bytes)).is_ok()
        );
    }
}

/// Strings take a short way when they are short and ASCII; both ways agree at every length.
#[test]
fn strings_are_validated_at_every_length_and_place() {
    for len in 0..100 {
        let plain = vec![b'a'; len];
        let mut bytes = vec![];
        write_str(&mut bytes, std::str::from_utf8(&plain).expect("ASCII"));
        let start = bytes.len() - len;
        assert_eq!(read_all(&bytes), Ok(Value::Str("a".repeat(len))));
        for at in 0..len {
            for bad in [0x80, 0xff, 0xc3] {
                let mut bytes = bytes.clone();
                bytes[start + at] = bad;
                let error = read_all(&bytes).expect_err("not UTF-8");
                assert_eq!(
                    error.kind(),
                    DecodeErrorKind::InvalidUtf8,
                    "{bad:x} at {at} of {len}"
                );
            }
            if at + 1 < len {
                let mut bytes = bytes.clone();
                bytes[start + at..start + at + 2].copy_from_slice("é".as_bytes());
                let Ok(Value::Str(text)) = read_all(&bytes) else {
                    panic!("UTF-8 at {at} of {len}")
                };
                assert_eq!(text.find('é'), Some(at));
            }
        }
    }
}
