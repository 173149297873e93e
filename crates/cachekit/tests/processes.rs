//! Caches with memories of their own over one Redis, as separate processes are.

mod common;

use std::{
    sync::{Arc, Barrier},
    task::{Context, Waker},
    thread,
    time::{Duration, Instant},
};

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

fn keys(server: &RedisServer, pattern: &str) -> usize {
    match server.command(&["KEYS", pattern]) {
        Answer::List(keys) => keys.len(),
        other => panic!("no keys but {other:?}"),
    }
}

#[test]
fn four_processes_of_fifty_callers_compute_once() {
    let server = RedisServer::start();
    let runs = Runs::default();
    let start = Arc::new(Barrier::new(101));
    let caches: Vec<Cache> = (0..4).map(|_| built(process(&server))).collect();
    let threads: Vec<_> = (0..100)
        .map(|n| {
            let (cache, runs, start) = (caches[n % 4].clone(), runs.clone(), start.clone());
            thread::spawn(move || {
                start.wait();
                cache.get_or_compute_blocking("k", || {
                    runs.add();
                    thread::sleep(100 * MS);
                    Ok::<_, Broken>(row())
                })
            })
        })
        .collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let (cache, runs) = (caches[n % 4].clone(), runs.clone());
            runtime.spawn(async move {
                let compute = || async {
                    runs.add();
                    tokio::time::sleep(100 * MS).await;
                    Ok::<_, Broken>(row())
                };
                cache.get_or_compute("k", compute).await
            })
        })
        .collect();
    start.wait();
    let begun = Instant::now();
    for thread in threads {
        assert_eq!(thread.join().expect("no panic"), Ok(row()));
    }
    for task in tasks {
        assert_eq!(runtime.block_on(task).expect("no panic"), Ok(row()));
    }
    assert_eq!(runs.count(), 1);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    let hits: u64 = caches.iter().map(|cache| cache.stats().l2_hits).sum();
    assert_eq!(hits, 3, "each other process read it once");
    eventually("the lock is gone", || keys(&server, "*:lock") == 0);
}

#[test]
fn without_the_lock_each_process_computes() {
    let server = RedisServer::start();
    let runs = Runs::default();
    let both = Barrier::new(2);
    thread::scope(|scope| {
        for _ in 0..2 {
            let cache = built(process(&server).lock(false));
            scope.spawn(|| {
                let cache = cache;
                cache.get_or_compute_blocking("k", || {
                    both.wait(); // Both are in here at once.
                    runs.add();
                    Ok::<_, Broken>(1)
                })
            });
        }
    });
    assert_eq!(runs.count(), 2);
}

#[test]
fn a_holder_that_is_cancelled_hands_over_at_once() {
    let server = RedisServer::start();
    let (one, other) = (built(process(&server)), built(process(&server)));
    let runs = Runs::default();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let held = {
        let runs = runs.clone();
        runtime.spawn(async move {
            let compute = || async {
                runs.add();
                std::future::pending::<Result<u32, Broken>>().await
            };
            one.get_or_compute("k", compute).await
        })
    };
    eventually("the lock is held", || {
        keys(&server, "*:lock") == 1 && runs.count() == 1
    });
    let waiting = thread::spawn(move || other.get_or_compute_blocking("k", || Ok::<_, Broken>(2)));
    thread::sleep(50 * MS);
    assert!(!waiting.is_finished(), "it waits for the lock");
    let start = Instant::now();
    held.abort();
    assert_eq!(waiting.join().expect("no panic"), Ok(2));
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_holder_that_died_is_followed_when_its_lease_ends() {
    let server = RedisServer::start();
    let cache = built(process(&server));
    // What is left of a process that was killed while it computed.
    server.command(&["SET", "test:k:lock", "its secret", "PX", "700"]);
    let start = Instant::now();
    assert_eq!(
        cache.get_or_compute_blocking("k", || Ok::<_, Broken>(2)),
        Ok(2)
    );
    let took = start.elapsed();
    assert!(took > 500 * MS && took < Duration::from_secs(3), "{took:?}");
    server.command(&["SET", "test:a:lock", "its secret", "PX", "700"]);
    let start = Instant::now();
    assert_eq!(
        run(cache.get_or_compute("a", || async { Ok::<_, Broken>(2) })),
        Ok(2)
    );
    let took = start.elapsed();
    assert!(took > 500 * MS && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_caller_that_is_cancelled_while_it_asks_leaves_no_lock() {
    let server = RedisServer::start();
    let cache = built(process(&server));
    let runs = Runs::default();
    for round in 0..100 {
        let runs = runs.clone();
        let pending = cache.get_or_compute(&format!("k{round}"), || {
            runs.add();
            std::future::pending::<Result<u8, Broken>>()
        });
        // Dropped wherever it is after so long: before, during or after it takes the lock.
        let cut = Duration::from_micros(40 * round);
        assert!(cachekit::park::block_on(pending, cut, cut, || true).is_err());
    }
    assert!(
        (1..100).contains(&runs.count()),
        "{} were past the lock",
        runs.count()
    );
    let start = Instant::now();
    eventually("every lock is released", || keys(&server, "*:lock") == 0);
    let took = start.elapsed();
    assert!(
        took < Duration::from_secs(2),
        "{took:?}: not before the leases' end"
    );
    let got = cache.get_or_compute_blocking("k0", || Ok::<_, Broken>(1));
    assert_eq!(got, Ok(1));
}

#[test]
fn a_caller_that_is_dropped_with_the_lock_unseen_leaves_no_lock() {
    let server = RedisServer::start();
    let cache = built(process(&server));
    let mut pending =
        Box::pin(cache.get_or_compute("k", || std::future::pending::<Result<u8, Broken>>()));
    let mut context = Context::from_waker(Waker::noop());
    let mut poll = || assert!(pending.as_mut().poll(&mut context).is_pending());
    poll(); // It reads.
    eventually("it has read", || keys(&server, "ck:gen:*") == 1);
    thread::sleep(50 * MS); // The reply is on its way.
    poll(); // It locks.
    eventually("the lock is taken", || keys(&server, "*:lock") == 1);
    thread::sleep(50 * MS);
    drop(pending);
    let start = Instant::now();
    eventually("the lock is released", || keys(&server, "*:lock") == 0);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn entries_live_as_long_in_memory_as_in_redis() {
    let server = RedisServer::start();
    let one = built(process(&server).ttl(Duration::from_secs(60)));
    let other = built(process(&server).ttl(Duration::from_secs(60)));
    let short = one.with_ttl(300 * MS);
    assert_eq!(
        short.get_or_compute_blocking("k", || Ok::<_, Broken>(1)),
        Ok(1)
    );
    let left = pttl(&server, "test:k");
    assert!((1..=300).contains(&left), "{left}");
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
    let reader = built(process(&server).ttl(200 * MS));
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
