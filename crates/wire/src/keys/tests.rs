use std::borrow::Cow;

use serde_json::Value;

use super::*;
use crate::msgpack::{
    write_array_header, write_bool, write_f64, write_i64, write_map_header, write_nil, write_str,
};

/// The canonical MessagePack of a JSON value: maps by sorted key, as the protocol normalises them.
fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => write_nil(out),
        Value::Bool(b) => write_bool(out, *b),
        Value::Number(n) => match n.as_i64() {
            Some(i) => write_i64(out, i),
            None => write_f64(out, n.as_f64().expect("a float in the vectors")),
        },
        Value::String(s) => write_str(out, s),
        Value::Array(items) => {
            write_array_header(out, items.len() as u32);
            items.iter().for_each(|v| encode(v, out));
        }
        Value::Object(map) => {
            write_map_header(out, map.len() as u32);
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|&(k, _)| k);
            for (k, v) in pairs {
                write_str(out, k);
                encode(v, out);
            }
        }
    }
}

fn call(args: &Value, kwargs: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_array_header(&mut out, 2);
    encode(args, &mut out);
    encode(kwargs, &mut out);
    out
}

#[test]
fn the_public_vectors() {
    let file: Value = serde_json::from_str(include_str!("../../tests/vectors/cache-keys.json"))
        .expect("the vectors are JSON");
    let vectors = file["vectors"].as_array().expect("a list of vectors");
    assert_eq!(vectors.len(), 10);
    for v in vectors {
        let text = |name: &str| v[name].as_str();
        let code = match text("serializer_type") {
            Some("std") => SerializerCode::Std,
            other => panic!("a serializer without a letter here: {other:?}"),
        };
        let prefix = KeyPrefix::new(
            text("namespace"),
            text("function_module").expect("a module"),
            text("function_qualname").expect("a name"),
        );
        let integrity = v["integrity_checking"].as_bool().expect("a flag");
        let key = prefix.key(&call(&v["args"], &v["kwargs"]), integrity, code);
        assert_eq!(Some(key.as_str()), text("expected_key"), "{}", v["name"]);
    }
}

/// Keys that cachekit 0.24.1 from PyPI stored for a call `f(1)`.
#[test]
fn keys_of_the_published_package() {
    const ONE: &str = "386979f533ce537f0c42d385c8174948ebd58566ad81b32bebb830a187cb4387";
    let args = call(&serde_json::json!([1]), &serde_json::json!({}));
    let key = |ns: &str, module: &str, name: &str| {
        KeyPrefix::new(Some(ns), module, name).key(&args, true, SerializerCode::Std)
    };
    for (ns, module, name, head) in [
        ("test", "m", "f", "ns:test:func:m.f"),
        ("", "m", "f", "func:m.f"),
        (" ", "m", "f", "ns:_:func:m.f"),
        ("a b\nc\rd\te", "m", "f", "ns:a_b_c_d\te:func:m.f"),
        (
            "t",
            "m..x",
            "a...b....c<locals>d",
            "ns:t:func:m.x.a.b.c_locals_d",
        ),
        ("t", "m.é", "ü<x>.f", "ns:t:func:m._.__x_.f"),
        ("t", "m-x y", "f", "ns:t:func:m_x_y.f"),
        ("t", ".m", "f.", "ns:t:func:.m.f."),
        ("t", "m", "f<.>.<.>g", "ns:t:func:m.f_._._._g"),
    ] {
        assert_eq!(key(ns, module, name), format!("{head}:args:{ONE}:1s"));
    }
    // The limit of 250 counts characters, not bytes.
    let e = "é".repeat(100);
    assert_eq!(key(&e, "m", "f"), format!("ns:{e}:func:m.f:args:{ONE}:1s"));
    let m50 = format!("m{}", "x".repeat(50));
    let n115 = "n".repeat(115);
    let fits = key(&n115, &m50, "f");
    assert_eq!(fits, format!("ns:{n115}:func:{m50}.f:args:{ONE}:1s"));
    assert_eq!(fits.len(), 250);
    // Shortened. The module of 301 characters and the one of 200 share their first 200.
    for (ns, module, name, expected) in [
        (
            "n".repeat(116),
            m50.clone(),
            "f",
            format!("ns:{}:7624e490691620f79a06fb5a2546e091", "n".repeat(47)),
        ),
        (
            "n".repeat(117),
            m50,
            "f",
            format!("ns:{}:0e6542098999d199b16b51d732f4c25c", "n".repeat(47)),
        ),
        (
            "é".repeat(167),
            "m".into(),
            "f",
            format!("ns:{}:394343ce2490b5773bf723dd70359bb6", "é".repeat(47)),
        ),
        (
            "a b".repeat(80),
            "m".into(),
            "f",
            format!("ns:{}a_:8d2d1b6f41d8c6087af00be368937023", "a_b".repeat(15)),
        ),
        (
            "\u{1F600} ".repeat(90),
            "m".into(),
            "f",
            format!(
                "ns:{}\u{1F600}:6b647a5314746afc84291373f9ae3bb1",
                "\u{1F600}_".repeat(23)
            ),
        ),
        (
            "t".into(),
            format!("m{}", "x".repeat(300)),
            "f",
            format!(
                "ns:t:func:m{}:978ff97d129217445d4a7e51eed18f71",
                "x".repeat(39)
            ),
        ),
        (
            "t".into(),
            format!("m{}", "x".repeat(199)),
            "f",
            format!(
                "ns:t:func:m{}:978ff97d129217445d4a7e51eed18f71",
                "x".repeat(39)
            ),
        ),
        (
            "t".into(),
            format!("m{}", "x".repeat(198)),
            "f",
            format!(
                "ns:t:func:m{}:d13b150d719135c86801afaab4daf156",
                "x".repeat(39)
            ),
        ),
        (
            "t".into(),
            format!("m{}", "x".repeat(198)),
            ".f",
            format!(
                "ns:t:func:m{}:d13b150d719135c86801afaab4daf156",
                "x".repeat(39)
            ),
        ),
        (
            "t".into(),
            format!("m{}..y", "x".repeat(198)),
            "f",
            format!(
                "ns:t:func:m{}:d13b150d719135c86801afaab4daf156",
                "x".repeat(39)
            ),
        ),
        (
            "t".into(),
            "p.".repeat(120),
            "f",
            format!(
                "ns:t:func:{}:aef56e374d5852846a56b2c9b43d64bc",
                "p.".repeat(20)
            ),
        ),
        (
            "t".into(),
            "é".repeat(250),
            "f",
            format!(
                "ns:t:func:{}:9851c3beb4b6e7c4af3674d53f4976b7",
                "_".repeat(40)
            ),
        ),
    ] {
        assert_eq!(key(&ns, &module, name), expected);
    }
}

