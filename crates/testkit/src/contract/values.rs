//! What is stored comes back, byte for byte.

use std::time::Duration;

use cachekit_backends::{Detail, ErrorKind, Remaining};

use super::{Case, Face, TIMEOUT};

pub(super) const CASES: &[Case] = &[
    ("nothing is stored", nothing_is_stored),
    ("a value comes back", a_value_comes_back),
    ("a value is replaced", a_value_is_replaced),
    ("values of any bytes", values_of_any_bytes),
    ("values of any size", values_of_any_size),
    ("a value past the limit", a_value_past_the_limit),
    ("keys of any text", keys_of_any_text),
    ("two reads at once", two_reads_at_once),
    ("added unless it is there", added_unless_it_is_there),
    ("many keys are deleted", many_keys_are_deleted),
    ("concurrent writers", concurrent_writers),
    ("health", health),
];

/// For stores that can decide a race.
pub(super) const ATOMIC_CASES: &[Case] = &[
    ("one of many is added", one_of_many_is_added),
    (
        "what is set over additions stays",
        what_is_set_over_additions_stays,
    ),
];

fn stored(face: &dyn Face, key: &str) -> Option<Vec<u8>> {
    let found = face.get(key, false, TIMEOUT).expect("get");
    found.map(|found| found.value.to_vec())
}

fn nothing_is_stored(face: &dyn Face, key: &str) {
    assert_eq!(face.get(key, false, TIMEOUT).expect("get"), None);
    assert_eq!(face.get(key, true, TIMEOUT).expect("get"), None);
    assert!(!face.exists(key, TIMEOUT).expect("exists"));
    assert!(!face.delete(key, TIMEOUT).expect("delete"));
}

fn a_value_comes_back(face: &dyn Face, key: &str) {
    face.set(key, b"value", None, TIMEOUT).expect("set");
    let found = face
        .get(key, false, TIMEOUT)
        .expect("get")
        .expect("an entry");
    assert_eq!(&found.value[..], b"value");
    assert_eq!(found.remaining, Remaining::Unknown, "nobody asked");
    assert!(face.exists(key, TIMEOUT).expect("exists"));
    assert!(face.delete(key, TIMEOUT).expect("delete"));
    assert!(
        !face.delete(key, TIMEOUT).expect("delete"),
        "it was gone already"
    );
    assert_eq!(stored(face, key), None);
    assert!(!face.exists(key, TIMEOUT).expect("exists"));
}

fn a_value_is_replaced(face: &dyn Face, key: &str) {
    for value in [&b"a longer first value"[..], b"short", b""] {
        face.set(key, value, None, TIMEOUT).expect("set");
        assert_eq!(stored(face, key).as_deref(), Some(value));
    }
}

fn values_of_any_bytes(face: &dyn Face, key: &str) {
    let all: Vec<u8> = (0..=255).collect();
    for value in [
        &b""[..],
        b"\0",
        b"\r\n",
        b"$-1\r\n",
        b"*1\r\n",
        b"END\r\n",
        b"\xff\xfe",
        &all,
    ] {
        face.set(key, value, None, TIMEOUT).expect("set");
        assert_eq!(stored(face, key).as_deref(), Some(value));
    }
}

fn values_of_any_size(face: &dyn Face, key: &str) {
    let around = |size: usize| [size - 1, size, size + 1];
    let sizes = [1, 100]
        .into_iter()
        .chain(
            [4 << 10, 16 << 10, 32 << 10, 64 << 10]
                .into_iter()
                .flat_map(around),
        )
        .chain([(1 << 20) - 1024, 1 << 20, 16 << 20, 100 << 20]);
    let limit = face.capabilities().max_value.unwrap_or(usize::MAX);
    let block: Vec<u8> = (0..=250).collect();
    for size in sizes.filter(|size| *size <= limit) {
        let mut value = block.repeat(size / block.len() + 1);
        value.truncate(size);
        face.set(key, &value, None, TIMEOUT).expect("set");
        assert!(stored(face, key) == Some(value), "{size} bytes");
    }
    face.delete(key, TIMEOUT).expect("delete");
}

/// What the store would not take is refused before it is sent, and nothing changes.
fn a_value_past_the_limit(face: &dyn Face, key: &str) {
    let Some(limit) = face
        .capabilities()
        .max_value
        .filter(|limit| *limit < 256 << 20)
    else {
        return;
    };
    face.set(key, b"kept", None, TIMEOUT).expect("set");
    for size in [limit + 1, limit + 100_000] {
        let error = face
            .set(key, &vec![7; size], None, TIMEOUT)
            .expect_err("it is past the limit");
        assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
    }
    assert_eq!(stored(face, key).as_deref(), Some(&b"kept"[..]));
    face.set(key, &vec![7; limit], None, TIMEOUT)
        .expect("what is at the limit is taken");
    assert_eq!(stored(face, key).map(|value| value.len()), Some(limit));
    face.delete(key, TIMEOUT).expect("delete");
}

fn keys_of_any_text(face: &dyn Face, prefix: &str) {
    let long = "k".repeat(1000);
    let keys: Vec<String> = [
        "",
        " ",
        "a b",
        "ü✓",
        "line\r\nbreak",
        "{tag}",
        "%s",
        "a:lock",
        &long,
    ]
    .iter()
    .map(|name| format!("{prefix}{name}"))
    .collect();
    for key in &keys {
        face.set(key, key.as_bytes(), None, TIMEOUT).expect("set");
    }
    for key in &keys {
        assert_eq!(stored(face, key).as_deref(), Some(key.as_bytes()));
        assert!(face.delete(key, TIMEOUT).expect("delete"));
    }
}

