//! Waiters for a lock wake when it is released, and not much later.

use std::time::{Duration, Instant};

use cachekit_backends::{LockReply, Released};
use futures_util::future::{join, join_all};

use super::TIMEOUT;
use super::face::{Awaited, Face};

const LEASE: Duration = Duration::from_secs(60);
/// Waking up takes less; who is not woken looks after a second.
const SOON: Duration = Duration::from_millis(700);
/// Of so many tries one takes less than [`SOON`], although the machine may be busy.
const TRIES: u32 = 4;
/// How long after its end a lease may still hold: a store that counts whole seconds rounds it up, and may
/// be late by as much again; the rest is for a busy machine, whose store's own clock may lag.
const LATE: Duration = Duration::from_secs(7);

pub(super) fn check(face: &Awaited<'_>, prefix: &str) {
    let key = |name: &str| format!("{prefix}{name}");
    a_free_lock_is_not_waited_for(face, &key("free"));
    waiting_ends(face, &key("ends"));
    for count in [1, 50] {
        a_release_wakes_all(face, &key(&format!("release{count}")), count);
    }
    a_lock_taken_away_wakes(face, &key("taken"));
    the_stored_value_wakes(face, &key("stored"));
    many_locks_at_once(face, prefix);
    a_dead_holder_is_noticed(face, &key("dead"));
    a_release_is_never_missed(face, &key("race"));
    waiters_may_be_cancelled(face, &key("cancelled"));
}

/// Fails if each of a few tries takes too long, as it does where nobody is woken.
fn is_soon(mut once: impl FnMut() -> Duration) {
    let late: Vec<Duration> = (0..TRIES)
        .map(|_| once())
        .take_while(|took| *took >= SOON)
        .collect();
    assert!(
        (late.len() as u32) < TRIES,
        "the waiters woke after {late:?}"
    );
}

fn take(face: &Awaited<'_>, key: &str, lease: Duration) {
    let reply = face
        .try_lock(key, "holder", lease, TIMEOUT)
        .expect("try_lock");
    assert_eq!(reply, LockReply::Acquired(None));
}

fn a_free_lock_is_not_waited_for(face: &Awaited<'_>, key: &str) {
    is_soon(|| {
        let start = Instant::now();
        let released = face.runtime.block_on(face.backend.released(key, LEASE));
        assert_eq!(released.expect("released"), Released::Notified);
        start.elapsed()
    });
}

fn waiting_ends(face: &Awaited<'_>, key: &str) {
    take(face, key, LEASE);
    for at_most in [0, 100] {
        let at_most = Duration::from_millis(at_most);
        is_soon(|| {
            let start = Instant::now();
            let released = face.runtime.block_on(face.backend.released(key, at_most));
            assert_eq!(released.expect("released"), Released::Elapsed);
            let waited = start.elapsed();
            assert!(waited >= at_most, "{waited:?} for {at_most:?}");
            waited - at_most
        });
    }
    assert!(face.unlock(key, "holder", TIMEOUT).expect("unlock"));
}

fn a_release_wakes_all(face: &Awaited<'_>, key: &str, count: usize) {
    is_soon(|| {
        take(face, key, LEASE);
        let waiters = (0..count).map(|_| face.backend.released(key, LEASE));
        let release = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let unlocked = face.backend.unlock(key, "holder", TIMEOUT).await;
            assert!(unlocked.expect("unlock"));
            Instant::now()
        };
        let (released, at) = face.runtime.block_on(join(join_all(waiters), release));
        let took = at.elapsed();
        for released in released {
            assert_eq!(released.expect("released"), Released::Notified);
        }
        took
    });
}

