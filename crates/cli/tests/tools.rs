//! `inspect`, `doctor` and `keygen`, on real directories and servers.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use cachekit::backends::{Backend, FileBackend, FileConfig};
use cachekit::encryption::MasterKey;
use cachekit_testkit::TempDir;
use cachekit_testkit::servers::{CachekitServer, MemcachedServer, RedisServer, free_port};
use cachekit_wire::frame::{self, Extension, Header, Serializer};
use cachekit_wire::generation::Generation;
use cachekit_wire::keys::{KeyPrefix, SerializerCode, tenant_key};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The program with only these variables.
fn cachekit(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(CachekitServer::program())
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it is text")
}

/// What the program prints, and its exit status.
fn printed(arguments: &[&str], variables: &[(&str, &str)]) -> (String, Option<i32>) {
    let output = cachekit(arguments, variables);
    assert_eq!(text(&output.stderr), "");
    (text(&output.stdout).to_owned(), output.status.code())
}

fn json(arguments: &[&str], variables: &[(&str, &str)]) -> (Value, Option<i32>) {
    let (out, code) = printed(arguments, variables);
    (serde_json::from_str(&out).expect("it is JSON"), code)
}

/// A directory with an entry of every kind, and the path of it.
fn store(path: &Path) -> FileBackend {
    let backend = FileBackend::new(FileConfig::new(path)).expect("good settings");
    let set = |key: &str, value: &[u8], ttl: Option<u64>| {
        let ttl = ttl.map(Duration::from_secs);
        backend.set(key, value, ttl, TIMEOUT).expect("set");
    };
    let framed = |header: &Header, payload: &[u8]| {
        let mut out = Vec::new();
        frame::write(header, &mut out);
        out.extend_from_slice(payload);
        out
    };
    let price = KeyPrefix::new(Some("shop"), "shop.prices", "price");
    let plain = Header::msgpack(Serializer::Default, true);
    let of_generation = |number| Header {
        x: Extension {
            generation: Some(number),
            ..Extension::default()
        },
        ..plain.clone()
    };
    for (args, number) in [(b"1", 7), (b"2", 7), (b"3", 6)] {
        let key = price.key(args, true, SerializerCode::Std);
        set(&key, &framed(&of_generation(number), b"hidden"), Some(3600));
    }
    let sealed = Header {
        original_type: Some("numpy".into()),
        encrypted: true,
        tenant_id: Some("acme".to_owned()),
        encryption_algorithm: Some("AES-256-GCM".to_owned()),
        key_fingerprint: Some("a96cccd7".to_owned()),
        x: Extension::default(),
        ..Header::msgpack(Serializer::Auto, false)
    };
    let load = KeyPrefix::new(None, "patients", "load").key(b"", true, SerializerCode::Auto);
    set(
        &tenant_key("acme", &load),
        &framed(&sealed, &[7; 100_000]),
        None,
    );
    let item = Generation {
        number: 7,
        cleared: true,
    };
    set(&price.generation_key(), &item.to_bytes(), None);
    set("by hand\u{1b}[31m", b"anything", None);
    backend
}

