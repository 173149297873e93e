//! What processes do to each other's computations, over every store that they can share.

mod common;

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use cachekit::prelude::*;
use common::{MS, Runs, SOON, run, shared::Shared};

#[derive(Debug, Clone, PartialEq)]
struct Broken;

/// The value under `key`, asked for in either way.
fn get(cache: &Cache, awaited: bool, key: &str, compute: impl FnOnce() -> u32) -> u32 {
    let compute = || Ok::<_, Broken>(compute());
    let got = match awaited {
        true => run(cache.get_or_compute(key, || async { compute() })),
        false => cache.get_or_compute_blocking(key, compute),
    };
    got.expect("it does not fail")
}

/// What another process was computing when it was invalidated reaches its own caller and nobody else:
/// not those who come later, and not those who had begun to wait for it.
#[test]
fn an_invalidation_stops_another_process() {
    Shared::each(|store| {
        let [one, other, waiter] = [(); 3].map(|()| store.process());
        for awaited in [false, true] {
            let key = if awaited { "awaited" } else { "blocking" };
            let (begun, begins) = mpsc::channel();
            let (go, goes) = mpsc::channel::<()>();
            let filling = {
                let cache = other.clone();
                thread::spawn(move || {
                    get(&cache, awaited, key, || {
                        begun.send(()).expect("the test waits");
                        goes.recv().expect("the test goes on");
                        1
                    })
                })
            };
            begins.recv_timeout(SOON).expect("it computes");
            let waiting = {
                let cache = waiter.clone();
                thread::spawn(move || get(&cache, awaited, key, || 2))
            };
            thread::sleep(100 * MS);
            assert!(!waiting.is_finished(), "it waits for the other");
            match awaited {
                true => run(one.invalidate(key)),
                false => one.invalidate_blocking(key),
            }
            .expect("invalidated");
            let invalidated = Instant::now();
            assert_eq!(waiting.join().expect("no panic"), 2);
            let took = invalidated.elapsed();
            assert!(took < Duration::from_secs(2), "it waited on for {took:?}");
            go.send(()).expect("it waits");
            assert_eq!(filling.join().expect("no panic"), 1);
            let runs = Runs::default();
            let found = get(&one, awaited, key, || {
                runs.add();
                3
            });
            assert_eq!((found, runs.count()), (2, 0), "what came later is there");
        }
    });
}

/// Who waits for another process's computation has its result soon after it is there.
#[test]
fn waiters_are_woken() {
    Shared::each(|store| {
        let [one, other] = [(); 2].map(|()| store.process());
        let (begun, begins) = mpsc::channel();
        let leading = thread::spawn(move || {
            let value = get(&one, false, "k", || {
                begun.send(()).expect("the test waits");
                thread::sleep(1500 * MS);
                1
            });
            (value, Instant::now())
        });
        begins.recv_timeout(SOON).expect("it computes");
        assert_eq!(get(&other, false, "k", || 2), 1);
        let woken = Instant::now();
        let (value, stored) = leading.join().expect("no panic");
        assert_eq!(value, 1);
        let late = woken.saturating_duration_since(stored);
        assert!(late < 700 * MS, "{late:?} after it was stored");
        assert_eq!(other.stats().l2_hits, 1);
    });
}
