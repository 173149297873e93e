//! An open store: its files, and reading without asking anybody.
//!
//! Readers take no lock. What they read is either proven by its check, its key and the number of its
//! write, or was being changed, and is read again.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock, fstat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::alive::{Alive, random};
use super::cached::Source;
use super::config::FileConfig;
use super::directory::Directory;
use super::error::failed;
use super::forks::Private;
use super::large;
use super::layout::{
    Beginning, Bucket, Header, INDEX_LEN, Kind, Record, SLOT_LEN, Slot, bucket_at, key_hash,
    region_at, slot_at, visited_at,
};
use super::wake::Waiters;
use crate::error::Result;

/// A chain is not longer than this unless it is damaged.
const LONGEST_CHAIN: u32 = 1 << 10;
/// Microseconds for which what was removed may still be read.
const LOOK_EVERY: u64 = 1_000_000;

/// The open files of a store.
pub(super) struct Live {
    pub(super) directory: Directory,
    pub(super) index: File,
    pub(super) data: File,
    pub(super) lock: File,
    pub(super) alive: Alive,
    /// Taken before the lock among processes, which all threads of one process hold together.
    pub(super) thread: Mutex<()>,
    pub(super) waiters: OnceLock<Option<Waiters>>,
    /// The boot of the machine; 0 where that cannot be told.
    pub(super) boot: u64,
    pub(super) writable: bool,
    ids: AtomicU64,
    /// When a reader last saw that the store is there, in the store's time.
    seen: AtomicU64,
    _private: Private,
}

/// What a look at a chain found.
pub(super) enum Look {
    /// The slot with that hash.
    Found(u32, Slot),
    Absent,
    /// The chain was changed meanwhile, or is damaged.
    Unsteady,
}

impl Live {
    /// Opens the store, and makes it if there is none.
    pub(super) fn open(config: &FileConfig) -> Result<Self> {
        let directory = Directory::open(config)?;
        let path = directory.path.clone();
        Self::with(directory, config).map_err(|error| failed("open", &path, error))
    }

    fn with(directory: Directory, config: &FileConfig) -> io::Result<Self> {
        let unwritable = |error: &io::Error| {
            let code = error.raw_os_error();
            code == Some(libc::EROFS) || code == Some(libc::EACCES)
        };
        let lock = match directory.file("lock") {
            Ok(lock) => lock,
            Err(error) if unwritable(&error) => return Self::read_only(directory),
            Err(error) => return Err(error),
        };
        // Once the file is whole, nobody waits here.
        let index = loop {
            let index = directory.file("index")?;
            if is_whole(&index)? {
                break index;
            }
            flock_until(&lock, Instant::now() + config.lock_timeout)?;
            let index = directory.file("index")?;
            let made = if is_whole(&index)? {
                Ok(())
            } else {
                make_index(&directory, index)
            };
            flock(&lock, FlockOperation::Unlock)?;
            made?;
        };
        let data = directory.file("data")?;
        let alive = Alive::new(Some(directory.file("alive")?));
        let live = Self::of(directory, index, data, lock, alive, true)?;
        super::recover::remove_abandoned(&live)?;
        Ok(live)
    }

