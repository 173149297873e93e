//! One holder at a time, and never for longer than the lease.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cachekit_backends::{ErrorKind, LockReply, Remaining};

use super::ttl::assert_endless;
use super::{Case, Face, TIMEOUT};

pub(super) const CASES: &[Case] = &[
    ("one holder", one_holder),
    (
        "the value found behind the lock",
        the_value_found_behind_the_lock,
    ),
    ("a foreign token", a_foreign_token),
    ("a lease ends", a_lease_ends),
    ("a lease is renewed", a_lease_is_renewed),
    ("a lease of zero", a_lease_of_zero),
    ("stored and released at once", stored_and_released_at_once),
    (
        "stored after the lease ended",
        not_stored_after_the_lease_ended,
    ),
    ("a lock that was taken away", a_lock_that_was_taken_away),
    ("a race has one winner", a_race_has_one_winner),
    ("lock and entry are apart", lock_and_entry_are_apart),
];

const LEASE: Duration = Duration::from_secs(60);
const FREE: LockReply = LockReply::Acquired(None);

fn lock(face: &dyn Face, key: &str, token: &str, lease: Duration) -> LockReply {
    face.try_lock(key, token, lease, TIMEOUT).expect("try_lock")
}

#[track_caller]
fn assert_held(reply: &LockReply, lease: Duration) {
    match reply {
        LockReply::Held { remaining } => {
            assert!(*remaining <= lease, "{remaining:?} of a lease of {lease:?}");
            assert!(
                *remaining + TIMEOUT > lease,
                "only {remaining:?} of {lease:?} is left"
            );
        }
        LockReply::Acquired(_) => panic!("the lock was taken although somebody holds it"),
    }
}

fn one_holder(face: &dyn Face, key: &str) {
    assert_eq!(lock(face, key, "a", LEASE), FREE);
    assert_held(&lock(face, key, "b", LEASE), LEASE);
    assert!(face.unlock(key, "a", TIMEOUT).expect("unlock"));
    assert!(
        !face.unlock(key, "a", TIMEOUT).expect("unlock"),
        "it was released already"
    );
    assert_eq!(lock(face, key, "b", LEASE), FREE);
    assert!(face.unlock(key, "b", TIMEOUT).expect("unlock"));
}

fn the_value_found_behind_the_lock(face: &dyn Face, key: &str) {
    face.set(key, b"found", Some(LEASE), TIMEOUT).expect("set");
    let LockReply::Acquired(Some(found)) = lock(face, key, "a", LEASE) else {
        panic!("the lock is free and there is an entry");
    };
    assert_eq!(&found.value[..], b"found");
    assert!(matches!(found.remaining, Remaining::For(left) if left <= LEASE));
    assert!(face.unlock(key, "a", TIMEOUT).expect("unlock"));
}

fn a_foreign_token(face: &dyn Face, key: &str) {
    assert_eq!(lock(face, key, "mine", LEASE), FREE);
    for token in ["yours", "", "min", "mine "] {
        assert!(!face.unlock(key, token, TIMEOUT).expect("unlock"));
        assert!(!face.renew(key, token, LEASE * 9, TIMEOUT).expect("renew"));
    }
    assert_held(&lock(face, key, "other", LEASE), LEASE);
    assert!(face.unlock(key, "mine", TIMEOUT).expect("unlock"));
}

