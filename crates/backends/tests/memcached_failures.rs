//! Memcached servers that refuse, die, freeze or fill up, seen through both faces.

use std::time::{Duration, Instant};

use cachekit_backends::memcached::Routing;
use cachekit_backends::{
    Backend, ErrorKind, LockReply, MemcachedBackend, MemcachedConfig, Remaining,
};
use cachekit_testkit::contract::{Face, each_face};
use cachekit_testkit::proxy::{Fault, Proxy};
use cachekit_testkit::servers::{MemcachedOptions, MemcachedServer, free_port, wait_until};

const TIMEOUT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(100);
/// How late a call may end on a busy machine.
const GRACE: Duration = Duration::from_millis(300);

fn config(names: &[String]) -> MemcachedConfig {
    MemcachedConfig::from_servers(names).expect("good names")
}

fn backend(server: &MemcachedServer) -> MemcachedBackend {
    MemcachedBackend::from_url(&server.url()).expect("a good URL")
}

fn stored(face: &dyn Face, key: &str) -> Option<Vec<u8>> {
    let found = face.get(key, false, TIMEOUT).expect("get");
    found.map(|found| found.value.to_vec())
}

fn failure(face: &dyn Face, timeout: Duration) -> ErrorKind {
    let start = Instant::now();
    let error = face
        .get("key", true, timeout)
        .expect_err("the server is not well");
    assert!(
        start.elapsed() < timeout + GRACE,
        "{:?}: {error}",
        start.elapsed()
    );
    error.kind()
}

#[test]
fn nobody_listens() {
    let names = [
        format!("127.0.0.1:{}", free_port()),
        "/nonexistent/memcached.sock".to_owned(),
        "no-such-host.invalid:11211".to_owned(),
    ];
    for name in &names {
        let backend = MemcachedBackend::new(config(std::slice::from_ref(name)));
        each_face(&backend, |face| {
            assert_eq!(failure(face, TIMEOUT), ErrorKind::Transient);
        });
    }
    each_face(&MemcachedBackend::new(config(&names)), |face| {
        for _ in 0..5 {
            assert_eq!(failure(face, TIMEOUT), ErrorKind::Transient);
        }
    });
}

#[test]
fn no_time_and_all_the_time() {
    let server = MemcachedServer::start();
    each_face(&backend(&server), |face| {
        let start = Instant::now();
        if let Err(error) = face.get("key", false, Duration::ZERO) {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        }
        assert!(start.elapsed() < GRACE);
        assert_eq!(face.get("key", false, Duration::MAX).expect("get"), None);
    });
}

#[test]
fn a_crash_and_a_new_start() {
    let mut server = MemcachedServer::start();
    let backend = backend(&server);
    each_face(&backend, |face| {
        face.set("key", b"old", None, TIMEOUT).expect("set");
        server.kill();
        assert_eq!(failure(face, TIMEOUT), ErrorKind::Transient);
        server.restart();
        assert_eq!(stored(face, "key"), None, "it starts empty");
        face.set("key", b"new", None, TIMEOUT).expect("set");
        // This time nobody notices between the crash and the new start.
        server.restart();
        assert_eq!(stored(face, "key"), None);
    });
}

#[test]
fn a_frozen_server() {
    let server = MemcachedServer::start();
    let backend = backend(&server);
    each_face(&backend, |face| {
        for name in ["one", "two"] {
            face.set(name, name.as_bytes(), None, TIMEOUT).expect("set");
        }
        server.pause();
        for _ in 0..3 {
            assert_eq!(failure(face, SHORT), ErrorKind::Timeout);
        }
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| assert_eq!(failure(face, SHORT), ErrorKind::Timeout));
            }
        });
        server.resume();
        for name in ["two", "one"] {
            assert_eq!(stored(face, name).as_deref(), Some(name.as_bytes()));
        }
    });
}

#[test]
fn logins() {
    let server = MemcachedServer::start_with(MemcachedOptions {
        login: Some(("bob".to_owned(), "correct-horse".to_owned())),
        ..MemcachedOptions::default()
    });
    for login in ["", "bob:wrong-pass@", "nobody:wrong-pass@"] {
        let url = format!("memcached://{login}{}", server.name());
        let backend = MemcachedBackend::from_url(&url).expect("a good URL");
        each_face(&backend, |face| {
            let error = face.get("key", false, TIMEOUT).expect_err("a wrong login");
            assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
            assert!(!format!("{error} {error:?}").contains("wrong-pass"));
        });
    }
    each_face(&backend(&server), |face| {
        face.set("key", b"v", None, TIMEOUT).expect("set");
    });
}

