//! What happens to the store does not happen to the caller.

mod common;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use cachekit::{
    BreakerConfig,
    backends::{Backend, Bytes},
    payload::{self, Body, PayloadPolicy},
    prelude::*,
};
use cachekit_testkit::{
    proxy::{Fault, Proxy},
    raw::Answer,
    servers::{RedisServer, free_port},
};
use cachekit_wire::{
    envelope::Compression,
    frame::{self, Extension, Header, Serializer},
};
use common::{MS, Runs, SOON, backend, built, eventually, process, run};

#[derive(Debug, Clone, PartialEq)]
struct Broken;

/// How late a call may end on a busy machine.
const GRACE: Duration = Duration::from_secs(3);

const WITH_CHECKSUM: PayloadPolicy = PayloadPolicy {
    serializer: Serializer::Default,
    integrity: true,
    compression: Compression::Fast,
    bare: false,
};

fn ok(n: u32) -> Result<u32, Broken> {
    Ok(n)
}

/// Every way to ask, each for a key of its own.
fn every_caller_gets_a_result(cache: &Cache, round: u32) {
    let key = |kind: &str| format!("{kind}{round}");
    assert_eq!(cache.get_or_compute_blocking(&key("b"), || ok(1)), Ok(1));
    assert_eq!(
        run(cache.get_or_compute(&key("a"), || async { ok(2) })),
        Ok(2)
    );
    assert_eq!(cache.get_blocking::<u32>(&key("none")), None);
    assert_eq!(run(cache.get::<u32>(&key("none"))), None);
    let function = cache.function("m", "f");
    assert_eq!(function.call_blocking(&(round, 1), || ok(3)), Ok(3));
    assert_eq!(run(function.call(&(round, 2), || async { ok(4) })), Ok(4));
}

#[test]
fn a_redis_that_was_never_there() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let cache = built(Cache::builder().redis(url));
    let start = Instant::now();
    for round in 0..20 {
        every_caller_gets_a_result(&cache, round);
    }
    // Had each call waited for its second, this would take two minutes.
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(
        cache.get_blocking::<u32>("b3"),
        Some(1),
        "kept in memory all the same"
    );
}

#[test]
fn a_frozen_redis_costs_no_more_than_the_budget_and_then_nothing() {
    let server = RedisServer::start();
    let breaker = BreakerConfig {
        failure_threshold: 3,
        ..BreakerConfig::default()
    };
    let cache = built(process(&server).timeout(100 * MS).breaker(breaker));
    every_caller_gets_a_result(&cache, 0);
    server.pause();
    for round in 1..3 {
        let start = Instant::now();
        assert_eq!(
            cache.get_or_compute_blocking(&format!("b{round}"), || ok(1)),
            Ok(1)
        );
        let took = start.elapsed();
        assert!((90 * MS..100 * MS + GRACE).contains(&took), "{took:?}");
    }
    let start = Instant::now();
    assert_eq!(run(cache.get_or_compute("a2", || async { ok(2) })), Ok(2));
    assert!(start.elapsed() < 100 * MS + GRACE, "{:?}", start.elapsed());
    // Three in a row: the breaker is open, and nobody asks any more, which would take twelve seconds.
    let start = Instant::now();
    for round in 3..23 {
        every_caller_gets_a_result(&cache, round);
    }
    assert!(start.elapsed() < GRACE, "{:?}", start.elapsed());
    server.resume();
}

#[test]
fn a_redis_killed_under_load_and_back_again() {
    let mut server = RedisServer::start();
    let breaker = BreakerConfig {
        recovery_timeout: 100 * MS,
        ..BreakerConfig::default()
    };
    let cache = built(process(&server).breaker(breaker).no_l1());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (cache, stop) = (cache.clone(), stop.clone());
            thread::spawn(move || {
                let mut calls = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let key = format!("k{}", calls % 7);
                    let got = match caller % 2 {
                        0 => cache.get_or_compute_blocking(&key, || ok(calls % 7)),
                        _ => run(cache.get_or_compute(&key, || async { ok(calls % 7) })),
                    };
                    assert_eq!(got, Ok(calls % 7));
                    calls += 1;
                    thread::sleep(MS);
                }
            })
        })
        .collect();
    thread::sleep(100 * MS);
    server.kill();
    thread::sleep(300 * MS);
    server.restart();
    eventually(
        "entries are in Redis again",
        || matches!(server.command(&["DBSIZE"]), Answer::Int(entries) if entries >= 7),
    );
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for caller in callers {
        caller.join().expect("no caller saw anything of it");
    }
}