fn a_lease_ends(face: &dyn Face, key: &str) {
    let lease = Duration::from_millis(200);
    let start = Instant::now();
    assert_eq!(lock(face, key, "dead", lease), FREE);
    while lock(face, key, "next", LEASE) != FREE {
        assert!(start.elapsed() < TIMEOUT, "the lease does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(
        start.elapsed() + Duration::from_millis(2) >= lease,
        "it ended early"
    );
    assert!(
        !face.renew(key, "dead", LEASE, TIMEOUT).expect("renew"),
        "it is lost"
    );
    assert!(
        !face.unlock(key, "dead", TIMEOUT).expect("unlock"),
        "it is lost"
    );
    assert_held(&lock(face, key, "third", LEASE), LEASE);
    assert!(face.unlock(key, "next", TIMEOUT).expect("unlock"));
}

fn a_lease_is_renewed(face: &dyn Face, key: &str) {
    assert_eq!(lock(face, key, "a", Duration::from_secs(5)), FREE);
    assert!(face.renew(key, "a", LEASE, TIMEOUT).expect("renew"));
    assert_held(&lock(face, key, "b", LEASE), LEASE);
    assert!(face.unlock(key, "a", TIMEOUT).expect("unlock"));
    assert!(
        !face.renew(key, "a", LEASE, TIMEOUT).expect("renew"),
        "it was released"
    );
    assert_eq!(lock(face, key, "b", LEASE), FREE);
    assert!(face.unlock(key, "b", TIMEOUT).expect("unlock"));
}

fn a_lease_of_zero(face: &dyn Face, key: &str) {
    let error = face
        .try_lock(key, "a", Duration::ZERO, TIMEOUT)
        .expect_err("zero");
    assert_eq!(error.kind(), ErrorKind::Permanent);
    assert_eq!(lock(face, key, "b", LEASE), FREE);
    assert!(face.unlock(key, "b", TIMEOUT).expect("unlock"));
}

fn stored_and_released_at_once(face: &dyn Face, key: &str) {
    assert_eq!(lock(face, key, "a", LEASE), FREE);
    face.set_and_unlock(key, b"value", Some(LEASE), "a", TIMEOUT)
        .expect("set_and_unlock");
    let LockReply::Acquired(Some(found)) = lock(face, key, "b", LEASE) else {
        panic!("the lock is free and the value is stored");
    };
    assert_eq!(&found.value[..], b"value");
    assert!(matches!(found.remaining, Remaining::For(left) if left <= LEASE));
    face.set_and_unlock(key, b"again", None, "b", TIMEOUT)
        .expect("set_and_unlock");
    let found = face
        .get(key, true, TIMEOUT)
        .expect("get")
        .expect("an entry");
    assert_eq!(&found.value[..], b"again");
    assert_endless(face, Some(found.remaining));
    let error = face
        .set_and_unlock(key, b"no", Some(Duration::ZERO), "b", TIMEOUT)
        .expect_err("zero");
    assert_eq!(error.kind(), ErrorKind::Permanent);
}

fn not_stored_after_the_lease_ended(face: &dyn Face, key: &str) {
    assert_eq!(lock(face, key, "new holder", LEASE), FREE);
    face.set_and_unlock(key, b"late", None, "old holder", TIMEOUT)
        .expect("set_and_unlock");
    assert_eq!(face.get(key, false, TIMEOUT).expect("get"), None);
    assert_held(&lock(face, key, "third", LEASE), LEASE);
    assert!(face.unlock(key, "new holder", TIMEOUT).expect("unlock"));
    face.set_and_unlock(key, b"later", None, "new holder", TIMEOUT)
        .expect("set_and_unlock");
    assert_eq!(face.get(key, false, TIMEOUT).expect("get"), None);
}

/// Who deletes a lock's name takes it from its holder, who then stores nothing.
fn a_lock_that_was_taken_away(face: &dyn Face, key: &str) {
    let [alone, other] = [format!("{key}alone"), format!("{key}other")];
    for (taken, entries) in [(key, 1), (&alone, 0)] {
        assert_eq!(lock(face, taken, "a", LEASE), FREE);
        if entries > 0 {
            face.set(taken, b"old", None, TIMEOUT).expect("set");
        }
        face.set(&other, b"other", None, TIMEOUT).expect("set");
        let name = face.lock_name(taken);
        let names = [name.as_str(), taken, &other];
        let names = if entries > 0 { &names[..] } else { &names[..1] };
        face.delete_many(names, TIMEOUT).expect("delete_many");
        assert_eq!(face.exists(&other, TIMEOUT).expect("exists"), entries == 0);
        face.set_and_unlock(taken, b"late", None, "a", TIMEOUT)
            .expect("set_and_unlock");
        assert_eq!(face.get(taken, false, TIMEOUT).expect("get"), None);
        assert!(!face.unlock(taken, "a", TIMEOUT).expect("unlock"));
        assert_eq!(lock(face, taken, "b", LEASE), FREE);
        face.set_and_unlock(taken, b"new", None, "b", TIMEOUT)
            .expect("set_and_unlock");
        let found = face.get(taken, false, TIMEOUT).expect("get");
        assert_eq!(found.expect("it is stored").value, "new");
    }
}

fn a_race_has_one_winner(face: &dyn Face, prefix: &str) {
    for round in 0..20 {
        let key = &format!("{prefix}{round}");
        let winners = &AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for racer in 0..6 {
                scope.spawn(move || {
                    if lock(face, key, &format!("racer {racer}"), LEASE) == FREE {
                        winners.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(winners.load(Ordering::SeqCst), 1);
    }
}

fn lock_and_entry_are_apart(face: &dyn Face, key: &str) {
    assert_eq!(lock(face, key, "a", LEASE), FREE);
    assert_eq!(face.get(key, false, TIMEOUT).expect("get"), None);
    face.set(key, b"v", None, TIMEOUT).expect("set");
    assert!(face.delete(key, TIMEOUT).expect("delete"));
    assert_held(&lock(face, key, "b", LEASE), LEASE);
    assert!(face.unlock(key, "a", TIMEOUT).expect("unlock"));
}