fn two_reads_at_once(face: &dyn Face, prefix: &str) {
    let (key, beside) = (&format!("{prefix}key"), &format!("{prefix}beside"));
    let read = |want_ttl| {
        let (found, beside) = face
            .get_with(key, beside, want_ttl, TIMEOUT)
            .expect("get_with");
        (found.map(|found| (found.value, found.remaining)), beside)
    };
    assert_eq!(read(false), (None, None));
    assert_eq!(read(true), (None, None));
    face.set(beside, b"other", None, TIMEOUT).expect("set");
    assert_eq!(read(true), (None, Some("other".into())));
    face.set(key, b"value", None, TIMEOUT).expect("set");
    assert_eq!(
        read(false),
        (
            Some(("value".into(), Remaining::Unknown)),
            Some("other".into())
        )
    );
    let (found, other) = read(true);
    assert_eq!(found.expect("an entry").0, "value");
    assert_eq!(other.expect("an entry"), "other");
    assert!(face.delete(beside, TIMEOUT).expect("delete"));
    assert_eq!(
        read(false),
        (Some(("value".into(), Remaining::Unknown)), None)
    );
}

fn added_unless_it_is_there(face: &dyn Face, key: &str) {
    assert_eq!(face.add(key, b"first", TIMEOUT).expect("add"), "first");
    assert_eq!(face.add(key, b"second", TIMEOUT).expect("add"), "first");
    assert_eq!(stored(face, key).as_deref(), Some(&b"first"[..]));
    assert!(face.delete(key, TIMEOUT).expect("delete"));
    assert_eq!(stored(face, key), None);
    let key = &format!("{key}:empty");
    assert_eq!(face.add(key, b"", TIMEOUT).expect("add"), "");
    assert_eq!(
        face.add(key, b"third", TIMEOUT).expect("add"),
        "",
        "an empty entry is one"
    );
}

fn one_of_many_is_added(face: &dyn Face, prefix: &str) {
    for round in 0..20 {
        let key = &format!("{prefix}{round}");
        let results: Vec<_> = std::thread::scope(|scope| {
            let add =
                |adder: u8| scope.spawn(move || face.add(key, &[adder], TIMEOUT).expect("add"));
            let adders: Vec<_> = (0..6).map(add).collect();
            adders
                .into_iter()
                .map(|adder| adder.join().expect("no panic"))
                .collect()
        });
        let winner = stored(face, key).expect("somebody added");
        assert!(
            results.iter().all(|result| *result == winner),
            "{results:?}, {winner:?}"
        );
    }
}

fn what_is_set_over_additions_stays(face: &dyn Face, prefix: &str) {
    for round in 0..40 {
        let key = &format!("{prefix}{round}");
        let added: Vec<_> = std::thread::scope(|scope| {
            let add =
                |adder: u8| scope.spawn(move || face.add(key, &[adder], TIMEOUT).expect("add"));
            let adders: Vec<_> = (0..3).map(add).collect();
            // It falls into the additions at ever another moment.
            std::thread::sleep(Duration::from_micros(150) * (round % 20));
            face.set_over_add(key, b"set", TIMEOUT).expect("set");
            adders
                .into_iter()
                .map(|adder| adder.join().expect("no panic"))
                .collect()
        });
        assert_eq!(stored(face, key).as_deref(), Some(&b"set"[..]), "{added:?}");
    }
}

fn many_keys_are_deleted(face: &dyn Face, prefix: &str) {
    assert_eq!(face.delete_many(&[], TIMEOUT).expect("delete_many"), 0);
    let keys: Vec<String> = (0..600).map(|i| format!("{prefix}{i}")).collect();
    for key in keys.iter().step_by(2) {
        face.set(key, b"v", None, TIMEOUT).expect("set");
    }
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(face.delete_many(&names, TIMEOUT).expect("delete_many"), 300);
    for key in &keys {
        assert!(!face.exists(key, TIMEOUT).expect("exists"));
    }
}

fn concurrent_writers(face: &dyn Face, key: &str) {
    let sizes = [10, 5_000, 70_000];
    let value = |writer: u8| vec![writer; sizes[usize::from(writer) % sizes.len()]];
    std::thread::scope(|scope| {
        for writer in 0..6 {
            scope.spawn(move || {
                for _ in 0..50 {
                    face.set(key, &value(writer), None, TIMEOUT).expect("set");
                    let read = stored(face, key).expect("somebody wrote");
                    assert!(
                        read == value(read[0]),
                        "a mixture of {} bytes was read",
                        read.len()
                    );
                }
            });
        }
    });
}

fn health(face: &dyn Face, _key: &str) {
    let health = face.health(TIMEOUT).expect("health");
    assert!(health.healthy);
    let detail = |name: &str| {
        let found = health.details.iter().find(|(detail, _)| detail == name);
        &found
            .unwrap_or_else(|| panic!("no {name} among {:?}", health.details))
            .1
    };
    assert!(matches!(detail("backend_type"), Detail::Text(_)));
    match detail("latency_ms") {
        Detail::Float(latency) => {
            assert!((latency - health.latency.as_secs_f64() * 1e3).abs() < 1e-6);
            assert!(*latency > 0.0);
        }
        other => panic!("{other:?} is no latency"),
    }
}
