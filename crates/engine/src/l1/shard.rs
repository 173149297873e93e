//! One part of L1: a `quick_cache` with a single lock, taught to hand out what it evicts.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use super::entry::{Entry, Evicted};
use super::ghosts::Ghosts;
use super::key::{Key, Probe};

/// What one place takes: 48 bytes in the slab, 5 bytes per bucket of the hash table (two thirds of
/// them used), 4 bytes per remembered key (one and a half per entry). `l1_bench` measures it.
const PLACE: u64 = 64;

/// What the system's allocator takes for `bytes`: a word of its own, in steps of 16, 32 at least.
const fn allocation(bytes: usize) -> u64 {
    let chunk = (bytes as u64 + 8).next_multiple_of(16);
    if chunk < 32 { 32 } else { chunk }
}

/// The bytes that an entry holds in L1: its value, its key, itself and its place.
///
/// Without an entry the key is ballast, whose weight the key knows.
#[inline]
pub(super) fn weigh<V>(key: &Key, entry: Option<&Entry<V>>) -> u64 {
    let Some(entry) = entry else {
        return key.ballast_bytes().unwrap_or(0);
    };
    let own = const { allocation(2 * size_of::<usize>() + size_of::<Entry<V>>()) + PLACE };
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
    hasher: RandomState,
    // Whether anything was ever evicted, and so `ghosts` is of use.
    full: AtomicBool,
    ghosts: Mutex<Ghosts>,
    // The capacity. Insertions hold it to read: while it is held to write there are none.
    capacity: RwLock<u64>,
    // Whether `cache` has less capacity than that, because a ceiling leaves no more.
    lowered: AtomicBool,
}

/// The part of the capacity for entries that have proved to be of use.
///
/// `quick_cache` scales it in floating point when the capacity changes. This fraction of a multiple
/// of `GRAIN` is a whole number, so that it does not dwindle by rounding.
const HOT: f64 = 31.0 / 32.0;
const GRAIN: u64 = 32;

/// The nearest capacity that scales exactly; never zero, which would not scale at all.
const fn exact(capacity: u64) -> u64 {
    let exact = capacity - capacity % GRAIN;
    if exact == 0 { GRAIN } else { exact }
}

