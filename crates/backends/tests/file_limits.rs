//! A store stays within its limits, and entries within their lives.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachekit_backends::file::{Listed, ListedKind, inspect};
use cachekit_backends::{
    Backend, BackendError, Detail, ErrorKind, FileBackend, FileConfig, LockReply,
};
use cachekit_testkit::TempDir;
use cachekit_testkit::contract::each_face;

const TIMEOUT: Duration = Duration::from_secs(10);
const MB: u64 = 1 << 20;

fn open(config: FileConfig) -> FileBackend {
    FileBackend::new(config).expect("good settings")
}

fn detail(backend: &FileBackend, name: &str) -> i64 {
    let health = backend.health(TIMEOUT).expect("health");
    match health.details.iter().find(|(found, _)| found == name) {
        Some((_, Detail::Int(number))) => *number,
        other => panic!("{name} is {other:?}"),
    }
}

fn on_disk(path: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(path).expect("a directory") {
        let entry = entry.expect("an entry");
        let found = entry.metadata().expect("its size");
        sum += if found.is_dir() {
            on_disk(&entry.path())
        } else {
            found.blocks() * 512
        };
    }
    sum
}

fn present(backend: &FileBackend, keys: impl Iterator<Item = String>) -> usize {
    keys.filter(|key| backend.exists(key, TIMEOUT).expect("exists"))
        .count()
}

#[test]
fn there_are_never_more_entries_than_allowed() {
    let directory = TempDir::new();
    let backend = open(FileConfig::new(directory.path().join("c")).max_entry_count(50));
    for i in 0..500 {
        backend
            .set(&format!("k{i}"), b"v", None, TIMEOUT)
            .expect("set");
        assert!(detail(&backend, "entries") <= 50);
        let newest = backend.get(&format!("k{i}"), false, TIMEOUT).expect("get");
        assert!(newest.is_some(), "what was just stored is there");
    }
    assert_eq!(detail(&backend, "entries"), 50);
    assert_eq!(present(&backend, (0..500).map(|i| format!("k{i}"))), 50);
}

#[test]
fn the_room_on_the_disk_is_bounded() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    let config = FileConfig::new(&path).max_size_mb(8).max_value_mb(2);
    let backend = open(config);
    for i in 0..250u32 {
        let len = [500, 5_000, 60_000, 300_000, 2_000_000][i as usize % 5];
        let value = vec![i as u8; len];
        let key = format!("k{}", (i * 7919) % 400);
        backend.set(&key, &value, None, TIMEOUT).expect("set");
        if i % 50 == 0 {
            // The index, its buckets and the blocks that hold lists of blocks.
            let disk = on_disk(&path);
            assert!(disk <= 8 * MB + 2 * MB, "{disk} bytes on the disk");
        }
    }
    assert!(detail(&backend, "used_bytes") as u64 <= 8 * MB);
    assert!(detail(&backend, "used_bytes") as u64 > 4 * MB, "it is used");
    // What was deleted gives its room back.
    let keys: Vec<String> = (0..400).map(|i| format!("k{i}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    backend.delete_many(&keys, TIMEOUT).expect("delete");
    assert_eq!(detail(&backend, "used_bytes"), 0);
    assert!(on_disk(&path) < 2 * MB);
}

#[test]
fn what_is_read_stays() {
    let directory = TempDir::new();
    let backend = open(FileConfig::new(directory.path().join("c")).max_entry_count(100));
    for i in 0..20 {
        backend
            .set(&format!("hot{i}"), b"v", None, TIMEOUT)
            .expect("set");
    }
    for i in 0..1000 {
        backend
            .set(&format!("cold{i}"), b"v", None, TIMEOUT)
            .expect("set");
        if i % 20 == 0 {
            present(&backend, (0..20).map(|i| format!("hot{i}")));
            for i in 0..20 {
                backend
                    .get(&format!("hot{i}"), false, TIMEOUT)
                    .expect("get");
            }
        }
    }
    let hot = present(&backend, (0..20).map(|i| format!("hot{i}")));
    assert_eq!(hot, 20, "entries that are read outlive those that are not");
}

#[test]
fn the_smaller_of_two_limits_counts() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    let large = open(FileConfig::new(&path).max_entry_count(500));
    let small = open(FileConfig::new(&path).max_entry_count(100));
    for i in 0..300 {
        large
            .set(&format!("k{i}"), b"v", None, TIMEOUT)
            .expect("set");
    }
    assert_eq!(detail(&large, "entries"), 300);
    small.set("one more", b"v", None, TIMEOUT).expect("set");
    assert_eq!(detail(&small, "entries"), 100);
}

