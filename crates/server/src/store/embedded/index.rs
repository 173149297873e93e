//! What the embedded store holds, in memory: where each entry is, how long it lives, and which one
//! goes when there is no room.
//!
//! Room is made first by what has expired, then by second chance (CLOCK): the oldest entry of the
//! scope that holds most goes, unless it was read since it was last looked at. A scope that is over
//! its own quota pays with its own entries.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::{ENTRY_OVERHEAD, Place, Quota, Scope};

/// An entry's place on the disk and its life. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The number under which the value is stored, different for every write.
    pub(super) number: u64,
    /// The value's length.
    pub(super) size: u64,
    /// When it turns stale.
    pub(super) fresh_until: u64,
    /// When it ends.
    pub(super) ends: u64,
}

#[derive(Debug)]
struct Held {
    slot: Slot,
    /// Read since the hand of the clock last passed.
    read: AtomicBool,
}

/// Bytes and entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

impl Total {
    /// One entry's bytes and count leave, another's come.
    pub(super) fn replace(&mut self, old: Option<(u64, u64)>, new: Option<(u64, u64)>) {
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        self.bytes = (self.bytes + new.0).saturating_sub(old.0);
        self.entries = (self.entries + new.1).saturating_sub(old.1);
    }

    pub(super) fn is_over(&self, quota: &Quota) -> bool {
        quota.bytes.is_some_and(|most| self.bytes > most)
            || quota.entries.is_some_and(|most| self.entries > most)
    }
}

/// A scope's entries in the order of the clock. Items whose number is not the entry's any more are
/// left over from earlier writes.
#[derive(Debug, Default)]
struct Share {
    total: Total,
    clock: VecDeque<(u64, Arc<str>)>,
}

/// The index. Whoever changes it is the store's writer.
#[derive(Debug, Default)]
pub(super) struct Index {
    held: HashMap<Arc<str>, Held>,
    shares: HashMap<Scope, Share>,
    bytes: u64,
    /// Entries by the second in which they may end.
    ends: BTreeMap<u64, Vec<Arc<str>>>,
    ends_count: usize,
}

/// An entry that left the index and is still on the disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) full: Arc<str>,
    pub(super) number: u64,
}

/// So many items may be left in a queue beyond twice what lives.
const SLACK: usize = 1024;

/// The bytes that an entry counts for.
pub(super) fn weight(full: &str, size: u64) -> u64 {
    full.len() as u64 + size + ENTRY_OVERHEAD
}

impl Index {
    /// The entry, unless its life is over at `now`.
    pub(super) fn find(&self, full: &str, now: u64) -> Option<Slot> {
        self.held
            .get(full)
            .map(|held| held.slot)
            .filter(|slot| slot.ends > now)
    }

    /// As [`Self::find`], and gives the entry a second chance.
    pub(super) fn read(&self, full: &str, now: u64) -> Option<Slot> {
        let held = self.held.get(full).filter(|held| held.slot.ends > now)?;
        if !held.read.load(Ordering::Relaxed) {
            held.read.store(true, Ordering::Relaxed);
        }
        Some(held.slot)
    }

