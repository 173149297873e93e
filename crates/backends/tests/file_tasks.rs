//! Tasks of one event loop: neither a disk that hangs nor another process that was stopped keeps those
//! waiting who need nothing of it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use cachekit_backends::file::inspect;
use cachekit_backends::{
    AsyncBackend, Backend, BackendError, ErrorKind, FileBackend, FileConfig, LockReply,
};
use cachekit_testkit::TempDir;
use tokio::runtime::{Builder, Runtime};

const TIMEOUT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

fn backend(directory: &Path) -> FileBackend {
    FileBackend::new(FileConfig::new(directory)).expect("good settings")
}

fn tasks(backend: &FileBackend) -> &dyn AsyncBackend {
    backend.aio().expect("it has futures")
}

/// A loop beside which so many threads may block.
fn runtime(threads: usize) -> Runtime {
    let builder = &mut Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(threads).build();
    runtime.expect("a runtime")
}

#[track_caller]
fn late<R>(done: Result<R, BackendError>) {
    let error = done.err().expect("nobody does it");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("disk"), "{error}");
}

/// With the only thread that may block taken, as by a disk that hangs, what is in memory is read, and
/// everything else waits elsewhere, and is not done when its time is up.
#[test]
fn what_may_wait_for_the_disk_waits_elsewhere() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    let backend = backend(&path);
    let (long, value) = (vec![7; 2 << 20], vec![8; 100 << 10]);
    for (key, value) in [("long", &long[..]), ("value", &value), ("short", b"value")] {
        backend.set(key, value, None, TIMEOUT).expect("set");
        backend.get(key, false, TIMEOUT).expect("get");
    }
    let (free, taken) = mpsc::channel::<()>();
    runtime(1).block_on(async {
        let aio = tasks(&backend);
        let hang = tokio::task::spawn_blocking(move || taken.recv().is_err());
        late(aio.get("long", false, SHORT).await);
        late(aio.get("value", false, SHORT).await);
        for value in [&long[..], &value, b"x"] {
            late(aio.set("other", value, None, SHORT).await);
            late(aio.add("other", value, SHORT).await);
            let stored = aio.set_and_unlock("other", value, None, "a", SHORT);
            late(stored.await);
        }
        late(aio.try_lock("short", "a", TIMEOUT, SHORT).await);
        late(aio.renew("short", "a", TIMEOUT, SHORT).await);
        late(aio.unlock("short", "a", SHORT).await);
        late(aio.expire("short", TIMEOUT, SHORT).await);
        late(aio.delete("short", SHORT).await);
        late(aio.delete_many(&["short"], SHORT).await);
        late(aio.health(SHORT).await);
        let found = aio
            .get("short", true, SHORT)
            .await
            .expect("it is in memory");
        assert_eq!(found.expect("an entry").value, "value");
        assert!(aio.exists("long", SHORT).await.expect("it is in memory"));
        assert_eq!(aio.get("other", false, SHORT).await.expect("none is"), None);

        drop(free);
        assert!(hang.await.expect("it ended"));
        assert_eq!(aio.get("other", false, TIMEOUT).await.expect("get"), None);
        assert!(aio.exists("short", TIMEOUT).await.expect("exists"));
        let reply = aio.try_lock("short", "b", TIMEOUT, TIMEOUT).await;
        assert!(
            matches!(reply, Ok(LockReply::Acquired(Some(_)))),
            "{reply:?}"
        );
        for value in [&value, &long] {
            aio.set("other", value, None, TIMEOUT).await.expect("set");
            let found = aio.get("other", false, TIMEOUT).await.expect("get");
            assert_eq!(found.expect("an entry").value, value);
        }
    });
    let found = inspect(&path, |_, _| {}).expect("a store");
    assert_eq!(found.abandoned, [""; 0]);
    let files = std::fs::read_dir(path.join("store-1/large")).expect("a directory");
    assert_eq!(files.count(), 3, "what was given up is gone");
}

/// Holds the lock among processes as one that was stopped does.
fn held(directory: &Path) -> File {
    let lock = File::open(directory.join("store-1/lock")).expect("there is a store");
    // SAFETY: the file is open.
    let done = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    assert_eq!(done, 0, "nobody else holds it");
    lock
}

/// Another process has stopped with the turn of one store, or while it made it: those who want to write
/// there wait, and others on their loop do not.
#[test]
fn who_waits_for_another_process_waits_alone() {
    let directory = TempDir::new();
    let [there, elsewhere] = ["a", "b"].map(|name| directory.path().join(name));
    let other = backend(&elsewhere);
    backend(&there).set("k", b"v", None, TIMEOUT).expect("set");
    for half_made in [false, true] {
        let backend = backend(&there);
        if half_made {
            File::create(there.join("store-1/index")).expect("it is shortened");
        } else {
            backend.open().expect("open");
        }
        let lock = held(&there);
        runtime(2).block_on(async {
            let waiting = tasks(&backend).set("k", b"w", None, TIMEOUT);
            tokio::pin!(waiting);
            let others = async {
                for round in 0..50 {
                    let other = tasks(&other);
                    other.get("k", false, TIMEOUT).await.expect("get");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    if !half_made && round % 10 == 0 {
                        let found = tasks(&backend).get("k", false, TIMEOUT).await;
                        assert_eq!(found.expect("get").expect("an entry").value, "v");
                    }
                }
            };
            tokio::select! {
                biased;
                done = &mut waiting => panic!("it did not wait, or nobody else did anything: {done:?}"),
                () = others => {}
            }
            drop(lock);
            waiting.await.expect("set");
        });
        let found = backend.get("k", false, TIMEOUT).expect("get");
        assert_eq!(found.expect("an entry").value, "w");
        backend.set("k", b"v", None, TIMEOUT).expect("set");
    }
}
