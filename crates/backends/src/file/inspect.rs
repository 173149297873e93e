//! What is in a directory, for people.

use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::changes::{Holder, rest};
use super::directory::{Directory, LARGE, STORE};
use super::error::{damaged, failed};
use super::large::draft_owner;
use super::layout::{Beginning, Header, Kind, LOCK_PREFIX, Record, SLOTS, Slot};
use super::live::Live;
use super::recover::{is_record, read};
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
    /// A lock whose holder has ended; it is free to whoever asks for it.
    AbandonedLock,
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
    /// How long ago it was written, to the second, by the wall clock; `None` where that is not known.
    pub age: Option<Duration>,
    /// The rest of its life.
    pub remaining: Remaining,
    /// The name of its own file in the directory `large`, if it has one.
    pub file: Option<String>,
}

/// What is known of a directory beside its entries.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Inspection {
    /// What entries and locks take on the disk, in bytes, as the store counts it.
    pub bytes: u64,
    /// Whether a writer was killed in the middle of a change; the next writer puts the store in order.
    pub interrupted: bool,
    /// Files in `large` that writers which were killed have left; whoever opens the store next, or puts it
    /// in order, removes them.
    pub abandoned: Vec<String>,
    /// Names in the directory that are not this backend's, which never touches them.
    pub foreign: Vec<String>,
}

/// Tells `each` about every entry of the store in `directory`, a cache directory of a
/// [`FileBackend`](super::FileBackend), and its value; in no order, and without changing anything.
///
/// Processes may go on using the store meanwhile and are not kept waiting, except for the moment in which
/// something is looked at once more that seems to be damaged. What they store or remove at the same time may
/// be told or not, or told twice if it is removed and stored again.
///
/// # Errors
/// When there is no store in the directory, or it cannot be read.
pub fn inspect(
    directory: impl AsRef<Path>,
    mut each: impl FnMut(Listed, &[u8]),
) -> Result<Inspection> {
    let path = directory.as_ref();
    let live = Directory::existing(path)
        .and_then(|open| Live::read_only(open).map_err(|error| failed("inspect", path, error)))?;
    look(&live, path, &mut each).map_err(|error| failed("inspect", path, error))
}

const AT_ONCE: u32 = 1024;
/// How often something is looked at that does not verify, and the pause in between: a writer that changes
/// it is done by then, unless it has to wait for a processor.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(2);
/// How often the store is asked for while nobody changes it, with the same pause.
const TRIES: u32 = 500;

fn look(live: &Live, path: &Path, each: &mut impl FnMut(Listed, &[u8])) -> io::Result<Inspection> {
    let mut found = Inspection::default();
    let used = match settled_header(live)? {
        Beginning::Header(header) => {
            (found.bytes, found.interrupted) = (header.bytes, header.dirty);
            header.used
        }
        Beginning::Damaged => {
            found.interrupted = true;
            SLOTS
        }
        Beginning::Foreign => return Err(damaged()),
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64);
    for start in (0..used).step_by(AT_ONCE as usize) {
        let count = AT_ONCE.min(used - start);
        for (index, slot) in (start..).zip(read(&live.index, start, count)?) {
            if slot.is_some_and(|slot| slot.kind == Kind::Free) {
                continue;
            }
            if let Some((listed, value)) = settled(live, index, slot, now)? {
                each(listed, &value);
            }
        }
    }
    for name in names(&live.directory.path.join(LARGE))? {
        if is_abandoned(live, &name)? {
            found.abandoned.push(name);
        }
    }
    found.foreign = names(path)?;
    found.foreign.retain(|name| name != STORE);
    Ok(found)
}