    pub(super) fn len(&self) -> u64 {
        self.held.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the scope holds.
    pub(super) fn share(&self, scope: &Scope) -> Total {
        self.shares
            .get(scope)
            .map_or_else(Total::default, |share| share.total)
    }

    /// Puts the entry in. Its predecessor, if there was one, is forgotten.
    pub(super) fn insert(&mut self, place: &Place, slot: Slot) {
        let full = place.full();
        self.remove(full);
        let weight = weight(full, slot.size);
        let share = self.shares.entry(place.scope().clone()).or_default();
        share.total.bytes += weight;
        share.total.entries += 1;
        share.clock.push_back((slot.number, full.clone()));
        self.bytes += weight;
        let read = AtomicBool::new(false);
        self.held.insert(full.clone(), Held { slot, read });
        self.schedule(full.clone(), slot.ends);
        self.tidy(place.scope());
    }

    /// Changes when the entry turns stale and ends.
    pub(super) fn extend(&mut self, full: &Arc<str>, fresh_until: u64, ends: u64) {
        if let Some(held) = self.held.get_mut(full) {
            held.slot.fresh_until = fresh_until;
            held.slot.ends = ends;
            self.schedule(full.clone(), ends);
            self.tidy_ends();
        }
    }

    /// Takes the entry out.
    pub(super) fn remove(&mut self, full: &str) -> Option<Gone> {
        let (full, held) = self.held.remove_entry(full)?;
        let place = Place::from_full(&full).expect("what is held was a place");
        let weight = weight(&full, held.slot.size);
        let share = self
            .shares
            .get_mut(place.scope())
            .expect("a scope with entries has a share");
        share.total.bytes -= weight;
        share.total.entries -= 1;
        if share.total.entries == 0 {
            self.shares.remove(place.scope());
        }
        self.bytes -= weight;
        let number = held.slot.number;
        Some(Gone { full, number })
    }

    /// Takes out up to `most` entries that have ended at `now`.
    pub(super) fn expire(&mut self, now: u64, most: usize) -> Vec<Gone> {
        let mut gone = Vec::new();
        while gone.len() < most {
            let Some(mut second) = self.ends.first_entry().filter(|at| *at.key() <= now / 1000)
            else {
                break;
            };
            let Some(full) = second.get_mut().pop() else {
                second.remove();
                continue;
            };
            self.ends_count -= 1;
            match self.held.get(&full).map(|held| held.slot.ends) {
                Some(ends) if ends <= now => gone.extend(self.remove(&full)),
                // It ends within this very second, a little later.
                Some(ends) if ends / 1000 <= now / 1000 => self.schedule_at(now / 1000 + 1, full),
                _ => {}
            }
        }
        gone
    }

    /// Takes out the scope's oldest entries until its quota holds.
    pub(super) fn shrink_scope(&mut self, scope: &Scope, quota: &Quota, gone: &mut Vec<Gone>) {
        while self.share(scope).is_over(quota) {
            gone.extend(self.evict(scope));
        }
    }

    /// Takes out entries of the heaviest scopes until the store's limits hold.
    pub(super) fn shrink(&mut self, max_bytes: u64, max_entries: u64, gone: &mut Vec<Gone>) {
        while self.bytes > max_bytes || self.len() > max_entries {
            let by_bytes = self.bytes > max_bytes;
            let heaviest = self
                .shares
                .iter()
                .max_by_key(|(_, share)| {
                    if by_bytes {
                        share.total.bytes
                    } else {
                        share.total.entries
                    }
                })
                .map(|(scope, _)| scope.clone())
                .expect("a store that is too large holds something");
            // Looking for the heaviest scope costs their number, so that a few go each time.
            for _ in 0..16 {
                gone.extend(self.evict(&heaviest));
                if (self.bytes <= max_bytes && self.len() <= max_entries)
                    || !self.shares.contains_key(&heaviest)
                {
                    break;
                }
            }
        }
    }

    /// Moves the hand of the scope's clock until an entry falls out.
    fn evict(&mut self, scope: &Scope) -> Option<Gone> {
        loop {
            let share = self.shares.get_mut(scope)?;
            let (number, full) = share.clock.pop_front()?;
            let Some(held) = self
                .held
                .get(&full)
                .filter(|held| held.slot.number == number)
            else {
                continue;
            };
            if held.read.swap(false, Ordering::Relaxed) {
                share.clock.push_back((number, full));
                continue;
            }
            return self.remove(&full);
        }
    }

    fn schedule(&mut self, full: Arc<str>, ends: u64) {
        self.schedule_at(ends / 1000, full);
    }

    fn schedule_at(&mut self, second: u64, full: Arc<str>) {
        self.ends.entry(second).or_default().push(full);
        self.ends_count += 1;
    }

    /// Drops what earlier writes left in the queues once it is more than what lives.
    fn tidy(&mut self, scope: &Scope) {
        let held = &self.held;
        if let Some(share) = self.shares.get_mut(scope) {
            let live = usize::try_from(share.total.entries).unwrap_or(usize::MAX);
            if share.clock.len() > live.saturating_mul(2) + SLACK {
                share.clock.retain(|(number, full)| {
                    held.get(full)
                        .is_some_and(|held| held.slot.number == *number)
                });
            }
        }
        self.tidy_ends();
    }

    fn tidy_ends(&mut self) {
        if self.ends_count > self.held.len() * 2 + SLACK {
            self.ends.clear();
            for (full, held) in &self.held {
                let second = self.ends.entry(held.slot.ends / 1000).or_default();
                second.push(full.clone());
            }
            self.ends_count = self.held.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Mode;

    fn place(tenant: &str, key: &str) -> Place {
        Place::new(&Scope::new(Mode::Live, tenant), key)
    }

    fn slot(number: u64, size: u64, ends: u64) -> Slot {
        Slot {
            number,
            size,
            fresh_until: ends,
            ends,
        }
    }

    fn keys(gone: &[Gone]) -> Vec<&str> {
        gone.iter().map(|gone| &*gone.full).collect()
    }

    #[test]
    fn the_oldest_unread_entry_goes_first() {
        let mut index = Index::default();
        for (number, key) in ["a", "b", "c"].into_iter().enumerate() {
            index.insert(&place("t", key), slot(number as u64, 10, 1_000_000));
        }
        index.read(place("t", "a").full(), 0).unwrap();
        let mut gone = Vec::new();
        index.shrink(u64::MAX, 2, &mut gone);
        assert_eq!(keys(&gone), ["live:t:b"]);
        index.shrink(u64::MAX, 0, &mut gone);
        assert_eq!(keys(&gone), ["live:t:b", "live:t:c", "live:t:a"]);
        assert_eq!((index.bytes(), index.len()), (0, 0));
    }

    #[test]
    fn the_heaviest_scope_makes_room() {
        let mut index = Index::default();
        index.insert(&place("small", "a"), slot(0, 10, 1_000_000));
        for number in 1..10 {
            index.insert(
                &place("big", &format!("k{number}")),
                slot(number, 10, 1_000_000),
            );
        }
        let mut gone = Vec::new();
        index.shrink(u64::MAX, 3, &mut gone);
        assert_eq!(gone.len(), 7);
        assert!(index.find("live:small:a", 0).is_some());
    }

    #[test]
    fn a_scope_over_its_quota_pays_itself() {
        let mut index = Index::default();
        let quota = Quota {
            entries: Some(2),
            ..Quota::default()
        };
        index.insert(&place("u", "x"), slot(0, 1, 1_000_000));
        for number in 1..4 {
            index.insert(
                &place("t", &format!("k{number}")),
                slot(number, 1, 1_000_000),
            );
        }
        let mut gone = Vec::new();
        index.shrink_scope(&Scope::new(Mode::Live, "t"), &quota, &mut gone);
        assert_eq!(keys(&gone), ["live:t:k1"]);
        assert_eq!(index.share(&Scope::new(Mode::Live, "t")).entries, 2);
    }

    #[test]
    fn what_has_ended_is_not_found_and_expires() {
        let mut index = Index::default();
        index.insert(&place("t", "a"), slot(0, 1, 5_500));
        index.insert(&place("t", "b"), slot(1, 1, 5_900));
        index.insert(&place("t", "c"), slot(2, 1, 5_100));
        index.extend(place("t", "c").full(), 9_000, 9_000);
        assert!(index.find("live:t:a", 5_499).is_some());
        assert!(index.find("live:t:a", 5_500).is_none());
        assert_eq!(keys(&index.expire(5_600, 100)), ["live:t:a"]);
        assert_eq!(keys(&index.expire(6_100, 100)), ["live:t:b"]);
        assert_eq!(keys(&index.expire(9_000, 100)), ["live:t:c"]);
    }

    #[test]
    fn overwriting_does_not_grow_the_queues() {
        let mut index = Index::default();
        for number in 0..100_000 {
            index.insert(&place("t", "a"), slot(number, 1, 1_000_000 + number * 1000));
        }
        let share = &index.shares[&Scope::new(Mode::Live, "t")];
        assert!(share.clock.len() < 2_000, "{}", share.clock.len());
        assert!(index.ends_count < 2_000, "{}", index.ends_count);
    }

    #[test]
    fn nor_do_new_lives() {
        let mut index = Index::default();
        let place = place("t", "a");
        index.insert(&place, slot(0, 1, 1_000_000));
        for second in 1000..100_000 {
            index.extend(place.full(), second * 1000, second * 1000);
        }
        assert!(index.ends_count < 2_000, "{}", index.ends_count);
        assert_eq!(keys(&index.expire(99_999_000, 9)), ["live:t:a"]);
    }

    #[test]
    fn a_share_whose_entry_is_overwritten_keeps_its_clock() {
        let mut index = Index::default();
        let mut gone = Vec::new();
        index.insert(&place("t", "a"), slot(0, 1, 1_000_000));
        index.insert(&place("t", "a"), slot(1, 1, 1_000_000));
        index.shrink(u64::MAX, 0, &mut gone);
        assert_eq!(gone.len(), 1);
    }
}
