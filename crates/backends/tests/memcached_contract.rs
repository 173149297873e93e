//! The backend contract on real memcached servers in every arrangement.

use std::sync::Arc;

use cachekit_backends::memcached::Routing;
use cachekit_backends::{MemcachedBackend, MemcachedConfig};
use cachekit_testkit::contract;
use cachekit_testkit::proxy::Proxy;
use cachekit_testkit::servers::{Certificates, MemcachedOptions, MemcachedServer};

fn backend(config: MemcachedConfig) -> MemcachedBackend {
    // The suite stores more than servers take by default.
    MemcachedBackend::new(config.max_item_size(0))
}

fn of(server: &MemcachedServer) -> MemcachedConfig {
    MemcachedConfig::from_url(&server.url()).expect("a good URL")
}

#[test]
fn one_server() {
    let server = MemcachedServer::start();
    contract::check(&backend(of(&server)));
}

#[test]
fn three_servers_and_a_prefix() {
    let servers = [(); 3].map(|()| MemcachedServer::start());
    for (routing, prefix) in [(Routing::Rendezvous, "r:"), (Routing::Ketama, "k:")] {
        let names = servers.iter().map(MemcachedServer::name);
        let config = MemcachedConfig::from_servers(names).expect("good names");
        contract::check(&backend(config.routing(routing).key_prefix(prefix)));
    }
    for server in &servers {
        let stored = server.command("stats items");
        assert_ne!(stored, "END", "no item ever was on {}", server.name());
    }
}

#[test]
fn a_unix_socket() {
    let server = MemcachedServer::start_with(MemcachedOptions {
        unix: true,
        ..MemcachedOptions::default()
    });
    contract::check(&backend(of(&server)));
}

#[test]
fn tls_and_a_login() {
    let server = MemcachedServer::start_with(MemcachedOptions {
        tls: Some(Arc::new(Certificates::new())),
        login: Some(("bob".to_owned(), "correct-horse".to_owned())),
        ..MemcachedOptions::default()
    });
    contract::check(&backend(of(&server)));
}

#[test]
fn faults_on_the_way() {
    let server = MemcachedServer::start();
    let proxy = Proxy::start(server.port());
    let config = MemcachedConfig::from_servers([format!("127.0.0.1:{}", proxy.port())]);
    let backend = backend(config.expect("a good name"));
    contract::check_faults(&backend, &proxy, b"HTTP/1.1 400 Bad Request\r\n\r\n");
}