    /// A store that can be read only.
    pub(super) fn read_only(directory: Directory) -> io::Result<Self> {
        let open = |name| directory.file_to_read(name);
        let (index, data, lock) = (open("index")?, open("data")?, open("lock")?);
        let alive = match open("alive") {
            Ok(alive) => Some(alive),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Self::of(directory, index, data, lock, Alive::new(alive), false)
    }

    fn of(
        directory: Directory,
        index: File,
        data: File,
        lock: File,
        alive: Alive,
        writable: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            _private: Private::new(lock.as_fd()),
            directory,
            index,
            data,
            lock,
            alive,
            thread: Mutex::new(()),
            waiters: OnceLock::new(),
            boot: boot(),
            writable,
            ids: AtomicU64::new(random()?),
            seen: AtomicU64::new(0),
        })
    }

    /// A number that no other write has.
    pub(super) fn new_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether somebody has removed the store that these files belonged to.
    pub(super) fn is_gone(&self) -> io::Result<bool> {
        Ok(fstat(&self.index)?.st_nlink == 0)
    }

    /// As [`is_gone`](Self::is_gone), for readers that find what they look for: the system is asked once in
    /// [`LOOK_EVERY`], and in between the answer is no.
    pub(super) fn is_found_gone(&self, now: u64) -> io::Result<bool> {
        if now.abs_diff(self.seen.load(Ordering::Relaxed)) < LOOK_EVERY {
            return Ok(false);
        }
        let gone = self.is_gone()?;
        if !gone {
            self.seen.store(now, Ordering::Relaxed);
        }
        Ok(gone)
    }

    pub(super) fn header(&self) -> io::Result<Beginning> {
        let mut bytes = [0; Header::LEN];
        match self.index.read_exact_at(&mut bytes, 0) {
            Ok(()) => Ok(Header::from_bytes(&bytes)),
            // Somebody has put another file's bytes into it.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Beginning::Foreign),
            Err(error) => Err(error),
        }
    }

    pub(super) fn bucket(&self, hash: u128) -> io::Result<Bucket> {
        self.bucket_from(Source::Disk, hash)
    }

    fn bucket_from(&self, source: Source, hash: u128) -> io::Result<Bucket> {
        let mut bytes = [0; Bucket::LEN];
        source.read(&self.index, &mut bytes, bucket_at(hash))?;
        Ok(Bucket::from_bytes(&bytes))
    }

    /// None when the slot is being changed or damaged.
    pub(super) fn slot(&self, index: u32) -> io::Result<Option<Slot>> {
        self.slot_from(Source::Disk, index)
    }

    fn slot_from(&self, source: Source, index: u32) -> io::Result<Option<Slot>> {
        let mut bytes = [0; SLOT_LEN];
        source.read(&self.index, &mut bytes, slot_at(index))?;
        Ok(Slot::from_bytes(&bytes))
    }

    /// Looks a hash up, once.
    fn look(&self, source: Source, hash: u128) -> io::Result<Look> {
        match self.walk(source, hash) {
            // The index was shortened: whoever has a turn finds that out.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Look::Unsteady),
            look => look,
        }
    }

    fn walk(&self, source: Source, hash: u128) -> io::Result<Look> {
        let bucket = self.bucket_from(source, hash)?;
        let mut next = bucket.head;
        for _ in 0..LONGEST_CHAIN {
            if next == 0 {
                // A slot that left the chain may have led the way into another one.
                let steady = bucket.head == 0 || self.bucket_from(source, hash)? == bucket;
                return Ok(if steady { Look::Absent } else { Look::Unsteady });
            }
            let Some(slot) = self.slot_from(source, next - 1)? else {
                return Ok(Look::Unsteady);
            };
            if slot.hash == hash && slot.kind != Kind::Free {
                return Ok(Look::Found(next - 1, slot));
            }
            next = slot.next;
        }
        Ok(Look::Unsteady)
    }

    /// The bytes that a slot leads to, unproven; None when there are none of that length.
    pub(super) fn record(&self, index: u32, slot: &Slot) -> io::Result<Option<Bytes>> {
        self.record_from(Source::Disk, index, slot)
    }

    fn record_from(&self, source: Source, index: u32, slot: &Slot) -> io::Result<Option<Bytes>> {
        let read = if slot.in_file {
            if source == Source::Cache {
                // Its name has to be looked up.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.directory
                .large(&Slot::file_name(index, slot.id))
                .and_then(|file| large::read(&file, slot.size))
        } else {
            let mut record = vec![0; slot.size as usize];
            let read = source.read(&self.data, &mut record, region_at(index));
            read.map(|()| Some(record.into()))
        };
        match read.as_ref().map_err(io::Error::kind) {
            Err(io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => Ok(None),
            _ => read,
        }
    }

    /// The value that a slot leads to; None when what is there is not what the slot says.
    pub(super) fn fetch(&self, index: u32, slot: &Slot, key: &str) -> io::Result<Option<Bytes>> {
        self.fetch_from(Source::Disk, index, slot, key)
    }

    fn fetch_from(
        &self,
        source: Source,
        index: u32,
        slot: &Slot,
        key: &str,
    ) -> io::Result<Option<Bytes>> {
        // A file gets its name when it is whole: only what a crash of the machine may have lost of it
        // is looked for.
        let verify = !slot.in_file || self.boot == 0 || slot.boot != self.boot as u32;
        let Some(record) = self.record_from(source, index, slot)? else {
            return Ok(None);
        };
        let parts = Record::decode(&record, slot.id, verify);
        let value = parts
            .filter(|(found, _)| *found == key)
            .map(|(_, value)| value);
        Ok(value.map(|value| record.slice_ref(value)))
    }

    /// Tells eviction that a slot was read.
    pub(super) fn visit(&self, index: u32, slot: &Slot) {
        if self.writable && !slot.visited && within_limit(INDEX_LEN).is_ok() {
            // A hint: what is lost with a failure is one entry's second chance.
            let _ = self.index.write_all_at(&[1], visited_at(index));
        }
    }

    /// The live entry of a key, read without a lock: its slot and its value. Err(None) when it could
    /// not be read because it was being changed all the time, or is damaged.
    pub(super) fn read(
        &self,
        key: &str,
        now: u64,
    ) -> std::result::Result<Option<(Slot, Bytes)>, Option<io::Error>> {
        let found = self.read_from(Source::Disk, key, now)?;
        Ok(found.map(|(index, slot, value)| {
            self.visit(index, &slot);
            (slot, value)
        }))
    }

    /// As [`read`](Self::read), also with the slot's number, and without a [visit](Self::visit).
    pub(super) fn read_from(
        &self,
        source: Source,
        key: &str,
        now: u64,
    ) -> std::result::Result<Option<(u32, Slot, Bytes)>, Option<io::Error>> {
        let hash = key_hash(key);
        for attempt in 0..16 {
            match self.look(source, hash)? {
                Look::Absent => return Ok(None),
                Look::Found(_, slot) if !slot.lives(now) => return Ok(None),
                Look::Found(index, slot) => {
                    if let Some(value) = self.fetch_from(source, index, &slot, key)? {
                        return Ok(Some((index, slot, value)));
                    }
                }
                Look::Unsteady => {}
            }
            if attempt > 2 {
                std::thread::yield_now();
            }
        }
        Err(None)
    }

    /// The live slot of a key, as [`read`](Self::read).
    pub(super) fn peek(
        &self,
        source: Source,
        key: &str,
        now: u64,
    ) -> std::result::Result<Option<Slot>, Option<io::Error>> {
        let hash = key_hash(key);
        for _ in 0..16 {
            match self.look(source, hash)? {
                Look::Absent => return Ok(None),
                Look::Found(_, slot) => return Ok(slot.lives(now).then_some(slot)),
                Look::Unsteady => std::thread::yield_now(),
            }
        }
        Err(None)
    }
}

fn is_whole(index: &File) -> io::Result<bool> {
    if index.metadata()?.len() != INDEX_LEN {
        return Ok(false);
    }
    let mut bytes = [0; Header::LEN];
    index.read_exact_at(&mut bytes, 0)?;
    Ok(!matches!(Header::from_bytes(&bytes), Beginning::Foreign))
}

/// Writes an empty index. What is there and is not an index is kept under another name.
fn make_index(directory: &Directory, index: File) -> io::Result<()> {
    let index = if index.metadata()?.len() == 0 {
        index
    } else {
        let aside = format!("index-set-aside-{:016x}", random()?);
        rustix::fs::renameat(&directory.store, "index", &directory.store, aside.as_str())?;
        tracing::warn!(
            "{}: the index is not one of this version's; it was renamed to {aside}, and the store begins empty",
            directory.path.display()
        );
        directory.file("index")?
    };
    // The header last: without it, the file is not whole.
    within_limit(INDEX_LEN)?;
    index.set_len(INDEX_LEN)?;
    let header = Header {
        boot: boot(),
        dirty: true, // Files of large values may be left from another index.
        ..Header::default()
    };
    index.write_all_at(&header.to_bytes(), 0)
}

/// A number for the time since the machine was started; 0 where there is none to be had.
fn boot() -> u64 {
    static BOOT: OnceLock<u64> = OnceLock::new();
    *BOOT.get_or_init(|| {
        std::fs::read(Path::new("/proc/sys/kernel/random/boot_id"))
            .map_or(0, |text| twox_hash::XxHash3_64::oneshot(&text))
    })
}

/// Refuses what would make a file longer than the process may (`RLIMIT_FSIZE`). The kernel answers that with
/// a signal, which ends a program that does not expect it.
pub(super) fn within_limit(end: u64) -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if end > limit => Err(Errno::FBIG.into()),
        _ => Ok(()),
    }
}

/// Tries to take the lock among processes.
pub(super) fn try_flock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes the lock among processes. The kernel's own waiting could not be ended.
fn flock_until(file: &File, deadline: Instant) -> io::Result<()> {
    while !try_flock(file)? {
        if Instant::now() >= deadline {
            return Err(Errno::TIMEDOUT.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