#[test]
fn a_held_lock_is_not_evicted() {
    let directory = TempDir::new();
    let backend = open(FileConfig::new(directory.path().join("c")).max_entry_count(10));
    let locking = backend.lock().expect("there are locks");
    let lease = Duration::from_secs(60);
    for i in 0..50 {
        let reply = locking.try_lock(&format!("l{i}"), "a", lease, TIMEOUT);
        assert_eq!(reply.expect("try_lock"), LockReply::Acquired(None));
    }
    for i in 0..100 {
        backend
            .set(&format!("k{i}"), b"v", None, TIMEOUT)
            .expect("set");
    }
    for i in 0..50 {
        let reply = locking.try_lock(&format!("l{i}"), "b", lease, TIMEOUT);
        assert!(matches!(reply, Ok(LockReply::Held { .. })), "{reply:?}");
    }
    assert_eq!(detail(&backend, "entries"), 10, "locks are no entries");
}

#[test]
fn too_large_a_value_is_refused_and_says_why() {
    let directory = TempDir::new();
    let config = FileConfig::new(directory.path().join("c")).max_value_mb(1);
    let backend = open(config);
    let exact = vec![1; MB as usize];
    backend.set("k", &exact, None, TIMEOUT).expect("it fits");
    let mut more = exact;
    more.push(1);
    let error = backend
        .set("k", &more, None, TIMEOUT)
        .expect_err("it does not");
    assert_eq!(error.kind(), ErrorKind::Permanent);
    assert!(error.to_string().contains("max_value_mb"), "{error}");
    // A refused value releases the lock, so that nobody waits for it.
    let locking = backend.lock().expect("there are locks");
    let lease = Duration::from_secs(60);
    drop(locking.try_lock("l", "a", lease, TIMEOUT).expect("lock"));
    locking
        .set_and_unlock("l", &more, None, "a", TIMEOUT)
        .expect_err("it does not fit");
    let next = locking.try_lock("l", "b", lease, TIMEOUT).expect("lock");
    assert_eq!(next, LockReply::Acquired(None));
}

#[test]
fn a_locks_name_is_no_key() {
    let directory = TempDir::new();
    let backend = open(FileConfig::new(directory.path().join("c")));
    let locking = backend.lock().expect("there are locks");
    let name = locking.name("key");
    let error = backend
        .set(&name, b"v", None, TIMEOUT)
        .expect_err("a lock's");
    assert_eq!(error.kind(), ErrorKind::Permanent);
    let lease = Duration::from_secs(60);
    drop(locking.try_lock("key", "a", lease, TIMEOUT).expect("lock"));
    // Whoever removes it takes the lock away.
    assert!(backend.delete(&name, TIMEOUT).expect("delete"));
    assert!(!locking.renew("key", "a", lease, TIMEOUT).expect("renew"));
    locking
        .set_and_unlock("key", b"late", None, "a", TIMEOUT)
        .expect("it is no error");
    assert_eq!(backend.get("key", false, TIMEOUT).expect("get"), None);
}

#[test]
fn a_lock_on_a_very_long_key_harms_nothing_else() {
    let directory = TempDir::new();
    let backend = open(FileConfig::new(directory.path().join("c")));
    let locking = backend.lock().expect("there are locks");
    let key = "k".repeat(70_000);
    let lease = Duration::from_secs(60);
    let take = |token| locking.try_lock(&key, token, lease, TIMEOUT).expect("lock");
    assert!(matches!(take("a"), LockReply::Acquired(None)));
    // Their places are behind the lock's.
    let value = |number: usize| vec![number as u8; 60_000];
    for number in 0..4 {
        let key = format!("k{number}");
        backend
            .set(&key, &value(number), None, TIMEOUT)
            .expect("set");
    }
    assert!(matches!(take("b"), LockReply::Held { .. }));
    locking
        .set_and_unlock(&key, b"computed", None, "a", TIMEOUT)
        .expect("it is ours");
    for number in 0..4 {
        let found = backend.get(&format!("k{number}"), false, TIMEOUT);
        let found = found.expect("get").map(|found| found.value.to_vec());
        assert!(found == Some(value(number)), "k{number} is whole");
    }
    let found = backend.get(&key, false, TIMEOUT).expect("get");
    assert_eq!(
        found.map(|found| found.value.to_vec()),
        Some(b"computed".to_vec())
    );
}

#[test]
fn a_timeout_beyond_the_clock_is_none() {
    let directory = TempDir::new();
    let backend = open(FileConfig::new(directory.path().join("c")));
    each_face(&backend, |face| {
        for length in [100, 100_000, 1_000_000] {
            let value = vec![1; length];
            face.set("k", &value, None, Duration::MAX).expect("set");
            let found = face.get("k", false, Duration::MAX).expect("get");
            assert!(found.is_some_and(|found| found.value == value));
        }
    });
}

