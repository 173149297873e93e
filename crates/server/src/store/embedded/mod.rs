//! The embedded store: entries in files of this machine, an index of them in memory.
//!
//! The files are fjall's, a log-structured merge tree with a journal. A write is acknowledged once
//! the journal has it: in the operating system's hands with [`Durability::Process`], on the disk
//! with [`Durability::Power`].

mod index;
mod locks;
mod record;
mod writer;

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

use self::index::{Index, Slot};
use self::locks::Locks;
use self::writer::{Change, Writer, milliseconds};
use super::{Facts, Holder, Life, Lock, Place, Put, Quota, Result, Store, StoreError, Usage};
use crate::config::Durability;

/// How many changes may wait for the writer before those who ask wait as well.
const WAITING_CHANGES: usize = 1024;
/// Values that are not yet in tables take at most about this much memory, and once more while they
/// are written there. A smaller store has less of it, as what is replaced leaves the disk only when
/// several tables are merged.
const MEMTABLE: u64 = 32 << 20;
/// About this much disk is taken by journals of what is not yet in tables; the least that fjall takes.
const MAX_JOURNALS: u64 = 64 << 20;
/// The part of a file of values that may be dead before what lives in it is copied out.
const DEAD_PART: f32 = 0.2;
/// What a batch has written is in the index a moment later, on any machine within this time.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// From this size on values lie in files of their own kind, which compactions do not copy.
const SEPARATE_FROM: u32 = 4096;

/// How an embedded store is kept.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// The directory, made if it does not exist.
    pub directory: PathBuf,
    /// Bytes of keys, values and 64 for each entry.
    pub max_bytes: u64,
    /// Entries.
    pub max_entries: u64,
    /// What an acknowledged write has survived.
    pub durability: Durability,
    /// Time between two syncs with [`Durability::Process`].
    pub sync_interval: Duration,
    /// Writes are refused while the disk has less than this free, in bytes.
    pub min_free_disk: u64,
    /// Memory for blocks that were read lately, in bytes.
    pub block_cache: u64,
    /// Locks that a scope may hold.
    pub max_locks: usize,
    /// Milliseconds since 1970.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl EmbeddedOptions {
    /// The defaults of the table of settings, and the system's clock.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_bytes: 1 << 30,
            max_entries: 1_000_000,
            durability: Durability::Process,
            sync_interval: Duration::from_secs(1),
            min_free_disk: 256 << 20,
            block_cache: 64 << 20,
            max_locks: 100_000,
            clock: Arc::new(|| {
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(0, milliseconds)
            }),
        }
    }
}

/// What the writer and those who read share.
struct Shared {
    options: EmbeddedOptions,
    database: Database,
    /// Records by places.
    entries: Keyspace,
    /// Values by numbers.
    values: Keyspace,
    index: RwLock<Index>,
    locks: Locks,
    evicted: AtomicU64,
    expired: AtomicU64,
    disk: AtomicU64,
    disk_full: AtomicBool,
    failed: AtomicBool,
}

impl Shared {
    fn now(&self) -> u64 {
        (self.options.clock)()
    }

    /// Notes a failure of the files, from which fjall does not recover before a restart.
    fn healthy<T>(&self, result: fjall::Result<T>) -> Result<T> {
        result.map_err(|error| {
            if !self.failed.swap(true, Ordering::Relaxed) {
                tracing::error!(%error, "the store's files failed; restart the server once the disk is well");
            }
            StoreError::unavailable(error)
        })
    }

    /// Notes how much the files take and whether the disk is nearly full.
    fn look_at_disk(&self) {
        match self.database.disk_space() {
            Ok(bytes) => self.disk.store(bytes, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "the size of the store's files is unknown"),
        }
        let Some(free) = free_space(&self.options.directory) else {
            return;
        };
        let full = free < self.options.min_free_disk;
        if self.disk_full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::warn!(free, "the disk is nearly full: writes are refused");
            } else {
                tracing::info!(free, "the disk has room again: writes are accepted");
            }
        }
    }

    fn facts(slot: &Slot, now: u64) -> Facts {
        Facts {
            fresh_for: Duration::from_millis(slot.fresh_until.saturating_sub(now)),
            size: slot.size,
        }
    }
}

/// A [`Store`] in files of this machine.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    changes: mpsc::Sender<Change>,
}

