//! L1: values in this process, bounded by the bytes that they really hold.
//!
//! A face over `quick_cache` (a CLOCK-Pro relative of S3-FIFO: scan-resistant, O(1) per insertion)
//! that adds what a cache of foreign objects needs: nothing that a caller stored is ever dropped,
//! cloned or compared while a lock is held. What leaves L1 is handed to the caller instead.

mod ceiling;
mod entry;
mod ghosts;
mod key;
mod shard;

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

pub use ceiling::Ceiling;
use ceiling::Member;
use entry::Foreign;
pub use entry::{Entry, Evicted};
use foldhash::fast::RandomState;
pub use key::Key;
use key::Probe;
use shard::{Shard, weigh};

/// A cache of `Arc<Entry<V>>` under byte keys, bounded by weight.
///
/// The weight of an entry is [`Entry::weight`] plus what its key and its place in L1 take. An
/// entry heavier than 31/32 of a shard's capacity is refused.
pub struct L1<V> {
    shards: Arc<[Shard<V>]>,
    hasher: RandomState,
    below: Option<Below>,
}

/// The ceiling of an L1 and what the ceiling knows it by.
struct Below {
    ceiling: Arc<Ceiling>,
    member: Arc<dyn Member>,
}

impl<V> L1<V> {
    /// An empty L1 for `capacity` bytes, in `shards` parts with a lock and an equal share each.
    ///
    /// One shard is right where a global lock (the GIL) serialises the callers anyway.
    #[must_use]
    pub fn new(capacity: u64, shards: usize) -> Self {
        let count = shards.max(1);
        let hasher = RandomState::default();
        let share = capacity / count as u64;
        let shards = (0..count).map(|_| Shard::new(share, &hasher)).collect();
        Self {
            shards,
            hasher,
            below: None,
        }
    }

    #[inline]
    fn shard(&self, key: &[u8]) -> &Shard<V> {
        if let [only] = &*self.shards {
            return only;
        }
        // The table below uses the low bits and the top seven: take from the middle.
        let hash = self.hasher.hash_one(Probe::<false>(key)) >> 24;
        &self.shards[(hash % self.shards.len() as u64) as usize]
    }

    /// The entry under `key`, counted as a use for the eviction policy.
    // Not inlined, so that the whole search is inlined here: 25 ns instead of 35.
    #[inline(never)]
    pub fn get(&self, key: &[u8]) -> Option<Arc<Entry<V>>> {
        self.shard(key).get(key)
    }

    /// The entry under `key`, without an effect on the eviction policy.
    pub fn peek(&self, key: &[u8]) -> Option<Arc<Entry<V>>> {
        self.shard(key).peek(key)
    }

    /// Stores `entry` under `key` and returns everything that had to leave: the entry that was
    /// there before, the evicted ones, and `entry` itself if there is no room for it
    /// ([`Evicted::refused`]; then nothing is left under `key`).
    pub fn insert(&self, key: impl Into<Key>, entry: Arc<Entry<V>>) -> Evicted<V> {
        let key = key.into();
        let shard = self.shard(key.as_bytes());
        let address = Arc::as_ptr(&entry);
        let mut out = Evicted::default();
        match &self.below {
            None => shard.insert(key, entry, &mut out),
            Some(Below { ceiling, .. }) => {
                let weight = weigh(&key, Some(&entry));
                if shard.is_lowered() {
                    self.ask_for_room(ceiling, shard, weight, &mut out);
                }
                let before = out.weight();
                shard.insert(key, entry, &mut out);
                let excess = ceiling.account(weight, out.weight() - before);
                if excess > 0 {
                    self.make_room(ceiling, shard, excess, &mut out);
                }
            }
        }
        out.refused = out.holds(address);
        out
    }

    /// Lets a shard that once gave way grow again, by `bytes` at least if there is a claim to them.
    #[cold]
    fn ask_for_room(&self, ceiling: &Ceiling, shard: &Shard<V>, bytes: u64, out: &mut Evicted<V>) {
        if ceiling.room() < bytes && self.weight() + bytes <= ceiling.fair_share() {
            ceiling.take_from_others(bytes, &mut out.foreign);
        }
        let room = ceiling.room();
        if room >= bytes {
            shard.raise(room);
        }
    }

    /// Brings the ceiling's sum down by `excess`, from the shard that grew first.
    #[cold]
    fn make_room(&self, ceiling: &Ceiling, grown: &Shard<V>, excess: u64, out: &mut Evicted<V>) {
        let mut excess = excess;
        if self.weight() <= ceiling.fair_share() {
            ceiling.take_from_others(excess, &mut out.foreign);
            excess = ceiling.account(0, 0);
        }
        let others = self
            .shards
            .iter()
            .filter(|shard| !std::ptr::eq(*shard, grown));
        for shard in std::iter::once(grown).chain(others) {
            if excess == 0 {
                return;
            }
            excess = ceiling.account(0, shard.give_way(excess, out));
        }
    }

