//! Directories that are no place for a store, damaged stores, and disks that are full or read-only.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cachekit_backends::file::{ListedKind, inspect};
use cachekit_backends::{Backend, BackendError, ErrorKind, FileBackend, FileConfig};
use cachekit_testkit::TempDir;

const TIMEOUT: Duration = Duration::from_secs(10);

fn open(path: &Path) -> FileBackend {
    FileBackend::new(FileConfig::new(path)).expect("good settings")
}

fn refused(path: &Path) -> BackendError {
    let error = open(path).open().expect_err("it is no place for a store");
    assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
    error
}

fn set(backend: &FileBackend, key: &str, value: &[u8]) {
    backend.set(key, value, None, TIMEOUT).expect("set");
}

fn get(backend: &FileBackend, key: &str) -> Option<Vec<u8>> {
    let found = backend.get(key, false, TIMEOUT).expect("get");
    found.map(|found| found.value.to_vec())
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn only_the_owner_has_access() {
    let directory = TempDir::new();
    let path = directory.path().join("above/c");
    let backend = open(&path);
    set(&backend, "small", b"v");
    set(&backend, "large", &[1; 100_000]);
    let mode = |path: &Path| fs::symlink_metadata(path).expect("it is there").mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in files(&path) {
        let expected = if file.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&file), expected, "{}", file.display());
    }
    let config = FileConfig::new(directory.path().join("group"))
        .permissions(0o660)
        .dir_permissions(0o770);
    let shared = FileBackend::new(config).expect("good settings");
    set(&shared, "k", b"v");
    assert_eq!(mode(&directory.path().join("group")), 0o770);
    assert_eq!(mode(&directory.path().join("group/store-1/index")), 0o660);
}

#[test]
fn symbolic_links_are_refused() {
    let directory = TempDir::new();
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    set(&open(&real), "k", b"v");
    symlink(&real, &link).expect("a link");
    for behind in ["/", "//", "/.", "/./"] {
        let mut spelled = link.clone().into_os_string();
        spelled.push(behind);
        let error = refused(Path::new(&spelled));
        assert!(error.message().contains("is a symbolic link"), "{error}");
    }
    let error = refused(&link);
    assert!(error.to_string().contains("symbolic link"), "{error}");
    // Nor is one inside followed, whatever it leads to.
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").expect("a file");
    for name in ["index", "data", "lock", "large", "wake"] {
        let path = directory.path().join(name);
        set(&open(&path), "k", b"v");
        let inner = path.join("store-1").join(name);
        if inner.is_dir() {
            fs::remove_dir_all(&inner).expect("removed");
        } else {
            fs::remove_file(&inner).expect("removed");
        }
        symlink(&victim, &inner).expect("a link");
        refused(&path);
    }
    assert_eq!(
        fs::read_to_string(&victim).expect("it is there"),
        "precious"
    );
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    fs::create_dir(&path).expect("made");
    fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("chmod");
    let error = refused(&path);
    assert!(error.to_string().contains("chmod"), "{error}");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("chmod");
    set(&open(&path), "k", b"v");
    let file = directory.path().join("file");
    File::create(&file).expect("a file");
    refused(&file);
}

#[test]
fn files_of_others_are_refused() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    set(&open(&path), "long", &[1; 100_000]);
    let large = fs::read_dir(path.join("store-1/large")).expect("a directory");
    let large = large.map(|entry| entry.expect("an entry").path()).next();
    let large = large.expect("a file");
    for file in ["index", "data", "lock", "alive"] {
        let file = path.join("store-1").join(file);
        let aside = directory.path().join("aside");
        fs::rename(&file, &aside).expect("renamed");
        let status = Command::new("mkfifo").arg(&file).status().expect("mkfifo");
        assert!(status.success());
        let error = refused(&path);
        assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
        inspect(&path, |_, _| {}).expect_err("a pipe");
        fs::rename(&aside, &file).expect("renamed");
        if chown(&file, Some(12_345), None).is_err() {
            continue; // Only root can give files away.
        }
        let error = refused(&path);
        assert!(error.to_string().contains("user 12345"), "{error}");
        inspect(&path, |_, _| {}).expect_err("not ours");
        chown(&file, Some(0), None).expect("chown");
    }
    let backend = open(&path);
    assert_eq!(get(&backend, "long"), Some(vec![1; 100_000]));
    if chown(&large, Some(12_345), None).is_ok() {
        let error = backend.get("long", false, TIMEOUT).expect_err("not ours");
        assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
        assert!(large.exists());
    }
}