impl<V> Shard<V> {
    pub(super) fn new(capacity: u64, hasher: &RandomState) -> Self {
        let options = OptionsBuilder::new()
            .shards(1)
            .weight_capacity(exact(capacity))
            .hot_allocation(HOT)
            // These lay out its memory of evicted keys; ours is smaller.
            .estimated_items_capacity(0)
            .ghost_allocation(0.0)
            .build()
            .expect("both capacities are set");
        Self {
            cache: Cache::with_options(options, Weigh, hasher.clone(), HandOut),
            hasher: hasher.clone(),
            full: AtomicBool::new(false),
            ghosts: Mutex::default(),
            capacity: RwLock::new(capacity),
            lowered: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Slot<V> {
        self.cache.get(&Probe::<true>(key))?
    }

    pub(super) fn peek(&self, key: &[u8]) -> Slot<V> {
        self.cache.peek(&Probe::<false>(key))?
    }

    pub(super) fn insert(&self, key: Key, entry: Arc<Entry<V>>, out: &mut Evicted<V>) {
        let _no_change_of_capacity = self.capacity.read();
        if self.full.load(Ordering::Relaxed) {
            return self.insert_into_full(key, entry, out);
        }
        self.cache.insert_with_lifecycle(key, Some(entry), out);
        if !out.is_empty() {
            self.full.store(true, Ordering::Relaxed);
        }
    }

    /// Inserts, remembers the keys that are evicted and prefers those that come back.
    fn insert_into_full(&self, key: Key, entry: Arc<Entry<V>>, out: &mut Evicted<V>) {
        let hash = self.hasher.hash_one(&key);
        let mut ghosts = self.ghosts.lock();
        let returned = ghosts.take(hash).then(|| key.clone());
        self.cache.insert_with_lifecycle(key, Some(entry), out);
        for gone in out.keys().map(|key| self.hasher.hash_one(key)) {
            // An entry that was replaced or refused has the same key.
            if gone != hash {
                ghosts.put(gone, || self.cache.len());
            }
        }
        drop(ghosts);
        if let Some(key) = returned {
            // Used once since it is here, it moves to the hot entries when its turn comes.
            out.keep(self.cache.get(&key).flatten());
        }
    }

    pub(super) fn remove(&self, key: &[u8]) -> Option<(Key, Arc<Entry<V>>)> {
        let (key, slot) = self.cache.remove(&Probe::<false>(key))?;
        Some((key, slot?))
    }

    pub(super) fn remove_entry(
        &self,
        key: &[u8],
        entry: &Arc<Entry<V>>,
    ) -> Option<(Key, Arc<Entry<V>>)> {
        let same = |slot: &Slot<V>| slot.as_ref().is_some_and(|held| Arc::ptr_eq(held, entry));
        let (key, slot) = self.cache.remove_if(&Probe::<false>(key), same)?;
        Some((key, slot?))
    }

    /// Every entry, one short lock each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, Arc<Entry<V>>)> {
        self.cache
            .iter()
            .filter_map(|(key, slot)| Some((key, slot?)))
    }

    pub(super) fn drain(&self, out: &mut Evicted<V>) {
        let _no_ballast = self.capacity.read();
        for (key, slot) in self.cache.drain() {
            out.push(key, slot);
        }
    }

    /// Evicts at least `bytes`, or everything, and keeps to what is left until [`Shard::raise`].
    /// Returns the bytes freed.
    pub(super) fn give_way(&self, bytes: u64, out: &mut Evicted<V>) -> u64 {
        let _alone = self.capacity.write();
        let before = out.weight();
        self.limit(self.cache.weight().saturating_sub(bytes), out);
        self.lowered.store(true, Ordering::Relaxed);
        out.weight() - before
    }

    /// Lets it grow by up to `room` bytes again.
    pub(super) fn raise(&self, room: u64) {
        let capacity = self.capacity.write();
        let raised = self.cache.weight().saturating_add(room).min(*capacity);
        self.cache
            .set_capacity(exact(raised.max(self.cache.capacity())));
        self.lowered.store(raised < *capacity, Ordering::Relaxed);
    }

    /// Whether a ceiling keeps it below its capacity.
    #[inline]
    pub(super) fn is_lowered(&self) -> bool {
        self.lowered.load(Ordering::Relaxed)
    }

    /// Changes the capacity of the cache below and evicts what no longer fits. Nobody inserts
    /// meanwhile.
    fn limit(&self, capacity: u64, out: &mut Evicted<V>) {
        let capacity = exact(capacity);
        let held = self.cache.weight();
        if held > capacity {
            // `quick_cache` hands out what it evicts to make room, but not what it evicts because
            // its capacity shrinks. So a ballast, which it may not evict, takes the difference.
            let ballast = Key::ballast(self.cache.capacity() - capacity);
            self.cache.insert_with_lifecycle(ballast.clone(), None, out);
            self.cache.remove(&ballast);
        }
        self.cache.set_capacity(capacity);
    }

    pub(super) fn len(&self) -> usize {
        let _no_ballast = self.capacity.read();
        self.cache.len()
    }

    pub(super) fn weight(&self) -> u64 {
        let _no_ballast = self.capacity.read();
        self.cache.weight()
    }

    pub(super) fn capacity(&self) -> u64 {
        *self.capacity.read()
    }

    /// Evicts what is too much for `capacity` and keeps to it from now on.
    pub(super) fn set_capacity(&self, capacity: u64, out: &mut Evicted<V>) {
        let mut known = self.capacity.write();
        *known = capacity;
        self.limit(capacity, out);
        // Below a ceiling, the next insertion lowers it again.
        self.lowered.store(false, Ordering::Relaxed);
    }
}