    /// Takes the entry under `key` out.
    pub fn remove(&self, key: &[u8]) -> Option<Arc<Entry<V>>> {
        let (key, entry) = self.shard(key).remove(key)?;
        self.account_removed(weigh(&key, Some(&entry)));
        Some(entry)
    }

    /// Takes the entry under `key` out if it is `entry`: a newer one under the same key stays.
    pub fn remove_entry(&self, key: &[u8], entry: &Arc<Entry<V>>) -> bool {
        let Some((key, removed)) = self.shard(key).remove_entry(key, entry) else {
            return false;
        };
        self.account_removed(weigh(&key, Some(&removed)));
        true
    }

    /// Takes out every entry for which `condemned` holds.
    ///
    /// It visits what L1 held when it started, holds no lock while `condemned` runs and leaves
    /// entries alone that were replaced meanwhile.
    pub fn remove_where(
        &self,
        mut condemned: impl FnMut(&[u8], &Entry<V>) -> bool,
    ) -> Vec<Arc<Entry<V>>> {
        let mut removed = Vec::new();
        for shard in self.shards.iter() {
            for (key, entry) in shard.iter() {
                if condemned(key.as_bytes(), &entry) && self.remove_entry(key.as_bytes(), &entry) {
                    removed.push(entry);
                }
            }
        }
        removed
    }

    /// The number of entries for which `counts` holds; it visits all of them, as
    /// [`L1::remove_where`] does.
    pub fn count_where(&self, mut counts: impl FnMut(&[u8], &Entry<V>) -> bool) -> usize {
        let entries = self.shards.iter().flat_map(Shard::iter);
        entries
            .filter(|(key, entry)| counts(key.as_bytes(), entry))
            .count()
    }

    /// Takes everything out.
    pub fn clear(&self) -> Evicted<V> {
        let mut evicted = Evicted::default();
        for shard in self.shards.iter() {
            shard.drain(&mut evicted);
        }
        self.account_removed(evicted.weight());
        evicted
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.shards.iter().map(Shard::len).sum()
    }

    /// Whether L1 holds no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that the entries hold, keys and places in L1 included.
    pub fn weight(&self) -> u64 {
        self.shards.iter().map(Shard::weight).sum()
    }

    /// The most bytes that the entries may hold.
    pub fn capacity(&self) -> u64 {
        self.shards.iter().map(Shard::capacity).sum()
    }

    /// Changes the capacity; what no longer fits is evicted.
    pub fn set_capacity(&self, capacity: u64) -> Evicted<V> {
        let share = capacity / self.shards.len() as u64;
        let mut evicted = Evicted::default();
        for shard in self.shards.iter() {
            shard.set_capacity(share, &mut evicted);
        }
        self.account_removed(evicted.weight());
        evicted
    }

    fn account_removed(&self, bytes: u64) {
        if let Some(below) = &self.below {
            below.ceiling.account(0, bytes);
        }
    }
}

impl<V: Send + Sync + 'static> L1<V> {
    /// As [`L1::new`], below a ceiling that other L1s share.
    #[must_use]
    pub fn with_ceiling(capacity: u64, shards: usize, ceiling: Arc<Ceiling>) -> Self {
        let mut l1 = Self::new(capacity, shards);
        let member: Arc<dyn Member> = Arc::new(Seen(Arc::downgrade(&l1.shards)));
        ceiling.join(Arc::clone(&member));
        l1.below = Some(Below { ceiling, member });
        l1
    }
}

impl<V> Drop for L1<V> {
    fn drop(&mut self) {
        if let Some(Below { ceiling, member }) = &self.below {
            ceiling.leave(member);
            // Not just their sum: the ceiling may be taking entries at this moment.
            drop(self.clear());
        }
    }
}

/// An L1 as its ceiling sees it.
struct Seen<V>(Weak<[Shard<V>]>);

impl<V: Send + Sync + 'static> Member for Seen<V> {
    fn weight(&self) -> Option<u64> {
        Some(self.0.upgrade()?.iter().map(Shard::weight).sum())
    }

    fn give_way(&self, bytes: u64, out: &mut Foreign) -> u64 {
        let Some(shards) = self.0.upgrade() else {
            return 0;
        };
        let mut evicted = Evicted::default();
        let part = bytes.div_ceil(shards.len() as u64);
        let freed = shards
            .iter()
            .map(|shard| shard.give_way(part, &mut evicted))
            .sum();
        out.push(evicted);
        freed
    }
}

impl<V> std::fmt::Debug for L1<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("L1")
            .field("len", &self.len())
            .field("weight", &self.weight())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
