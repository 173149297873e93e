//! Nobody waits for ever: not for itself, not in a circle, and not longer than it may.

mod common;

use std::{
    sync::{Arc, Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

use cachekit::prelude::*;
use common::{MS, Runs, SOON, built, eventually, local, run};

#[derive(Debug, Clone, PartialEq)]
struct Broken;

#[test]
fn recursion_runs_by_itself() {
    let cache = local();
    let start = Instant::now();
    let outer = cache.get_or_compute_blocking("k", || {
        let inner = cache.get_or_compute_blocking("k", || Ok::<u32, Broken>(1))?;
        Ok::<_, Broken>(inner + 1)
    });
    assert_eq!(outer, Ok(2));
    let outer = run(cache.get_or_compute("a", || async {
        tokio::task::yield_now().await;
        let inner = cache
            .get_or_compute("a", || async { Ok::<u32, Broken>(1) })
            .await?;
        Ok::<_, Broken>(inner + 1)
    }));
    assert_eq!(outer, Ok(2));
    // A blocking call inside an asynchronous one, on the same thread.
    let outer = run(cache.get_or_compute("m", || async {
        let inner = cache.get_or_compute_blocking("m", || Ok::<u32, Broken>(1))?;
        Ok::<_, Broken>(inner + 1)
    }));
    assert_eq!(outer, Ok(2));
    assert!(start.elapsed() < SOON);
}

#[test]
fn a_blocking_call_beside_a_task_of_its_own_thread_runs_by_itself() {
    let cache = local();
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let got = runtime.block_on(async {
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let leading = cache.get_or_compute("k", || async {
            finished.await.expect("the gate opens");
            Ok::<_, Broken>(1)
        });
        let beside = async {
            // Waiting for the task here would keep it from going on.
            let got = cache.get_or_compute_blocking("k", || Ok::<_, Broken>(2));
            finish.send(()).expect("the leader waits");
            got
        };
        futures_util::future::join(leading, beside).await
    });
    assert_eq!(got, (Ok(1), Ok(2)));
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "not out of patience"
    );
}

/// Two functions that call each other, begun at both ends at once.
#[test]
fn circles_do_not_wait_for_each_other() {
    let (one, two) = (local(), local());
    for ends in [
        [one.function("m", "f"), one.function("m", "f")],
        [one.function("m", "f"), one.function("m", "g")],
        [one.function("m", "f"), two.function("m", "f")],
    ] {
        let both = Arc::new(Barrier::new(2));
        let start = Instant::now();
        let threads = [0, 1].map(|end| {
            let (ends, both) = (ends.clone(), both.clone());
            thread::spawn(move || {
                ends[end].call_blocking(&end, || {
                    both.wait();
                    let inner = ends[1 - end].call_blocking(&(1 - end), || Ok::<u32, Broken>(1))?;
                    Ok::<_, Broken>(inner + 1)
                })
            })
        });
        let mut results = threads.map(|thread| thread.join().expect("no panic").expect("no error"));
        results.sort_unstable();
        // One ran the other's function by itself; the other got its result, or did the same.
        assert!(matches!(results, [2, 3] | [2, 2]), "{results:?}");
        assert!(start.elapsed() < Duration::from_secs(10));
        for function in ends {
            run(function.clear()).expect("no store");
        }
    }
}

#[test]
fn patience_ends() {
    let cache = built(Cache::builder().lock_wait(50 * MS));
    let (finish, finished) = mpsc::channel::<()>();
    let runs = Runs::default();
    let leader = {
        let (cache, runs) = (cache.clone(), runs.clone());
        thread::spawn(move || {
            cache.get_or_compute_blocking("k", || {
                runs.add();
                finished.recv().expect("the gate opens");
                Ok::<_, Broken>(1)
            })
        })
    };
    eventually("it leads", || runs.count() == 1);
    let start = Instant::now();
    assert_eq!(
        cache.get_or_compute_blocking("k", || Ok::<_, Broken>(2)),
        Ok(2)
    );
    assert_eq!(
        run(cache.get_or_compute("k", || async { Ok::<_, Broken>(3) })),
        Ok(3)
    );
    assert!(start.elapsed() >= 100 * MS);
    finish.send(()).expect("the leader waits");
    assert_eq!(leader.join().expect("no panic"), Ok(1));
    // What was computed out of impatience is not kept over the leader's result.
    assert_eq!(cache.get_blocking("k"), Some(1));
}
