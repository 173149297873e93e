//! Putting a store in order after a writer was killed, the machine was restarted, or the index was damaged.
//!
//! The slots are the truth: each verifies by itself. Chains, free slots and sums are made anew from them,
//! and files of large values that no slot knows are removed.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::Dir;

use super::large::draft_owner;
use super::layout::{
    BLOCK, BUCKETS_RANGE, Bucket, Header, Kind, SLOT_LEN, SLOTS, SPAN, Slot, bucket_of, slot_at,
};
use super::live::Live;

/// Slots that one change may have added beyond what the header says.
const ADDED: u32 = 64;
const AT_ONCE: u32 = 4096;

/// Makes the index whole. `used` is what the header said, if it said anything.
///
/// Called by whoever has the turn. Returns the new header, which says that all is in order.
pub(super) fn recover(live: &Live, used: Option<u32>) -> io::Result<Header> {
    let until = used.map_or(SLOTS, |used| used.saturating_add(ADDED).min(SLOTS));
    let mut header = Header {
        boot: live.boot,
        ..Header::default()
    };
    let mut heads = vec![0u32; BUCKETS_RANGE.1 / Bucket::LEN];
    let mut seen = HashSet::new();
    let mut files = HashSet::new();
    let mut not_linked = Vec::new();
    let mut start = 0;
    while let Some(from) = written_from(&live.index, start)?.filter(|from| *from < until) {
        let count = AT_ONCE.min(until - from);
        start = from + count;
        for (index, slot) in (from..).zip(read(&live.index, from, count)?) {
            if slot == Some(Slot::default()) {
                not_linked.push((index, 0));
                continue;
            }
            header.used = index + 1;
            let Some(slot) = slot else {
                not_linked.push((index, (SPAN / BLOCK) as u8)); // It may have taken all of them.
                continue;
            };
            if slot.kind == Kind::Free || !seen.insert(slot.hash) {
                not_linked.push((index, slot.blocks));
                continue;
            }
            let head = &mut heads[bucket_of(slot.hash)];
            let linked = Slot {
                next: std::mem::replace(head, index + 1),
                ..slot
            };
            live.index
                .write_all_at(&linked.to_bytes(), slot_at(index))?;
            header.bytes += slot.held();
            header.entries += u32::from(slot.kind == Kind::Value);
            if slot.in_file {
                files.insert(Slot::file_name(index, slot.id));
            }
        }
    }
    for (index, blocks) in not_linked.into_iter().rev() {
        if index >= header.used {
            continue;
        }
        let free = Slot {
            next: std::mem::replace(&mut header.free, index + 1),
            blocks,
            ..Slot::default()
        };
        live.index.write_all_at(&free.to_bytes(), slot_at(index))?;
        header.bytes += free.held();
    }
    // Readers that were on their way through a chain must see that it is another one now.
    let version = live.new_id() as u32;
    let mut buckets = Vec::with_capacity(BUCKETS_RANGE.1);
    for head in heads {
        buckets.extend_from_slice(&Bucket { head, version }.to_bytes());
    }
    live.index.write_all_at(&buckets, BUCKETS_RANGE.0)?;
    remove_files(live, |name| is_record(name) && !files.contains(name))?;
    remove_abandoned(live)?;
    Ok(header)
}

/// Removes the drafts of processes that have ended.
pub(super) fn remove_abandoned(live: &Live) -> io::Result<()> {
    remove_files(live, |name| {
        draft_owner(name).is_some_and(|owner| !live.alive.is(owner))
    })
}

fn remove_files(live: &Live, goes: impl Fn(&str) -> bool) -> io::Result<()> {
    for file in Dir::read_from(&live.directory.large)? {
        let file = file?;
        if let Ok(name) = file.file_name().to_str()
            && goes(name)
        {
            live.directory.remove_large(name)?;
        }
    }
    Ok(())
}

/// Whether a file's name is one that [`Slot::file_name`] makes.
pub(super) fn is_record(name: &str) -> bool {
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    name.split_once('-')
        .is_some_and(|(index, id)| hex(index, 6) && hex(id, 16))
}

/// The first slot from this one on that may have been written: most of the index is a hole.
#[cfg(target_os = "linux")]
fn written_from(index: &File, start: u32) -> io::Result<Option<u32>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;

    use super::layout::slot_before;

    if start >= SLOTS {
        return Ok(None);
    }
    match seek(index, SeekFrom::Data(slot_at(start))) {
        Ok(at) => Ok(Some(start.max(slot_before(at)))),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn written_from(_: &File, start: u32) -> io::Result<Option<u32>> {
    Ok((start < SLOTS).then_some(start))
}

/// Reads slots; None for those that do not verify.
pub(super) fn read(index: &File, start: u32, count: u32) -> io::Result<Vec<Option<Slot>>> {
    let mut bytes = vec![0; count as usize * SLOT_LEN];
    index.read_exact_at(&mut bytes, slot_at(start))?;
    let slots = bytes.chunks_exact(SLOT_LEN);
    Ok(slots
        .map(|slot| Slot::from_bytes(slot.try_into().expect("chunks have a slot's length")))
        .collect())
}
