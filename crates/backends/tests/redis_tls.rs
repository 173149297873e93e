//! Which servers are trusted over TLS, seen through both faces.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cachekit_backends::{ErrorKind, RedisBackend};
use cachekit_testkit::contract::each_face;
use cachekit_testkit::servers::{Certificates, RedisOptions, RedisServer};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Names the URL for [`roots_of_the_environment`] when it runs in a process of its own.
const URL: &str = "CACHEKIT_TEST_TLS_URL";

fn server(tls_clients: bool) -> (RedisServer, Arc<Certificates>) {
    let certificates = Arc::new(Certificates::new());
    let server = RedisServer::start_with(RedisOptions {
        tls: Some(Arc::clone(&certificates)),
        tls_clients,
        ..RedisOptions::default()
    });
    (server, certificates)
}

fn works(url: &str) {
    let backend = RedisBackend::from_url(url).expect("a good URL");
    each_face(&backend, |face| {
        face.set("key", b"v", None, TIMEOUT)
            .unwrap_or_else(|error| panic!("{url}: {error}"));
    });
}

fn fails(url: &str, kind: ErrorKind) -> String {
    let backend = RedisBackend::from_url(url).expect("a good URL");
    let mut message = String::new();
    each_face(&backend, |face| {
        let error = face.set("key", b"v", None, TIMEOUT).expect_err(url);
        assert_eq!(error.kind(), kind, "{error}");
        message = error.to_string();
    });
    message
}

#[test]
fn only_the_named_authority_is_trusted() {
    let (server, certificates) = server(false);
    works(&server.tls_url());
    let bare = format!("rediss://127.0.0.1:{}", server.tls_port());
    assert!(fails(&bare, ErrorKind::Transient).contains("ssl_ca"));
    works(&format!("{bare}?insecure=true"));
    works(&format!("{bare}?ssl_cert_reqs=none"));
    let ca = certificates.ca();
    works(&format!(
        "rediss://localhost:{}?ssl_ca={}",
        server.tls_port(),
        ca.display()
    ));
    let other = Certificates::new();
    fails(
        &format!("{bare}?ssl_ca={}", other.ca().display()),
        ErrorKind::Transient,
    );
    let missing = fails(
        &format!("{bare}?ssl_ca=/nonexistent.pem"),
        ErrorKind::Permanent,
    );
    assert!(missing.contains("/nonexistent.pem"), "{missing}");
    // A key is no certificate.
    let (_, key) = certificates.server();
    fails(
        &format!("{bare}?ssl_ca={}", key.display()),
        ErrorKind::Permanent,
    );
}

#[test]
fn clients_show_their_certificates() {
    let (server, certificates) = server(true);
    works(&server.tls_url());
    let ca = certificates.ca();
    let without = format!(
        "rediss://127.0.0.1:{}?ssl_ca={}",
        server.tls_port(),
        ca.display()
    );
    fails(&without, ErrorKind::Transient);
    let (certificate, _) = certificates.client();
    fails(
        &format!("{without}&ssl_cert={}", certificate.display()),
        ErrorKind::Permanent,
    );
}

#[test]
fn a_server_without_tls_is_not_waited_for() {
    let server = RedisServer::start();
    // It takes the handshake for the beginning of a command.
    fails(
        &format!("rediss://127.0.0.1:{}", server.port()),
        ErrorKind::Timeout,
    );
}

/// Runs [`roots_of_the_environment`] in a process with one more variable.
fn with_environment(url: &str, name: &str, value: &std::path::Path) {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "roots_of_the_environment"])
        .env_remove("SSL_CERT_FILE")
        .env_remove("SSL_CERT_DIR")
        .env_remove("REQUESTS_CA_BUNDLE")
        .env(URL, url)
        .env(name, value)
        .output()
        .expect("this test runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}: {text}");
}

#[test]
fn roots_of_the_environment() {
    if let Ok(url) = std::env::var(URL) {
        works(&url);
        return;
    }
    let (server, certificates) = server(false);
    let url = format!("rediss://127.0.0.1:{}", server.tls_port());
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"] {
        with_environment(&url, name, &certificates.ca());
    }
}
