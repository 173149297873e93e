//! Caches with memories of their own over one Redis, as separate processes are.

mod common;

use std::time::Duration;

use cachekit::prelude::*;
use cachekit_testkit::{raw::Answer, servers::RedisServer};
use common::{MS, Runs, built, eventually, process, run};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq)]
struct Broken;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    id: u64,
    name: String,
    ratio: f64,
}

fn row() -> Row {
    Row {
        id: 1,
        name: "Ada".into(),
        ratio: 0.5,
    }
}

fn pttl(server: &RedisServer, key: &str) -> i64 {
    match server.command(&["PTTL", key]) {
        Answer::Int(left) => left,
        other => panic!("no TTL but {other:?}"),
    }
}

#[test]
fn entries_live_as_long_in_memory_as_in_redis() {
    let server = RedisServer::start();
    let one = built(process(&server).ttl(Duration::from_secs(60)));
    let other = built(process(&server).ttl(Duration::from_secs(60)));
    let short = one.with_ttl(2000 * MS);
    assert_eq!(
        short.get_or_compute_blocking("k", || Ok::<_, Broken>(1)),
        Ok(1)
    );
    let left = pttl(&server, "test:k");
    assert!((1..=2000).contains(&left), "{left}");
    // The other process would keep it for a minute, had it computed it.
    assert_eq!(other.get_blocking::<u8>("k"), Some(1));
    eventually("it is gone from Redis", || pttl(&server, "test:k") == -2);
    assert_eq!(other.get_blocking::<u8>("k"), None);
    assert_eq!(one.get_blocking::<u8>("k"), None);
    assert_eq!((other.stats().l1_hits, other.stats().l2_hits), (0, 1));
}

#[test]
fn an_entry_without_end_is_kept_for_the_readers_own_ttl() {
    let server = RedisServer::start();
    let writer = built(process(&server).forever());
    run(writer.set("k", 1u8)).expect("the server is up");
    assert_eq!(pttl(&server, "test:k"), -1);
    let reader = built(process(&server).ttl(1000 * MS));
    assert_eq!(reader.get_blocking::<u8>("k"), Some(1));
    assert_eq!(reader.get_blocking::<u8>("k"), Some(1));
    assert_eq!((reader.stats().l2_hits, reader.stats().l1_hits), (1, 1));
    eventually("it leaves the reader's memory", || {
        assert_eq!(reader.get_blocking::<u8>("k"), Some(1));
        reader.stats().l2_hits == 2
    });
}

#[test]
fn a_life_of_zero_stores_nothing() {
    let server = RedisServer::start();
    let cache = built(process(&server)).with_ttl(Duration::ZERO);
    assert_eq!(
        cache.get_or_compute_blocking("k", || Ok::<_, Broken>(1)),
        Ok(1)
    );
    assert_eq!(pttl(&server, "test:k"), -2);
    assert_eq!(cache.get_blocking::<u8>("k"), None);
    let lasting = built(process(&server));
    lasting.set_blocking("k", 1u8).expect("the server is up");
    cache.set_blocking("k", 2u8).expect("the server is up");
    assert_eq!(
        pttl(&server, "test:k"),
        -2,
        "what is set for no time replaces what was there"
    );
}

#[test]
fn clear_reaches_every_process_through_the_generation() {
    let server = RedisServer::start();
    let one = built(process(&server));
    let other = built(process(&server).no_l1());
    let price = |cache: &Cache| cache.function("shop", "price");
    let name = |cache: &Cache| cache.function("shop", "name");
    let computed = |cache: &Cache| {
        let runs = Runs::default();
        for function in [price(cache), name(cache)] {
            for args in 0..3 {
                let got = function.call_blocking(&args, || {
                    runs.add();
                    Ok::<_, Broken>(args)
                });
                assert_eq!(got, Ok(args));
            }
        }
        let got = cache.get_or_compute_blocking("k", || {
            runs.add();
            Ok::<_, Broken>(7)
        });
        assert_eq!(got, Ok(7));
        runs.count()
    };
    assert_eq!((computed(&one), computed(&other)), (7, 0));
    run(price(&one).clear()).expect("the server is up");
    assert_eq!((computed(&other), computed(&one)), (3, 0), "one function");
    price(&one).clear_blocking().expect("the server is up");
    assert_eq!(
        (computed(&other), computed(&one)),
        (3, 0),
        "one function, blocking"
    );
    run(one.clear()).expect("the server is up");
    assert_eq!((computed(&other), computed(&one)), (7, 0), "everything");
    one.clear_blocking().expect("the server is up");
    assert_eq!(
        (computed(&other), computed(&one)),
        (7, 0),
        "everything, blocking"
    );
    // What is set after a clear counts.
    run(one.set("k", 8u8)).expect("the server is up");
    assert_eq!(other.get_blocking::<u8>("k"), Some(8));
}

