//! Of all callers that miss a key at once, one computes: tasks, threads, and both together.

mod common;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Barrier, mpsc},
    thread,
};

use cachekit::prelude::*;
use common::{MS, Runs, eventually, local, run};
use futures_util::future::join_all;

#[derive(Debug, Clone, PartialEq)]
struct Broken(u32);

#[test]
fn two_hundred_tasks_and_threads_run_it_once() {
    let cache = local();
    let runs = Runs::default();
    let start = Arc::new(Barrier::new(101));
    let threads: Vec<_> = (0..100)
        .map(|_| {
            let (cache, runs, start) = (cache.clone(), runs.clone(), start.clone());
            thread::spawn(move || {
                start.wait();
                cache.get_or_compute_blocking("k", || {
                    runs.add();
                    thread::sleep(50 * MS);
                    Ok::<_, Broken>(vec![1, 2, 3])
                })
            })
        })
        .collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (cache, runs) = (cache.clone(), runs.clone());
            async move {
                let compute = || async {
                    runs.add();
                    tokio::time::sleep(50 * MS).await;
                    Ok::<_, Broken>(vec![1, 2, 3])
                };
                cache.get_or_compute("k", compute).await
            }
        })
        .map(|task| runtime.spawn(task))
        .collect();
    start.wait();
    for task in tasks {
        let got = runtime.block_on(task).expect("no panic");
        assert_eq!(got, Ok(vec![1, 2, 3]));
    }
    for thread in threads {
        assert_eq!(thread.join().expect("no panic"), Ok(vec![1, 2, 3]));
    }
    assert_eq!(runs.count(), 1);
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.l1_hits, stats.entries), (1, 199, 1));
}

/// Everybody waits before the leader's function ends, whoever leads.
fn crowd<E: Clone + Send + Sync + 'static>(
    cache: &Cache,
    runs: &Runs,
    result: Result<u32, E>,
) -> Vec<Result<u32, E>> {
    let (finish, finished) = async_gate();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let leader = {
        let (cache, runs, result) = (cache.clone(), runs.clone(), result.clone());
        runtime.spawn(async move {
            let compute = || async {
                runs.add();
                finished.await.expect("the gate opens");
                result
            };
            cache.get_or_compute("k", compute).await
        })
    };
    eventually("somebody leads", || runs.count() == 1);
    let waiting = Runs::default();
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (cache, runs, waiting, result) =
                (cache.clone(), runs.clone(), waiting.clone(), result.clone());
            runtime.spawn(async move {
                waiting.add();
                let compute = || async {
                    runs.add();
                    result
                };
                cache.get_or_compute("k", compute).await
            })
        })
        .collect();
    let threads: Vec<_> = (0..10)
        .map(|_| {
            let (cache, runs, waiting, result) =
                (cache.clone(), runs.clone(), waiting.clone(), result.clone());
            thread::spawn(move || {
                waiting.add();
                cache.get_or_compute_blocking("k", || {
                    runs.add();
                    result
                })
            })
        })
        .collect();
    eventually("everybody waits", || waiting.count() == 20);
    thread::sleep(500 * MS); // From there to the waiting itself is a few microseconds of each one's own time.
    finish.send(()).expect("the leader waits");
    let mut results = vec![runtime.block_on(leader).expect("no panic")];
    results.extend(
        tasks
            .into_iter()
            .map(|task| runtime.block_on(task).expect("no panic")),
    );
    results.extend(
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic")),
    );
    results
}

fn async_gate() -> (
    tokio::sync::oneshot::Sender<()>,
    tokio::sync::oneshot::Receiver<()>,
) {
    tokio::sync::oneshot::channel()
}

#[test]
fn an_error_reaches_all_who_wait_and_is_not_kept() {
    let (cache, runs) = (local(), Runs::default());
    for result in crowd(&cache, &runs, Err(Broken(7))) {
        assert_eq!(result, Err(Broken(7)));
    }
    assert_eq!(runs.count(), 1);
    assert_eq!(cache.get_blocking::<u32>("k"), None);
    let after = cache.get_or_compute_blocking("k", || Ok::<_, Broken>(8));
    assert_eq!(after, Ok(8));
}

#[test]
fn one_who_waits_with_other_types_computes_for_itself() {
    let cache = local();
    let (finish, finished) = mpsc::channel::<()>();
    let runs = Runs::default();
    let leader = {
        let (cache, runs) = (cache.clone(), runs.clone());
        thread::spawn(move || {
            cache.get_or_compute_blocking("k", || {
                runs.add();
                finished.recv().expect("the gate opens");
                Err::<u32, _>(Broken(1))
            })
        })
    };
    eventually("somebody leads", || runs.count() == 1);
    let other = {
        let cache = cache.clone();
        thread::spawn(move || cache.get_or_compute_blocking("k", || Err::<u32, _>("another type")))
    };
    thread::sleep(50 * MS);
    finish.send(()).expect("the leader waits");
    assert_eq!(leader.join().expect("no panic"), Err(Broken(1)));
    assert_eq!(other.join().expect("no panic"), Err("another type"));
}

