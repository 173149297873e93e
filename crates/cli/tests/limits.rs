//! What a server refuses or ends: too much, too often, too slowly.

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit_testkit::servers::CachekitServer;
use common::{Client, VERSIONS, Version, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Everything that the peer sends until it ends the connection, and how long that took.
async fn rest(mut stream: impl AsyncReadExt + Unpin) -> (String, Duration) {
    let started = Instant::now();
    let mut read = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut read)).await;
    assert!(ended.is_ok(), "the server keeps the connection");
    // A connection that is reset has ended too.
    (
        String::from_utf8_lossy(&read).into_owned(),
        started.elapsed(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_peers_are_dropped() {
    let server = CachekitServer::with(&[
        "--handshake-timeout",
        "2s",
        "--header-timeout",
        "1s",
        "--body-timeout",
        "1s",
        "--idle-timeout",
        "2s",
        "--min-rate",
        "1MiB",
    ]);
    let ca = server.ca();
    let port = server.port();
    let (most, least) = (Duration::from_secs(12), Duration::from_millis(200));

    // No handshake.
    let silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (_, took) = rest(silent).await;
    assert!((least..most).contains(&took), "{took:?}");
    // No request, in either version.
    for version in VERSIONS {
        let stream = common::tls(port, &ca, version).await.unwrap();
        let (_, took) = rest(stream).await;
        assert!(took < most, "{version:?}: {took:?}");
    }
    // Headers that never end.
    let mut stream = common::tls(port, &ca, Version::Http1).await.unwrap();
    stream
        .write_all(b"GET /v1/cache/a HTTP/1.1\r\nHost: x\r\nX-A: ")
        .await
        .unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let dribble = tokio::spawn(async move {
        while write.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let started = Instant::now();
    let mut sink = Vec::new();
    let ended = tokio::time::timeout(most, read.read_to_end(&mut sink)).await;
    assert!(
        ended.is_ok(),
        "headers may dribble for {:?}",
        started.elapsed()
    );
    dribble.abort();
    // A body that comes in drops.
    let mut stream = common::tls(port, &ca, Version::Http1).await.unwrap();
    let head = format!(
        "PUT /v1/cache/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 99999\r\n\r\n",
        server.key()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let dribble = tokio::spawn(async move {
        while write.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = vec![0; 12];
    tokio::time::timeout(most, read.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    dribble.abort();

    let client = Client::of(&server, Version::Http2).await;
    assert!(client.metric("cachekit_server_slow_peers_total").await >= 2);
    assert_eq!(client.put("large", vec![7; 3 << 20]).await.status, 200);
    // A connection that rests.
    let resting = Client::of(&server, Version::Http2).await;
    assert_eq!(resting.get("health").await.status, 200);
    eventually("the resting connection is closed", 20, async || {
        tokio::time::sleep(Duration::from_secs(3)).await;
        resting.try_send("GET", "health", &[], "").await.is_err()
    })
    .await;
    // Who is quick is served all the same.
    assert_eq!(
        Client::of(&server, Version::Http1)
            .await
            .get("large")
            .await
            .body
            .len(),
        3 << 20
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_rest_longer_than_headers_may_take() {
    let server = CachekitServer::with(&["--header-timeout", "1s", "--idle-timeout", "1m"]);
    let asked = format!(
        "HEAD /v1/cache/health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        server.key()
    );
    for ask in [&asked, "HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = common::tls(server.port(), &server.ca(), Version::Http1)
            .await
            .unwrap();
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = vec![0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 200 OK");
        let ended = async { while stream.read(&mut [0; 256]).await.unwrap() != 0 {} };
        let rest = tokio::time::timeout(Duration::from_millis(2500), ended).await;
        assert!(rest.is_err(), "the connection ended while it rested");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_takes_ends_the_connection() {
    let server = CachekitServer::with(&["--body-timeout", "1s", "--min-rate", "10MiB"]);
    let client = Client::of(&server, Version::Http2).await;
    assert_eq!(client.put("large", vec![7; 20 << 20]).await.status, 200);
    let mut stream = common::tls(server.port(), &server.ca(), Version::Http1)
        .await
        .unwrap();
    let head = format!(
        "GET /v1/cache/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        server.key()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    eventually("the memory is given back", 12, async || {
        client.metric("cachekit_server_slow_peers_total").await == 1
            && client.metric("cachekit_server_in_flight_bytes").await == 0
    })
    .await;
    let (read, _) = rest(stream).await;
    assert!(read.len() < 20 << 20, "all {} bytes came", read.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let server = CachekitServer::with(&["--max-value", "10000B", "--max-header-bytes", "8KiB"]);
    for version in VERSIONS {
        let client = Client::of(&server, version).await;
        assert_eq!(client.put("a", vec![1; 10_000]).await.status, 200);
        let refused = client.try_send("PUT", "a", &[], vec![1; 10_001]).await;
        if let Ok(answer) = refused {
            assert_eq!(
                (answer.status, answer.member("error").as_str()),
                (413, "too_large")
            );
        }
        let client = Client::of(&server, version).await;
        assert_eq!(client.get("a").await.body.len(), 10_000);
        let long = "h".repeat(20_000);
        let refused = client.try_send("GET", "a", &[("x-long", &long)], "").await;
        assert!(
            refused.map_or(true, |answer| answer.status == 431),
            "{version:?}"
        );
    }
    // A length that is not announced is counted.
    let mut stream = common::tls(server.port(), &server.ca(), Version::Http1)
        .await
        .unwrap();
    let head = format!(
        "PUT /v1/cache/b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.key()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("2000\r\n{}\r\n", "c".repeat(0x2000));
    stream.write_all(chunk.repeat(2).as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_on_their_way_never_take_more_than_the_budget() {
    let server = CachekitServer::with(&["--max-in-flight", "4MiB", "--max-value", "2MiB"]);
    let client = Client::of(&server, Version::Http2).await;
    // Eight uploads of which only a half each ever comes hold the budget between them.
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = common::tls(server.port(), &server.ca(), Version::Http1)
            .await
            .unwrap();
        let head = format!(
            "PUT /v1/cache/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 2000000\r\n\r\n",
            server.key()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let half = Bytes::from(vec![0; 1_000_000]);
        held.push(tokio::spawn(async move {
            let _ = stream.write_all(&half).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        }));
    }
    let mut most = 0;
    let started = Instant::now();
    while !held.iter().any(|upload| upload.is_finished()) {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "nobody was refused"
        );
        most = most.max(client.metric("cachekit_server_in_flight_bytes").await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!((2 << 20..=4 << 20).contains(&most), "{most}");
    // Those for whom there was no room in time were told so.
    let mut refused = 0;
    for upload in held {
        if upload.is_finished() {
            let answer = upload.await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            assert!(answer.contains("retry-after: 1"), "{answer}");
            refused += 1;
        } else {
            upload.abort();
        }
    }
    assert!((1..8).contains(&refused), "{refused}");
    eventually("the budget is free again", 5, async || {
        client.metric("cachekit_server_in_flight_bytes").await == 0
    })
    .await;
    assert_eq!(client.put("b", vec![1; 2 << 20]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_the_limit_wait() {
    let server = CachekitServer::with(&["--max-streams", "4"]);
    let client = Client::of(&server, Version::Http2).await;
    // With its answer the client knows the limit; before, it may open more and see them refused.
    assert_eq!(client.put("first", "v").await.status, 200);
    let client = std::sync::Arc::new(client);
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..200 {
        let client = client.clone();
        requests.spawn(async move { client.put(&format!("k{number}"), "v").await.status });
    }
    assert!(
        requests
            .join_all()
            .await
            .iter()
            .all(|status| *status == 200)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let server = CachekitServer::with(&["--requests-per-second", "2", "--burst", "3"]);
    let client = Client::of(&server, Version::Http2).await;
    for _ in 0..3 {
        assert_eq!(client.get("a").await.status, 404);
    }
    let mut limited = client.get("a").await;
    for _ in 0..100 {
        if limited.status == 429 {
            break;
        }
        limited = client.get("a").await;
    }
    assert_eq!(limited.member("error"), "rate_limited");
    assert_eq!(limited.header("retry-after"), Some("1"));
    // Another tenant has a rate of its own.
    let other = server.create_key(&["--tenant", "other"]);
    let other = Client::with_key(&server, &other, Version::Http2).await;
    eventually("the key is known", 10, async || {
        other.get("a").await.status == 404
    })
    .await;
    eventually("it may ask again", 10, async || {
        tokio::time::sleep(Duration::from_millis(600)).await;
        client.get("a").await.status == 404
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_each_tenants_own() {
    let dir = cachekit_testkit::TempDir::new();
    let file = dir.path().join("server.toml");
    let content = "quota_policy = \"reject\"\n[tenants.tests]\nmax_entries = 3\nmax_bytes = \"10KiB\"\ndefault_ttl = \"90s\"\n";
    std::fs::write(&file, content).unwrap();
    let server = CachekitServer::with(&["--config", file.to_str().unwrap()]);
    let client = Client::of(&server, Version::Http2).await;
    for key in ["a", "b", "c", "a"] {
        assert_eq!(client.put(key, "v").await.status, 200);
    }
    let over = client.put("d", "v").await;
    assert_eq!(
        (over.status, over.member("error").as_str()),
        (429, "over_quota")
    );
    assert_eq!(over.header("retry-after"), Some("60"));
    let large = client.put("a", vec![0; 10 << 10]).await;
    assert_eq!(
        (large.status, large.member("error").as_str()),
        (413, "too_large")
    );
    assert_eq!(client.get("a").await.text(), "v");
    let ttl: u64 = client.get("a/ttl").await.member("ttl").parse().unwrap();
    assert!((85..=90).contains(&ttl));
    client.delete("c").await;
    assert_eq!(client.put("d", "v").await.status, 200);

    let other = server.create_key(&["--tenant", "other"]);
    let other = Client::with_key(&server, &other, Version::Http2).await;
    eventually("the key is known", 10, async || {
        other.put("a", "v").await.status == 200
    })
    .await;
    for key in 0..20 {
        assert_eq!(other.put(&key.to_string(), vec![0; 1000]).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_bounded_and_evicts() {
    let server = CachekitServer::with(&["--max-bytes", "2MiB"]);
    let client = Client::of(&server, Version::Http2).await;
    for number in 0..300 {
        assert_eq!(
            client
                .put(&format!("k{number}"), vec![0; 20_000])
                .await
                .status,
            200
        );
        assert!(client.metric("cachekit_server_stored_bytes").await <= 2 << 20);
    }
    assert!(client.metric("cachekit_server_evicted_total").await >= 190);
    assert_eq!(client.get("k299").await.status, 200);
    assert_eq!(client.get("k0").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_operators() {
    let server = CachekitServer::with(&["--metrics-token", "s3cret"]);
    let client = Client::of(&server, Version::Http2).await;
    let refused = client
        .try_send_at("GET", "/metrics", &[], "")
        .await
        .unwrap();
    assert_eq!(refused.status, 403);
    let operator = Client::with_key(&server, "s3cret", Version::Http2).await;
    let metrics = operator
        .try_send_at("GET", "/metrics", &[], "")
        .await
        .unwrap();
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.text().contains("cachekit_server_connections 2"),
        "{}",
        metrics.text()
    );
}
