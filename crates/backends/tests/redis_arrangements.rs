//! Clusters that change and masters that fail over, seen through both faces.

use std::time::{Duration, Instant};

use cachekit_backends::{Backend, ErrorKind, RedisBackend};
use cachekit_testkit::contract::{Face, each_face};
use cachekit_testkit::raw::Answer;
use cachekit_testkit::servers::{RedisCluster, RedisSentinels, free_port, wait_until};

const TIMEOUT: Duration = Duration::from_secs(5);

fn backend(url: &str) -> RedisBackend {
    RedisBackend::from_url(url).expect("a good URL")
}

fn stored(face: &dyn Face, key: &str) -> Option<Vec<u8>> {
    let found = face.get(key, true, TIMEOUT).expect("get");
    found.map(|found| found.value.to_vec())
}

fn slot(cluster: &RedisCluster, key: &str) -> String {
    match cluster.nodes()[0].command(&["CLUSTER", "KEYSLOT", key]) {
        Answer::Int(slot) => slot.to_string(),
        other => panic!("{other:?} is no slot"),
    }
}

/// Announces that the key's slot is on its way from one node to another.
fn begin_move(cluster: &RedisCluster, key: &str, from: usize, to: usize) {
    let slot = slot(cluster, key);
    let (source, target) = (cluster.id(from), cluster.id(to));
    cluster.nodes()[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
    cluster.nodes()[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
}

fn end_move(cluster: &RedisCluster, key: &str, to: usize) {
    let (slot, target) = (slot(cluster, key), cluster.id(to));
    // The new owner first, so that nobody is ever without one.
    let others = (0..3).filter(|&node| node != to);
    for node in [to].into_iter().chain(others) {
        cluster.nodes()[node].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
    }
}

#[test]
fn a_slot_moves_while_it_is_used() {
    let cluster = RedisCluster::start();
    each_face(&backend(&cluster.url()), |face| {
        let key = "moving";
        face.set(key, b"before", None, TIMEOUT).expect("set");
        let from = cluster.owner(key);
        let to = (from + 1) % 3;
        begin_move(&cluster, key, from, to);
        // Still there: the old node serves it.
        assert_eq!(stored(face, key).as_deref(), Some(&b"before"[..]));
        let port = cluster.nodes()[to].port().to_string();
        cluster.nodes()[from].command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        // Gone ahead: the old node says ASK.
        assert_eq!(stored(face, key).as_deref(), Some(&b"before"[..]));
        face.set(key, b"between", None, TIMEOUT).expect("set");
        assert_eq!(stored(face, key).as_deref(), Some(&b"between"[..]));
        let reply = face.try_lock(key, "a", TIMEOUT, TIMEOUT).expect("try_lock");
        assert!(
            matches!(reply, cachekit_backends::LockReply::Acquired(Some(_))),
            "{reply:?}"
        );
        face.set_and_unlock(key, b"behind the lock", None, "a", TIMEOUT)
            .expect("set_and_unlock");
        end_move(&cluster, key, to);
        cluster.nodes()[from].command(&["CONFIG", "RESETSTAT"]);
        // Moved for good: the old node says MOVED.
        assert_eq!(stored(face, key).as_deref(), Some(&b"behind the lock"[..]));
        face.set(key, b"after", None, TIMEOUT).expect("set");
        assert_eq!(stored(face, key).as_deref(), Some(&b"after"[..]));
        assert_eq!(cluster.owner(key), to);
        let Answer::Text(errors) = cluster.nodes()[from].command(&["INFO", "errorstats"]) else {
            panic!("no statistics");
        };
        // The first reading is refused with both its commands, nothing after it.
        assert!(
            errors.contains("errorstat_MOVED:count=2\r"),
            "told once is enough: {errors}"
        );
        assert!(face.delete(key, TIMEOUT).expect("delete"));
    });
}

#[test]
fn a_dead_node_takes_only_its_own_keys_away() {
    let mut cluster = RedisCluster::start();
    for node in cluster.nodes() {
        node.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let backend = backend(&cluster.url());
    let keys: Vec<String> = (0..30).map(|i| format!("key{i}")).collect();
    let owners: Vec<usize> = keys.iter().map(|key| cluster.owner(key)).collect();
    assert!((0..3).all(|node| owners.contains(&node)));
    each_face(&backend, |face| {
        for key in &keys {
            face.set(key, key.as_bytes(), None, TIMEOUT).expect("set");
        }
    });
    cluster.nodes_mut()[2].kill();
    each_face(&backend, |face| {
        for (key, owner) in keys.iter().zip(&owners) {
            let start = Instant::now();
            match face.get(key, false, TIMEOUT) {
                Ok(found) => {
                    assert_ne!(*owner, 2);
                    assert_eq!(found.expect("an entry").value, *key);
                }
                Err(error) => {
                    assert_eq!(*owner, 2, "{error}");
                    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
                }
            }
            assert!(start.elapsed() < Duration::from_secs(1));
        }
    });
}

#[test]
fn a_cluster_is_found_through_any_living_seed() {
    let cluster = RedisCluster::start();
    let dead = free_port();
    let living = cluster.nodes()[1].port();
    each_face(
        &backend(&format!(
            "redis+cluster://127.0.0.1:{dead},127.0.0.1:{living}"
        )),
        |face| {
            for i in 0..30 {
                face.set(&format!("key{i}"), b"v", None, TIMEOUT)
                    .expect("set");
            }
        },
    );
    each_face(
        &backend(&format!("redis+cluster://127.0.0.1:{dead}")),
        |face| {
            let error = face
                .get("key", false, TIMEOUT)
                .expect_err("nobody is there");
            assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
        },
    );
}

#[test]
fn a_failover_is_followed() {
    let sentinels = RedisSentinels::start();
    let backend = backend(&sentinels.url());
    each_face(&backend, |face| {
        face.set("key", b"v", None, TIMEOUT).expect("set")
    });
    sentinels.fail_over();
    each_face(&backend, |face| {
        // The connections of before are to a replica now, or gone.
        wait_until("writing works again", || {
            face.set("key", b"w", None, TIMEOUT).is_ok()
        });
        assert_eq!(stored(face, "key").as_deref(), Some(&b"w"[..]));
    });
    sentinels.fail_over();
    each_face(&backend, |face| {
        wait_until("writing works again", || {
            face.set("key", b"x", None, TIMEOUT).is_ok()
        });
    });
}

#[test]
fn a_dead_master_is_succeeded() {
    let mut sentinels = RedisSentinels::start();
    let backend = backend(&sentinels.url());
    each_face(&backend, |face| {
        face.set("key", b"v", None, TIMEOUT).expect("set")
    });
    let master = sentinels.master();
    sentinels.servers_mut()[master].kill();
    each_face(&backend, |face| {
        wait_until("the successor serves", || {
            let start = Instant::now();
            let stored = face.set("key", b"w", None, TIMEOUT);
            assert!(start.elapsed() < Duration::from_secs(3));
            if let Err(error) = &stored {
                assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
            }
            stored.is_ok()
        });
    });
}

#[test]
fn a_frozen_master_is_succeeded() {
    let mut sentinels = RedisSentinels::start();
    let backend = backend(&sentinels.url());
    each_face(&backend, |face| {
        face.set("key", b"v", None, TIMEOUT).expect("set")
    });
    let master = sentinels.master();
    sentinels.servers_mut()[master].pause();
    each_face(&backend, |face| {
        wait_until("the successor serves", || {
            face.set("key", b"w", None, Duration::from_millis(300))
                .is_ok()
        });
    });
    sentinels.servers_mut()[master].resume();
}

#[test]
fn an_unknown_service_is_explained() {
    let sentinels = RedisSentinels::start();
    let url = sentinels.url().replace("/main", "/mian");
    let backend = backend(&url);
    assert_eq!(backend.name(), "redis");
    each_face(&backend, |face| {
        let error = face
            .get("key", false, TIMEOUT)
            .expect_err("no such service");
        assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
        assert!(error.message().contains("mian"), "{error}");
    });
}