fn a_lock_taken_away_wakes(face: &Awaited<'_>, key: &str) {
    let name = face.lock_name(key);
    for alone in [true, false] {
        is_soon(|| {
            take(face, key, LEASE);
            let taking = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let taken = match alone {
                    true => face.backend.delete(&name, TIMEOUT).await.map(u64::from),
                    false => face.backend.delete_many(&[&name, key], TIMEOUT).await,
                };
                taken.expect("it is taken away");
                Instant::now()
            };
            let waiting = face.backend.released(key, LEASE);
            let (released, at) = face.runtime.block_on(join(waiting, taking));
            assert_eq!(released.expect("released"), Released::Notified);
            at.elapsed()
        });
    }
}

fn the_stored_value_wakes(face: &Awaited<'_>, key: &str) {
    is_soon(|| {
        take(face, key, LEASE);
        let waiter = async {
            let released = face.backend.released(key, LEASE).await.expect("released");
            assert_eq!(released, Released::Notified);
            let woken = Instant::now();
            let found = face.backend.get(key, false, TIMEOUT).await.expect("get");
            assert_eq!(&found.expect("the value came first").value[..], b"v");
            woken
        };
        let release = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let stored = face
                .backend
                .set_and_unlock(key, b"v", None, "holder", TIMEOUT)
                .await;
            stored.expect("set_and_unlock");
            Instant::now()
        };
        let (woken, at) = face.runtime.block_on(join(waiter, release));
        assert!(face.delete(key, TIMEOUT).expect("delete"));
        woken.saturating_duration_since(at)
    });
}

fn many_locks_at_once(face: &Awaited<'_>, prefix: &str) {
    let keys: Vec<String> = (0..40).map(|i| format!("{prefix}many{i}")).collect();
    is_soon(|| {
        for key in &keys {
            take(face, key, LEASE);
        }
        let waiters = keys.iter().map(|key| face.backend.released(key, LEASE));
        let release = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            for key in &keys {
                let unlocked = face.backend.unlock(key, "holder", TIMEOUT).await;
                assert!(unlocked.expect("unlock"));
            }
            Instant::now()
        };
        let (released, at) = face.runtime.block_on(join(join_all(waiters), release));
        let took = at.elapsed();
        assert!(
            released
                .into_iter()
                .all(|released| matches!(released, Ok(Released::Notified)))
        );
        took
    });
}

fn a_dead_holder_is_noticed(face: &Awaited<'_>, key: &str) {
    let lease = Duration::from_millis(300);
    let start = Instant::now();
    take(face, key, lease);
    let reply = face
        .try_lock(key, "waiter", LEASE, TIMEOUT)
        .expect("try_lock");
    let LockReply::Held { remaining } = reply else {
        panic!("it is held");
    };
    face.runtime
        .block_on(face.backend.released(key, remaining))
        .expect("released");
    while face
        .try_lock(key, "waiter", LEASE, TIMEOUT)
        .expect("try_lock")
        != LockReply::Acquired(None)
    {
        assert!(start.elapsed() < lease + LATE, "the lease does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(face.unlock(key, "waiter", TIMEOUT).expect("unlock"));
}

fn a_release_is_never_missed(face: &Awaited<'_>, key: &str) {
    for round in 0..100 {
        take(face, key, LEASE);
        // The release happens at some moment of the subscription.
        let release = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            face.backend.unlock(key, "holder", TIMEOUT).await
        };
        let waiter = face.backend.released(key, LEASE);
        let start = Instant::now();
        let (released, unlocked) = face.runtime.block_on(join(waiter, release));
        assert_eq!(released.expect("released"), Released::Notified);
        assert!(unlocked.expect("unlock"));
        assert!(
            start.elapsed() < SOON,
            "round {round} took {:?}",
            start.elapsed()
        );
    }
}

fn waiters_may_be_cancelled(face: &Awaited<'_>, key: &str) {
    take(face, key, LEASE);
    face.runtime.block_on(async {
        for round in 0..20 {
            let waiter = face.backend.released(key, LEASE);
            let cut = tokio::time::timeout(Duration::from_micros(round * 50), waiter).await;
            assert!(cut.is_err(), "nobody released it");
        }
    });
    assert!(face.unlock(key, "holder", TIMEOUT).expect("unlock"));
    a_release_wakes_all(face, key, 1);
}