static NOW: AtomicU64 = AtomicU64::new(1_000_000_000);

#[test]
fn lives_end_by_the_clock() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    let clock = || NOW.load(Ordering::SeqCst);
    let backend = open(FileConfig::new(&path).clock(clock));
    let second = Duration::from_secs(1);
    let there = |key: &str| backend.get(key, false, TIMEOUT).expect("get").is_some();
    for i in 0..100 {
        backend
            .set(&format!("k{i}"), b"v", Some(10 * second), TIMEOUT)
            .expect("set");
    }
    backend
        .set("long", b"v", Some(1000 * second), TIMEOUT)
        .expect("set");
    NOW.fetch_add(9_999_999, Ordering::SeqCst);
    assert!(there("k1") && backend.expire("k1", 10 * second, TIMEOUT).expect("expire"));
    NOW.fetch_add(1, Ordering::SeqCst);
    assert!(!there("k2") && there("k1") && there("long"));
    assert!(
        !backend.expire("k2", second, TIMEOUT).expect("expire"),
        "it has ended"
    );
    assert!(
        !backend.delete("k3", TIMEOUT).expect("delete"),
        "it has ended"
    );
    // What has ended goes as new entries come, although there is room.
    for i in 0..60 {
        backend
            .set(&format!("new{i}"), b"v", None, TIMEOUT)
            .expect("set");
    }
    let mut found = Vec::new();
    inspect(&path, |entry, _| found.push(entry)).expect("a store");
    let kept = found.iter().filter(|entry| entry.key.starts_with('k'));
    assert_eq!(kept.count(), 1);
    let damaged = |entry: &Listed| entry.kind == ListedKind::Damaged;
    assert!(!found.iter().any(damaged), "{found:?}");
}

/// The signal that the kernel sends a process that writes beyond this limit would end it.
#[test]
fn a_limit_on_the_length_of_files_ends_no_process() {
    let directory = TempDir::new();
    let output = Command::new(std::env::current_exe().expect("this test has a file"))
        .args([
            "--exact",
            "writes_within_a_limit",
            "--ignored",
            "--nocapture",
        ])
        .env("CACHEKIT_TEST_DIRECTORY", directory.path())
        .output()
        .expect("a process");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{:?} {out}{err}", output.status);
    assert!(out.contains("1 passed"), "{out}");
}

#[test]
#[ignore = "a program of the test above"]
fn writes_within_a_limit() {
    let directory = std::env::var("CACHEKIT_TEST_DIRECTORY").expect("the directory");
    let limit = |bytes: u64| {
        let limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: the structure is whole, and this process is for this test alone.
        let done = unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
        assert_eq!(done, 0);
    };
    let refused = |done: Result<(), BackendError>| {
        let error = done.expect_err("it is too long");
        assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
        assert!(error.to_string().contains("RLIMIT_FSIZE"), "{error}");
    };
    let path = Path::new(&directory);
    // Not even the index can be made.
    limit(1 << 20);
    refused(open(FileConfig::new(path.join("a"))).open());
    // Long values cannot, and the data file ends before the 1600th slot.
    limit(100 << 20);
    let backend = open(
        FileConfig::new(path.join("b"))
            .max_size_mb(4096)
            .max_value_mb(1024),
    );
    refused(backend.set("long", &vec![1; 101 << 20], None, TIMEOUT));
    let mut stored = 0;
    loop {
        match backend.set(&format!("k{stored}"), b"value", None, TIMEOUT) {
            Ok(()) => stored += 1,
            error => break refused(error),
        }
    }
    assert!((1000..=1600).contains(&stored), "{stored}");
    let found = backend.get("k0", false, TIMEOUT).expect("get");
    assert_eq!(found.expect("an entry").value, "value");
    // A limit that comes later, below what is there already: what is there is read, and nothing is written.
    limit(1 << 20);
    let found = backend.get("k1", false, TIMEOUT).expect("get");
    assert_eq!(found.expect("an entry").value, "value");
    refused(backend.set("k1", b"other", None, TIMEOUT));
    refused(backend.delete("k2", TIMEOUT).map(drop));
    // Without the limit all is as it was.
    limit(libc::RLIM_INFINITY);
    backend.set("last", b"value", None, TIMEOUT).expect("set");
    let found = backend.get("k1", false, TIMEOUT).expect("get");
    assert_eq!(found.expect("an entry").value, "value");
    inspect(path.join("b"), |entry, _| {
        assert_eq!(entry.kind, ListedKind::Value, "{entry:?}");
    })
    .expect("a store");
}
