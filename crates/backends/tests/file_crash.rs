//! Writers that are killed at any moment, and processes that fork: nobody reads a torn or a foreign value.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cachekit_backends::file::ListedKind;
use cachekit_backends::{Backend, FileBackend, FileConfig, LockReply, Locking};
use cachekit_testkit::TempDir;

const TIMEOUT: Duration = Duration::from_secs(10);
const DIRECTORY: &str = "CACHEKIT_TEST_DIRECTORY";
const KEYS: u32 = 60;

fn backend(directory: &str) -> FileBackend {
    // Small enough that eviction is always at work.
    let config = FileConfig::new(directory)
        .max_size_mb(4)
        .max_value_mb(1)
        .max_entry_count(40);
    FileBackend::new(config).expect("good settings")
}

/// A value that says which key it belongs to, and whose bytes all follow from its beginning.
fn value(key: &str, number: u32) -> Vec<u8> {
    let len = match number % 5 {
        0 => 200_000,
        1 => 70_000,
        2 => 30_000,
        _ => 300,
    };
    let mut out = format!("{key}#{number}#").into_bytes();
    out.extend((0..len).map(|i| (i as u32 ^ number) as u8));
    out
}

fn assert_whole(key: &str, found: &[u8]) {
    let text: String = found.iter().take(40).map(|b| char::from(*b)).collect();
    let mut parts = text.split('#');
    assert_eq!(parts.next(), Some(key), "a foreign value");
    let number = parts.next().and_then(|number| number.parse().ok());
    assert!(
        value(key, number.expect("a number")) == found,
        "a torn value of {} bytes under {key}",
        found.len()
    );
}

fn child(test: &str, directory: &str) -> Child {
    Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process")
}

#[test]
#[ignore = "a program of the tests below"]
fn writes_until_killed() {
    let backend = backend(&std::env::var(DIRECTORY).expect("the directory"));
    let locking = backend.lock().expect("there are locks");
    let mut number = std::process::id();
    loop {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let key = format!("key {}", (number >> 8) % KEYS);
        let bytes = value(&key, number);
        match number >> 28 {
            0..3 => drop(backend.delete(&key, TIMEOUT).expect("delete")),
            3..5 => {
                let lease = Duration::from_secs(60);
                let reply = locking.try_lock(&key, "token", lease, TIMEOUT);
                drop(reply.expect("try_lock"));
                let stored = locking.set_and_unlock(&key, &bytes, None, "token", TIMEOUT);
                stored.expect("set_and_unlock");
            }
            _ => backend.set(&key, &bytes, None, TIMEOUT).expect("set"),
        }
    }
}

#[test]
fn killed_writers_leave_whole_values_or_none() {
    let directory = TempDir::new();
    let path = directory.path().join("cache");
    let path = path.to_str().expect("a plain path");
    let reader = backend(path);
    let mut read = 0;
    for round in 0..40u64 {
        let mut writers: Vec<Child> = (0..2).map(|_| child("writes_until_killed", path)).collect();
        let until = Instant::now() + Duration::from_millis(20 + (round * 37) % 90);
        // In the first round it takes as long as it takes until the writers have begun.
        while Instant::now() < until || read <= 100 {
            assert!(until.elapsed() < TIMEOUT, "only {read} values were there");
            for key in (0..KEYS).map(|i| format!("key {i}")) {
                if let Some(found) = reader.get(&key, false, TIMEOUT).expect("get") {
                    assert_whole(&key, &found.value);
                    read += 1;
                }
            }
        }
        for writer in &mut writers {
            assert_eq!(writer.try_wait().expect("wait"), None, "a writer failed");
            writer.kill().expect("it runs");
            writer.wait().expect("it ends");
        }
        // Whatever they were doing, the next one to write goes on at once.
        let started = Instant::now();
        reader.set("after", b"well", None, TIMEOUT).expect("set");
        assert!(started.elapsed() < TIMEOUT / 2);
        let found = reader.get("after", false, TIMEOUT).expect("get");
        assert_eq!(found.expect("an entry").value, "well");
    }
    // Nothing of the killed ones stays: all files belong to entries.
    drop(reader);
    let reopened = backend(path);
    reopened.set("last", b"", None, TIMEOUT).expect("set");
    let inspected = cachekit_backends::file::inspect(path, |entry, value| match &*entry.key {
        key if key.starts_with("key ") && entry.kind == ListedKind::Value => {
            assert_whole(key, value);
        }
        _ => assert_ne!(entry.kind, ListedKind::Damaged, "{entry:?}"),
    });
    let inspected = inspected.expect("a store");
    assert_eq!(inspected.abandoned, [""; 0]);
    assert!(!inspected.interrupted);
}

