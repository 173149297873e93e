//! Entries live as long as they should.

use std::time::{Duration, Instant};

use cachekit_backends::{ErrorKind, Remaining};

use super::{Case, Face, TIMEOUT};

pub(super) const CASES: &[Case] = &[
    ("no life, no end", no_life_no_end),
    ("the rest of a life", the_rest_of_a_life),
    ("fractions of seconds", fractions_of_seconds),
    ("the shortest life", the_shortest_life),
    ("the longest life", the_longest_life),
    ("no life of zero", no_life_of_zero),
    ("a new value has a new life", a_new_value_has_a_new_life),
    ("a life is changed", a_life_is_changed),
];

const HOUR: Duration = Duration::from_secs(3600);
/// How long after its end an entry may still be seen: a store that counts whole seconds rounds up, and
/// may be late by as much again; the rest is for a busy machine, whose store's own clock may lag.
const LATE: Duration = Duration::from_secs(7);

#[track_caller]
fn assert_about(remaining: Option<Remaining>, expected: Duration) {
    match remaining {
        Some(Remaining::For(left)) => {
            assert!(left <= expected, "{left:?} is more than {expected:?}");
            assert!(
                left + TIMEOUT > expected,
                "{left:?} is far less than {expected:?}"
            );
        }
        other => panic!("{other:?} instead of {expected:?}"),
    }
}

/// An entry stored without a life has no end, or the one that a store gives which knows none.
#[track_caller]
pub(super) fn assert_endless(face: &dyn Face, remaining: Option<Remaining>) {
    match (face.capabilities().max_ttl, remaining) {
        (None, Some(Remaining::Forever)) => {}
        (Some(most), Some(Remaining::For(left))) if !left.is_zero() && left <= most => {}
        (most, other) => panic!("{other:?} where at most {most:?} is given"),
    }
}

/// Waits until the entry is gone and returns how long that took.
fn gone_after(face: &dyn Face, key: &str, start: Instant) -> Duration {
    while face.get(key, false, TIMEOUT).expect("get").is_some() {
        assert!(start.elapsed() < TIMEOUT, "the entry does not expire");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

fn no_life_no_end(face: &dyn Face, key: &str) {
    assert_eq!(
        face.ttl(key, TIMEOUT).expect("ttl"),
        None,
        "there is no entry"
    );
    face.set(key, b"v", None, TIMEOUT).expect("set");
    assert_endless(face, face.ttl(key, TIMEOUT).expect("ttl"));
    let found = face.get(key, true, TIMEOUT).expect("get");
    assert_endless(face, found.map(|found| found.remaining));
}

fn the_rest_of_a_life(face: &dyn Face, key: &str) {
    face.set(key, b"v", Some(HOUR), TIMEOUT).expect("set");
    assert_about(face.ttl(key, TIMEOUT).expect("ttl"), HOUR);
    let found = face
        .get(key, true, TIMEOUT)
        .expect("get")
        .expect("an entry");
    assert_about(Some(found.remaining), HOUR);
    assert_eq!(&found.value[..], b"v");
}

fn fractions_of_seconds(face: &dyn Face, key: &str) {
    let life = Duration::from_micros(250_500);
    let start = Instant::now();
    face.set(key, b"v", Some(life), TIMEOUT).expect("set");
    let stored = Instant::now();
    let lived = gone_after(face, key, start);
    assert!(
        lived + Duration::from_millis(1) >= life,
        "it lived for {lived:?} only"
    );
    assert!(
        lived < (stored - start) + life + LATE,
        "it lived for {lived:?}"
    );
}

fn the_shortest_life(face: &dyn Face, key: &str) {
    let start = Instant::now();
    face.set(key, b"v", Some(Duration::from_nanos(1)), TIMEOUT)
        .expect("set");
    assert!(gone_after(face, key, start) < LATE);
}

fn the_longest_life(face: &dyn Face, key: &str) {
    face.set(key, b"v", Some(Duration::MAX), TIMEOUT)
        .expect("set");
    assert!(face.exists(key, TIMEOUT).expect("exists"));
    assert!(face.expire(key, Duration::MAX, TIMEOUT).expect("expire"));
    assert!(face.exists(key, TIMEOUT).expect("exists"));
}

fn no_life_of_zero(face: &dyn Face, key: &str) {
    face.set(key, b"v", Some(HOUR), TIMEOUT).expect("set");
    let error = face
        .set(key, b"w", Some(Duration::ZERO), TIMEOUT)
        .expect_err("zero");
    assert_eq!(error.kind(), ErrorKind::Permanent);
    let error = face.expire(key, Duration::ZERO, TIMEOUT).expect_err("zero");
    assert_eq!(error.kind(), ErrorKind::Permanent);
    let found = face
        .get(key, true, TIMEOUT)
        .expect("get")
        .expect("an entry");
    assert_eq!(&found.value[..], b"v");
    assert_about(Some(found.remaining), HOUR);
}

fn a_new_value_has_a_new_life(face: &dyn Face, key: &str) {
    face.set(key, b"a", Some(HOUR), TIMEOUT).expect("set");
    face.set(key, b"b", Some(HOUR * 5), TIMEOUT).expect("set");
    assert_about(face.ttl(key, TIMEOUT).expect("ttl"), HOUR * 5);
    face.set(key, b"c", None, TIMEOUT).expect("set");
    assert_endless(face, face.ttl(key, TIMEOUT).expect("ttl"));
}

fn a_life_is_changed(face: &dyn Face, key: &str) {
    assert!(
        !face.expire(key, HOUR, TIMEOUT).expect("expire"),
        "there is no entry"
    );
    face.set(key, b"v", None, TIMEOUT).expect("set");
    assert!(face.expire(key, HOUR, TIMEOUT).expect("expire"));
    assert_about(face.ttl(key, TIMEOUT).expect("ttl"), HOUR);
    assert!(face.expire(key, HOUR * 3, TIMEOUT).expect("expire"));
    assert_about(face.ttl(key, TIMEOUT).expect("ttl"), HOUR * 3);
    let start = Instant::now();
    assert!(
        face.expire(key, Duration::from_millis(20), TIMEOUT)
            .expect("expire")
    );
    assert!(gone_after(face, key, start) < LATE);
}