#[test]
fn garbage_on_the_wire_is_no_value() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let cache = built(
        Cache::builder()
            .redis(format!("redis://127.0.0.1:{}", proxy.port()))
            .timeout(300 * MS),
    );
    for (round, fault) in [
        Fault::CutRequest,
        Fault::CutReply,
        Fault::HalfReply(3),
        Fault::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        Fault::NoReply,
    ]
    .into_iter()
    .enumerate()
    {
        proxy.always(fault);
        every_caller_gets_a_result(&cache, round as u32);
    }
}

/// Bytes under a key that are no value, and whether the next caller's result replaces them.
#[test]
fn unusable_entries_are_recomputed() {
    let server = RedisServer::start();
    let store = backend(&server);
    let good = payload::seal(
        Body::msgpack(b"\x2a"),
        &WITH_CHECKSUM,
        None,
        Extension::default(),
    )
    .expect("small")
    .to_vec();
    let mut checksum = good.clone();
    let at = checksum.len() - 20;
    checksum[at] ^= 1;
    let mut other_serializer = Vec::new();
    frame::write(
        &Header::msgpack(Serializer::Orjson, false),
        &mut other_serializer,
    );
    other_serializer.extend(b"42");
    let encrypted = {
        let mut header = Header::msgpack(Serializer::Default, true);
        header.encrypted = true;
        let mut bytes = Vec::new();
        frame::write(&header, &mut bytes);
        bytes.extend(b"ciphertext");
        bytes
    };
    let text = payload::seal(
        Body::msgpack(b"\xa2hi"),
        &WITH_CHECKSUM,
        None,
        Extension::default(),
    )
    .expect("small")
    .to_vec();
    let trailing = payload::seal(
        Body::msgpack(b"\x2a\x2a"),
        &WITH_CHECKSUM,
        None,
        Extension::default(),
    )
    .expect("small")
    .to_vec();
    for (name, bytes) in [
        ("empty", vec![]),
        ("foreign", b"PK\x03\x04 something else".to_vec()),
        ("truncated", good[..good.len() / 2].to_vec()),
        ("checksum", checksum),
        ("other serializer", other_serializer),
        ("encrypted", encrypted),
        ("another type", text),
        ("trailing", trailing),
    ] {
        let cache = built(process(&server));
        let plant = |key: &str| {
            let stored = store.set(&format!("test:{key}"), &bytes, None, Duration::from_secs(1));
            stored.expect("the server is up");
        };
        plant("read");
        assert_eq!(cache.get_blocking::<u32>("read"), None, "{name}");
        for blocking in [true, false] {
            let key = format!("{name}, {blocking}");
            plant(&key);
            let got = match blocking {
                true => cache.get_or_compute_blocking(&key, || ok(43)),
                false => run(cache.get_or_compute(&key, || async { ok(43) })),
            };
            assert_eq!(got, Ok(43), "{name}");
            let after = built(process(&server)).get_blocking::<u32>(&key);
            assert_eq!(after, Some(43), "{name} is replaced");
        }
    }
    store
        .set("test:good", &good, None, Duration::from_secs(1))
        .expect("up");
    assert_eq!(
        built(process(&server)).get_blocking::<u32>("good"),
        Some(42)
    );
}

#[test]
fn what_is_unusable_and_not_replaced_is_removed() {
    let server = RedisServer::start();
    let store = backend(&server);
    let cache = built(process(&server));
    let exists = |key: &str| store.exists(key, Duration::from_secs(1)).expect("up");
    store
        .set("test:k", b"junk", None, Duration::from_secs(1))
        .expect("up");
    assert_eq!(cache.get_blocking::<u32>("k"), None);
    eventually("it is removed", || !exists("test:k"));
    store
        .set("test:e", b"junk", None, Duration::from_secs(1))
        .expect("up");
    assert_eq!(
        cache.get_or_compute_blocking("e", || Err::<u32, _>(Broken)),
        Err(Broken)
    );
    eventually("it is removed", || !exists("test:e"));
}

