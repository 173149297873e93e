//! Among processes one computes, and another one when that one goes.

mod common;

use std::{
    sync::Barrier,
    task::{Context, Waker},
    thread,
    time::{Duration, Instant},
};

use cachekit_testkit::{raw::Answer, servers::RedisServer};
use common::{MS, Runs, built, eventually, process, run};

#[derive(Debug, Clone, PartialEq)]
struct Broken;

fn keys(server: &RedisServer, pattern: &str) -> usize {
    match server.command(&["KEYS", pattern]) {
        Answer::List(keys) => keys.len(),
        other => panic!("no keys but {other:?}"),
    }
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
    let start = Instant::now();
    server.command(&["SET", "test:k:lock", "its secret", "PX", "700"]);
    assert_eq!(
        cache.get_or_compute_blocking("k", || Ok::<_, Broken>(2)),
        Ok(2)
    );
    let took = start.elapsed();
    assert!(
        took > 500 * MS && took < Duration::from_secs(10),
        "{took:?}"
    );
    let start = Instant::now();
    server.command(&["SET", "test:a:lock", "its secret", "PX", "700"]);
    assert_eq!(
        run(cache.get_or_compute("a", || async { Ok::<_, Broken>(2) })),
        Ok(2)
    );
    let took = start.elapsed();
    assert!(
        took > 500 * MS && took < Duration::from_secs(10),
        "{took:?}"
    );
}

#[test]
fn a_caller_that_is_cancelled_while_it_asks_leaves_no_lock() {
    let server = RedisServer::start();
    let cache = built(process(&server));
    let runs = Runs::default();
    let mut cut = Duration::ZERO;
    for round in 0.. {
        // Most are dropped early; on a busy machine it takes longer until one is past the lock.
        if round >= 100 && runs.count() > 0 {
            break;
        }
        let runs = runs.clone();
        let pending = cache.get_or_compute(&format!("k{round}"), || {
            runs.add();
            std::future::pending::<Result<u8, Broken>>()
        });
        // Dropped wherever it is after so long: before, during or after it takes the lock.
        assert!(cachekit::park::block_on(pending, cut, cut, || true).is_err());
        cut += Duration::from_micros(40);
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
        Box::pin(cache.get_or_compute("k", std::future::pending::<Result<u8, Broken>>));
    let mut context = Context::from_waker(Waker::noop());
    let mut poll = || assert!(pending.as_mut().poll(&mut context).is_pending());
    poll(); // It reads.
    eventually("it has read", || keys(&server, "ck:gen:*") == 1);
    // It locks, once the reply is there.
    eventually("the lock is taken", || {
        thread::sleep(50 * MS);
        let taken = keys(&server, "*:lock") == 1;
        if !taken {
            poll();
        }
        taken
    });
    drop(pending);
    let start = Instant::now();
    eventually("the lock is released", || keys(&server, "*:lock") == 0);
    assert!(start.elapsed() < Duration::from_secs(2));
}