#[test]
fn an_inspection_beside_writers_calls_nothing_damaged() {
    let directory = TempDir::new();
    let path = directory.path().join("cache");
    let path = path.to_str().expect("a plain path");
    backend(path).open().expect("open");
    let mut writers: Vec<Child> = (0..2).map(|_| child("writes_until_killed", path)).collect();
    let (mut values, mut wrong) = (0, Vec::new());
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until || values <= 100 {
        assert!(
            until.elapsed() < TIMEOUT,
            "only {values} values were listed"
        );
        let found = cachekit_backends::file::inspect(path, |entry, value| match entry.kind {
            ListedKind::Value => {
                assert_whole(&entry.key, value);
                values += 1;
            }
            ListedKind::Lock => {}
            _ => wrong.push(entry),
        });
        let found = found.expect("a store");
        assert!(!found.interrupted, "nobody was killed");
        assert_eq!(found.abandoned, [""; 0]);
    }
    for writer in &mut writers {
        assert_eq!(writer.try_wait().expect("wait"), None, "a writer failed");
        writer.kill().expect("it runs");
        writer.wait().expect("it ends");
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
#[ignore = "a program of the test below"]
fn holds_until_killed() {
    let directory = std::env::var(DIRECTORY).expect("the directory");
    let backend = backend(&directory);
    let locking = backend.lock().expect("there are locks");
    let lease = Duration::from_secs(600);
    let reply = locking.try_lock("key", "theirs", lease, TIMEOUT);
    assert_eq!(reply.expect("try_lock"), LockReply::Acquired(None));
    loop {
        std::thread::park();
    }
}

#[test]
fn the_lock_of_a_killed_holder_is_free_at_once() {
    let directory = TempDir::new();
    let path = directory.path().join("cache");
    let path = path.to_str().expect("a plain path");
    let ours = backend(path);
    let locking = ours.lock().expect("there are locks");
    let mut holder = child("holds_until_killed", path);
    let lease = Duration::from_secs(60);
    let until = Instant::now() + TIMEOUT;
    loop {
        let reply = locking.try_lock("key", "ours", lease, TIMEOUT);
        if let LockReply::Held { remaining } = reply.expect("try_lock") {
            assert!(remaining > lease, "the holder's lease");
            break;
        }
        assert!(Instant::now() < until, "the holder does not begin");
        locking.unlock("key", "ours", TIMEOUT).expect("unlock");
        std::thread::sleep(Duration::from_millis(5));
    }
    holder.kill().expect("it runs");
    holder.wait().expect("it ends");
    let reply = locking.try_lock("key", "ours", lease, TIMEOUT);
    assert_eq!(reply.expect("try_lock"), LockReply::Acquired(None));
}

/// The parent is a process of its own, since a test's threads and a fork do not mix.
#[test]
#[ignore = "a program of the test below"]
fn forks() {
    let directory = std::env::var(DIRECTORY).expect("the directory");
    let backend = backend(&directory);
    let locking = backend.lock().expect("there are locks");
    let lease = Duration::from_secs(600);
    locking
        .try_lock("parent's", "parent", lease, TIMEOUT)
        .expect("try_lock");
    backend.set("parent's", b"1", None, TIMEOUT).expect("set");
    // SAFETY: this process has no other thread that the child would miss.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let found = backend.get("parent's", false, TIMEOUT).expect("get");
        assert_eq!(found.expect("an entry").value, "1");
        let mine = locking
            .try_lock("child's", "child", lease, TIMEOUT)
            .expect("try_lock");
        assert_eq!(mine, LockReply::Acquired(None));
        backend.set("child's", b"2", None, TIMEOUT).expect("set");
        std::thread::sleep(Duration::from_secs(600)); // The test ends it.
    }
    backend
        .set("pid", pid.to_string().as_bytes(), None, TIMEOUT)
        .expect("set");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_forked_child_keeps_nothing_of_its_parents() {
    let directory = TempDir::new();
    let path = directory.path().join("cache");
    let path = path.to_str().expect("a plain path");
    let ours = backend(path);
    let mut parent = child("forks", path);
    let wait_for = |key: &str| {
        let until = Instant::now() + TIMEOUT;
        loop {
            if let Some(found) = ours.get(key, false, TIMEOUT).expect("get") {
                return String::from_utf8(found.value.to_vec()).expect("text");
            }
            assert!(Instant::now() < until, "no {key}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    assert_eq!(wait_for("child's"), "2");
    let pid: libc::pid_t = wait_for("pid").parse().expect("a number");
    parent.kill().expect("it runs");
    parent.wait().expect("it ends");
    let locking: &dyn Locking = ours.lock().expect("there are locks");
    let lease = Duration::from_secs(60);
    let free = locking.try_lock("parent's", "ours", lease, TIMEOUT);
    let held = locking.try_lock("child's", "ours", lease, TIMEOUT);
    // SAFETY: the process is the one that the program above made.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    let free = free.expect("try_lock");
    assert!(
        matches!(free, LockReply::Acquired(Some(_))),
        "the child kept it: {free:?}"
    );
    assert!(
        matches!(held, Ok(LockReply::Held { .. })),
        "the child lives"
    );
}