#[test]
fn an_entry_of_a_newer_version_is_left_alone() {
    let server = RedisServer::start();
    let store = backend(&server);
    let newer: &[u8] = b"CK\x04\0\0\0\x02{}something to come";
    store
        .set("test:k", newer, None, Duration::from_secs(1))
        .expect("up");
    let cache = built(process(&server));
    assert_eq!(cache.get_blocking::<u32>("k"), None);
    assert_eq!(cache.get_or_compute_blocking("k", || ok(1)), Ok(1));
    assert_eq!(cache.get_blocking("k"), Some(1u32), "kept in memory");
    let found = store
        .get("test:k", false, Duration::from_secs(1))
        .expect("up");
    assert_eq!(found.expect("still there").value, Bytes::from_static(newer));
}

#[test]
fn set_and_forget_say_when_the_store_does_not_know() {
    let mut server = RedisServer::start();
    let cache = built(process(&server));
    let function = cache.function("m", "f");
    cache.set_blocking("k", 1u32).expect("the server is up");
    server.kill();
    let unavailable = |result: Result<(), Error>| {
        let error = result.expect_err("the server is down");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(
            error.to_string().contains("in this process only"),
            "{error}"
        );
        assert!(!error.remedy().is_empty());
    };
    unavailable(cache.set_blocking("k", 2u32));
    assert_eq!(cache.get_blocking("k"), Some(2u32), "what it says");
    unavailable(run(cache.set("k", 3u32)));
    assert_eq!(run(cache.get("k")), Some(3u32), "what it says");
    unavailable(run(cache.invalidate("k")));
    assert_eq!(cache.get_blocking::<u32>("k"), None, "what it says");
    unavailable(cache.invalidate_blocking("k"));
    unavailable(run(function.clear()));
    unavailable(function.clear_blocking());
    unavailable(run(function.invalidate(&1)));
}

#[test]
fn a_value_that_cannot_be_stored_reaches_its_callers_uncached() {
    /// Writes what it does not read.
    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Skipping {
        #[serde(skip_serializing)]
        lost: u32,
    }
    let server = RedisServer::start();
    let cache = built(process(&server).max_value_bytes(10_000));
    let runs = Runs::default();
    for _ in 0..2 {
        let got = cache.get_or_compute_blocking("skipping", || {
            runs.add();
            Ok::<_, Broken>(Skipping { lost: 1 })
        });
        assert_eq!(got, Ok(Skipping { lost: 1 }));
        let noise: Vec<u64> = (0..5000u64)
            .map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15))
            .collect();
        let got = run(cache.get_or_compute("large", || async {
            runs.add();
            Ok::<_, Broken>(noise.clone())
        }));
        assert_eq!(got, Ok(noise));
    }
    assert_eq!(runs.count(), 4);
    assert_eq!(server.command(&["KEYS", "test:*"]), Answer::List(vec![]));
    let refused = cache
        .set_blocking("s", Skipping { lost: 1 })
        .expect_err("it cannot be read");
    assert_eq!(refused.kind(), ErrorKind::Value);
    assert!(refused.to_string().contains("lost"), "{refused}");
    assert!(refused.remedy().contains("Deserialize"), "{refused}");
}

#[test]
fn options_that_cannot_work_are_refused() {
    let refused = |builder: CacheBuilder| {
        let error = builder.build().expect_err("it cannot work");
        assert_eq!(error.kind(), ErrorKind::Configuration);
        error.to_string()
    };
    assert!(refused(Cache::builder().ttl(Duration::ZERO)).contains("ttl"));
    assert!(refused(Cache::builder().timeout(Duration::ZERO)).contains("timeout"));
    assert!(refused(Cache::builder().l1_bytes(0)).contains("no_l1"));
    assert!(refused(Cache::builder().namespace(" ")).contains("namespace"));
    assert!(refused(Cache::builder().tenant("")).contains("tenant"));
    let url = refused(Cache::builder().redis("redis://:hunter2@h:x"));
    assert!(
        url.contains("Redis URL") && !url.contains("hunter2"),
        "{url}"
    );
}
