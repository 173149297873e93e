//! The backend contract on real Redis servers in every arrangement.

use std::sync::Arc;

use cachekit_backends::RedisBackend;
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
