//! What is in a directory, for people.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::changes::rest;
use super::directory::Directory;
use super::error::failed;
use super::layout::{Beginning, Kind, LOCK_PREFIX, Record, SLOTS, Slot};
use super::live::Live;
use super::recover::read;
use crate::backend::Remaining;
use crate::error::Result;

/// What kind of thing an entry of a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListedKind {
    /// A stored value.
    Value,
    /// A lock that somebody holds.
    Lock,
    /// A value or a lock whose life has ended; its room is used again.
    Expired,
    /// A record that does not verify. It is never given out.
    Damaged,
}

/// One entry of a store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Listed {
    /// The key under which it is stored; for a lock, the key that is locked. Empty when it cannot be read.
    pub key: String,
    /// What it is.
    pub kind: ListedKind,
    /// The value's length, in bytes.
    pub size: u64,
    /// What it takes on the disk, in bytes.
    pub on_disk: u64,
    /// The rest of its life.
    pub remaining: Remaining,
    /// The name of its own file in the directory `large`, if it has one.
    pub file: Option<String>,
}

/// What is in a directory.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Inspection {
    /// Every entry and lock, in no order.
    pub entries: Vec<Listed>,
    /// What they take on the disk, in bytes, as the store counts it.
    pub bytes: u64,
    /// Whether a writer was killed in the middle of a change; the next writer puts the store in order.
    pub interrupted: bool,
    /// Files that no entry accounts for: drafts of writers that write now or were killed.
    pub drafts: Vec<String>,
    /// Names in the directory that are not this backend's, which never touches them.
    pub foreign: Vec<String>,
}

/// Lists what is in `directory`, a cache directory of a [`FileBackend`](super::FileBackend), without changing
/// anything. Processes may go on using it meanwhile.
///
/// # Errors
/// When there is no store in the directory, or it cannot be read.
pub fn inspect(directory: impl AsRef<Path>) -> Result<Inspection> {
    let path = directory.as_ref();
    let live = Directory::existing(path)
        .and_then(|open| Live::read_only(open).map_err(|error| failed("inspect", path, error)))?;
    look(&live, path).map_err(|error| failed("inspect", path, error))
}

const AT_ONCE: u32 = 1024;

fn look(live: &Live, path: &Path) -> io::Result<Inspection> {
    let mut found = Inspection::default();
    let (used, interrupted) = match live.header()? {
        Beginning::Header(header) => {
            found.bytes = header.bytes;
            (header.used, header.dirty)
        }
        Beginning::Damaged => (SLOTS, true),
        Beginning::Foreign => return Err(super::error::damaged()),
    };
    found.interrupted = interrupted;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64);
    let mut files = Vec::new();
    for start in (0..used).step_by(AT_ONCE as usize) {
        let count = AT_ONCE.min(used - start);
        for (index, slot) in (start..).zip(read(&live.index, start, count)?) {
            let Some(slot) = slot.filter(|slot| slot.kind != Kind::Free) else {
                continue;
            };
            let listed = listed(live, index, &slot, now)?;
            files.extend(listed.file.clone());
            found.entries.push(listed);
        }
    }
    for name in names(&live.directory.path.join(super::directory::LARGE))? {
        if !files.contains(&name) {
            found.drafts.push(name);
        }
    }
    found.foreign = names(path)?;
    found.foreign.retain(|name| name != super::directory::STORE);
    Ok(found)
}

fn listed(live: &Live, index: u32, slot: &Slot, now: u64) -> io::Result<Listed> {
    let key = key_of(live, index, slot)?;
    let kind = match (&key, slot.kind) {
        (None, _) => ListedKind::Damaged,
        _ if !slot.lives(now) => ListedKind::Expired,
        (_, Kind::Lock) => ListedKind::Lock,
        _ => ListedKind::Value,
    };
    let key = key.unwrap_or_default();
    let size = slot.size.saturating_sub(Record::size(&key, 0));
    let remaining = match slot.expiry {
        0 => Remaining::Forever,
        end => Remaining::For(match rest(end, now) {
            left if kind == ListedKind::Expired => left.min(Duration::ZERO),
            left => left,
        }),
    };
    Ok(Listed {
        key: key
            .strip_prefix(LOCK_PREFIX)
            .map_or(key.clone(), str::to_owned),
        kind,
        size,
        on_disk: slot.held(),
        remaining,
        file: slot.in_file.then(|| Slot::file_name(index, slot.id)),
    })
}

/// The key in a slot's record, if the record is the slot's and verifies.
fn key_of(live: &Live, index: u32, slot: &Slot) -> io::Result<Option<String>> {
    let record = live.record(index, slot)?;
    let record = record.as_deref();
    let parts = record.and_then(|record| Record::decode(record, slot.id, true));
    Ok(parts.map(|(key, _)| key.to_owned()))
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
