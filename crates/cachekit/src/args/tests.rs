use std::collections::{BTreeMap, HashMap};

use cachekit_wire::keys::{KeyPrefix, SerializerCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::*;

fn bytes(args: &(impl Args + ?Sized)) -> Vec<u8> {
    let mut out = Vec::new();
    args.encode(&mut out).expect("these arguments have a key");
    out
}

#[derive(Serialize)]
struct Point {
    y: i32,
    x: i32,
}

#[derive(Serialize)]
struct Pair(i32, &'static str);

#[derive(Serialize)]
struct Id(u32);

#[derive(Serialize)]
enum Kind {
    Plain,
    With(u8),
    Both(u8, u8),
    Named { b: u8, a: u8 },
}

#[test]
fn the_shape_of_a_value_says_what_it_stands_for() {
    assert_eq!(bytes(&()), b"\x92\x90\x80");
    assert_eq!(bytes(&42), b"\x92\x91\x2a\x80");
    assert_eq!(bytes("hi"), b"\x92\x91\xa2hi\x80");
    assert_eq!(bytes(&(1, "a")), b"\x92\x92\x01\xa1a\x80");
    assert_eq!(bytes(&[1, 2]), b"\x92\x92\x01\x02\x80");
    assert_eq!(bytes(&Pair(1, "a")), bytes(&(1, "a")));
    assert_eq!(bytes(&Id(42)), bytes(&42));
    assert_eq!(bytes(&vec![1, 2]), b"\x92\x91\x92\x01\x02\x80");
    assert_eq!(bytes(&(vec![1, 2],)), bytes(&vec![1, 2]));
    assert_eq!(bytes(&None::<u8>), b"\x92\x91\xc0\x80");
    assert_eq!(bytes(&Some(3)), bytes(&3));
    assert_eq!(
        bytes(&BTreeMap::from([("a", 1)])),
        b"\x92\x91\x81\xa1a\x01\x80"
    );
    assert_eq!(
        bytes(&Point { y: 2, x: 1 }),
        b"\x92\x90\x82\xa1x\x01\xa1y\x02"
    );
    assert_eq!(
        bytes(&(Point { y: 2, x: 1 },)),
        b"\x92\x91\x82\xa1x\x01\xa1y\x02\x80"
    );
    assert_eq!(bytes(&Kind::Plain), bytes("Plain"));
    assert_eq!(bytes(&Kind::With(7)), b"\x92\x91\x81\xa4With\x07\x80");
    assert_eq!(
        bytes(&Kind::Both(7, 8)),
        b"\x92\x91\x81\xa4Both\x92\x07\x08\x80"
    );
    assert_eq!(
        bytes(&Kind::Named { b: 2, a: 1 }),
        b"\x92\x91\x81\xa5Named\x82\xa1a\x01\xa1b\x02\x80"
    );
}

#[test]
fn numbers_have_one_form() {
    assert_eq!(bytes(&200u8), bytes(&200i64));
    assert_eq!(bytes(&-1i8), bytes(&-1i128));
    assert_eq!(bytes(&u64::MAX), bytes(&u128::from(u64::MAX)));
    assert_eq!(bytes(&0.0), bytes(&-0.0));
    assert_eq!(bytes(&0.5f32), bytes(&0.5f64));
    assert_ne!(bytes(&1), bytes(&1.0));
    assert_ne!(bytes(&1), bytes(&true));
    // As Python's `to_bytes(bit_length // 8 + 1, "big", signed=True)` has them.
    let big = |hex: &[u8]| [b"\x92\x91", hex, b"\x80"].concat();
    assert_eq!(
        bytes(&(1u128 << 64)),
        big(b"\xc7\x09\x02\x01\0\0\0\0\0\0\0\0")
    );
    assert_eq!(
        bytes(&-(1i128 << 71)),
        big(b"\xc7\x0a\x02\xff\x80\0\0\0\0\0\0\0\0")
    );
    let most = [&b"\xc7\x11\x02\0"[..], &[0xff; 16]].concat();
    assert_eq!(bytes(&u128::MAX), big(&most));
}

#[test]
fn maps_are_in_the_order_of_their_keys() {
    let words: HashMap<String, u32> = ["b", "a", "aa", "é", "Z"].map(|k| (k.to_owned(), 1)).into();
    assert_eq!(
        bytes(&words),
        b"\x92\x91\x85\xa1Z\x01\xa1a\x01\xa2aa\x01\xa1b\x01\xa2\xc3\xa9\x01\x80"
    );
    let numbers: HashMap<i32, u32> = [(300, 1), (-5, 1), (7, 1)].into();
    assert_eq!(
        bytes(&numbers),
        b"\x92\x91\x83\xfb\x01\x07\x01\xcd\x01\x2c\x01\x80"
    );
    // Keys that do not compare go by their bytes, in an extension that no other value has.
    let pairs: HashMap<(u8, u8), u8> = [((2, 1), 4), ((1, 2), 3)].into();
    assert_eq!(
        bytes(&pairs),
        b"\x92\x91\xd7\x07\x92\x01\x02\x03\x92\x02\x01\x04\x80"
    );
}

#[test]
fn sequences_of_unknown_length_are_as_those_of_known_length() {
    struct Unknown(Vec<u32>);
    impl Serialize for Unknown {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut seq = serializer.serialize_seq(None)?;
            for item in &self.0 {
                seq.serialize_element(item)?;
            }
            seq.end()
        }
    }
    for len in [0, 1, 15, 16, 40, 70_000] {
        let items: Vec<u32> = (0..len).collect();
        assert_eq!(bytes(&Unknown(items.clone())), bytes(&items));
    }
}

#[test]
fn what_cannot_be_a_key_says_why() {
    fn deep(levels: usize) -> Value {
        (0..levels).fold(json!(0), |inner, _| json!([inner]))
    }
    assert!((deep(512),).encode(&mut Vec::new()).is_ok());
    let refused = (deep(513),).encode(&mut Vec::new()).expect_err("too deep");
    assert!(refused.to_string().contains("512"), "{refused}");

    struct Broken;
    impl Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no such thing"))
        }
    }
    for broken in [&(1, Broken) as &dyn Args, &Broken] {
        let refused = broken
            .encode_key(&mut KeyBytes::default())
            .expect_err("broken");
        assert_eq!(refused.to_string(), "no such thing");
    }
    let mut out = Vec::new();
    for refused in [
        Arguments::new((), BTreeMap::from([(1, 2)])).encode(&mut out),
        Arguments::new(5, ()).encode(&mut out),
        Arguments::new((), 5).encode(&mut out),
    ] {
        assert!(refused.is_err());
    }
    assert!(out.is_empty());
}

#[test]
fn the_public_vectors() {
    let file: Value =
        serde_json::from_str(include_str!("../../../wire/tests/vectors/cache-keys.json"))
            .expect("the vectors are JSON");
    let vectors = file["vectors"].as_array().expect("a list");
    assert_eq!(vectors.len(), 10);
    for vector in vectors {
        let args = Arguments::new(&vector["args"], &vector["kwargs"]);
        let text = |name: &str| vector[name].as_str().expect("text");
        let prefix = KeyPrefix::new(
            vector["namespace"].as_str(),
            text("function_module"),
            text("function_qualname"),
        );
        assert_eq!(
            prefix.key(&bytes(&args), true, SerializerCode::Std),
            text("expected_key"),
            "{}",
            text("name")
        );
    }
}
