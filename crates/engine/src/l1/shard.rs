//! One part of L1: a `quick_cache` with a single lock, taught to hand out what it evicts.

use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use super::entry::{Entry, Evicted};
use super::key::{Key, Probe};

/// What one place in the slab takes: `quick_cache` links a 24-byte key, the pointer to the entry
/// and its state (48 bytes in all), and the hash table has 5 bytes per bucket, two thirds used.
const SLOT: u64 = 56;

/// The smallest entry that the number of remembered evicted keys is laid out for.
const SMALL_ENTRY: u64 = 512;

/// What the system's allocator takes for `bytes`: a word of its own, in steps of 16, 32 at least.
const fn allocation(bytes: usize) -> u64 {
    let chunk = (bytes as u64 + 8).next_multiple_of(16);
    if chunk < 32 { 32 } else { chunk }
}

/// The bytes that an entry holds in L1: its value, its key, itself and its place.
///
/// Without an entry the key is ballast, whose weight the key knows.
#[inline]
pub(crate) fn weigh<V>(key: &Key, entry: Option<&Entry<V>>) -> u64 {
    let Some(entry) = entry else {
        return key.ballast_bytes().unwrap_or(0);
    };
    let own = const { allocation(2 * size_of::<usize>() + size_of::<Entry<V>>()) + SLOT };
    let key = match key.heap_len() {
        0 => 0,
        len => allocation(len),
    };
    (own + key).saturating_add(entry.weight())
}

// `None` belongs to ballast alone.
type Slot<V> = Option<Arc<Entry<V>>>;

#[derive(Clone)]
struct Weigh;

impl<V> Weighter<Key, Slot<V>> for Weigh {
    #[inline]
    fn weight(&self, key: &Key, slot: &Slot<V>) -> u64 {
        weigh(key, slot.as_deref())
    }
}

#[derive(Clone)]
struct HandOut;

impl<V> Lifecycle<Key, Slot<V>> for HandOut {
    type RequestState = Evicted<V>;

    #[inline]
    fn is_pinned(&self, key: &Key, _: &Slot<V>) -> bool {
        key.ballast_bytes().is_some()
    }

    // Called for replaced and for refused values too.
    #[inline]
    fn on_evict(&self, out: &mut Evicted<V>, key: Key, slot: Slot<V>) {
        if slot.is_some() {
            out.push(key, slot);
        }
    }
}

pub(super) struct Shard<V> {
    cache: Cache<Key, Slot<V>, Weigh, RandomState, HandOut>,
    evicting: Mutex<()>,
}

impl<V> Shard<V> {
    pub(super) fn new(capacity: u64, hasher: &RandomState) -> Self {
        let options = OptionsBuilder::new()
            .shards(1)
            .weight_capacity(capacity)
            .estimated_items_capacity(usize::try_from(capacity / SMALL_ENTRY).unwrap_or(usize::MAX))
            .build()
            .expect("both capacities are set");
        Self {
            cache: Cache::with_options(options, Weigh, hasher.clone(), HandOut),
            evicting: Mutex::new(()),
        }
    }

    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Slot<V> {
        self.cache.get(&Probe(key))?
    }

    pub(super) fn peek(&self, key: &[u8]) -> Slot<V> {
        self.cache.peek(&Probe(key))?
    }

    pub(super) fn insert(&self, key: Key, entry: Arc<Entry<V>>, out: &mut Evicted<V>) {
        self.cache.insert_with_lifecycle(key, Some(entry), out);
    }

    pub(super) fn remove(&self, key: &[u8]) -> Option<(Key, Arc<Entry<V>>)> {
        let (key, slot) = self.cache.remove(&Probe(key))?;
        Some((key, slot?))
    }

    pub(super) fn remove_entry(
        &self,
        key: &[u8],
        entry: &Arc<Entry<V>>,
    ) -> Option<(Key, Arc<Entry<V>>)> {
        let same = |slot: &Slot<V>| slot.as_ref().is_some_and(|held| Arc::ptr_eq(held, entry));
        let (key, slot) = self.cache.remove_if(&Probe(key), same)?;
        Some((key, slot?))
    }

    /// Every entry, one short lock each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, Arc<Entry<V>>)> {
        self.cache
            .iter()
            .filter_map(|(key, slot)| Some((key, slot?)))
    }

    pub(super) fn drain(&self, out: &mut Evicted<V>) {
        // Not beside `evict`, whose ballast this would take.
        let _alone = self.evicting.lock();
        for (key, slot) in self.cache.drain() {
            out.push(key, slot);
        }
    }

    /// Evicts entries of at least `bytes` in all, or everything; returns the bytes freed.
    ///
    /// `quick_cache` evicts only to make room, so this makes it: it inserts a ballast that fills
    /// the capacity but for what is to stay, and takes it out again. An insertion beside it evicts
    /// as if the shard were full.
    pub(super) fn evict(&self, bytes: u64, out: &mut Evicted<V>) -> u64 {
        let _alone = self.evicting.lock();
        let before = out.weight();
        let stay = self.cache.weight().saturating_sub(bytes);
        let ballast = Key::ballast(self.cache.capacity().saturating_sub(stay));
        self.cache.insert_with_lifecycle(ballast.clone(), None, out);
        self.cache.remove(&ballast);
        out.weight() - before
    }

    pub(super) fn len(&self) -> usize {
        let _no_ballast = self.evicting.lock();
        self.cache.len()
    }

    pub(super) fn weight(&self) -> u64 {
        let _no_ballast = self.evicting.lock();
        self.cache.weight()
    }

    pub(super) fn capacity(&self) -> u64 {
        self.cache.capacity()
    }

    pub(super) fn set_capacity(&self, capacity: u64, out: &mut Evicted<V>) {
        let excess = self.weight().saturating_sub(capacity);
        if excess > 0 {
            self.evict(excess, out);
        }
        self.cache.set_capacity(capacity);
    }
}