#[test]
fn values_that_are_too_large() {
    let server = MemcachedServer::start_with(MemcachedOptions {
        extra: vec!["-I".to_owned(), "1m".to_owned()],
        ..MemcachedOptions::default()
    });
    let large = vec![b'x'; MemcachedConfig::ITEM_SIZE + 1];
    // Refused here, before anything is sent, and by the server, after all was sent.
    for limit in [MemcachedConfig::ITEM_SIZE, 0] {
        let config = MemcachedConfig::from_url(&server.url()).expect("a good URL");
        let backend = MemcachedBackend::new(config.max_item_size(limit));
        assert_eq!(
            backend.capabilities().max_value,
            (limit != 0).then_some(limit)
        );
        each_face(&backend, |face| {
            face.set("key", b"small", None, TIMEOUT).expect("set");
            let error = face
                .set("key", &large, None, TIMEOUT)
                .expect_err("too large");
            assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
            assert!(error.message().contains("max_item_size"), "{error}");
            // The old value may be gone then, but there is never half a value.
            assert!(stored(face, "key").is_none_or(|value| value == b"small"));

            face.try_lock("key", "a", TIMEOUT, TIMEOUT)
                .expect("try_lock");
            face.set_and_unlock("key", &large, None, "a", TIMEOUT)
                .expect_err("too large");
            let reply = face
                .try_lock("key", "b", TIMEOUT, TIMEOUT)
                .expect("try_lock");
            assert!(matches!(reply, LockReply::Acquired(_)), "{reply:?}");
            assert!(face.unlock("key", "b", TIMEOUT).expect("unlock"));
        });
    }
}

#[test]
fn a_full_server_without_eviction() {
    let server = MemcachedServer::start_with(MemcachedOptions {
        extra: ["-M", "-m", "64", "-I", "1m"].map(str::to_owned).to_vec(),
        ..MemcachedOptions::default()
    });
    let value = vec![b'x'; 500_000];
    each_face(&backend(&server), |face| {
        let error = (0..400)
            .find_map(|i| face.set(&format!("k{i}"), &value, None, TIMEOUT).err())
            .expect("it is full at some time");
        assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
        assert!(error.message().contains("evict"), "{error}");
        face.get("k0", false, TIMEOUT).expect("reading still works");
    });
}

/// The server that has `key`.
fn owner(servers: &[MemcachedServer], key: &str) -> usize {
    let has = |server: &MemcachedServer| server.command(&format!("mg {key}")) == "HD";
    servers.iter().position(has).expect("somebody has it")
}

#[test]
fn when_one_of_three_dies_the_others_keep_their_keys() {
    for routing in [Routing::Rendezvous, Routing::Ketama] {
        let mut servers = [(); 3].map(|()| MemcachedServer::start());
        let names = servers.each_ref().map(MemcachedServer::name);
        let backend = MemcachedBackend::new(config(&names).routing(routing));
        each_face(&backend, |face| {
            // A stand-in's items last longer than this test, so that each face has its own keys.
            let face_name = face.name().replace(' ', "-");
            let keys: Vec<String> = (0..300).map(|i| format!("{face_name}{i}")).collect();
            for key in &keys {
                face.set(key, key.as_bytes(), None, TIMEOUT).expect("set");
            }
            let owners: Vec<usize> = keys.iter().map(|key| owner(&servers, key)).collect();
            servers[1].kill();
            for (key, owner) in keys.iter().zip(&owners) {
                let expected = (*owner != 1).then(|| key.as_bytes().to_vec());
                assert_eq!(stored(face, key), expected);
            }
            // Its keys have a home, for a short while.
            let lost = keys.iter().zip(&owners).filter(|(_, owner)| **owner == 1);
            let lost: Vec<&String> = lost.map(|(key, _)| key).collect();
            for key in &lost {
                face.set(key, b"stand-in", None, TIMEOUT).expect("set");
                assert_eq!(stored(face, key).as_deref(), Some(&b"stand-in"[..]));
                let left = face.ttl(key, TIMEOUT).expect("ttl").expect("an entry");
                let minute = Duration::from_secs(60);
                assert!(matches!(left, Remaining::For(left) if left <= minute));
            }
            let all: Vec<&str> = keys.iter().map(String::as_str).collect();
            assert_eq!(face.delete_many(&all, TIMEOUT).expect("delete_many"), 300);
            servers[1].restart();
            wait_until("it is used again", || {
                face.set(lost[0], b"v", None, TIMEOUT).expect("set");
                servers[1].command(&format!("mg {}", lost[0])) == "HD"
            });
        });
    }
}

