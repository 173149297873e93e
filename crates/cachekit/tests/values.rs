//! What is in an entry: bytes that other faces read and write.

mod common;

use bytes::Bytes;
use std::{collections::HashMap, sync::Arc, time::Duration};

use cachekit::{
    backends::Backend,
    payload::{self, PayloadPolicy},
    prelude::*,
};
use cachekit_testkit::servers::RedisServer;
use cachekit_wire::{envelope::Compression, frame::Serializer};
use common::{Runs, backend, built, local, process, run};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq)]
struct Broken;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    total: f64,
    state: State,
    note: Option<String>,
    lines: Vec<(String, u32)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum State {
    Open,
    Shipped { by: String },
}

fn order() -> Order {
    Order {
        id: 7,
        total: 9.5,
        state: State::Shipped { by: "mule".into() },
        note: None,
        lines: vec![("tea".into(), 2)],
    }
}

/// The MessagePack inside an entry of a cache with checksums.
fn body(entry: &[u8]) -> Vec<u8> {
    let policy = PayloadPolicy {
        serializer: Serializer::Default,
        integrity: true,
        compression: Compression::Fast,
        bare: false,
    };
    let entry = Bytes::copy_from_slice(entry);
    payload::open(&entry, &policy, None, &mut Vec::new(), |body, _| {
        Ok(body.to_vec())
    })
    .expect("an entry")
}

#[test]
fn an_entry_is_what_python_calls_a_dict() {
    let server = RedisServer::start();
    built(process(&server))
        .set_blocking("k", order())
        .expect("up");
    let stored = backend(&server).get("test:k", false, Duration::from_secs(1));
    let entry = stored.expect("up").expect("stored").value;
    assert!(entry.starts_with(b"CK\x03"));
    let expected = [
        &b"\x85\xa2id\x07\xa5total\xcb\x40\x23\0\0\0\0\0\0"[..],
        b"\xa5state\x81\xa7Shipped\x81\xa2by\xa4mule",
        b"\xa4note\xc0\xa5lines\x91\x92\xa3tea\x02",
    ];
    assert_eq!(body(&entry), expected.concat());
    assert_eq!(built(process(&server)).get_blocking("k"), Some(order()));
}

#[test]
fn entries_of_the_published_packages_are_read() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Theirs {
        a: u8,
        b: Vec<u8>,
        c: String,
    }
    // As a published Python package stores {"a": 1, "b": [1, 2], "c": "x"}.
    let header = br#"{"s": "default", "m": {"format": "msgpack", "encoding": "utf-8", "compressed": true, "original_type": "msgpack"}, "v": "2.0"}"#;
    let envelope = b"\x94\xc4\x0e\xd0\x83\xa1\x61\x01\xa1\x62\x92\x01\x02\xa1\x63\xa1\x78\x98\xcc\xb1\xcc\xe9\x7e\xcc\xa7\x48\xcc\xe3\x40\x31\x0d\xa7msgpack";
    let entry = [b"CK\x03\0\0\0\x7d", &header[..], envelope].concat();
    let server = RedisServer::start();
    let cache = built(process(&server));
    let price = cache.function("shop", "price");
    let key = price.key_for(&42).expect("a key");
    backend(&server)
        .set(&key, &entry, None, Duration::from_secs(1))
        .expect("up");
    let got = price.call_blocking(&42, || Err::<Theirs, _>(Broken));
    let expected = Theirs {
        a: 1,
        b: vec![1, 2],
        c: "x".into(),
    };
    assert_eq!(got, Ok(expected));
}

#[test]
fn without_checksums_the_value_stands_bare() {
    let server = RedisServer::start();
    let plain = || built(Cache::minimal().backend(backend(&server)).namespace("test"));
    plain().set_blocking("k", order()).expect("up");
    let entry = backend(&server).get("test:k", false, Duration::from_secs(1));
    let entry = entry.expect("up").expect("stored").value;
    assert!(entry.ends_with(b"\xa3tea\x02"), "{entry:?}");
    assert_eq!(plain().get_blocking("k"), Some(order()));
    // One who expects a checksum does not take it for a value.
    assert_eq!(built(process(&server)).get_blocking::<Order>("k"), None);
    // One who expects none reads what has one, whatever it is read as.
    built(process(&server)).set_blocking("n", 7).expect("up");
    let read: Option<serde_json::Value> = plain().get_blocking("n");
    assert_eq!(read, Some(7.into()));
}

#[test]
fn compression_is_seen_in_the_size_and_nowhere_else() {
    let server = RedisServer::start();
    let text = "all work and no play ".repeat(1000);
    let size = |compression: bool, key: &str| {
        let cache = built(process(&server).compression(compression));
        cache.set_blocking(key, text.clone()).expect("up");
        let other = built(process(&server));
        assert_eq!(other.get_blocking(key), Some(text.clone()));
        let entry = backend(&server).get(&format!("test:{key}"), false, Duration::from_secs(1));
        entry.expect("up").expect("stored").value.len()
    };
    assert!(size(true, "fast") < 1000);
    assert!(size(false, "off") > text.len());
}