impl EmbeddedStore {
    /// Opens the store, or makes it, and reads its index. Blocks while it does.
    ///
    /// # Errors
    /// When the files cannot be read or another process has them open.
    pub fn open(options: EmbeddedOptions) -> Result<Self> {
        let started = Instant::now();
        let at = |error: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("{}: {error}", options.directory.display()))
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&options.directory)
            .map_err(|error| at(&error))?;
        let open = || -> fjall::Result<_> {
            let database = Database::builder(&options.directory)
                .cache_size(options.block_cache)
                .max_journaling_size(MAX_JOURNALS)
                .open()?;
            let entries = database.keyspace("entries", || {
                KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE / 4)
            })?;
            let part = (options.max_bytes / 32).clamp(2 << 20, MEMTABLE);
            let values = database.keyspace("values", || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(part)
                    .with_kv_separation(Some(
                        KvSeparationOptions::default()
                            .separation_threshold(SEPARATE_FROM)
                            .file_target_size(part)
                            .staleness_threshold(DEAD_PART)
                            // Files of every age, since eviction spares what is read.
                            .age_cutoff(1.0),
                    ))
            })?;
            Ok((database, entries, values))
        };
        let (database, entries, values) = open().map_err(|error| match error {
            fjall::Error::Locked => at(&"another process has the store open"),
            error => at(&error),
        })?;
        let shared = Arc::new(Shared {
            index: RwLock::default(),
            locks: Locks::default(),
            evicted: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            disk: AtomicU64::new(0),
            disk_full: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            options,
            database,
            entries,
            values,
        });
        let next_number = recover(&shared).map_err(StoreError::unavailable)?;
        shared.look_at_disk();
        let (changes, waiting) = mpsc::channel(WAITING_CHANGES);
        let writer = Writer::new(shared.clone(), next_number);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(StoreError::unavailable)?;
        std::thread::Builder::new()
            .name("cachekit-writer".to_owned())
            .spawn(move || runtime.block_on(writer.run(waiting)))
            .map_err(StoreError::unavailable)?;
        tracing::info!(
            entries = shared.index.read().len(),
            bytes = shared.index.read().bytes(),
            milliseconds = milliseconds(started.elapsed()),
            "the store is open"
        );
        Ok(Self { shared, changes })
    }

    /// Hands a change to the writer and waits for its outcome.
    async fn change<T>(
        &self,
        change: impl FnOnce(oneshot::Sender<Result<T>>) -> Change,
    ) -> Result<T> {
        let (done, outcome) = oneshot::channel();
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        self.changes
            .send(change(done))
            .await
            .map_err(|_| closed())?;
        outcome.await.map_err(|_| closed())?
    }

    /// Reads a value on a thread that may block.
    async fn value(&self, number: u64) -> Result<Option<Bytes>> {
        let shared = self.shared.clone();
        let read = tokio::task::spawn_blocking(move || shared.values.get(number.to_be_bytes()));
        let value = read
            .await
            .map_err(StoreError::unavailable)?
            .map_err(StoreError::unavailable)?;
        Ok(value.map(Bytes::from))
    }
}

/// Reads the records into the index and returns the number of the next write.
fn recover(shared: &Shared) -> fjall::Result<u64> {
    let mut found = Vec::new();
    let mut unreadable = 0;
    for entry in shared.entries.iter() {
        let (full, record) = entry.into_inner()?;
        let place = std::str::from_utf8(&full).ok().and_then(Place::from_full);
        match (place, record::decode(&record)) {
            (Some(place), Some(slot)) => found.push((place, slot)),
            _ => unreadable += 1,
        }
    }
    if unreadable > 0 {
        tracing::error!(unreadable, "records of another version are left alone");
    }
    found.sort_unstable_by_key(|(_, slot)| slot.number);
    let last_value = match shared.values.last_key_value() {
        Some(last) => last.key()?.get(..8).and_then(|key| key.try_into().ok()),
        None => None,
    };
    let last_value = last_value.map_or(0, u64::from_be_bytes);
    let last_record = found.last().map_or(0, |(_, slot)| slot.number);
    let mut index = shared.index.write();
    for (place, slot) in found {
        index.insert(&place, slot);
    }
    Ok(last_value.max(last_record) + 1)
}

/// The bytes that may still be written to the disk of `directory`, if the system tells.
fn free_space(directory: &Path) -> Option<u64> {
    let path = CString::new(directory.as_os_str().as_bytes()).ok()?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero byte and the structure is ours to be written.
    if unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: statvfs returned success, so it has filled the structure.
    let found = unsafe { found.assume_init() };
    Some(found.f_bavail * found.f_frsize)
}

impl Store for EmbeddedStore {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn size_hint(&self, place: &Place) -> usize {
        let slot = self.shared.index.read().find(place.full(), 0);
        slot.map_or(0, |slot| usize::try_from(slot.size).unwrap_or(usize::MAX))
    }