/// What a look finds while nobody changes the store; None where a writer is at it for all of a second, as
/// one that was stopped in the middle of a change.
fn undisturbed<T>(live: &Live, look: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
    for _ in 0..TRIES {
        match flock(&live.lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                let found = look();
                flock(&live.lock, FlockOperation::Unlock)?;
                return found.map(Some);
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => sleep(PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The header, as it is when nobody is changing the store; as it was last where somebody always is.
fn settled_header(live: &Live) -> io::Result<Beginning> {
    let mut first = None;
    for _ in 0..LOOKS {
        match live.header()? {
            Beginning::Header(header) if header.dirty => {
                if *first.get_or_insert(header) != header {
                    // Changes go on: nobody was killed in the middle of the first.
                    return Ok(Beginning::Header(under_way(header)));
                }
            }
            Beginning::Damaged => {}
            settled => return Ok(settled),
        }
        sleep(PAUSE);
    }
    match undisturbed(live, || live.header())? {
        Some(header) => Ok(header),
        None => Ok(match live.header()? {
            Beginning::Header(header) => Beginning::Header(under_way(header)),
            other => other,
        }),
    }
}

/// The header of a store that somebody is changing, without the mark that a killed writer leaves.
fn under_way(header: Header) -> Header {
    Header {
        dirty: false,
        ..header
    }
}

/// What slot `index` holds, looked at again while it does not verify; None when it has become free, or is
/// being changed all the time.
fn settled(
    live: &Live,
    index: u32,
    mut slot: Option<Slot>,
    now: u64,
) -> io::Result<Option<(Listed, Bytes)>> {
    for _ in 0..LOOKS {
        if let Some(verified) = verified(live, index, slot.as_ref(), now)? {
            return Ok(verified);
        }
        sleep(PAUSE);
        slot = live.slot(index)?;
    }
    let found = undisturbed(live, || {
        let slot = live.slot(index)?;
        Ok((slot, verified(live, index, slot.as_ref(), now)?))
    })?;
    let Some((slot, verified)) = found else {
        return Ok(None);
    };
    let damaged = || {
        let listed = Listed {
            kind: ListedKind::Damaged,
            ..listed(live, index, &slot.unwrap_or_default(), "", &[], now)
        };
        Some((listed, Bytes::new()))
    };
    Ok(verified.unwrap_or_else(damaged))
}

/// What a slot holds, which is nothing in a free one; None where it does not verify.
#[expect(clippy::option_option, reason = "free is not damaged")]
fn verified(
    live: &Live,
    index: u32,
    slot: Option<&Slot>,
    now: u64,
) -> io::Result<Option<Option<(Listed, Bytes)>>> {
    let Some(slot) = slot else {
        return Ok(None);
    };
    if slot.kind == Kind::Free {
        return Ok(Some(None));
    }
    let record = live.record(index, slot)?.unwrap_or_default();
    Ok(Record::decode(&record, slot.id, true).map(|(key, value)| {
        let listed = listed(live, index, slot, key, value, now);
        Some((listed, record.slice_ref(value)))
    }))
}

fn listed(live: &Live, index: u32, slot: &Slot, key: &str, value: &[u8], now: u64) -> Listed {
    let abandoned = || Holder::from_bytes(value).is_some_and(|held| !live.alive.is(held.owner));
    let kind = match slot.kind {
        _ if !slot.lives(now) => ListedKind::Expired,
        Kind::Lock if abandoned() => ListedKind::AbandonedLock,
        Kind::Lock => ListedKind::Lock,
        _ => ListedKind::Value,
    };
    let written = Duration::from_secs(slot.written.into());
    let age = Duration::from_micros(now).saturating_sub(written);
    Listed {
        key: key.strip_prefix(LOCK_PREFIX).unwrap_or(key).to_owned(),
        kind,
        size: value.len() as u64,
        on_disk: slot.held(),
        age: (slot.written != 0).then(|| Duration::from_secs(age.as_secs())),
        remaining: match slot.expiry {
            0 => Remaining::Forever,
            end => Remaining::For(rest(end, now)),
        },
        file: slot.in_file.then(|| Slot::file_name(index, slot.id)),
    }
}

/// Whether a file of a large value was left by a writer that has ended.
fn is_abandoned(live: &Live, name: &str) -> io::Result<bool> {
    if let Some(owner) = draft_owner(name) {
        return Ok(!live.alive.is(owner));
    }
    let Some((index, _)) = name.split_once('-').filter(|_| is_record(name)) else {
        return Ok(false);
    };
    let index = u32::from_str_radix(index, 16).map_err(|_| damaged())?;
    if index >= SLOTS {
        return Ok(true);
    }
    // The file gets its name before the slot does, and loses it after.
    let is_left = || {
        let known = live.slot(index)?.filter(|slot| slot.in_file);
        let is_known = known.is_some_and(|slot| Slot::file_name(index, slot.id) == name);
        Ok(!is_known && live.directory.large(name).is_ok())
    };
    for _ in 0..LOOKS {
        if !is_left()? {
            return Ok(false);
        }
        sleep(PAUSE);
    }
    Ok(undisturbed(live, is_left)?.unwrap_or(false))
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    use cachekit_testkit::TempDir;

    use super::super::config::FileConfig;
    use super::super::evict::Limits;
    use super::super::layout::region_at;
    use super::super::turn::{Content, Entry, Turn};
    use super::*;

    /// A writer may stand still in the middle of a change for as long as a processor is busy with others.
    #[test]
    fn what_a_writer_is_at_is_neither_interrupted_nor_damaged() {
        let directory = TempDir::new();
        let path = directory.path().join("c");
        let live = Arc::new(Live::open(&FileConfig::new(&path)).expect("open"));
        let limits = Limits {
            bytes: 1 << 20,
            entries: 100,
        };
        let Ok(Entry::Turn(mut turn)) = Turn::take(&live, limits, 0) else {
            panic!("nobody else has it");
        };
        let seen = || {
            let mut kinds = Vec::new();
            let found = inspect(&path, |listed, _| kinds.push(listed.kind)).expect("a store");
            (found.interrupted, kinds)
        };
        turn.put("k", Content::Small(b"v"), 0).expect("put");
        assert_eq!(seen(), (false, vec![ListedKind::Value]));
        turn.begin().expect("begin");
        let half = live.data.write_all_at(&[0xff; 32], region_at(0));
        half.expect("a record is there");
        assert_eq!(seen(), (false, vec![]));
        drop(turn); // As when the kernel ends its process.
        assert_eq!(seen(), (true, vec![ListedKind::Damaged]));
    }
}
