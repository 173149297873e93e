//! The whole API against the real program, over both versions of HTTP and every kind of store.

mod common;

use std::time::{Duration, Instant};

use cachekit_testkit::servers::{CachekitServer, RedisCluster, RedisSentinels, RedisServer};
use common::{Answer, Client, VERSIONS, Version, eventually};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// What every deployment must do. Each version of HTTP has keys of its own.
async fn conforms(server: &CachekitServer) {
    for version in VERSIONS {
        let client = Client::of(server, version).await;
        let at = |key: &str| format!("{version:?}:{key}");
        entries(&client, &at).await;
        lives(&client, &at).await;
        locks(&client, &at).await;
        fills(&client, &at).await;
        refusals(&client, &at).await;
        tenants(server, version, &at).await;
        permissions(server, version, &at).await;
        health(&client).await;
    }
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.member("error").as_str()),
        (status, code),
        "{answer:?}"
    );
    assert!(answer.member("reason").len() > 10, "{answer:?}");
}

async fn entries(client: &Client, at: &impl Fn(&str) -> String) {
    let key = at("entry");
    refused(&client.get(&key).await, 404, "not_found");
    refused(&client.delete(&key).await, 404, "not_found");
    let head = client.send("HEAD", &key, &[], "").await;
    assert_eq!((head.status, head.body.len()), (404, 0));

    let every_byte: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    for value in [&b"x"[..], b"", b"\0\xff\r\n", &every_byte] {
        let stored = client.put(&key, value.to_vec()).await;
        assert_eq!((stored.status, stored.body.len()), (200, 0));
        let got = client.get(&key).await;
        assert_eq!(got.status, 200);
        assert!(got.body == value, "{} bytes came back", got.body.len());
        assert_eq!(got.header("content-type"), Some("application/octet-stream"));
        assert_eq!(got.header("x-cachekit-freshness"), Some("fresh"));
        let head = client.send("HEAD", &key, &[], "").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(
            head.header("content-length"),
            Some(&*value.len().to_string())
        );
    }
    assert_eq!(client.delete(&key).await.status, 200);
    refused(&client.get(&key).await, 404, "not_found");

    // A percent-encoded key is the key.
    assert_eq!(client.put(&at("ns%3Aa"), "encoded").await.status, 200);
    assert_eq!(client.get(&at("ns:a")).await.text(), "encoded");
    let longest = format!("{}{}", at(""), "k".repeat(400 - at("").len()));
    assert_eq!(client.put(&longest, "long").await.status, 200);
    assert_eq!(client.get(&longest).await.text(), "long");
    for sent in ["application/octet-stream", "Application/Octet-Stream"] {
        let typed = [("content-type", sent)];
        assert_eq!(client.send("PUT", &key, &typed, "v").await.status, 200);
    }
}

