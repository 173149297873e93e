//! Changing a store: one process at a time, one part after the other, so that whoever is killed in between
//! leaves something that the next one can put in order.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::MutexGuard;
use rustix::fs::{FlockOperation, flock};

use super::error::damaged;
use super::evict::{self, Limits};
use super::large::Draft;
use super::layout::{
    BLOCK, Beginning, Bucket, Header, INDEX_LEN, Kind, Record, SLOTS, Slot, blocks, bucket_at,
    key_hash, region_at, slot_at,
};
use super::live::{Live, try_flock, within_limit};
use super::recover;

/// The right to change the store, until dropped.
pub(super) struct Turn<'a> {
    pub(super) live: &'a Arc<Live>,
    pub(super) header: Header,
    pub(super) limits: Limits,
    pub(super) now: u64,
    /// The header on the disk says that a change is under way.
    changing: bool,
    _thread: MutexGuard<'a, ()>,
}

/// What came of asking for a turn.
pub(super) enum Entry<'a> {
    Turn(Turn<'a>),
    /// Somebody else has it.
    Busy,
    /// The store was removed: these files belong to nobody.
    Gone,
}

/// A value on its way into the store.
pub(super) enum Content<'a> {
    Small(&'a [u8]),
    Large(Box<Draft>),
}

/// A used slot, and the one before it in its chain.
pub(super) struct Place {
    pub(super) index: u32,
    pub(super) slot: Slot,
    before: Option<(u32, Slot)>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Closing the file would do it too; there is nothing else to try.
        let _ = flock(&self.live.lock, FlockOperation::Unlock);
    }
}

impl<'a> Turn<'a> {
    /// Asks for the turn, and puts the store in order if the last one to have it could not.
    pub(super) fn take(live: &'a Arc<Live>, limits: Limits, now: u64) -> io::Result<Entry<'a>> {
        if !live.writable {
            return Err(rustix::io::Errno::ROFS.into());
        }
        within_limit(INDEX_LEN)?;
        let Some(thread) = live.thread.try_lock() else {
            return Ok(Entry::Busy);
        };
        if !try_flock(&live.lock)? {
            return Ok(Entry::Busy);
        }
        let mut turn = Turn {
            live,
            header: Header::default(),
            limits,
            now,
            changing: false,
            _thread: thread,
        };
        if live.is_gone()? {
            return Ok(Entry::Gone);
        }
        match live.header()? {
            Beginning::Foreign => return Ok(Entry::Gone),
            Beginning::Header(header)
                if !header.dirty && (header.boot == live.boot || live.boot == 0) =>
            {
                turn.header = header;
            }
            Beginning::Header(header) => turn.recover(Some(header.used))?,
            Beginning::Damaged => turn.recover(None)?,
        }
        Ok(Entry::Turn(turn))
    }

    fn recover(&mut self, used: Option<u32>) -> io::Result<()> {
        self.changing = true;
        self.header = recover::recover(self.live, used)?;
        self.commit()
    }

    /// From here on the store is out of order until [`commit`](Self::commit).
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if !self.changing {
            let dirty = Header {
                dirty: true,
                ..self.header
            };
            self.live.index.write_all_at(&dirty.to_bytes(), 0)?;
            self.changing = true;
        }
        Ok(())
    }