#[test]
fn what_is_not_ours_stays() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    fs::create_dir(&path).expect("made");
    let foreign = ["notes.txt", ".hidden", "store-0", "0123456789abcdef"];
    for name in foreign {
        fs::write(path.join(name), name).expect("a file");
    }
    let config = FileConfig::new(&path).max_size_mb(2).max_value_mb(1);
    let backend = FileBackend::new(config).expect("good settings");
    set(&backend, "first", &[0; 100_000]);
    let large = path.join("store-1/large/README");
    fs::write(&large, "not a value").expect("a file");
    for i in 0..100 {
        set(&backend, &format!("k{i}"), &[1; 100_000]);
    }
    drop(backend);
    set(&open(&path), "again", b"v");
    for name in foreign {
        assert_eq!(
            fs::read_to_string(path.join(name)).expect("it stayed"),
            name
        );
    }
    assert!(large.exists());
    let mut expected = foreign.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(
        inspect(&path, |_, _| {}).expect("a store").foreign,
        expected
    );
}

#[test]
fn another_programs_index_is_set_aside() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    set(&open(&path), "k", b"v");
    let store = path.join("store-1");
    fs::write(store.join("index"), "something else").expect("written");
    let backend = open(&path);
    assert_eq!(get(&backend, "k"), None);
    set(&backend, "k", b"new");
    assert_eq!(get(&backend, "k").as_deref(), Some(&b"new"[..]));
    let kept = files(&store).into_iter().find(|file| {
        let name = file.file_name().expect("a name").to_string_lossy();
        name.starts_with("index-set-aside-")
    });
    let kept = fs::read_to_string(kept.expect("it is kept")).expect("text");
    assert_eq!(kept, "something else");
}

/// Every byte of the index that is in use, and of the records, turned over one at a time.
#[test]
fn damage_is_a_miss_and_never_a_wrong_value() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    let value = |i: usize| vec![i as u8; if i == 3 { 70_000 } else { 200 }];
    let keys: Vec<String> = (0..4).map(|i| format!("k{i}")).collect();
    let files = ["index", "data"];
    let mut state = 1u32;
    for round in 0..200 {
        let backend = open(&path);
        for (i, key) in keys.iter().enumerate() {
            set(&backend, key, &value(i));
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let name = files[round % 2];
        let at = match (name, round % 3) {
            ("data", _) => u64::from(state >> 8) % 4 * 65_536 + u64::from(state >> 4) % 240,
            (_, 0) => u64::from(state >> 8) % 72, // the header
            (_, 1) => 4096 + (1 << 19) + u64::from(state >> 8) % (64 * 4), // the slots
            _ => 4096 + u64::from(state >> 8) % (1 << 19), // the buckets
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path.join("store-1").join(name))
            .expect("it is there");
        let mut byte = [0];
        if file.read_exact_at(&mut byte, at).is_ok() {
            file.write_all_at(&[byte[0] ^ (1 << (state % 8))], at)
                .expect("written");
        }
        for (i, key) in keys.iter().enumerate() {
            let found = get(&backend, key);
            assert!(
                found.is_none() || found == Some(value(i)),
                "round {round}: a wrong value after byte {at} of {name}"
            );
        }
        // And the store goes on, in this process and in another one.
        for backend in [backend, open(&path)] {
            set(&backend, "more", b"v");
            assert_eq!(
                get(&backend, "more").as_deref(),
                Some(&b"v"[..]),
                "round {round}"
            );
        }
    }
}

