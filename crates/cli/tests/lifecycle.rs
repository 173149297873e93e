//! How a server lives: what survives a crash, how it ends, and how keys and certificates change.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cachekit::backends::{Backend, CachekitIOBackend, CachekitIOConfig};
use cachekit_testkit::TempDir;
use cachekit_testkit::servers::{CachekitServer, Certificates, wait_until};
use common::{Client, Version, eventually};

/// The value of the write with this number: its length and bytes tell which write it was.
fn value(writer: usize, number: u32) -> Vec<u8> {
    let length = (number as usize * 7919 + writer) % 30_000;
    let mut value = format!("{writer}:{number}:").into_bytes();
    value.resize(value.len() + length, (number % 251) as u8);
    value
}

/// Writers overwrite keys of their own until the server is killed; afterwards each key must hold
/// the last acknowledged write or the one that was on its way.
async fn every_acknowledged_write_survives(flags: &[&str]) {
    let mut server = CachekitServer::with(flags);
    for round in 0..3 {
        let mut writers = tokio::task::JoinSet::new();
        let writes = Arc::new(AtomicUsize::new(0));
        for writer in 0..8 {
            let client = Client::of(&server, Version::Http2).await;
            let writes = writes.clone();
            writers.spawn(async move {
                let mut acknowledged: HashMap<u32, u32> = HashMap::new();
                for number in 1.. {
                    let key = number % 13;
                    let path = format!("{round}-{writer}-{key}");
                    let sent = client
                        .try_send("PUT", &path, &[], value(writer, number))
                        .await;
                    match sent {
                        Ok(answer) if answer.status == 200 => {
                            acknowledged.insert(key, number);
                            writes.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(answer) => panic!("{answer:?}"),
                        Err(_) => break,
                    }
                }
                (writer, acknowledged)
            });
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        // However slow the machine or its disk.
        eventually("there are writes to lose", 30, async || {
            writes.load(Ordering::Relaxed) >= 200
        })
        .await;
        server.kill();
        let written = writers.join_all().await;
        server.restart();
        let client = Client::of(&server, Version::Http2).await;
        let mut checked = 0;
        for (writer, acknowledged) in written {
            for (key, number) in acknowledged {
                let found = client.get(&format!("{round}-{writer}-{key}")).await;
                // The write behind the last acknowledged one may or may not have been made.
                let may_be = [number, number + 13].map(|number| value(writer, number));
                assert_eq!(found.status, 200, "write {number} of {writer} is lost");
                assert!(
                    may_be.iter().any(|value| found.body == value[..]),
                    "key {key} of {writer} holds {:?}…, not write {number}",
                    String::from_utf8_lossy(&found.body[..12.min(found.body.len())])
                );
                checked += 1;
            }
        }
        assert!(checked > 20, "only {checked} writes before the crash");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_no_acknowledged_write() {
    every_acknowledged_write_survives(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_when_writes_are_synced() {
    every_acknowledged_write_survives(&["--durability", "power"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_survive_a_crash() {
    let mut server = CachekitServer::start();
    let client = Client::of(&server, Version::Http2).await;
    client.put("a", "v").await;
    client.put("b", "v").await;
    assert_eq!(client.delete("a").await.status, 200);
    server.kill();
    server.restart();
    let client = Client::of(&server, Version::Http2).await;
    assert_eq!(client.get("a").await.status, 404);
    assert_eq!(client.get("b").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_loses_nothing_and_turns_unready_first() {
    let mut server =
        CachekitServer::with(&["--drain-delay", "4s", "--admin-listen", "127.0.0.1:0"]);
    let working = Arc::new(AtomicBool::new(true));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..6 {
        let version = [Version::Http1, Version::Http2][writer % 2];
        let client = Client::of(&server, version).await;
        let working = working.clone();
        writers.spawn(async move {
            let mut last = None;
            for number in 0.. {
                // What is refused because the connection has ended was never begun.
                let key = format!("{writer}-{number}");
                match client
                    .try_send("PUT", &key, &[], value(writer, number))
                    .await
                {
                    Ok(answer) => assert_eq!(answer.status, 200, "{answer:?}"),
                    Err(_) => break,
                }
                last = Some(number);
                assert!(
                    working.load(Ordering::Relaxed),
                    "the connection never ended"
                );
            }
            (writer, last)
        });
    }
    let watcher = Client::of(&server, Version::Http2).await;
    assert_eq!(watcher.get("health").await.status, 200);
    server.signal("TERM");
    eventually("it says that it drains", 3, async || {
        let ready = watcher.try_send_at("GET", "/readyz", &[], "").await;
        ready.is_ok_and(|ready| ready.status == 503 && ready.member("status") == "draining")
    })
    .await;
    // It still serves until balancers have noticed.
    assert_eq!(watcher.put("during", "v").await.status, 200);
    wait_until("the server has ended", || !server.is_running());
    working.store(false, Ordering::Relaxed);
    let written = writers.join_all().await;
    assert!(
        server.log().contains("\"message\":\"ended\""),
        "{}",
        server.log()
    );
    server.restart();
    let client = Client::of(&server, Version::Http2).await;
    assert_eq!(client.get("during").await.status, 200);
    for (writer, last) in written {
        let last = last.expect("every writer wrote something");
        for number in 0..=last {
            let found = client.get(&format!("{writer}-{number}")).await;
            assert!(
                found.body == value(writer, number),
                "write {number} of {writer}"
            );
        }
    }
}

/// A blocking client reads its connection only while it asks something, so that it hears of nothing.
#[test]
fn an_idle_blocking_client_does_not_hold_up_a_drain() {
    let mut server = CachekitServer::start();
    // SAFETY: no other thread of this process, which is this test's own, reads or writes the
    // environment.
    unsafe { std::env::set_var("SSL_CERT_FILE", server.ca()) };
    let config = CachekitIOConfig::with_custom_host(&server.url(), server.key());
    let client = CachekitIOBackend::new(config.expect("a good URL"));
    let timeout = Duration::from_secs(10);
    client.set("k", b"v", None, timeout).expect("set");
    let started = Instant::now();
    server.signal("TERM");
    wait_until("the server has ended", || !server.is_running());
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(!server.log().contains("cut off"), "{}", server.log());
    server.restart();
    let found = client.get("k", false, timeout).expect("it connects again");
    assert_eq!(found.expect("an entry").value, "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_outlasts_the_drain_is_cut_off() {
    let mut server = CachekitServer::with(&["--drain-timeout", "300ms"]);
    let mut stream = common::tls(server.port(), &server.ca(), Version::Http1)
        .await
        .unwrap();
    let head = format!(
        "PUT /v1/cache/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 9\r\n\r\nhalf",
        server.key()
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes())
        .await
        .unwrap();
    common::under_way(&server).await;
    let started = Instant::now();
    server.signal("TERM");
    wait_until("the server has ended", || !server.is_running());
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    assert!(server.log().contains("cut off"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go_while_the_server_runs() {
    let server = CachekitServer::start();
    let key = server.create_key(&["--tenant", "new", "--label", "for a test"]);
    let client = Client::with_key(&server, &key, Version::Http2).await;
    eventually("the new key is known", 10, async || {
        client.put("a", "v").await.status == 200
    })
    .await;

    let run_at = |directory: &Path, arguments: &[&str]| {
        let mut command = Command::new(CachekitServer::program());
        command.arg("keys").args(arguments);
        command.arg("--data-dir").arg(directory);
        command.output().unwrap()
    };
    let run = |arguments: &[&str]| run_at(server.directory(), arguments);
    let nowhere = run_at(&server.directory().join("no"), &["list"]);
    let told = String::from_utf8(nowhere.stderr).unwrap();
    assert!(
        nowhere.status.success() && told.contains("keys create"),
        "{told}"
    );
    let listed = run(&["list", "--json"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("for a test") && !listed.contains(&key),
        "{listed}"
    );
    let id = &key["ck_live_".len()..][..12];
    assert!(run(&["revoke", id]).status.success());
    eventually("the key is refused", 10, async || {
        client.get("a").await.status == 401
    })
    .await;
    assert_eq!(client.put("a", "w").await.status, 401);

    let unknown = run(&["revoke", "000000000000"]);
    assert!(!unknown.status.success());
    let error = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        error.contains("no key has the id \"000000000000\""),
        "{error}"
    );
    assert!(!run(&["create", "--tenant", "Not A Name"]).status.success());

    // A file that cannot be read changes nothing but the log.
    let own = Client::of(&server, Version::Http2).await;
    std::fs::write(server.directory().join("keys.json"), "{").unwrap();
    wait_until("it complains", || {
        server.log().contains("the keys in use stay")
    });
    assert_eq!(own.get("health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_for_new_connections() {
    let server = CachekitServer::start();
    let second = Certificates::new();
    let (certificate, key) = server.certificate();
    let open = Client::of(&server, Version::Http2).await;
    let (new_certificate, new_key) = second.server();
    std::fs::copy(new_key, key).unwrap();
    std::fs::copy(new_certificate, certificate).unwrap();
    eventually("the new certificate is used", 10, async || {
        Client::connect(server.port(), &second.ca(), server.key(), Version::Http2)
            .await
            .is_ok()
    })
    .await;
    let old = Client::connect(server.port(), &server.ca(), server.key(), Version::Http2).await;
    assert!(old.is_err(), "the old certificate is still used");
    assert_eq!(open.get("health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_no_keys_and_no_values() {
    let server = CachekitServer::with(&["--log-level", "trace"]);
    for version in common::VERSIONS {
        let client = Client::of(&server, version).await;
        client.put("very-secret-name", "very-secret-value").await;
        client.get("very-secret-name").await;
        client.lock("very-secret-name", 1000).await;
        client.get("very-secret-name%20").await;
        let stranger = Client::with_key(&server, "ck_live_wrong-secret", version).await;
        stranger.get("very-secret-name").await;
    }
    wait_until("it has logged", || {
        server.log().contains("\"operation\":\"lock\"")
    });
    let log = server.log();
    for secret in ["very-secret", "wrong-secret", server.key()] {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(
        log.lines()
            .all(|line| line.starts_with('{') && line.ends_with('}')),
        "{log}"
    );
}

#[test]
fn a_wrong_setting_is_named_with_its_source() {
    let serve = |flags: &[&str], environment: &[(&str, &str)]| {
        let output = Command::new(CachekitServer::program())
            .arg("serve")
            .args(flags)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    for (flags, environment, expected) in [
        (
            &["--max-value", "big"][..],
            &[][..],
            "--max-value: \"big\" is not a size",
        ),
        (
            &[],
            &[("CACHEKIT_SERVER_LISTEN", "here")],
            "CACHEKIT_SERVER_LISTEN: \"here\" is not",
        ),
        (&[], &[], "tls_cert and tls_key are needed"),
        (
            &["--config", "/nowhere.toml"],
            &[],
            "/nowhere.toml: No such file",
        ),
        (
            &["--plain", "--listen", "0.0.0.0:1"],
            &[],
            "--plain: HTTP without TLS",
        ),
        (
            &["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.key"],
            &[("CACHEKIT_SERVER_DATA_DIR", "/tmp")],
            "/nowhere.pem",
        ),
    ] {
        let error = serve(flags, environment);
        assert!(error.contains(expected), "{error}");
        assert_eq!(
            error
                .lines()
                .filter(|line| line.starts_with("cachekit: "))
                .count(),
            1,
            "{error}"
        );
    }
}

#[test]
fn keys_go_to_the_file_of_the_server_with_the_same_configuration() {
    let dir = TempDir::new();
    let config = dir.path().join("server.toml");
    let data = dir.path().join("data");
    std::fs::write(&config, format!("data_dir = {data:?}")).unwrap();
    let output = Command::new(CachekitServer::program())
        .args(["keys", "create", "--tenant", "acme", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(data.join("keys.json").is_file());
}

#[test]
fn a_setting_without_its_value_is_refused() {
    let output = Command::new(CachekitServer::program())
        .args(["serve", "--data-dir", "--plain"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
