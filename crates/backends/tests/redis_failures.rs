//! A Redis server that refuses, dies, freezes or fills up, seen through both faces.

use std::time::{Duration, Instant};

use cachekit_backends::{Backend, ErrorKind, RedisBackend, RedisConfig};
use cachekit_testkit::contract::{Face, each_face};
use cachekit_testkit::proxy::{Fault, Proxy};
use cachekit_testkit::raw::Answer;
use cachekit_testkit::servers::{RedisOptions, RedisServer, free_port, wait_until};

const TIMEOUT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(100);
/// How late a call may end on a busy machine.
const GRACE: Duration = Duration::from_secs(2);

fn backend(url: &str) -> RedisBackend {
    RedisBackend::from_url(url).expect("a good URL")
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
    each_face(
        &backend(&format!("redis://127.0.0.1:{}", free_port())),
        |face| {
            assert_eq!(failure(face, TIMEOUT), ErrorKind::Transient);
        },
    );
    each_face(&backend("unix:///nonexistent/redis.sock"), |face| {
        assert_eq!(failure(face, TIMEOUT), ErrorKind::Transient);
    });
    each_face(&backend("redis://no-such-host.invalid"), |face| {
        assert_eq!(failure(face, TIMEOUT), ErrorKind::Transient);
    });
}

#[test]
fn no_time_and_all_the_time() {
    let server = RedisServer::start();
    each_face(&backend(&server.url()), |face| {
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
    let mut server = RedisServer::start();
    let backend = backend(&server.url());
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
        server.restart();
        face.set("key", b"newer", None, TIMEOUT).expect("set");
        server.restart();
        assert!(!face.delete("key", TIMEOUT).expect("delete"));
    });
}

#[test]
fn a_frozen_server() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
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
    let server = RedisServer::start_with(RedisOptions {
        password: Some("correct-horse".to_owned()),
        ..RedisOptions::default()
    });
    server.command(&[
        "ACL",
        "SETUSER",
        "reader",
        "on",
        ">reader-pass",
        "~*",
        "+get",
        "+pttl",
    ]);
    let host = format!("127.0.0.1:{}", server.port());
    for login in ["", ":wrong-pass@", "nobody:wrong-pass@"] {
        each_face(&backend(&format!("redis://{login}{host}")), |face| {
            let error = face.get("key", false, TIMEOUT).expect_err("a wrong login");
            assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
            assert!(!format!("{error} {error:?}").contains("wrong-pass"));
        });
    }
    each_face(
        &backend(&format!("redis://reader:reader-pass@{host}")),
        |face| {
            assert_eq!(stored(face, "key"), None);
            let error = face
                .set("key", b"v", None, TIMEOUT)
                .expect_err("not allowed");
            assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
            assert_eq!(stored(face, "key"), None);
        },
    );
    each_face(
        &backend(&format!("redis://default:correct-horse@{host}/2")),
        |face| {
            face.set("key", b"v", None, TIMEOUT).expect("set");
        },
    );
    each_face(
        &backend(&format!("redis://default:correct-horse@{host}/99")),
        |face| {
            let error = face
                .get("key", false, TIMEOUT)
                .expect_err("there are 16 databases");
            assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
        },
    );
    // A password for a server that wants none.
    let open = RedisServer::start();
    each_face(
        &backend(&format!("redis://:needless@127.0.0.1:{}", open.port())),
        |face| {
            assert_eq!(failure(face, TIMEOUT), ErrorKind::Authentication);
        },
    );
}

#[test]
fn refusals() {
    let server = RedisServer::start();
    server.command(&["RPUSH", "list", "item"]);
    each_face(&backend(&server.url()), |face| {
        let error = face
            .get("list", true, TIMEOUT)
            .expect_err("not a plain value");
        assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
        assert!(error.message().contains("WRONGTYPE"), "{error}");

        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        let error = face.set("key", b"v", None, TIMEOUT).expect_err("no memory");
        assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
        assert!(error.message().contains("maxmemory"), "{error}");
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    });
}