#[test]
fn a_lost_generation_brings_nothing_back() {
    let server = RedisServer::start();
    let (one, other) = (built(process(&server)), built(process(&server).no_l1()));
    one.set_blocking("k", 1u8).expect("the server is up");
    one.clear_blocking().expect("the server is up");
    let Answer::List(items) = server.command(&["KEYS", "ck:gen:*"]) else {
        panic!("no list of keys");
    };
    for item in items {
        let Answer::Text(item) = item else {
            panic!("no text")
        };
        server.command(&["DEL", &item]);
    }
    assert!(
        pttl(&server, "test:k") > 0,
        "the cleared entry is still there"
    );
    assert_eq!(other.get_blocking::<u8>("k"), None);
}

#[test]
fn set_get_and_invalidate_work_on_both_layers() {
    let server = RedisServer::start();
    let (one, other) = (built(process(&server)), built(process(&server).no_l1()));
    run(one.set("k", row())).expect("the server is up");
    assert_eq!(run(one.get("k")), Some(row()));
    assert_eq!(run(other.get("k")), Some(row()));
    assert_eq!(other.get_blocking("k"), Some(row()));
    one.set_blocking("k", Row { id: 2, ..row() })
        .expect("the server is up");
    assert_eq!(run(other.get::<Row>("k")).expect("set").id, 2);
    run(one.invalidate("k")).expect("the server is up");
    assert_eq!(run(one.get::<Row>("k")), None);
    assert_eq!(run(other.get::<Row>("k")), None);
    one.set_blocking("k", row()).expect("the server is up");
    other.invalidate_blocking("k").expect("the server is up");
    assert_eq!(pttl(&server, "test:k"), -2);
    // It is a copy in another process's memory that lives on.
    assert_eq!(one.get_blocking("k"), Some(row()));

    let function = one.function("m", "f");
    let call = || function.call_blocking(&1, || Ok::<_, Broken>(row()));
    assert_eq!(call(), Ok(row()));
    assert_eq!(call(), Ok(row()));
    assert_eq!(function.stats().misses, 1);
    run(function.invalidate(&1)).expect("the server is up");
    assert_eq!(call(), Ok(row()));
    function.invalidate_blocking(&1).expect("the server is up");
    assert_eq!(call(), Ok(row()));
    let stats = function.stats();
    assert_eq!((stats.misses, stats.l1_hits, stats.entries), (3, 1, 1));
}

#[test]
fn an_invalidation_of_another_kind_of_caller_keeps_a_fill_out_of_redis() {
    let server = RedisServer::start();
    let cache = built(process(&server));
    let got = run(cache.get_or_compute("k", || async {
        cache.invalidate("k").await.expect("the server is up");
        Ok::<_, Broken>(1)
    }));
    assert_eq!(got, Ok(1));
    assert_eq!(pttl(&server, "test:k"), -2);
    let got = cache.get_or_compute_blocking("k", || {
        cache.set_blocking("k", 5u8).expect("the server is up");
        Ok::<_, Broken>(1u8)
    });
    assert_eq!(got, Ok(1));
    assert_eq!(built(process(&server)).get_blocking("k"), Some(5u8));
}

#[test]
fn keys_namespaces_and_tenants_are_as_the_protocol_has_them() {
    let server = RedisServer::start();
    let redis = || Cache::builder().redis(server.url());
    let set = |cache: &Cache, key: &str| cache.set_blocking(key, 1u8).expect("the server is up");
    set(&built(redis()), "user:1");
    set(&built(redis().namespace("shop")), "user:1");
    set(&built(redis().namespace("shop").tenant("a b")), "user:1");
    for key in ["default:user:1", "shop:user:1", "t:a%20b:shop:user:1"] {
        assert!(pttl(&server, key) > 0, "{key}");
    }
    let cache = built(redis().namespace("shop").tenant("default").integrity(false));
    let function = cache.function("mod", "Class.method");
    function
        .call_blocking(&(), || Ok::<_, Broken>(1u8))
        .expect("computed");
    let key = function.key_for(&()).expect("a key");
    assert!(
        key.starts_with("t:default:ns:shop:func:mod.Class.method:args:"),
        "{key}"
    );
    assert!(key.ends_with(":0s"), "{key}");
    assert!(pttl(&server, &key) > 0, "{key}");
}

#[test]
fn hits_of_many_tasks_are_shared_and_exact() {
    let server = RedisServer::start();
    let (one, other) = (built(process(&server)), built(process(&server)));
    for n in 0..20u32 {
        one.set_blocking(&n.to_string(), n)
            .expect("the server is up");
    }
    let got = run(join_all(
        (0..20u32).map(|n| other.get::<u32>(&n.to_string())),
    ));
    assert_eq!(got, (0..20).map(Some).collect::<Vec<_>>());
    let stats = other.stats();
    assert_eq!((stats.l2_hits, stats.l1_hits, stats.misses), (20, 0, 0));
    assert!(stats.l2_average_latency > Duration::ZERO);
    assert_eq!(stats.entries, 20);
}