    fn facts<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Option<Facts>>> {
        let now = self.shared.now();
        let slot = self.shared.index.read().find(place.full(), now);
        Box::pin(std::future::ready(Ok(
            slot.map(|slot| Shared::facts(&slot, now))
        )))
    }

    fn get<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Option<(Facts, Bytes)>>> {
        Box::pin(async move {
            let mut missed = None;
            let started = Instant::now();
            loop {
                let now = self.shared.now();
                let Some(slot) = self.shared.index.read().read(place.full(), now) else {
                    return Ok(None);
                };
                if missed == Some(slot.number) {
                    if started.elapsed() > SHOWN_WITHIN {
                        return Err(StoreError::unavailable(
                            "the store has lost a value that its index names",
                        ));
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                match self.value(slot.number).await? {
                    Some(value) => return Ok(Some((Shared::facts(&slot, now), value))),
                    // It was replaced or evicted since the index was asked, or has just been and
                    // the index is about to say so.
                    None => missed = Some(slot.number),
                }
            }
        })
    }

    fn put<'a>(
        &'a self,
        place: &'a Place,
        value: Bytes,
        life: Life,
        quota: Quota,
        holder: Option<&'a Holder>,
    ) -> BoxFuture<'a, Result<Put>> {
        let (place, holder) = (place.clone(), holder.cloned());
        Box::pin(self.change(move |done| Change::Put {
            place,
            value,
            life,
            quota,
            holder,
            done,
        }))
    }

    fn delete<'a>(&'a self, place: &'a Place, lock: bool) -> BoxFuture<'a, Result<bool>> {
        let place = place.clone();
        Box::pin(self.change(move |done| Change::Delete { place, lock, done }))
    }

    fn expire<'a>(&'a self, place: &'a Place, fresh: Duration) -> BoxFuture<'a, Result<bool>> {
        let place = place.clone();
        Box::pin(self.change(move |done| Change::Expire { place, fresh, done }))
    }

    fn lock<'a>(
        &'a self,
        place: &'a Place,
        id: &'a str,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Lock>> {
        let most = self.shared.options.max_locks;
        let taken = self
            .shared
            .locks
            .take(place, id, lease, Instant::now(), most);
        Box::pin(std::future::ready(Ok(taken)))
    }

    fn renew<'a>(
        &'a self,
        place: &'a Place,
        id: &'a str,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        let renewed = self.shared.locks.renew(place, id, lease, Instant::now());
        Box::pin(std::future::ready(Ok(renewed)))
    }

    fn unlock<'a>(&'a self, place: &'a Place, id: &'a str) -> BoxFuture<'a, Result<bool>> {
        let released = self.shared.locks.release(place, id, Instant::now());
        Box::pin(std::future::ready(Ok(released)))
    }

    fn end_lock<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<bool>> {
        let ended = self.shared.locks.end(place, Instant::now());
        Box::pin(std::future::ready(Ok(ended)))
    }

    fn watch_lock<'a>(
        &'a self,
        place: &'a Place,
        at_most: Duration,
    ) -> BoxFuture<'a, Result<Option<Duration>>> {
        Box::pin(async move {
            let until = Instant::now() + at_most;
            loop {
                let now = Instant::now();
                let Some((left, mut watched)) = self.shared.locks.watch(place, now) else {
                    return Ok(None);
                };
                if now >= until {
                    return Ok(Some(left));
                }
                // The lease may be renewed before it ends, and the lock taken anew once it is free:
                // either way it is looked at again, but for a release, which counts at once.
                let next = until.min(now + left);
                let gone = tokio::time::timeout_at(next.into(), watched.changed()).await;
                if gone.is_ok() {
                    return Ok(None);
                }
            }
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        let state = if self.shared.failed.load(Ordering::Relaxed) {
            Err(StoreError::unavailable("the store's files failed"))
        } else if self.changes.is_closed() {
            Err(StoreError::unavailable("the store is closed"))
        } else {
            Ok(())
        };
        Box::pin(std::future::ready(state))
    }

    fn usage(&self) -> Usage {
        let index = self.shared.index.read();
        Usage {
            entries: index.len(),
            bytes: index.bytes(),
            disk: self.shared.disk.load(Ordering::Relaxed),
            evicted: self.shared.evicted.load(Ordering::Relaxed),
            expired: self.shared.expired.load(Ordering::Relaxed),
            locks: self.shared.locks.len() as u64,
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.change(|done| Change::Close { done }))
    }
}

#[cfg(test)]
mod tests;