#[test]
fn what_a_server_missed_is_not_served_when_it_is_back() {
    let servers = [(); 2].map(|()| MemcachedServer::start());
    // The way to the second server can be cut while it lives.
    let proxy = Proxy::start(servers[1].port());
    let names = [servers[0].name(), format!("127.0.0.1:{}", proxy.port())];
    let backend = MemcachedBackend::new(config(&names).retry_attempts(0));
    each_face(&backend, |face| {
        let keys: Vec<String> = (0..600).map(|i| format!("key{i}")).collect();
        for key in &keys {
            face.set(key, b"old", None, TIMEOUT).expect("set");
        }
        let there: Vec<&String> = keys
            .iter()
            .filter(|key| owner(&servers, key) == 1)
            .collect();
        proxy.always(Fault::CutRequest);
        let (gone, changed) = (there[0], there[1]);
        face.delete(gone, TIMEOUT).expect("delete");
        face.set(changed, b"new", None, TIMEOUT).expect("set");
        let rest: Vec<&str> = there[3..].iter().map(|key| key.as_str()).collect();
        face.delete_many(&rest, TIMEOUT).expect("delete_many");
        proxy.heal();
        wait_until("the second server is used again", || {
            let before = proxy.accepted();
            face.get(there[2], false, TIMEOUT).expect("get").is_some() && proxy.accepted() >= before
        });
        assert_eq!(stored(face, gone), None);
        assert_ne!(stored(face, changed).as_deref(), Some(&b"old"[..]));
        for key in rest {
            assert_eq!(stored(face, key), None, "it was deleted");
        }
        face.delete_many(
            &keys.iter().map(String::as_str).collect::<Vec<_>>(),
            TIMEOUT,
        )
        .expect("delete_many");
    });
}

#[test]
fn a_call_that_is_given_up_forgets_nothing_that_a_server_missed() {
    let servers = [(); 2].map(|()| MemcachedServer::start());
    let proxy = Proxy::start(servers[1].port());
    let names = [servers[0].name(), format!("127.0.0.1:{}", proxy.port())];
    let backend = MemcachedBackend::new(config(&names).retry_attempts(0));
    let aio = backend.aio().expect("there are futures");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a poller");
    let keys: Vec<String> = (0..100).map(|i| format!("key{i}")).collect();
    for key in &keys {
        backend.set(key, b"old", None, TIMEOUT).expect("set");
    }
    let mut there = keys.iter().filter(|key| owner(&servers, key) == 1);
    let (changed, other) = (there.next().expect("one"), there.next().expect("another"));
    proxy.always(Fault::CutRequest);
    backend.set(changed, b"new", None, TIMEOUT).expect("set");
    // Whoever asks after the pause waits for the server, and gives up.
    proxy.always(Fault::BlackHole);
    wait_until("somebody asks the server", || {
        runtime.block_on(async {
            let asked = aio.get(other, false, TIMEOUT);
            tokio::time::timeout(SHORT, asked).await.is_err()
        })
    });
    proxy.heal();
    proxy.cut();
    wait_until("the server is used again", || {
        matches!(backend.get(other, false, TIMEOUT), Ok(Some(_)))
    });
    let found = backend.get(changed, false, TIMEOUT).expect("get");
    assert_ne!(
        found.map(|found| found.value.to_vec()),
        Some(b"old".to_vec())
    );
}