#[test]
fn a_server_that_became_a_replica_is_looked_up_again() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    each_face(
        &backend(&format!("redis://127.0.0.1:{}", proxy.port())),
        |face| {
            face.set("key", b"v", None, TIMEOUT).expect("set");
            let before = proxy.accepted();
            server.command(&["REPLICAOF", "127.0.0.1", "1"]);
            let error = face.set("key", b"v", None, TIMEOUT).expect_err("a replica");
            assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
            assert!(
                proxy.accepted() > before,
                "a new connection may lead to the new master"
            );
            server.command(&["REPLICAOF", "NO", "ONE"]);
            face.set("key", b"v", None, TIMEOUT).expect("set");
        },
    );
}

#[test]
fn a_lock_is_released_although_the_value_was_refused() {
    let server = RedisServer::start();
    each_face(&backend(&server.url()), |face| {
        face.try_lock("key", "a", TIMEOUT, TIMEOUT)
            .expect("try_lock");
        server.command(&["CONFIG", "SET", "maxmemory", "1"]);
        let error = face
            .set_and_unlock("key", b"v", None, "a", TIMEOUT)
            .expect_err("no memory");
        assert_eq!(error.kind(), ErrorKind::Transient);
        server.command(&["CONFIG", "SET", "maxmemory", "0"]);
        let reply = face
            .try_lock("key", "b", TIMEOUT, TIMEOUT)
            .expect("try_lock");
        assert!(
            matches!(reply, cachekit_backends::LockReply::Acquired(None)),
            "{reply:?}"
        );
        assert!(face.unlock("key", "b", TIMEOUT).expect("unlock"));
    });
}

fn clients(server: &RedisServer) -> usize {
    match server.command(&["CLIENT", "LIST"]) {
        // One of them asks.
        Answer::Text(list) => list.lines().count() - 1,
        other => panic!("{other:?} is no list"),
    }
}

#[test]
fn the_pool_has_its_size() {
    let server = RedisServer::start();
    let config = RedisConfig::from_url(&server.url())
        .expect("a good URL")
        .pool_size(3);
    let backend = RedisBackend::new(config);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                for _ in 0..50 {
                    backend.get("key", true, TIMEOUT).expect("get");
                }
            });
        }
    });
    assert!((1..=3).contains(&clients(&server)));
    drop(backend);
    wait_until("the connections are closed", || clients(&server) == 0);
}

#[test]
fn a_busy_pool_is_waited_for_no_longer_than_the_timeout() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let backend = RedisBackend::new(
        RedisConfig::from_url(&url)
            .expect("a good URL")
            .pool_size(1),
    );
    proxy.always(Fault::NoReply);
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| backend.get("key", false, SHORT * 30));
        wait_until("the connection is in use", || proxy.accepted() == 1);
        let start = Instant::now();
        let error = backend
            .get("key", false, SHORT)
            .expect_err("the pool is busy");
        assert!(start.elapsed() < SHORT + GRACE);
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.message().contains("pool"), "{error}");
        holder.join().expect("no panic").expect_err("no reply");
    });
    proxy.heal();
    assert!(backend.get("key", false, TIMEOUT).expect("get").is_none());
}

#[test]
fn connecting_has_a_timeout_of_its_own() {
    let server = RedisServer::start_with(RedisOptions {
        password: Some("p".to_owned()),
        ..RedisOptions::default()
    });
    let proxy = Proxy::start(server.port());
    proxy.always(Fault::NoReply);
    let url = format!("redis://:p@127.0.0.1:{}", proxy.port());
    let config = RedisConfig::from_url(&url)
        .expect("a good URL")
        .connect_timeout(SHORT);
    each_face(&RedisBackend::new(config), |face| {
        let start = Instant::now();
        let error = face
            .get("key", false, TIMEOUT)
            .expect_err("the login is not answered");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(start.elapsed() < SHORT + GRACE);
    });
}

#[test]
fn nothing_is_connected_before_the_first_call() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let backend = backend(&format!("redis://127.0.0.1:{}", proxy.port()));
    assert_eq!(backend.name(), "redis");
    assert!(backend.capabilities().lock && backend.capabilities().ttl);
    assert_eq!(proxy.accepted(), 0);
    backend.get("key", false, TIMEOUT).expect("get");
    backend.get("key", false, TIMEOUT).expect("get");
    assert_eq!(
        proxy.accepted(),
        1,
        "the second call uses the same connection"
    );
}