#[test]
fn the_suffix_names_integrity_and_serializer() {
    let prefix = KeyPrefix::new(None, "m", "f");
    for (code, letter) in [
        (SerializerCode::Std, 's'),
        (SerializerCode::Auto, 'a'),
        (SerializerCode::Orjson, 'o'),
        (SerializerCode::Arrow, 'w'),
        (SerializerCode::Local, 'l'),
    ] {
        assert!(
            prefix
                .key(b"", true, code)
                .ends_with(&format!(":1{letter}"))
        );
        assert!(
            prefix
                .key(b"", false, code)
                .ends_with(&format!(":0{letter}"))
        );
    }
}

#[test]
fn content_hash_is_blake2b_256() {
    // hashlib.blake2b(b"", digest_size=32) and (b"abc", digest_size=32).
    for (bytes, hex) in [
        (
            &b""[..],
            "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8",
        ),
        (
            b"abc",
            "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319",
        ),
    ] {
        let mut out = String::new();
        push_hex(&mut out, &content_hash(bytes));
        assert_eq!(out, hex);
    }
}

#[test]
fn custom_keys() {
    assert_eq!(custom_key(Some("users"), "42 x"), "users:42 x");
    assert_eq!(custom_key(None, "42"), "default:42");
    assert_eq!(custom_key(Some(""), "42"), "default:42");
}

#[test]
fn tenant_keys_are_percent_encoded() {
    assert_eq!(tenant_key("default", "a:b"), "t:default:a:b");
    assert_eq!(tenant_key("a b/c:é~_.-", "k"), "t:a%20b%2Fc%3A%C3%A9~_.-:k");
}

fn memcached(b: u8) -> bool {
    b.is_ascii_graphic()
}

#[test]
fn a_key_that_fits_is_borrowed() {
    let key = "x".repeat(250);
    assert!(matches!(fit_key(&key, 250, memcached), Cow::Borrowed(k) if k == key));
    assert!(matches!(fit_key(&key, 249, memcached), Cow::Owned(_)));
}

#[test]
fn a_key_that_does_not_fit_keeps_fifty_safe_characters() {
    let key = format!("a b\u{7f}é{}", "y".repeat(100));
    let fitted = fit_key(&key, 250, memcached);
    let mut expected = format!("ab{}:", "y".repeat(48));
    push_hex(&mut expected, &content_hash(key.as_bytes())[..16]);
    assert_eq!(fitted, expected);
    assert_ne!(
        fitted,
        fit_key(&key.replace('é', "è"), 250, memcached),
        "the hash covers all"
    );
}

#[test]
fn shortening_never_doubles_a_dot_and_respects_the_limit() {
    assert!(shorten_key("a..b...c", 250, memcached).starts_with("a.b.c:"));
    for max in 33..100 {
        let short = shorten_key(&"z".repeat(300), max, memcached);
        assert_eq!(short.len(), max.min(83));
    }
}