#[test]
fn both_layers_hand_out_the_same() {
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Session {
        user: u32,
        #[serde(skip)]
        secret: Option<String>,
    }
    let server = RedisServer::start();
    let cache = built(process(&server));
    let fresh = Session {
        user: 1,
        secret: Some("s".into()),
    };
    let stored = Session {
        secret: None,
        ..fresh.clone()
    };
    let compute = || Ok::<_, Broken>(fresh.clone());
    assert_eq!(
        cache.get_or_compute_blocking("k", compute),
        Ok(fresh.clone()),
        "its own"
    );
    assert_eq!(cache.get_blocking("k"), Some(stored.clone()), "L1");
    assert_eq!(
        built(process(&server)).get_blocking("k"),
        Some(stored),
        "L2"
    );
    // With no store there are no bytes, and nothing is lost.
    let alone = local();
    assert_eq!(
        alone.get_or_compute_blocking("k", compute),
        Ok(fresh.clone())
    );
    assert_eq!(alone.get_blocking("k"), Some(fresh));
}

#[test]
fn what_callers_do_with_a_value_stays_with_them() {
    let cache = local();
    let compute = || Ok::<_, Broken>(vec![1, 2, 3]);
    let mut first = cache
        .get_or_compute_blocking("k", compute)
        .expect("computed");
    first.push(4);
    let mut hit = cache.get_or_compute_blocking("k", compute).expect("a hit");
    hit.clear();
    assert_eq!(cache.get_blocking("k"), Some(vec![1, 2, 3]));
}

#[test]
fn a_value_is_read_as_the_type_that_is_asked_for() {
    let cache = local();
    cache.set_blocking("k", order()).expect("no store");
    let json: serde_json::Value = cache.get_blocking("k").expect("any JSON");
    assert_eq!(json["state"]["Shipped"]["by"], "mule");
    let ids: HashMap<String, u32> = HashMap::new();
    assert_eq!(cache.get_blocking::<HashMap<String, u32>>("k"), None);
    // A type that cannot read it computes its own, which replaces it.
    let got = cache.get_or_compute_blocking("k", || Ok::<_, Broken>(ids.clone()));
    assert_eq!(got, Ok(ids.clone()));
    assert_eq!(cache.get_blocking("k"), Some(ids));
}

#[test]
fn nothing_is_a_value_too() {
    let server = RedisServer::start();
    let (one, other) = (built(process(&server)), built(process(&server)));
    let runs = Runs::default();
    for cache in [&one, &one, &other, &other] {
        let got = run(cache.get_or_compute("k", || async {
            runs.add();
            Ok::<_, Broken>(None::<u32>)
        }));
        assert_eq!(got, Ok(None));
    }
    assert_eq!(runs.count(), 1);
    assert_eq!(one.get_blocking::<Option<u32>>("k"), Some(None));
}

#[test]
fn an_arc_is_cloned_without_its_content() {
    let cache = local();
    let shared: Arc<str> = "large".into();
    cache.set_blocking("k", shared.clone()).expect("no store");
    let hit: Arc<str> = cache.get_blocking("k").expect("set");
    assert!(Arc::ptr_eq(&hit, &shared));
}

#[test]
fn calls_have_the_keys_of_the_public_vectors() {
    let text = include_str!("../../wire/tests/vectors/cache-keys.json");
    let file: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let vectors = file["vectors"].as_array().expect("a list");
    assert_eq!(vectors.len(), 10);
    let server = RedisServer::start();
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().expect("text");
        let mut builder = Cache::builder().backend(backend(&server));
        if let Some(namespace) = vector["namespace"].as_str() {
            builder = builder.namespace(namespace);
        }
        let cache = built(builder);
        let function = cache.function(text("function_module"), text("function_qualname"));
        let args = Arguments::new(&vector["args"], &vector["kwargs"]);
        let computed = function.call_blocking(&args, || Ok::<_, Broken>(1));
        assert_eq!(computed, Ok(1));
        let key = text("expected_key");
        assert_eq!(function.key_for(&args).expect("a key"), key);
        let stored = backend(&server).exists(key, Duration::from_secs(1));
        assert!(stored.expect("up"), "{key} is stored");
    }
}

#[test]
fn calls_are_told_apart_by_arguments_functions_and_nothing_else() {
    let cache = local();
    let runs = Runs::default();
    let call = |module: &str, args: &dyn Args| {
        let before = runs.count();
        let function = cache.function(module, "f");
        let computed = function.call_blocking(args, || {
            runs.add();
            Ok::<_, Broken>(())
        });
        assert_eq!(computed, Ok(()));
        runs.count() > before
    };
    assert!(call("m", &(1, "a")));
    assert!(!call("m", &(1u64, String::from("a"))));
    assert!(call("m", &("a", 1)));
    assert!(call("n", &(1, "a")));
    assert!(call("m", &(1.0, "a")));
    assert!(call("m", &()));
    assert!(!call("m", &Arguments::new((1, "a"), ())));
    let stats = cache.function("m", "f").stats();
    assert_eq!((stats.entries, stats.misses, stats.l1_hits), (4, 4, 2));
    assert_eq!(cache.stats().entries, 5);
}

#[test]
fn a_call_without_a_key_runs_uncached() {
    #[derive(Debug)]
    struct Unkeyable;
    impl Serialize for Unkeyable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no form"))
        }
    }
    let cache = local();
    let function = cache.function("m", "f");
    let runs = Runs::default();
    for _ in 0..2 {
        let got = run(function.call(&(Unkeyable,), || async {
            runs.add();
            Ok::<_, Broken>(1)
        }));
        assert_eq!(got, Ok(1));
    }
    assert_eq!((runs.count(), function.stats().misses), (2, 2));
    let error = function.key_for(&(Unkeyable,)).expect_err("no key");
    assert_eq!(error.kind(), ErrorKind::Arguments);
    assert!(error.to_string().contains("no form"), "{error}");
    let error = run(function.invalidate(&(Unkeyable,))).expect_err("no key");
    assert_eq!(error.kind(), ErrorKind::Arguments);
}
