//! One cached function: its place in L1, its flights, its generation and its statistics.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;

use crate::{
    flight::{Flights, Join, Leader},
    l1::{Entry, Evicted, L1},
    stats::Stats,
    time::Tick,
    waits::Caller,
};

/// How many bytes of a key name the function; the argument bytes follow.
pub const KEY_PREFIX: usize = 4;

/// A cached function, as the engine sees it.
///
/// `V` is a value ready to hand out, `T` what a flight's waiters get. Keys begin with
/// [`Function::prefix`], since functions of a namespace share one L1.
#[derive(Debug)]
pub struct Function<V, T> {
    prefix: [u8; KEY_PREFIX],
    l1: Option<Arc<L1<V>>>,
    flights: ArcSwap<Flights<T>>,
    generation: AtomicU64,
    /// What happened so far.
    pub stats: Stats,
}

/// A value found in L1.
#[derive(Debug)]
pub struct Hit<V> {
    /// The entry; its value is shared, not copied.
    pub entry: Arc<Entry<V>>,
    /// Whether this caller is to start the one background refresh that is due.
    pub refresh: bool,
}

/// What had to leave L1 for an entry. Its drop drops values, which may run foreign code: let it go
/// outside any lock.
#[must_use = "dropping this drops values: do it where that is allowed"]
#[derive(Debug)]
pub struct Displaced<V> {
    _evicted: Evicted<V>,
    _taken_back: Option<Arc<Entry<V>>>,
}

impl<V> Default for Displaced<V> {
    fn default() -> Self {
        Self {
            _evicted: Evicted::default(),
            _taken_back: None,
        }
    }
}

impl<V: Send + Sync, T> Function<V, T> {
    /// A function with its entries in `l1` (`None`: nothing is kept in the process).
    pub fn new(l1: Option<Arc<L1<V>>>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self {
            prefix: NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes(),
            l1,
            flights: ArcSwap::default(),
            generation: AtomicU64::new(0),
            stats: Stats::default(),
        }
    }

    /// What every L1 key of this function begins with.
    #[inline]
    pub fn prefix(&self) -> [u8; KEY_PREFIX] {
        self.prefix
    }

    /// The L1 that holds its entries.
    pub fn l1(&self) -> Option<&Arc<L1<V>>> {
        self.l1.as_ref()
    }

    /// The scope's generation; an entry or flight of an older one does not count.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Looks a key up in L1. `now` may lag by the coarse clock's step, which
    /// [`keep`](Self::keep) has taken off the entry's life.
    #[inline]
    pub fn lookup(&self, key: &[u8], now: Tick) -> Option<Hit<V>> {
        let entry = self.l1.as_ref()?.get(key)?;
        if now >= entry.expires || entry.generation != self.generation() {
            return None;
        }
        let refresh = entry.is_due(now) && entry.try_begin_refresh();
        Some(Hit { entry, refresh })
    }

    /// As [`lookup`](Self::lookup), without counting as a use of the entry.
    pub fn peek(&self, key: &[u8], now: Tick) -> Option<Arc<Entry<V>>> {
        let entry = self.l1.as_ref()?.peek(key)?;
        (now < entry.expires && entry.generation == self.generation()).then_some(entry)
    }

    /// How many entries of this function L1 holds; looks at every entry of the namespace.
    pub fn len(&self) -> usize {
        let prefix = self.prefix;
        self.l1
            .as_ref()
            .map_or(0, |l1| l1.count_where(|key, _| key.starts_with(&prefix)))
    }

    /// Whether L1 holds no entry of this function.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Joins or starts the flight for a key that missed.
    pub fn join(&self, key: &[u8], caller: Caller<'_>) -> Join<T> {
        self.flights
            .load_full()
            .join(key, self.generation(), caller)
    }

    /// Forgets the flights of a parent process, whose leaders do not exist in this one. The old
    /// table is leaked: a thread of the parent may have held a lock inside at the fork.
    pub fn after_fork(&self) {
        std::mem::forget(self.flights.swap(Arc::default()));
    }

    /// Whether what `leader` brings may be kept: nothing has invalidated it meanwhile.
    pub fn may_keep(&self, leader: &Leader<T>) -> bool {
        !leader.is_doomed() && leader.generation() == self.generation()
    }

    /// Puts an entry under the leader's key into L1, unless an invalidation came first.
    pub fn keep(&self, leader: &Leader<T>, entry: Arc<Entry<V>>) -> Displaced<V> {
        let Some(l1) = self.l1.as_ref().filter(|_| self.may_keep(leader)) else {
            return Displaced::default();
        };
        let evicted = l1.insert(leader.key(), entry);
        // An invalidation that came between has looked before the entry was there.
        let taken_back = if self.may_keep(leader) {
            None
        } else {
            l1.remove(leader.key())
        };
        Displaced {
            _evicted: evicted,
            _taken_back: taken_back,
        }
    }

    /// Forgets a key here and keeps a running fill of it out of the cache.
    #[must_use = "dropping evicted values may run foreign code"]
    pub fn invalidate(&self, key: &[u8]) -> Option<Arc<Entry<V>>> {
        self.flights.load().doom(key);
        self.l1.as_ref()?.remove(key)
    }

    /// Makes a refresh of a key due, and keeps a running fill of it, which is of before, out of the
    /// cache. What is here is served until the refresh has replaced it.
    pub fn soften(&self, key: &[u8]) {
        self.supersede(key);
        if let Some(entry) = self.l1.as_ref().and_then(|l1| l1.peek(key)) {
            entry.mark_stale();
        }
    }

    /// [`soften`](Self::soften) for every key of this function; looks at every entry of the namespace.
    pub fn soften_all(&self) {
        let prefix = self.prefix;
        if let Some(l1) = &self.l1 {
            l1.count_where(|key, entry| {
                let ours = key.starts_with(&prefix);
                if ours {
                    entry.mark_stale();
                }
                ours
            });
        }
    }

    /// Keeps a running fill of a key out of the cache: what replaces the key is newer.
    pub fn supersede(&self, key: &[u8]) {
        self.flights.load().doom(key);
    }

    /// Keeps every fill that runs out of the cache; returns their keys, on which the shared layer may
    /// hold locks that nobody should wait for any more.
    pub fn doom_fills(&self) -> Vec<Box<[u8]>> {
        self.flights.load().doom_all()
    }

    /// Forgets every key of this function here, at once. In a namespace of up to 16 384 entries memory
    /// is given back in the same call; in a larger one entries that count no more are evicted first
    /// come, first gone, so that clearing costs the same however much there is.
    #[must_use = "dropping evicted values may run foreign code"]
    pub fn clear(&self) -> Vec<Arc<Entry<V>>> {
        const SWEPT: usize = 16_384;
        self.generation.fetch_add(1, Ordering::AcqRel);
        let prefix = self.prefix;
        match &self.l1 {
            Some(l1) if l1.len() <= SWEPT => l1.remove_where(|key, _| key.starts_with(&prefix)),
            _ => Vec::new(),
        }
    }
}