#[test]
fn inspect_explains_entries_by_key_and_header() {
    let directory = TempDir::new();
    let path = directory.path().join("cache");
    let backend = store(&path);
    let lease = Duration::from_secs(60);
    let lock = backend.lock().expect("there are locks");
    drop(
        lock.try_lock("by hand", "token", lease, TIMEOUT)
            .expect("lock"),
    );
    fs::write(path.join("README"), "mine").expect("written");
    let shown = path.to_str().expect("a plain path");

    let (out, code) = printed(&["inspect", shown], &[]);
    assert_eq!(code, Some(0), "{out}");
    for expected in [
        "4 values, 1 cleared, 1 generation, 1 lock;",
        "- cleared: stored before",
        "never touched by it: README",
        "default, compressed",
        "auto numpy, encrypted",
        "generation, was cleared",
        "not a cachekit value",
        "ns:shop:func:shop.prices.price:args:",
        "59 min",
        "for ever",
        "by hand\\u{1b}[31m",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    assert!(!out.contains("hidden") && !out.contains('\u{1b}'), "{out}");
    let sums = out
        .lines()
        .find(|line| line.starts_with("shop.prices.price"));
    let sums: Vec<&str> = sums.expect("a line of sums").split_whitespace().collect();
    assert_eq!(sums[..4], ["shop.prices.price", "shop", "-", "2"]);

    // By the environment, as JSON, and only some of it.
    let variables = [("CACHEKIT_FILE_CACHE_DIR", shown)];
    let (all, code) = json(&["inspect", "--json"], &variables);
    assert_eq!(code, Some(0));
    assert_eq!(all["sound"], true);
    assert_eq!(all["counts"]["value"], 4);
    assert_eq!(all["entries"].as_array().map(Vec::len), Some(7));
    let (some, _) = json(&["inspect", "--json", "--tenant", "acme"], &variables);
    let [entry] = &some["entries"].as_array().expect("entries")[..] else {
        panic!("{some}");
    };
    assert_eq!(entry["function"], "patients.load");
    assert_eq!(entry["header"]["encrypted"], true);
    assert_eq!(entry["header"]["key_fingerprint"], "a96cccd7");
    assert_eq!(entry["left_seconds"], Value::Null);
    assert!(entry["file"].is_string() && entry["size"].as_u64() > Some(100_000));
    assert!(entry["age_seconds"].as_u64() < Some(60), "{entry}");
    for (filter, expected) in [
        (["--namespace", "shop"], 3),
        (["--function", "prices"], 3),
        (["--kind", "cleared"], 1),
        (["--key", "by hand"], 2),
        (["--kind", "lock"], 1),
        (["--kind", "damaged"], 0),
    ] {
        let arguments = [&["inspect", "--json", "--limit", "1"][..], &filter].concat();
        let (found, _) = json(&arguments, &variables);
        assert_eq!(found["matching"], expected, "{filter:?}");
        let listed = found["entries"].as_array().map(Vec::len);
        assert_eq!(listed, Some(expected.min(1)), "{filter:?}");
    }
    let (largest, _) = json(&["inspect", "--json", "--sort", "size"], &variables);
    assert_eq!(largest["entries"][0]["function"], "patients.load");
    let (limited, _) = printed(&["inspect", "--limit", "2"], &variables);
    assert!(limited.contains("… and 5 more"), "{limited}");
}

#[test]
fn inspect_changes_nothing_and_finds_damage() {
    let directory = TempDir::new();
    let path = directory.path().join("cache");
    drop(store(&path));
    let data = path.join("store-1/data");
    let mut bytes = fs::read(&data).expect("read");
    let at = bytes.windows(6).position(|part| part == b"hidden");
    bytes[at.expect("it is there")] ^= 1;
    fs::write(&data, &bytes).expect("written");
    let files = || {
        let list = |path: &Path| -> Vec<_> {
            let entries = fs::read_dir(path).expect("a directory");
            let mut files: Vec<_> = entries
                .map(|entry| entry.expect("an entry").path())
                .collect();
            files.sort();
            files
        };
        let store = path.join("store-1");
        let contents = ["index", "data"].map(|name| fs::read(store.join(name)).expect("read"));
        (
            list(&path),
            list(&store),
            list(&store.join("large")),
            contents,
        )
    };
    let before = files();
    let shown = path.to_str().expect("a plain path");
    let (out, code) = printed(&["inspect", shown], &[]);
    assert_eq!(code, Some(3), "{out}");
    assert!(
        out.contains("3 values, 1 cleared, 1 generation, 1 damaged;"),
        "{out}"
    );
    assert!(out.contains("- damaged: does not verify"), "{out}");
    let (found, code) = json(&["inspect", shown, "--json"], &[]);
    assert_eq!((&found["sound"], code), (&Value::Bool(false), Some(3)));
    assert!(files() == before, "something was changed");
}

#[test]
fn inspect_says_what_is_wrong_with_a_directory() {
    let directory = TempDir::new();
    let shown = directory.path().to_str().expect("a plain path");
    let output = cachekit(&["inspect", shown], &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("holds no store") && said.contains("CACHEKIT_FILE_CACHE_DIR"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(cachekit(&["inspect"], &[]).status.code(), Some(2));
    assert_eq!(
        cachekit(&["inspect", shown, "--kind", "odd"], &[])
            .status
            .code(),
        Some(2)
    );
}

/// The lines of a level, without it.
fn lines<'a>(out: &'a str, level: &str) -> Vec<&'a str> {
    let lines = out.lines().filter_map(|line| line.strip_prefix(level));
    lines.map(str::trim_start).collect()
}

#[test]
fn doctor_says_which_backend_answers() {
    let redis = RedisServer::start();
    let url = redis.url();
    let (out, code) = printed(&["doctor"], &[("REDIS_URL", &url)]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("REDIS_URL chooses the backend"), "{out}");
    assert!(out.contains("redis answers in"), "{out}");
    assert!(out.contains("redis version: "), "{out}");

    let memcached = MemcachedServer::start();
    let dead = format!("127.0.0.1:{}", free_port());
    let servers = format!("[\"127.0.0.1:{}\", \"{dead}\"]", memcached.port());
    let (out, code) = printed(&["doctor"], &[("CACHEKIT_MEMCACHED_SERVERS", &servers)]);
    assert_eq!(code, Some(3), "{out}");
    let problems = lines(&out, "problem");
    assert!(problems.len() == 1 && problems[0].contains(&dead), "{out}");

    let (found, code) = json(&["doctor", "--json"], &[("CACHEKIT_REDIS_URL", &url)]);
    assert_eq!((code, &found["well"]), (Some(0), &Value::Bool(true)));
    assert_eq!(found["backend"], "redis");
    assert_eq!(found["chosen_by"], "CACHEKIT_REDIS_URL");
    assert!(
        found["health"]["latency_ms"].as_f64() > Some(0.0),
        "{found}"
    );
}

#[test]
fn doctor_says_what_is_wrong_and_no_secret() {
    let url = format!("redis://:hunter2@127.0.0.1:{}", free_port());
    let variables = [
        ("CACHEKIT_REDIS_URL", url.as_str()),
        ("CACHEKIT_MASTER_KEY", "5ec2e75ec2e7"),
        ("CACHEKIT_DEFAULT_TTL", "never"),
        ("CACHEKIT_MEMCACHED_TIMEOUT", "3"),
        ("CACHEKIT_FILE_CACHE_DIR", "/nowhere"),
        ("CACHE_L1_ENABLED", "1"),
        ("CACHEKIT_DEFUALT_TTL", "1"),
    ];
    for arguments in [&["doctor"][..], &["doctor", "--json"]] {
        let (out, code) = printed(arguments, &variables);
        assert_eq!(code, Some(3), "{out}");
        assert!(!out.contains("hunter2") && !out.contains("5ec2e7"), "{out}");
    }
    let (out, _) = printed(&["doctor"], &variables);
    let (problems, hints) = (lines(&out, "problem"), lines(&out, "hint"));
    let has = |lines: &[&str], parts: &[&str]| {
        lines
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    };
    assert!(
        has(
            &problems,
            &["CACHEKIT_DEFAULT_TTL=\"never\"", "whole number"]
        ),
        "{out}"
    );
    assert!(
        has(
            &problems,
            &["redis cannot serve", "correct CACHEKIT_REDIS_URL"]
        ),
        "{out}"
    );
    assert!(
        has(&hints, &["CACHEKIT_MEMCACHED_TIMEOUT has no effect"]),
        "{out}"
    );
    assert!(has(&hints, &["CACHEKIT_FILE_CACHE_DIR: ignored"]), "{out}");
    assert!(
        has(&hints, &["CACHE_L1_ENABLED", "set CACHEKIT_L1_ENABLED"]),
        "{out}"
    );
    assert!(
        has(
            &hints,
            &["CACHEKIT_DEFUALT_TTL", "set CACHEKIT_DEFAULT_TTL"]
        ),
        "{out}"
    );
    // One problem does not hide another, and nothing is called well that is not.
    assert!(
        has(&problems, &["CACHEKIT_MASTER_KEY has 6 bytes"]),
        "{out}"
    );
    assert!(
        !lines(&out, "ok").iter().any(|line| line.contains("_KEY")),
        "{out}"
    );
    let wrong = [
        ("CACHEKIT_DEFAULT_TTL", "0"),
        ("CACHEKIT_MASTER_KEY", "zz"),
        ("CACHEKIT_PREVIOUS_MASTER_KEYS", "5ec2e75ec2e7"),
        ("LOG_LEVEL", "silly"),
    ];
    let (out, code) = printed(&["doctor"], &wrong);
    assert_eq!((code, lines(&out, "problem").len()), (Some(3), 3), "{out}");
    for (name, _) in &wrong[..3] {
        assert!(has(&lines(&out, "problem"), &[name]), "{out}");
    }
    assert!(has(&lines(&out, "hint"), &["LOG_LEVEL=\"silly\""]), "{out}");
    assert!(
        lines(&out, "ok").is_empty() && !out.contains("5ec2e7"),
        "{out}"
    );
    let (out, code) = printed(&["doctor"], &[("LOG_LEVEL", "debug")]);
    assert_eq!(code, Some(0), "{out}");
    assert!(has(&lines(&out, "ok"), &["LOG_LEVEL=debug"]), "{out}");
}

#[test]
fn doctor_makes_no_directory() {
    let directory = TempDir::new();
    let path = directory.path().join("cache");
    let shown = path.to_str().expect("a plain path");
    let variables = [("CACHEKIT_FILE_CACHE_DIR", shown)];
    let (out, code) = printed(&["doctor"], &variables);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("not there yet"), "{out}");
    assert!(!path.exists());
    drop(store(&path));
    let (out, code) = printed(&["doctor"], &variables);
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains("file answers in") && out.contains("mode 700"),
        "{out}"
    );
    let below = directory.path().join("file/cache");
    fs::write(directory.path().join("file"), "").expect("written");
    let shown = below.to_str().expect("a plain path");
    let (out, code) = printed(&["doctor"], &[("CACHEKIT_FILE_CACHE_DIR", shown)]);
    assert_eq!(code, Some(3), "{out}");
    let problems = lines(&out, "problem");
    assert!(problems[0].contains("file is not a directory"), "{out}");
    let (out, code) = printed(&["doctor"], &[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("no backend is chosen"), "{out}");
}

#[test]
fn keygen_prints_a_master_key() {
    let key = || {
        let output = cachekit(&["keygen"], &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stderr).contains("Keep it"));
        text(&output.stdout).to_owned()
    };
    let (one, other) = (key(), key());
    assert_ne!(one, other);
    let one = one.strip_suffix('\n').expect("a line");
    assert_eq!(one.len(), 64);
    MasterKey::from_hex(one).expect("a good key");
    let (out, code) = printed(&["doctor"], &[("CACHEKIT_MASTER_KEY", one)]);
    assert_eq!(code, Some(0), "{out}");
    assert!(!out.contains(one), "{out}");
}