#[test]
fn a_shortened_file_is_a_miss() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    let backend = open(&path);
    set(&backend, "large", &[7; 3 << 20]);
    let held = backend
        .get("large", false, TIMEOUT)
        .expect("get")
        .expect("an entry");
    let large = files(&path.join("store-1/large")).remove(0);
    // What a reader has mapped outlives the file's name.
    set(&backend, "large", b"small");
    assert!(!large.exists());
    assert!(held.value.iter().all(|byte| *byte == 7));
    set(&backend, "large", &[8; 3 << 20]);
    let large = files(&path.join("store-1/large")).remove(0);
    let file = OpenOptions::new().write(true).open(&large).expect("open");
    file.set_len(1 << 20).expect("shortened");
    assert_eq!(get(&backend, "large"), None);
    set(&backend, "large", &[9; 2 << 20]);
    assert_eq!(get(&backend, "large"), Some(vec![9; 2 << 20]));
}

#[test]
fn a_removed_directory_is_made_again() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    let backend = open(&path);
    set(&backend, "k", b"v");
    fs::remove_dir_all(&path).expect("removed");
    set(&backend, "k", b"new");
    assert_eq!(get(&open(&path), "k").as_deref(), Some(&b"new"[..]));
    // A process that only reads notices at its next miss.
    fs::remove_dir_all(&path).expect("removed");
    set(&open(&path), "other", b"there");
    assert_eq!(get(&backend, "other").as_deref(), Some(&b"there"[..]));
}

#[test]
fn whoever_only_reads_notices_soon_that_the_directory_was_removed() {
    use std::sync::atomic::{AtomicU64, Ordering};

    static NOW: AtomicU64 = AtomicU64::new(1_000_000_000_000_000);
    let directory = TempDir::new();
    let path = directory.path().join("c");
    let config = FileConfig::new(&path).clock(|| NOW.load(Ordering::Relaxed));
    let backend = FileBackend::new(config).expect("good settings");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let get_async = || {
        let aio = backend.aio().expect("it has one");
        let found = runtime.block_on(aio.get("k", false, TIMEOUT));
        found.expect("get").map(|found| found.value.to_vec())
    };
    let exists = || backend.exists("k", TIMEOUT).expect("exists");
    let readers: [&dyn Fn() -> bool; 3] = [
        &|| get(&backend, "k").is_some(),
        &|| get_async().is_some(),
        &exists,
    ];
    for read in readers {
        set(&backend, "k", b"v");
        assert!(read());
        fs::remove_dir_all(&path).expect("removed");
        NOW.fetch_add(1_000_000, Ordering::Relaxed);
        assert!(!read());
    }
}