async fn ttl(client: &Client, key: &str) -> u64 {
    let answer = client.get(&format!("{key}/ttl")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.member("ttl").parse().unwrap()
}

async fn lives(client: &Client, at: &impl Fn(&str) -> String) {
    let key = at("life");
    let path = format!("{key}/ttl");
    refused(&client.get(&path).await, 404, "not_found");
    let patched = client.send("PATCH", &path, &JSON, r#"{"ttl":60}"#).await;
    refused(&patched, 404, "not_found");

    // Without a TTL it is the tenant's default, an hour.
    client.put(&key, "v").await;
    assert!((3595..=3600).contains(&ttl(client, &key).await));
    let both = [("x-ttl", "7"), ("x-cachekit-ttl", "2592000")];
    client.send("PUT", &key, &both, "v").await;
    assert!((2_591_990..=2_592_000).contains(&ttl(client, &key).await));
    client.send("PUT", &key, &both[..1], "v").await;
    assert!((5..=7).contains(&ttl(client, &key).await));
    let patched = client.send("PATCH", &path, &JSON, r#"{"ttl":100}"#).await;
    assert_eq!(
        (patched.status, patched.member("ttl").as_str()),
        (200, "100")
    );
    assert!((95..=100).contains(&ttl(client, &key).await));
    // The published clients send their usual content type with it.
    let usual = [("content-type", "application/octet-stream")];
    let patched = client.send("PATCH", &path, &usual, r#"{"ttl":50}"#).await;
    assert_eq!(patched.status, 200);
    let remaining = client.get(&key).await;
    let remaining: u64 = remaining.header("x-cachekit-ttl").unwrap().parse().unwrap();
    assert!((45..=50).contains(&remaining));

    // Past its TTL it is stale for so long, and then gone.
    let (brief, stale) = (at("brief"), at("stale"));
    client
        .send("PUT", &brief, &[("x-cachekit-ttl", "1")], "v")
        .await;
    let swr = [("x-cachekit-ttl", "1"), ("x-cachekit-stale-ttl", "60")];
    client.send("PUT", &stale, &swr, "v").await;
    eventually("the entry turns stale", 10, async || {
        client.get(&stale).await.header("x-cachekit-freshness") == Some("stale")
    })
    .await;
    refused(&client.get(&brief).await, 404, "not_found");
    let got = client.get(&stale).await;
    assert_eq!((got.status, got.text()), (200, "v"));
    assert_eq!(got.header("x-cachekit-freshness"), Some("stale"));
    let head = client.send("HEAD", &stale, &[], "").await;
    assert_eq!(head.header("x-cachekit-freshness"), Some("stale"));
    assert_eq!(ttl(client, &stale).await, 0);
    let fresh = format!("{stale}/ttl");
    client.send("PATCH", &fresh, &JSON, r#"{"ttl":60}"#).await;
    assert_eq!(
        client.get(&stale).await.header("x-cachekit-freshness"),
        Some("fresh")
    );
}

async fn locks(client: &Client, at: &impl Fn(&str) -> String) {
    let key = at("lock");
    let path = format!("{key}/lock");
    let taken = client.lock(&key, 30_000).await;
    assert_eq!(taken.status, 200, "{taken:?}");
    let id = taken.member("lock_id");
    assert_eq!(id.len(), 32);
    refused(&client.lock(&key, 30_000).await, 409, "held");
    // A lock is no entry, and an entry's name is no lock.
    refused(&client.get(&key).await, 404, "not_found");
    client.put(&at("lock:lock"), "v").await;
    refused(&client.lock(&key, 30_000).await, 409, "held");

    let wrong = [("x-cachekit-lock-id", "00000000000000000000000000000000")];
    refused(
        &client.send("DELETE", &path, &wrong, "").await,
        404,
        "not_held",
    );
    refused(
        &client.send("DELETE", &path, &[], "").await,
        400,
        "no_lock_id",
    );
    let odd = [("x-cachekit-lock-id", "x")];
    refused(
        &client.send("DELETE", &path, &odd, "").await,
        400,
        "bad_lock_id",
    );
    // Its holder may extend the lease, nobody else may.
    let held = [JSON[0], ("x-cachekit-lock-id", &id)];
    let renewed = client
        .send("POST", &path, &held, r#"{"timeout_ms":30000}"#)
        .await;
    assert_eq!(
        (renewed.status, renewed.member("lock_id")),
        (200, id.clone())
    );
    let other = [JSON[0], wrong[0]];
    let renewed = client
        .send("POST", &path, &other, r#"{"timeout_ms":30000}"#)
        .await;
    refused(&renewed, 409, "held");

    let released = client.send("DELETE", &path, &held[1..], "").await;
    assert_eq!(released.status, 200);
    refused(
        &client.send("DELETE", &path, &held[1..], "").await,
        404,
        "not_held",
    );
    let id = client.lock(&key, 30_000).await.member("lock_id");
    let by_query = format!("{path}?x=1&lock_id={id}");
    assert_eq!(client.delete(&by_query).await.status, 200);

    // A lease ends by itself.
    assert_eq!(client.lock(&key, 300).await.status, 200);
    eventually("the lease ends", 10, async || {
        client.lock(&key, 30_000).await.status == 200
    })
    .await;
}

/// What a lock is for: a value is stored by its holder alone, and not after an invalidation.
async fn fills(client: &Client, at: &impl Fn(&str) -> String) {
    const ID: &str = "x-cachekit-lock-id";
    const ANYBODY: [(&str, &str); 1] = [(ID, "*")];
    let key = at("filled");
    let path = format!("{key}/lock");
    let state = async |query: &str| client.get(&format!("{path}{query}")).await;
    assert_eq!(state("").await.text(), r#"{"held":false}"#);
    let id = client.lock(&key, 30_000).await.member("lock_id");
    let mine = [(ID, id.as_str()), ("x-cachekit-ttl", "60")];
    for told in [state("?wait_ms=100").await, client.lock(&key, 30_000).await] {
        let left: u64 = told.member("remaining_ms").parse().unwrap();
        assert!((20_000..=30_000).contains(&left), "{told:?}");
    }
    let wrong = [(ID, "00000000000000000000000000000000")];
    refused(
        &client.send("PUT", &key, &wrong, "v").await,
        409,
        "not_held",
    );
    refused(&client.get(&key).await, 404, "not_found");
    let odd = [(ID, "x")];
    refused(
        &client.send("PUT", &key, &odd, "v").await,
        400,
        "bad_lock_id",
    );
    let stored = client.send("PUT", &key, &mine, "v").await;
    assert_eq!((stored.status, stored.header(ID)), (200, Some(&*id)));
    assert_eq!(client.get(&key).await.text(), "v");
    assert_eq!(state("").await.text(), r#"{"held":false}"#);
    refused(&client.send("PUT", &key, &mine, "w").await, 409, "not_held");

    // An entry's removal leaves its lock, unless both are to go.
    let id = client.lock(&key, 30_000).await.member("lock_id");
    let mine = [(ID, id.as_str())];
    assert_eq!(client.delete(&key).await.status, 200);
    assert_eq!(client.send("PUT", &key, &mine, "v").await.status, 200);
    let id = client.lock(&key, 30_000).await.member("lock_id");
    let mine = [(ID, id.as_str())];
    assert_eq!(client.send("DELETE", &key, &ANYBODY, "").await.status, 200);
    refused(&client.send("PUT", &key, &mine, "v").await, 409, "not_held");
    refused(&client.get(&key).await, 404, "not_found");

    // What is stored over a lock ends it.
    let id = client.lock(&key, 30_000).await.member("lock_id");
    let mine = [(ID, id.as_str())];
    for _ in 0..2 {
        let stored = client.send("PUT", &key, &ANYBODY, "over").await;
        assert_eq!((stored.status, stored.header(ID)), (200, Some("*")));
    }
    assert_eq!(state("").await.text(), r#"{"held":false}"#);
    refused(&client.send("PUT", &key, &mine, "v").await, 409, "not_held");
    assert_eq!(client.get(&key).await.text(), "over");

    // Or the lock alone; and who waits for it is told at once.
    let id = client.lock(&key, 30_000).await.member("lock_id");
    let mine = [(ID, id.as_str())];
    let ending = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send("DELETE", &path, &ANYBODY, "").await
    };
    // HTTP/1.1 has one request under way at a time.
    if client.version() == Version::Http2 {
        let started = Instant::now();
        let (told, ended) = tokio::join!(state("?wait_ms=4000"), ending);
        assert_eq!((told.text(), ended.status), (r#"{"held":false}"#, 200));
        assert!(started.elapsed() < Duration::from_secs(3));
    } else {
        assert_eq!(ending.await.status, 200);
    }
    refused(
        &client.send("DELETE", &path, &ANYBODY, "").await,
        404,
        "not_held",
    );
    refused(&client.send("PUT", &key, &mine, "v").await, 409, "not_held");
    refused(&state("?wait_ms=x").await, 400, "bad_wait");
}

async fn refusals(client: &Client, at: &impl Fn(&str) -> String) {
    let key = at("refused");
    for bad in ["a%20b", "a%2Fb", "%C3%A9", "a%", "a%2e.b", "%00", ""] {
        refused(&client.get(bad).await, 400, "bad_key");
        refused(&client.lock(bad, 1).await, 400, "bad_key");
    }
    refused(&client.get(&"k".repeat(401)).await, 400, "bad_key");
    refused(&client.get("a/b").await, 404, "no_such_path");
    refused(&client.get("a/ttl/b").await, 404, "no_such_path");
    for bad in ["0", "-1", "2592001", "1.5", "soon", ""] {
        for header in ["x-cachekit-ttl", "x-ttl"] {
            let answer = client.send("PUT", &key, &[(header, bad)], "v").await;
            refused(&answer, 400, "bad_ttl");
        }
        if bad != "0" {
            let stale = [("x-cachekit-ttl", "1"), ("x-cachekit-stale-ttl", bad)];
            refused(
                &client.send("PUT", &key, &stale, "v").await,
                400,
                "bad_stale_ttl",
            );
        }
    }
    client.put(&key, "v").await;
    let path = format!("{key}/ttl");
    for bad in [
        r#"{"ttl":0}"#,
        r#"{"ttl":-1}"#,
        r#"{"ttl":2592001}"#,
        r#"{"ttl":1.5}"#,
        "{}",
        "[]",
    ] {
        refused(
            &client.send("PATCH", &path, &JSON, bad).await,
            400,
            "bad_ttl",
        );
    }
    refused(
        &client.send("PATCH", &path, &JSON, "{").await,
        400,
        "bad_json",
    );
    let lock = format!("{key}/lock");
    for bad in [
        r#"{"timeout_ms":0}"#,
        r#"{"timeout_ms":3600001}"#,
        r#"{"timeout_ms":"1"}"#,
        "{}",
    ] {
        refused(
            &client.send("POST", &lock, &JSON, bad).await,
            400,
            "bad_timeout",
        );
    }
    let html = [("content-type", "text/html")];
    for (method, path) in [("PUT", &key), ("PATCH", &path), ("POST", &lock)] {
        let answer = client.send(method, path, &html, "v").await;
        refused(&answer, 415, "unsupported_media_type");
    }
    let gzip = [("content-encoding", "gzip")];
    refused(
        &client.send("PUT", &key, &gzip, "v").await,
        415,
        "unsupported_media_type",
    );
    for (method, path, allow) in [
        ("POST", key.as_str(), "GET, HEAD, PUT, DELETE"),
        ("PUT", path.as_str(), "GET, PATCH"),
        ("PUT", lock.as_str(), "GET, POST, DELETE"),
        ("PUT", "health", "GET, HEAD"),
    ] {
        let answer = client.send(method, path, &[], "").await;
        refused(&answer, 405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some(allow));
    }
    let answer = client
        .try_send_at("GET", "/v2/cache/a", &[], "")
        .await
        .unwrap();
    refused(&answer, 404, "no_such_path");
}

async fn tenants(server: &CachekitServer, version: Version, at: &impl Fn(&str) -> String) {
    let key = at("shared");
    let arguments: [&[&str]; 3] = [
        &["--tenant", "tests"],
        &["--tenant", "tests", "--test"],
        &["--tenant", "tests2"],
    ];
    let mut clients = Vec::new();
    for arguments in arguments {
        let api_key = server.create_key(arguments);
        let client = Client::with_key(server, &api_key, version).await;
        eventually("the key is known", 10, async || {
            client.get("a").await.status == 404
        })
        .await;
        clients.push(client);
    }
    let [same, test, other] = &clients[..] else {
        unreachable!("three were made")
    };
    Client::of(server, version).await.put(&key, "mine").await;
    assert_eq!(same.get(&key).await.text(), "mine");
    for stranger in [test, other] {
        refused(&stranger.get(&key).await, 404, "not_found");
        refused(&stranger.delete(&key).await, 404, "not_found");
        assert_eq!(stranger.put(&key, "theirs").await.status, 200);
        assert_eq!(stranger.lock(&key, 5000).await.status, 200);
    }
    assert_eq!(same.get(&key).await.text(), "mine");
    assert_eq!(same.lock(&key, 5000).await.status, 200);
}

async fn permissions(server: &CachekitServer, version: Version, at: &impl Fn(&str) -> String) {
    let key = at("permitted");
    Client::of(server, version).await.put(&key, "v").await;
    let reader = server.create_key(&["--tenant", "tests", "--read-only"]);
    let reader = Client::with_key(server, &reader, version).await;
    eventually("the key is known", 10, async || {
        reader.get(&key).await.status == 200
    })
    .await;
    assert_eq!(reader.get(&format!("{key}/ttl")).await.status, 200);
    assert_eq!(reader.get("health").await.status, 200);
    refused(&reader.put(&key, "w").await, 403, "read_only");
    refused(&reader.delete(&key).await, 403, "read_only");
    refused(&reader.lock(&key, 1000).await, 403, "read_only");
    let path = format!("{key}/ttl");
    refused(
        &reader.send("PATCH", &path, &JSON, r#"{"ttl":1}"#).await,
        403,
        "read_only",
    );
    assert_eq!(reader.get(&key).await.text(), "v");

    let mut flipped = server.key().to_owned();
    let last = if flipped.ends_with('0') { "1" } else { "0" };
    flipped.replace_range(flipped.len() - 1.., last);
    for unknown in ["", "ck_live_", "x", &flipped] {
        let client = Client::with_key(server, unknown, version).await;
        for answer in [
            client.get(&key).await,
            client.get("health").await,
            client.get("a%20b").await,
        ] {
            refused(&answer, 401, "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
}

async fn health(client: &Client) {
    let answer = client.get("health").await;
    assert_eq!(
        (answer.status, answer.member("status").as_str()),
        (200, "ok")
    );
    assert_eq!(answer.member("version"), env!("CARGO_PKG_VERSION"));
    for path in ["/healthz", "/readyz"] {
        let answer = client.try_send_at("GET", path, &[], "").await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, r#"{"status":"ok"}"#));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_conforms() {
    conforms(&CachekitServer::start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_conforms() {
    let redis = RedisServer::start();
    conforms(&CachekitServer::with(&[
        "--store",
        "redis",
        "--redis-url",
        &redis.url(),
    ]))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_conforms() {
    let redis = RedisCluster::start();
    conforms(&CachekitServer::with(&[
        "--store",
        "redis",
        "--redis-url",
        &redis.url(),
    ]))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_behind_sentinels_conforms() {
    let redis = RedisSentinels::start();
    let server = CachekitServer::with(&["--store", "redis", "--redis-url", &redis.url()]);
    conforms(&server).await;
    // Whoever becomes the master is found, and what it had been told is still there.
    let client = Client::of(&server, Version::Http2).await;
    assert_eq!(client.put("kept", "v").await.status, 200);
    redis.fail_over();
    eventually("the new master serves", 30, async || {
        client.put("after", "v").await.status == 200 && client.get("kept").await.text() == "v"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_entries_and_locks_through_redis() {
    let redis = RedisServer::start();
    let flags = ["--store", "redis", "--redis-url", &redis.url()];
    let one = CachekitServer::with(&flags);
    let keys = one.directory().join("keys.json");
    let two =
        CachekitServer::with(&[&flags[..], &["--keys-file", keys.to_str().unwrap()]].concat());
    let first = Client::of(&one, Version::Http2).await;
    let second = Client::with_key(&two, one.key(), Version::Http2).await;
    first.put("a", "shared").await;
    assert_eq!(second.get("a").await.text(), "shared");
    let id = first.lock("a", 30_000).await.member("lock_id");
    refused(&second.lock("a", 30_000).await, 409, "held");
    assert_eq!(
        second.delete(&format!("a/lock?lock_id={id}")).await.status,
        200
    );
    let id = second.lock("a", 30_000).await.member("lock_id");
    first.delete(&format!("a/lock?lock_id={id}")).await;

    // A lock that is ended on one replica wakes who waits for it on another, and its holder stores
    // nothing any more.
    for (method, path) in [("DELETE", "a/lock"), ("DELETE", "a"), ("PUT", "a")] {
        // A busy machine may be late; who is not woken looks after a second, each time.
        let mut took = Vec::new();
        while took
            .last()
            .is_none_or(|took| *took >= Duration::from_millis(800))
        {
            assert!(took.len() < 4, "{method} {path}: {took:?}");
            first.put("a", "shared").await;
            let id = second.lock("a", 30_000).await.member("lock_id");
            let mine = [("x-cachekit-lock-id", id.as_str())];
            let started = Instant::now();
            let ending = async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let any = [("x-cachekit-lock-id", "*")];
                first.send(method, path, &any, "over").await
            };
            let (told, ended) = tokio::join!(second.get("a/lock?wait_ms=5000"), ending);
            assert_eq!((told.text(), ended.status), (r#"{"held":false}"#, 200));
            took.push(started.elapsed());
            refused(
                &second.send("PUT", "a", &mine, "late").await,
                409,
                "not_held",
            );
        }
    }
    assert_eq!(second.get("a").await.text(), "over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_is_a_503() {
    let mut redis = RedisServer::start();
    let flags = [
        "--store",
        "redis",
        "--redis-url",
        &redis.url(),
        "--redis-timeout",
        "300ms",
    ];
    let server = CachekitServer::with(&flags);
    let client = Client::of(&server, Version::Http2).await;
    assert_eq!(client.put("a", "v").await.status, 200);
    redis.kill();
    let answer = client.get("a").await;
    refused(&answer, 503, "store_unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(client.get("health").await.status, 503);
    redis.restart();
    eventually("it serves again", 10, async || {
        client.put("a", "v").await.status == 200
    })
    .await;
}
