//! Whatever breaks on the way, a call ends in time, and no call gets another one's answer.

use std::time::{Duration, Instant};

use cachekit_backends::{Backend, BackendError, ErrorKind, LockReply};

use super::{Face, TIMEOUT, each_face, run_named};
use crate::proxy::{Fault, Proxy};

/// What a call under a fault may take, and how late it may end on a busy machine.
const SHORT: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_secs(2);

/// Runs operations through the proxy while it breaks them in every way and at every step.
///
/// `backend` must talk to its store through `proxy` alone. `garbage` are bytes that the store's
/// protocol does not know.
///
/// # Panics
/// When a call hangs, gets a wrong answer, fails in an unexpected way, or the backend does not
/// recover.
pub fn check_faults(backend: &dyn Backend, proxy: &Proxy, garbage: &[u8]) {
    each_face(backend, |face| check_face(face, proxy, garbage));
}

fn check_face(face: &dyn Face, proxy: &Proxy, garbage: &[u8]) {
    let faults = [
        ("cut request", Fault::CutRequest),
        ("cut reply", Fault::CutReply),
        ("half a reply of 1", Fault::HalfReply(1)),
        ("half a reply of 4", Fault::HalfReply(4)),
        ("half a reply of 9", Fault::HalfReply(9)),
        ("garbage", Fault::Garbage(garbage.to_vec())),
        ("late reply", Fault::Delay(SHORT * 2)),
        ("dripping reply", Fault::Drip(Duration::from_millis(30))),
        ("no reply", Fault::NoReply),
        ("black hole", Fault::BlackHole),
    ];
    for (name, fault) in faults {
        for repeated in [false, true] {
            let case = format!("{name}{}", if repeated { ", always" } else { "" });
            run_named(&case, &face.name(), |prefix| {
                under_fault(face, proxy, &fault, repeated, prefix);
            });
        }
    }
    run_named("bytes nobody asked for", &face.name(), |prefix| {
        extra_bytes(face, proxy, prefix)
    });
    run_named("cut while idle", &face.name(), |prefix| {
        cut_while_idle(face, proxy, prefix)
    });
}

/// Every kind of operation meets the fault; then all is well again.
fn under_fault(face: &dyn Face, proxy: &Proxy, fault: &Fault, repeated: bool, prefix: &str) {
    let key = |name: &str| format!("{prefix}{name}");
    proxy.heal();
    for name in ["one", "two", "three"] {
        face.set(&key(name), name.repeat(40).as_bytes(), None, TIMEOUT)
            .expect("set");
    }
    type Operation = fn(&dyn Face, &dyn Fn(&str) -> String) -> Result<(), BackendError>;
    let operations: [(&str, Operation); 7] = [
        ("get", |face, key| {
            let found = face.get(&key("one"), true, SHORT)?;
            assert_eq!(found.expect("it is stored").value, "one".repeat(40));
            Ok(())
        }),
        ("set", |face, key| {
            face.set(&key("new"), b"new", None, SHORT)
        }),
        ("delete", |face, key| {
            face.delete(&key("absent"), SHORT)
                .map(|there| assert!(!there))
        }),
        ("exists", |face, key| {
            face.exists(&key("two"), SHORT).map(|there| assert!(there))
        }),
        ("ttl", |face, key| {
            face.ttl(&key("two"), SHORT)
                .map(|ttl| assert!(ttl.is_some()))
        }),
        ("expire", |face, key| {
            face.expire(&key("absent"), TIMEOUT, SHORT)
                .map(|there| assert!(!there))
        }),
        ("health", |face, _| {
            face.health(SHORT).map(|health| assert!(health.healthy))
        }),
    ];
    for (name, operation) in operations {
        if repeated {
            proxy.always(fault.clone());
        } else {
            proxy.once(fault.clone());
        }
        let start = Instant::now();
        let outcome = operation(face, &key);
        let took = start.elapsed();
        assert!(took < SHORT + GRACE, "{name} took {took:?} of {SHORT:?}");
        if let Err(error) = outcome {
            let expected = matches!(error.kind(), ErrorKind::Transient | ErrorKind::Timeout);
            assert!(expected, "{name}: {:?} {error}", error.kind());
        } else {
            // A short answer may be whole within the half, or within the time.
            let partial = matches!(fault, Fault::HalfReply(_) | Fault::Drip(_));
            assert!(
                partial || !repeated,
                "{name} succeeded although no answer can have arrived"
            );
        }
        proxy.heal();
        // Right after it, whatever is still under way belongs to nobody.
        for name in ["two", "three", "one"] {
            let found = face
                .get(&key(name), false, TIMEOUT)
                .expect("get after the fault");
            assert_eq!(found.expect("it is stored").value, name.repeat(40));
        }
    }
    if face.set(&key("lockable"), b"", None, TIMEOUT).is_ok() {
        lock_under_fault(face, proxy, fault, &key("locked"));
    }
}

/// A lock whose reply was lost is ours or nobody's for longer than the lease, never somebody else's.
fn lock_under_fault(face: &dyn Face, proxy: &Proxy, fault: &Fault, key: &str) {
    let lease = Duration::from_millis(300);
    proxy.once(fault.clone());
    let start = Instant::now();
    let reply = face.try_lock(key, "ours", lease, SHORT);
    assert!(start.elapsed() < SHORT + GRACE);
    proxy.heal();
    match reply {
        Ok(LockReply::Acquired(None)) => {}
        Ok(other) => panic!("{other:?} although nobody else wants the lock"),
        Err(error) => assert!(matches!(
            error.kind(),
            ErrorKind::Transient | ErrorKind::Timeout
        )),
    }
    let deadline = Instant::now() + TIMEOUT;
    while !matches!(
        face.try_lock(key, "next", lease, TIMEOUT),
        Ok(LockReply::Acquired(_))
    ) {
        assert!(Instant::now() < deadline, "the lock is never free again");
        std::thread::sleep(Duration::from_millis(5));
    }
    face.unlock(key, "next", TIMEOUT).expect("unlock");
}

/// A reply that nobody asked for is not taken for the next call's.
fn extra_bytes(face: &dyn Face, proxy: &Proxy, prefix: &str) {
    let key = |name: &str| format!("{prefix}{name}");
    proxy.heal();
    for name in ["one", "two"] {
        face.set(&key(name), name.as_bytes(), None, TIMEOUT)
            .expect("set");
    }
    proxy.once(Fault::Extra(b"$5\r\nwrong\r\n".to_vec()));
    let found = face
        .get(&key("one"), false, TIMEOUT)
        .expect("the reply itself is whole");
    assert_eq!(found.expect("it is stored").value, "one");
    // The bytes may arrive a moment later.
    std::thread::sleep(Duration::from_millis(20));
    for name in ["two", "one", "two"] {
        let found = face.get(&key(name), false, TIMEOUT).expect("get");
        assert_eq!(found.expect("it is stored").value, name);
    }
}

/// Connections that were cut while nobody used them cost no call its answer.
fn cut_while_idle(face: &dyn Face, proxy: &Proxy, prefix: &str) {
    proxy.heal();
    for round in 0..5 {
        let key = format!("{prefix}{round}");
        proxy.cut();
        face.set(&key, b"v", None, TIMEOUT).expect("set");
        proxy.cut();
        assert!(face.exists(&key, TIMEOUT).expect("exists"));
        proxy.cut();
        assert_eq!(
            face.get(&key, true, TIMEOUT)
                .expect("get")
                .expect("an entry")
                .value,
            "v"
        );
        proxy.cut();
        assert!(face.delete(&key, TIMEOUT).expect("delete"));
    }
}
