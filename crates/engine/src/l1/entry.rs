//! What L1 keeps under a key, and what an insertion hands back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::key::Key;
use super::shard::weigh;
use crate::time::Tick;

/// The flag in `Entry::state` that says that a refresh runs.
const REFRESHING: u64 = 1 << 63;
/// The flag in `Entry::state` that says that a refresh is due, whatever the time.
const STALE: u64 = 1 << 62;
/// The bits of `Entry::state` that are the weight.
const WEIGHT: u64 = STALE - 1;

/// A cached value with its freshness and its weight.
///
/// L1 stores it and compares nothing: whether an entry is fresh, stale or of a cleared generation
/// is the caller's question.
#[derive(Debug)]
pub struct Entry<V> {
    /// The value, ready to hand out.
    pub value: V,
    /// When the entry may no longer be served; [`Tick::MAX`] = never expires.
    pub expires: Tick,
    /// When a hit should start a refresh; [`Tick::MAX`] = never.
    pub refresh_at: Tick,
    /// The generation of its scope when the entry was made.
    pub generation: u64,
    state: AtomicU64,
}

impl<V> Entry<V> {
    /// An entry whose value holds `weight` bytes outside of the entry itself.
    ///
    /// It never expires, is never refreshed and has generation 0 until the fields say otherwise.
    #[must_use]
    pub const fn new(value: V, weight: u64) -> Self {
        let weight = if weight < WEIGHT { weight } else { WEIGHT };
        Self {
            value,
            expires: Tick::MAX,
            refresh_at: Tick::MAX,
            generation: 0,
            state: AtomicU64::new(weight),
        }
    }

    /// The bytes that the value holds outside of the entry itself, as the maker of the entry said.
    #[inline]
    pub fn weight(&self) -> u64 {
        self.state.load(Ordering::Relaxed) & WEIGHT
    }

    /// Makes a refresh due, whatever the time.
    pub fn mark_stale(&self) {
        self.state.fetch_or(STALE, Ordering::AcqRel);
    }

    /// Whether a refresh is due at `now`.
    #[inline]
    pub fn is_due(&self, now: Tick) -> bool {
        now >= self.refresh_at || self.state.load(Ordering::Relaxed) & STALE != 0
    }

    /// Takes the right to refresh this entry; `false` when another holds it.
    #[inline]
    pub fn try_begin_refresh(&self) -> bool {
        self.state.fetch_or(REFRESHING, Ordering::AcqRel) & REFRESHING == 0
    }

    /// Gives the right to refresh back, after a refresh that did not replace the entry.
    #[inline]
    pub fn end_refresh(&self) {
        self.state.fetch_and(!REFRESHING, Ordering::AcqRel);
    }

    /// Whether somebody holds the right to refresh this entry.
    #[inline]
    pub fn is_refreshing(&self) -> bool {
        self.state.load(Ordering::Relaxed) & REFRESHING != 0
    }
}

type Item<V> = (Key, Option<Arc<Entry<V>>>);

/// What an operation took out of L1: evicted, replaced or refused entries, for the caller to drop
/// once it holds no lock and whatever the values need (the GIL) is at hand.
#[must_use = "dropping this drops the evicted values: do it where that is allowed"]
#[derive(Debug)]
pub struct Evicted<V> {
    // Most insertions into a full L1 evict one entry or two.
    first: [Option<Item<V>>; 2],
    rest: Vec<Item<V>>,
    // A reference that the insertion needed for a moment; it may be the last one by now.
    kept: Option<Arc<Entry<V>>>,
    // What other L1s below the same ceiling evicted.
    pub(super) foreign: Foreign,
    pub(super) refused: bool,
}

/// Entries of L1s of other types, kept to be dropped.
#[derive(Default)]
pub(super) struct Foreign(Vec<Box<dyn Send + Sync>>);

impl Foreign {
    pub(super) fn push<V: Send + Sync + 'static>(&mut self, evicted: Evicted<V>) {
        self.0.push(Box::new(evicted));
    }
}

impl std::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Foreign({})", self.0.len())
    }
}

impl<V> Default for Evicted<V> {
    #[inline]
    fn default() -> Self {
        Self {
            first: [None, None],
            rest: Vec::new(),
            kept: None,
            foreign: Foreign::default(),
            refused: false,
        }
    }
}

impl<V> Evicted<V> {
    #[inline]
    pub(super) fn push(&mut self, key: Key, entry: Option<Arc<Entry<V>>>) {
        if self.first[0].is_none() {
            self.first[0] = Some((key, entry));
        } else if self.first[1].is_none() {
            self.first[1] = Some((key, entry));
        } else {
            self.rest.push((key, entry));
        }
    }

    pub(super) fn keep(&mut self, entry: Option<Arc<Entry<V>>>) {
        self.kept = entry;
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.items().map(|(key, _)| key)
    }

    fn items(&self) -> impl Iterator<Item = &Item<V>> {
        self.first.iter().flatten().chain(&self.rest)
    }

    /// The entries of this L1.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry<V>>> {
        self.items().filter_map(|(_, entry)| entry.as_ref())
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether nothing was taken out.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first[0].is_none()
    }

    /// Whether the inserted entry itself is among them: L1 does not hold it.
    #[inline]
    #[must_use]
    pub const fn refused(&self) -> bool {
        self.refused
    }

    /// The weight that the entries had in L1, in bytes.
    pub(super) fn weight(&self) -> u64 {
        self.items()
            .map(|(key, entry)| weigh(key, entry.as_deref()))
            .sum()
    }

    pub(super) fn holds(&self, entry: *const Entry<V>) -> bool {
        self.iter()
            .any(|held| std::ptr::eq(Arc::as_ptr(held), entry))
    }
}

/// Adds entries that left L1 another way, so that all of them are dropped in one place.
impl<V> Extend<Arc<Entry<V>>> for Evicted<V> {
    fn extend<I: IntoIterator<Item = Arc<Entry<V>>>>(&mut self, entries: I) {
        for entry in entries {
            self.push(Key::from(&[][..]), Some(entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refresher_at_a_time() {
        let entry = Entry::new((), 77);
        assert!(!entry.is_refreshing());
        assert!(entry.try_begin_refresh());
        assert!(!entry.try_begin_refresh());
        assert!(entry.is_refreshing());
        assert_eq!(entry.weight(), 77);
        entry.end_refresh();
        assert!(entry.try_begin_refresh());
    }

    #[test]
    fn a_refresh_is_due_in_time_or_when_somebody_says_so() {
        let mut entry = Entry::new((), 77);
        entry.refresh_at = Tick(5);
        assert!(!entry.is_due(Tick(4)));
        assert!(entry.is_due(Tick(5)));
        entry.mark_stale();
        assert!(entry.is_due(Tick(4)));
        assert_eq!(entry.weight(), 77);
    }

    #[test]
    fn absurd_weights_do_not_touch_the_flag() {
        let entry = Entry::new((), u64::MAX);
        assert!(!entry.is_refreshing());
        assert_eq!(entry.weight(), u64::MAX >> 2);
        assert!(!entry.is_due(Tick::ZERO));
    }
}