#[test]
fn a_frozen_server_of_three_delays_few_calls() {
    let servers = [(); 3].map(|()| MemcachedServer::start());
    let names = servers.each_ref().map(MemcachedServer::name);
    each_face(&MemcachedBackend::new(config(&names)), |face| {
        let keys: Vec<String> = (0..60).map(|i| format!("key{i}")).collect();
        for key in &keys {
            face.set(key, b"v", None, TIMEOUT).expect("set");
        }
        servers[0].pause();
        let failures = keys
            .iter()
            .filter(|key| face.get(key, false, SHORT).is_err())
            .count();
        assert_eq!(
            failures, 3,
            "one more than retry_attempts, then it is passed over"
        );
        servers[0].resume();
        wait_until("it is used again", || {
            keys.iter().all(|key| stored(face, key).is_some())
        });
    });
}

#[test]
fn the_pool_has_its_size() {
    let server = MemcachedServer::start();
    let proxy = Proxy::start(server.port());
    let name = format!("127.0.0.1:{}", proxy.port());
    let backend = MemcachedBackend::new(config(&[name]).pool_size(3));
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..50 {
                    backend.get("key", true, TIMEOUT).expect("get");
                }
            });
        }
    });
    assert!((1..=3).contains(&proxy.accepted()), "{}", proxy.accepted());
}

#[test]
fn an_entry_with_a_locks_name_is_nobody_to_wait_for() {
    let server = MemcachedServer::start();
    let backend = backend(&server);
    let name = backend.lock().expect("it has locks").name("key");
    each_face(&backend, |face| {
        let entry = b"CK\x03 an entry";
        face.set(&name, entry, None, TIMEOUT).expect("set");
        for token in ["a", "b"] {
            let reply = face.try_lock("key", token, TIMEOUT, TIMEOUT);
            assert_eq!(reply.expect("try_lock"), LockReply::Acquired(None));
        }
        assert!(!face.renew("key", "a", TIMEOUT, TIMEOUT).expect("renew"));
        face.set_and_unlock("key", b"value", None, "a", TIMEOUT)
            .expect("set_and_unlock");
        assert!(!face.unlock("key", "b", TIMEOUT).expect("unlock"));
        assert_eq!(stored(face, "key").as_deref(), Some(&b"value"[..]));
        assert_eq!(stored(face, &name).as_deref(), Some(&entry[..]));
        face.delete("key", TIMEOUT).expect("delete");
    });
}

#[test]
fn an_evicted_or_removed_lock_keeps_the_value_out() {
    let server = MemcachedServer::start();
    let backend = backend(&server);
    let name = backend.lock().expect("it has locks").name("key");
    each_face(&backend, |face| {
        face.try_lock("key", "a", TIMEOUT, TIMEOUT)
            .expect("try_lock");
        assert!(face.delete(&name, TIMEOUT).expect("delete"));
        face.set_and_unlock("key", b"late", None, "a", TIMEOUT)
            .expect("set_and_unlock");
        assert_eq!(stored(face, "key"), None);
    });
}

#[test]
fn lives_beyond_thirty_days() {
    let server = MemcachedServer::start();
    each_face(&backend(&server), |face| {
        let day = Duration::from_secs(24 * 3600);
        for days in [29, 30, 31, 400] {
            let ttl = day * days;
            face.set("key", b"v", Some(ttl), TIMEOUT).expect("set");
            let left = face.ttl("key", TIMEOUT).expect("ttl").expect("an entry");
            let expected =
                ttl.saturating_sub(Duration::from_secs(3))..=ttl + Duration::from_secs(1);
            assert!(
                matches!(left, Remaining::For(left) if expected.contains(&left)),
                "{left:?} of {days} days"
            );
        }
        face.set("key", b"v", Some(Duration::MAX), TIMEOUT)
            .expect("set");
        assert!(face.exists("key", TIMEOUT).expect("exists"));
    });
}

#[test]
fn nothing_is_connected_before_the_first_call() {
    let server = MemcachedServer::start();
    let proxy = Proxy::start(server.port());
    let name = format!("127.0.0.1:{}", proxy.port());
    let backend = MemcachedBackend::new(config(&[name]));
    assert_eq!(backend.name(), "memcached");
    assert!(backend.capabilities().lock && backend.capabilities().ttl);
    assert_eq!(proxy.accepted(), 0);
    backend.get("key", false, TIMEOUT).expect("get");
    backend.get("key", false, TIMEOUT).expect("get");
    assert_eq!(proxy.accepted(), 1, "both calls use one connection");
}

