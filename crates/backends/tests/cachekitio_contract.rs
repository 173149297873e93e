//! The backend contract on a real `cachekit serve`, over TLS.

use std::time::Duration;

use cachekit_backends::{Backend, CachekitIOBackend, CachekitIOConfig, ErrorKind};
use cachekit_testkit::contract;
use cachekit_testkit::proxy::Proxy;
use cachekit_testkit::servers::{CachekitServer, RedisServer};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A backend of the server behind this port. Each test runs in a process of its own, whose trust
/// this changes.
fn backend(server: &CachekitServer, port: u16) -> CachekitIOBackend {
    // SAFETY: no other thread of this process reads or writes the environment.
    unsafe { std::env::set_var("SSL_CERT_FILE", server.ca()) };
    let url = format!("https://127.0.0.1:{port}");
    let config = CachekitIOConfig::with_custom_host(&url, server.key());
    CachekitIOBackend::new(config.expect("a good URL"))
}

#[test]
fn the_embedded_store() {
    let server = CachekitServer::start();
    contract::check(&backend(&server, server.port()));
}

#[test]
fn redis_behind_it() {
    let redis = RedisServer::start();
    let server = CachekitServer::with(&["--store", "redis", "--redis-url", &redis.url()]);
    contract::check(&backend(&server, server.port()));
}

#[test]
fn faults_on_the_way() {
    let server = CachekitServer::start();
    let proxy = Proxy::start(server.port());
    let backend = backend(&server, proxy.port());
    contract::check_faults(&backend, &proxy, b"HTTP/1.1 400 Bad Request\r\n\r\n");
}

#[test]
fn a_value_past_the_servers_limit() {
    let limit = 1 << 20;
    let server = CachekitServer::with(&["--max-value", "1MiB"]);
    let backend = backend(&server, server.port());
    contract::each_face(&backend, |face| {
        face.set("k", b"kept", None, TIMEOUT).expect("set");
        for size in [limit + 1, 100 << 20] {
            let error = face.set("k", &vec![7; size], None, TIMEOUT);
            let error = error.expect_err("it is past the limit");
            assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
            assert!(error.message().contains("413"), "{error}");
        }
        let found = face.get("k", false, TIMEOUT).expect("get");
        assert_eq!(found.expect("an entry").value, "kept");
        face.set("k", &vec![7; limit], None, TIMEOUT)
            .expect("what is at the limit is taken");
    });
}

#[test]
fn a_server_that_was_restarted() {
    let mut server = CachekitServer::start();
    let backend = backend(&server, server.port());
    contract::each_face(&backend, |face| {
        face.set("k", b"v", None, TIMEOUT).expect("set");
        server.restart();
        let found = face.get("k", false, TIMEOUT).expect("get");
        assert_eq!(found.expect("it is durable").value, "v");
        server.kill();
        let error = face.get("k", false, Duration::from_millis(300));
        let kind = error.expect_err("it is down").kind();
        assert!(matches!(kind, ErrorKind::Transient | ErrorKind::Timeout));
        server.restart();
        assert!(face.exists("k", TIMEOUT).expect("exists"));
    });
    assert!(backend.health(TIMEOUT).expect("health").healthy);
}