    /// The store is in order. What fails before this leaves it to the next turn to put it in order.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        if self.changing {
            self.live.index.write_all_at(&self.header.to_bytes(), 0)?;
            self.changing = false;
        }
        Ok(())
    }

    pub(super) fn write_slot(&self, index: u32, slot: &Slot) -> io::Result<()> {
        let bytes = slot.to_bytes();
        self.live.index.write_all_at(&bytes, slot_at(index))
    }

    fn write_bucket(&self, hash: u128, bucket: Bucket) -> io::Result<()> {
        let bytes = bucket.to_bytes();
        self.live.index.write_all_at(&bytes, bucket_at(hash))
    }

    /// The slot with that hash, dead or alive.
    pub(super) fn find(&mut self, hash: u128) -> io::Result<Option<Place>> {
        match self.walk(|_, slot| slot.hash == hash, hash) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.recover(None)?;
                self.walk(|_, slot| slot.hash == hash, hash)
            }
            found => found,
        }
    }

    /// The chain's first slot of that kind, with the one before it.
    fn walk(&self, is_it: impl Fn(u32, &Slot) -> bool, hash: u128) -> io::Result<Option<Place>> {
        let mut next = self.live.bucket(hash)?.head;
        let mut before = None;
        for _ in 0..self.header.used {
            if next == 0 {
                return Ok(None);
            }
            let index = next - 1;
            let slot = match self.live.slot(index)? {
                Some(slot) if slot.kind != Kind::Free => slot,
                _ => return Err(damaged()),
            };
            if is_it(index, &slot) {
                return Ok(Some(Place {
                    index,
                    slot,
                    before,
                }));
            }
            next = slot.next;
            before = Some((index, slot));
        }
        if next == 0 { Ok(None) } else { Err(damaged()) }
    }

    /// The live entry or lock under a key, and its value.
    pub(super) fn read(&mut self, key: &str) -> io::Result<Option<(Place, Bytes)>> {
        let Some(place) = self.find(key_hash(key))? else {
            return Ok(None);
        };
        if !place.slot.lives(self.now) {
            return Ok(None);
        }
        if let Some(value) = self.live.fetch(place.index, &place.slot, key)? {
            return Ok(Some((place, value)));
        }
        // Nobody is changing it: it is damaged.
        self.remove(&place)?;
        Ok(None)
    }

    /// Stores a value until `expiry`.
    pub(super) fn put(&mut self, key: &str, content: Content<'_>, expiry: u64) -> io::Result<()> {
        let (hash, kind) = (key_hash(key), Kind::of(key));
        let mut found = self.find(hash)?;
        let mut slot = Slot {
            hash,
            expiry,
            kind,
            boot: self.live.boot as u32,
            written: u32::try_from(self.now / 1_000_000).unwrap_or(0),
            ..Slot::default()
        };
        match &content {
            Content::Small(value) => {
                slot.id = self.live.new_id();
                slot.size = Record::size(key, value.len() as u64);
                slot.blocks = blocks(slot.size) as u8;
            }
            Content::Large(draft) => {
                (slot.id, slot.size, slot.in_file) = (draft.id(), draft.size(), true);
            }
        }
        let held = found.as_ref().map_or(0, |place| place.slot.held());
        let is_new = found.is_none() && kind == Kind::Value;
        let keep = found.as_ref().map(|place| place.index);
        if evict::make_room(self, slot.held().saturating_sub(held), is_new, keep)? {
            found = self.find(hash)?;
        }
        let (index, old) = match &found {
            Some(place) => (place.index, place.slot),
            None => self.free_slot()?,
        };
        slot.next = old.next;
        match content {
            Content::Small(value) => {
                let record = Record::encode(key, value, slot.id);
                let at = region_at(index);
                let written = within_limit(at + record.len() as u64)
                    .and_then(|()| self.live.data.write_all_at(&record, at));
                if let Err(error) = written {
                    self.give_up(index, found)?;
                    return Err(error);
                }
            }
            Content::Large(mut draft) => {
                self.begin()?;
                draft.publish(self.live, index)?;
            }
        }
        let Some(place) = found else {
            return self.link(index, slot, old);
        };
        if !slot.in_file && !old.in_file && slot.blocks == old.blocks {
            slot.visited = old.visited;
            return self.write_slot(index, &slot);
        }
        self.begin()?;
        slot.blocks = self.trim(index, old.blocks.max(slot.blocks), slot.blocks)?;
        self.write_slot(place.index, &slot)?;
        if old.in_file {
            self.remove_file(index, &old)?;
        }
        self.header.bytes = (self.header.bytes + slot.held()).saturating_sub(old.held());
        self.commit()
    }

    /// A slot that nobody uses, as it is. It is only taken by [`link`](Self::link).
    fn free_slot(&mut self) -> io::Result<(u32, Slot)> {
        if self.header.free != 0 {
            let index = self.header.free - 1;
            return match self.live.slot(index)? {
                Some(slot) if slot.kind == Kind::Free => Ok((index, slot)),
                _ => {
                    self.begin()?; // The next turn puts the free slots in order.
                    Err(damaged())
                }
            };
        }
        if self.header.used == SLOTS {
            let full = "every slot of the store is taken by a lock";
            return Err(io::Error::other(full));
        }
        Ok((self.header.used, Slot::default()))
    }

    /// Takes a free slot and puts it at the head of its chain.
    fn link(&mut self, index: u32, mut slot: Slot, old: Slot) -> io::Result<()> {
        self.begin()?;
        if index == self.header.used {
            self.header.used += 1;
        } else {
            self.header.free = old.next;
        }
        slot.blocks = self.trim(index, old.blocks.max(slot.blocks), slot.blocks)?;
        let bucket = self.live.bucket(slot.hash)?;
        slot.next = bucket.head;
        self.write_slot(index, &slot)?;
        let head = Bucket {
            head: index + 1,
            ..bucket
        };
        self.write_bucket(slot.hash, head)?;
        self.header.bytes = (self.header.bytes + slot.held()).saturating_sub(old.held());
        self.header.entries += u32::from(slot.kind == Kind::Value);
        self.commit()
    }

    /// A record could not be written whole. What was there before under its key is damaged now.
    fn give_up(&mut self, index: u32, found: Option<Place>) -> io::Result<()> {
        match found {
            Some(place) => self.remove(&place),
            None => {
                self.begin()?;
                // Free as it was; what was written of the record goes.
                self.punch(index, 0)?;
                self.commit()
            }
        }
    }

    /// Removes a slot from its chain and frees it.
    pub(super) fn remove(&mut self, place: &Place) -> io::Result<()> {
        let Place {
            index,
            slot,
            before,
        } = place;
        self.begin()?;
        let mut bucket = self.live.bucket(slot.hash)?;
        // Readers on their way through this slot look at the number afterwards, and begin again.
        bucket.version = bucket.version.wrapping_add(1);
        match before {
            None => bucket.head = slot.next,
            Some((index, before)) => {
                let next = slot.next;
                self.write_slot(*index, &Slot { next, ..*before })?;
            }
        }
        self.write_bucket(slot.hash, bucket)?;
        let blocks = self.trim(*index, slot.blocks, 0)?;
        let free = Slot {
            next: self.header.free,
            blocks,
            ..Slot::default()
        };
        self.write_slot(*index, &free)?;
        self.header.free = index + 1;
        if slot.in_file {
            self.remove_file(*index, slot)?;
        }
        self.header.bytes = (self.header.bytes + free.held()).saturating_sub(slot.held());
        self.header.entries -= u32::from(slot.kind == Kind::Value).min(self.header.entries);
        self.commit()
    }

    /// Removes the slot with this number, if it is used.
    pub(super) fn remove_index(&mut self, index: u32, slot: &Slot) -> io::Result<()> {
        match self.walk(|at, _| at == index, slot.hash)? {
            Some(place) => self.remove(&place),
            None => Err(damaged()),
        }
    }

    fn remove_file(&self, index: u32, slot: &Slot) -> io::Result<()> {
        let name = Slot::file_name(index, slot.id);
        self.live.directory.remove_large(&name)
    }

    /// Gives blocks of a slot's part of the data file back to the disk; returns how many it has then.
    fn trim(&self, index: u32, has: u8, needs: u8) -> io::Result<u8> {
        if has <= needs {
            return Ok(needs);
        }
        Ok(if self.punch(index, needs)? {
            needs
        } else {
            has
        })
    }

    #[cfg(target_os = "linux")]
    fn punch(&self, index: u32, from: u8) -> io::Result<bool> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        let start = u64::from(from) * BLOCK;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (at, len) = (region_at(index) + start, super::layout::SPAN - start);
        match fallocate(&self.live.data, flags, at, len) {
            Ok(()) => Ok(true),
            // The file system cannot; the blocks are used again by the slot's next record.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn punch(&self, _: u32, _: u8) -> io::Result<bool> {
        Ok(false)
    }
}