/// Two servers, the way to the second one, and a backend that adds `key` on the first one.
fn copied(key: &str) -> ([MemcachedServer; 2], Proxy, MemcachedBackend) {
    loop {
        let servers = [(); 2].map(|()| MemcachedServer::start());
        let proxy = Proxy::start(servers[1].port());
        let names = [servers[0].name(), format!("127.0.0.1:{}", proxy.port())];
        let backend = MemcachedBackend::new(config(&names).retry_attempts(0));
        backend.set(key, b"probe", None, TIMEOUT).expect("set");
        let is_first = owner(&servers, key) == 0;
        backend.delete(key, TIMEOUT).expect("delete");
        if is_first {
            return (servers, proxy, backend);
        }
    }
}

#[test]
fn what_is_added_outlives_its_server() {
    let (mut servers, _proxy, backend) = copied("key");
    each_face(&backend, |face| {
        face.set_over_add("key", b"one", TIMEOUT).expect("set");
        for server in &servers {
            assert_eq!(server.command("mg key"), "HD");
        }
        // Nobody notices the new start.
        servers[0].restart();
        wait_until("the copy is back", || {
            face.add("key", b"other", TIMEOUT)
                .is_ok_and(|there| there == "one")
        });
        assert_eq!(servers[0].command("mg key"), "HD");
        servers[0].kill();
        wait_until("the copy is read", || {
            let found = face.get("key", false, TIMEOUT);
            found.is_ok_and(|found| found.is_some_and(|found| found.value == "one"))
        });
        servers[0].restart();
        wait_until("the server is used again", || {
            let added = face.add("key", b"other", TIMEOUT).expect("add");
            assert_eq!(added, "one");
            servers[0].command("mg key") == "HD"
        });
    });
}

#[test]
fn a_copy_that_missed_a_change_is_not_served() {
    for fault in [Fault::CutRequest, Fault::BlackHole] {
        let (mut servers, proxy, backend) = copied("key");
        let set = |value, time| backend.set_over_add("key", value, None, time);
        set(b"old", TIMEOUT).expect("set");
        assert_eq!(servers[1].command("mg key"), "HD");
        proxy.always(fault);
        proxy.cut();
        let (start, time) = (Instant::now(), Duration::from_secs(1));
        set(b"new", time).expect("the copy is not waited for");
        assert!(start.elapsed() < time, "{:?}", start.elapsed());
        proxy.heal();
        proxy.cut();
        servers[0].kill();
        let mut found = None;
        wait_until("the other server answers", || {
            found = backend.get("key", false, TIMEOUT).ok();
            found.is_some()
        });
        assert_eq!(found.flatten(), None, "the copy is older");
    }
}

#[test]
fn what_is_cleared_or_deleted_is_gone_for_those_who_use_the_server_already() {
    let mut servers = [(); 3].map(|()| MemcachedServer::start());
    let names = servers.each_ref().map(MemcachedServer::name);
    let ours = MemcachedBackend::new(config(&names).retry_attempts(0));
    let keys: Vec<String> = (0..100).map(|i| format!("key{i}")).collect();
    for key in &keys {
        ours.set(key, b"old", None, TIMEOUT).expect("set");
    }
    let keys = keys.iter().map(String::as_str);
    let keys: Vec<&str> = keys.filter(|key| owner(&servers, key) == 1).collect();
    let changes: [fn(&dyn Face, &[&str]); 3] = [
        |face, keys| {
            for key in keys {
                face.set_over_add(key, b"new", TIMEOUT).expect("set");
            }
        },
        |face, keys| {
            for key in keys {
                assert!(face.delete(key, TIMEOUT).expect("delete"));
            }
        },
        |face, keys| {
            let removed = face.delete_many(keys, TIMEOUT).expect("delete_many");
            assert_eq!(removed, keys.len() as u64);
        },
    ];
    each_face(&ours, |face| {
        for change in changes {
            servers[1].kill();
            wait_until("the server is left alone", || {
                face.get(keys[0], false, TIMEOUT).is_ok()
            });
            servers[1].restart();
            let others = MemcachedBackend::new(config(&names));
            for key in &keys {
                others.set(key, b"old", None, TIMEOUT).expect("set");
                assert_eq!(servers[1].command(&format!("mg {key}")), "HD");
            }
            change(face, &keys);
            for key in &keys {
                let found = others.get(key, false, TIMEOUT).expect("get");
                assert!(found.is_none_or(|found| found.value == "new"));
            }
        }
    });
}