#[test]
fn errors_that_do_not_clone_are_shared() {
    let cache = local();
    let failing = || Err::<u32, _>(std::io::Error::other("disk on fire"));
    let error = cache
        .get_or_try_compute_blocking("k", failing)
        .expect_err("it fails");
    assert_eq!(error.to_string(), "disk on fire");
    let error = run(cache.get_or_try_compute("k", || async { failing() })).expect_err("it fails");
    assert_eq!(error.to_string(), "disk on fire");
}

#[test]
fn a_dropped_leader_hands_over_to_one_who_waits() {
    let (cache, runs) = (local(), Runs::default());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let call = |never_ends: bool| {
        let (cache, runs) = (cache.clone(), runs.clone());
        async move {
            let compute = || async {
                runs.add();
                if never_ends {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Broken>(5)
            };
            cache.get_or_compute("k", compute).await
        }
    };
    let cancelled = runtime.spawn(call(true));
    eventually("it leads", || runs.count() == 1);
    let waiting: Vec<_> = (0..9).map(|_| runtime.spawn(call(false))).collect();
    let thread = {
        let (cache, runs) = (cache.clone(), runs.clone());
        thread::spawn(move || {
            cache.get_or_compute_blocking("k", || {
                runs.add();
                Ok::<_, Broken>(5)
            })
        })
    };
    thread::sleep(50 * MS);
    assert_eq!(runs.count(), 1, "everybody waits");
    cancelled.abort();
    assert!(
        runtime
            .block_on(cancelled)
            .expect_err("aborted")
            .is_cancelled()
    );
    for task in waiting {
        assert_eq!(runtime.block_on(task).expect("no panic"), Ok(5));
    }
    assert_eq!(thread.join().expect("no panic"), Ok(5));
    assert_eq!(runs.count(), 2);
}

#[test]
fn a_panic_concerns_its_own_caller_alone() {
    let cache = local();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        cache.get_or_compute_blocking::<u32, Broken, _>("k", || panic!("on purpose"))
    }));
    assert!(panicked.is_err());
    let after = cache.get_or_compute_blocking("k", || Ok::<_, Broken>(1));
    assert_eq!(after, Ok(1));
}

#[test]
fn a_waiter_that_is_dropped_disturbs_nobody() {
    let (cache, runs) = (local(), Runs::default());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (finish, finished) = async_gate();
    let leader = {
        let (cache, runs) = (cache.clone(), runs.clone());
        runtime.spawn(async move {
            let compute = || async {
                runs.add();
                finished.await.expect("the gate opens");
                Ok::<_, Broken>(1)
            };
            cache.get_or_compute("k", compute).await
        })
    };
    eventually("it leads", || runs.count() == 1);
    let mut dropped = Box::pin(cache.get_or_compute("k", || async { Ok::<u32, Broken>(2) }));
    let polled = runtime.block_on(async { tokio::time::timeout(20 * MS, &mut dropped).await });
    assert!(polled.is_err(), "it waits");
    drop(dropped);
    finish.send(()).expect("the leader waits");
    assert_eq!(runtime.block_on(leader).expect("no panic"), Ok(1));
}

#[test]
fn many_keys_at_once_from_temporary_names() {
    let cache = local();
    let runs = Runs::default();
    let squares = run(join_all((0..50u64).map(|n| {
        let runs = runs.clone();
        cache.get_or_compute(&format!("square:{}", n % 10), move || async move {
            runs.add();
            Ok::<_, Broken>((n % 10) * (n % 10))
        })
    })));
    for (n, square) in squares.into_iter().enumerate() {
        let n = n as u64 % 10;
        assert_eq!(square, Ok(n * n));
    }
    assert_eq!(runs.count(), 10);
}

#[test]
fn an_invalidation_keeps_a_running_computation_out() {
    let cache = local();
    let got = cache.get_or_compute_blocking("k", || {
        cache.invalidate_blocking("k").expect("no store");
        Ok::<_, Broken>(1)
    });
    assert_eq!(got, Ok(1));
    assert_eq!(cache.get_blocking::<u32>("k"), None);
    let got = cache.get_or_compute_blocking("k", || {
        cache.set_blocking("k", 9u32).expect("no store");
        Ok::<_, Broken>(1)
    });
    assert_eq!(got, Ok(1));
    assert_eq!(cache.get_blocking("k"), Some(9u32));
    let got = cache.get_or_compute_blocking("c", || {
        cache.clear_blocking().expect("no store");
        Ok::<_, Broken>(1)
    });
    assert_eq!(got, Ok(1));
    assert_eq!(cache.get_blocking::<u32>("c"), None);
}