#[test]
fn a_directory_is_listed() {
    let directory = TempDir::new();
    let path = directory.path().join("c");
    inspect(&path, |_, _| {}).expect_err("there is none");
    let backend = open(&path);
    backend
        .set("short", b"12345", Some(Duration::from_secs(60)), TIMEOUT)
        .expect("set");
    set(&backend, "long", &[0; 100_000]);
    let locking = backend.lock().expect("there are locks");
    let lease = Duration::from_secs(60);
    drop(
        locking
            .try_lock("short", "t", lease, TIMEOUT)
            .expect("lock"),
    );
    let mut found = Vec::new();
    inspect(&path, |entry, value| {
        assert_eq!(entry.size, value.len() as u64);
        assert!(entry.age.is_some_and(|age| age < TIMEOUT), "{entry:?}");
        found.push(entry);
    })
    .expect("a store");
    found.sort_by_key(|entry| entry.size);
    let seen: Vec<_> = found
        .iter()
        .map(|entry| {
            (
                entry.key.as_str(),
                entry.kind,
                entry.size,
                entry.file.is_some(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("short", ListedKind::Value, 5, false),
            ("short", ListedKind::Lock, 9, false),
            ("long", ListedKind::Value, 100_000, true),
        ]
    );
}

const PROGRAM: &str = "CACHEKIT_TEST_DIRECTORY";

/// Runs a test of this file on a small file system of its own, which only it sees.
fn on_own_disk(test: &str, options: &str) {
    let directory = TempDir::new();
    let script = format!(
        "mount -t tmpfs -o {options} none '{0}' && exec '{1}' --exact {test} --ignored --nocapture",
        directory.path().display(),
        std::env::current_exe()
            .expect("this test has a file")
            .display(),
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .env(PROGRAM, directory.path())
        .output()
        .expect("unshare is installed");
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (shown(&output.stdout), shown(&output.stderr));
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{out}{err}"
    );
}

fn own_disk() -> PathBuf {
    PathBuf::from(std::env::var(PROGRAM).expect("the directory"))
}

#[test]
fn a_full_disk() {
    on_own_disk("fills_the_disk", "size=4m");
}

#[test]
#[ignore = "a program of the test above"]
fn fills_the_disk() {
    let disk = own_disk();
    let backend = open(&disk.join("c"));
    set(&backend, "small", b"v");
    set(&backend, "replaced", &[1; 50_000]);
    let mut filler = File::create(disk.join("filler")).expect("a file");
    while filler.write_all(&[0; 4096]).is_ok() {}
    for len in [60_000, 1 << 20] {
        let error = backend.set("more", &vec![2; len], None, TIMEOUT);
        let error = error.expect_err("there is no room");
        assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
        assert!(error.to_string().contains("max_size_mb"), "{error}");
        assert_eq!(get(&backend, "more"), None);
    }
    assert_eq!(get(&backend, "small").as_deref(), Some(&b"v"[..]));
    let old = get(&backend, "replaced");
    assert!(old.is_none() || old == Some(vec![1; 50_000]));
    // Deleting needs no room, and gives some.
    backend.delete("replaced", TIMEOUT).expect("delete");
    set(&backend, "small", b"w");
    drop(filler);
    fs::remove_file(disk.join("filler")).expect("removed");
    set(&backend, "more", &[3; 1 << 20]);
    assert_eq!(get(&backend, "more"), Some(vec![3; 1 << 20]));
    let found = inspect(disk.join("c"), |_, _| {}).expect("a store");
    assert_eq!(found.abandoned, [""; 0]);
}

#[test]
fn a_read_only_disk() {
    on_own_disk("reads_only", "size=8m");
}

#[test]
#[ignore = "a program of the test above"]
fn reads_only() {
    let disk = own_disk();
    let path = disk.join("c");
    set(&open(&path), "k", b"v");
    set(&open(&path), "large", &[5; 2 << 20]);
    let status = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&disk)
        .status()
        .expect("mount is installed");
    assert!(status.success());
    let backend = open(&path);
    assert_eq!(get(&backend, "k").as_deref(), Some(&b"v"[..]));
    assert_eq!(get(&backend, "large"), Some(vec![5; 2 << 20]));
    assert_eq!(get(&backend, "absent"), None);
    let error = backend
        .set("k", b"w", None, TIMEOUT)
        .expect_err("read-only");
    assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
    let error = backend.set("k", &[1; 100_000], None, TIMEOUT);
    assert_eq!(error.expect_err("read-only").kind(), ErrorKind::Permanent);
    backend.delete("k", TIMEOUT).expect_err("read-only");
    backend.health(TIMEOUT).expect_err("read-only");
    let error = open(&disk.join("new")).open().expect_err("read-only");
    assert_eq!(error.kind(), ErrorKind::Permanent, "{error}");
    let mut text = String::new();
    File::open("/proc/self/mounts")
        .and_then(|mut file| file.read_to_string(&mut text))
        .expect("mounts");
    assert!(text.contains(" ro,"), "it was read-only");
}
