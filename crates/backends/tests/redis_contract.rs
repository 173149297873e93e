//! The backend contract on real Redis servers in every arrangement.

use std::sync::Arc;
use std::time::Duration;

use cachekit_backends::{Backend, Health, LockReply, RedisBackend};
use cachekit_testkit::contract;
use cachekit_testkit::proxy::Proxy;
use cachekit_testkit::servers::{
    Certificates, RedisCluster, RedisOptions, RedisSentinels, RedisServer,
};

fn backend(url: &str) -> RedisBackend {
    RedisBackend::from_url(url).expect("a good URL")
}

#[test]
fn one_server() {
    let server = RedisServer::start();
    contract::check(&backend(&server.url()));
}

#[test]
fn a_unix_socket_with_a_password() {
    let server = RedisServer::start_with(RedisOptions {
        password: Some("secret word".replace(' ', "-")),
        ..RedisOptions::default()
    });
    contract::check(&backend(&server.unix_url()));
    contract::check(&backend(&format!("{}/3", server.url())));
}

#[test]
fn tls() {
    let server = RedisServer::start_with(RedisOptions {
        tls: Some(Arc::new(Certificates::new())),
        tls_clients: true,
        ..RedisOptions::default()
    });
    contract::check(&backend(&server.tls_url()));
}

#[test]
fn a_cluster() {
    let cluster = RedisCluster::start();
    contract::check(&backend(&cluster.url()));
}

#[test]
fn sentinels() {
    let sentinels = RedisSentinels::start();
    contract::check(&backend(&sentinels.url()));
}

#[test]
fn faults_on_the_way() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let backend = backend(&format!("redis://127.0.0.1:{}", proxy.port()));
    contract::check_faults(&backend, &proxy, b"HTTP/1.1 400 Bad Request\r\n\r\n");
}

const TIMEOUT: Duration = Duration::from_secs(5);

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a poller")
        .block_on(future)
}

#[test]
fn an_entry_with_a_locks_name_is_nobody_to_wait_for() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let (locking, aio) = (
        backend.lock().expect("Redis has locks"),
        backend.aio().expect("Redis is asynchronous too"),
    );
    let entry = b"CK\x03 an entry";
    backend
        .set("key:lock", entry, None, TIMEOUT)
        .expect("the store is there");
    let lease = Duration::from_secs(60);
    let alone = LockReply::Acquired(None);
    let reply = locking.try_lock("key", "a", lease, TIMEOUT);
    assert_eq!(reply.expect("it answers"), alone);
    let reply = block_on(aio.try_lock("key", "b", lease, TIMEOUT));
    assert_eq!(reply.expect("it answers"), alone);
    let renewed = locking.renew("key", "a", lease, TIMEOUT);
    assert!(!renewed.expect("it answers"));
    locking
        .set_and_unlock("key", b"value", None, "a", TIMEOUT)
        .expect("it is stored");
    let released = locking.unlock("key", "b", TIMEOUT);
    assert!(!released.expect("it answers"));
    let found = |key| backend.get(key, false, TIMEOUT).expect("it answers");
    assert_eq!(found("key").expect("an entry").value, b"value"[..]);
    assert_eq!(found("key:lock").expect("an entry").value, entry[..]);

    // Another SDK's holder is waited for, whatever its token looks like.
    let other = b"6f1c1f0e-6ad1-4a4e-9f54-5d3a6f3a1c11";
    backend
        .set("other:lock", other, None, TIMEOUT)
        .expect("the store is there");
    let reply = locking.try_lock("other", "a", lease, TIMEOUT);
    assert!(matches!(reply, Ok(LockReply::Held { .. })), "{reply:?}");
}

#[test]
fn both_health_checks_tell_of_the_pool() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let aio = backend.aio().expect("Redis is asynchronous too");
    let names = |health: Health| -> Vec<String> {
        health.details.into_iter().map(|(name, _)| name).collect()
    };
    let blocking = names(backend.health(TIMEOUT).expect("it answers"));
    for name in [
        "created_connections",
        "available_connections",
        "in_use_connections",
    ] {
        assert!(blocking.iter().any(|found| found == name), "{blocking:?}");
    }
    let awaited = names(block_on(aio.health(TIMEOUT)).expect("it answers"));
    assert_eq!(blocking, awaited);
}
