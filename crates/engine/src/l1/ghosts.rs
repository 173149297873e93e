//! The memory of evicted keys, which tells a key that comes back from one that never does.

/// Fingerprints of the keys that were evicted last, about as many as there are entries.
///
/// A key that is inserted again while it is remembered was evicted too early and is worth more
/// than a new one. `quick_cache` can remember keys by itself, at 54 bytes each; a fingerprint takes
/// 4. A newer key overwrites an older one in its slot, and a key is mistaken for another once in
/// 2³¹ times: both cost a little foresight, no correctness.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    slots: Vec<u32>,
    until_resize: usize,
}

impl Ghosts {
    /// Forgets the key of this hash; tells whether it was remembered.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        let (index, fingerprint) = self.locate(hash);
        let Some(slot) = self
            .slots
            .get_mut(index)
            .filter(|slot| **slot == fingerprint)
        else {
            return false;
        };
        *slot = 0;
        true
    }

    /// Remembers the key of this hash; `entries` tells how many entries there are.
    pub(super) fn put(&mut self, hash: u64, entries: impl FnOnce() -> usize) {
        if self.until_resize == 0 {
            self.resize(entries());
        }
        self.until_resize -= 1;
        let (index, fingerprint) = self.locate(hash);
        self.slots[index] = fingerprint;
    }

    /// Fits the slots to the entries, as often as the slots have been filled once.
    fn resize(&mut self, entries: usize) {
        let wanted = entries.max(32).next_power_of_two();
        if self.slots.len() < wanted || self.slots.len() / 4 > wanted {
            // The low bits that the old slots stood for are not enough to find the new ones.
            self.slots = vec![0; wanted];
        }
        self.until_resize = self.slots.len();
    }

    fn locate(&self, hash: u64) -> (usize, u32) {
        let mask = self.slots.len().wrapping_sub(1);
        // Zero is an empty slot.
        (hash as usize & mask, (hash >> 32) as u32 | 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    fn hash(number: u64) -> u64 {
        foldhash::fast::FixedState::default().hash_one(number)
    }

    #[test]
    fn remembers_what_was_put_last() {
        let mut ghosts = Ghosts::default();
        assert!(!ghosts.take(hash(1)));
        for number in 0..10_000 {
            ghosts.put(hash(number), || 1000);
        }
        let remembered = |ghosts: &mut Ghosts, numbers: std::ops::Range<u64>| {
            numbers.filter(|&number| ghosts.take(hash(number))).count()
        };
        assert!(remembered(&mut ghosts, 9_800..10_000) > 150);
        assert!(remembered(&mut ghosts, 0..5_000) < 100);
        assert_eq!(remembered(&mut ghosts, 9_800..10_000), 0, "taken once");
        assert_eq!(remembered(&mut ghosts, 20_000..30_000), 0, "never put");
    }

    #[test]
    fn follows_the_number_of_entries() {
        let mut ghosts = Ghosts::default();
        (0..100).for_each(|number| ghosts.put(hash(number), || 10));
        assert_eq!(ghosts.slots.len(), 32);
        (0..100).for_each(|number| ghosts.put(hash(number), || 5_000));
        assert_eq!(ghosts.slots.len(), 8192);
        (0..20_000).for_each(|number| ghosts.put(hash(number), || 3_000));
        assert_eq!(ghosts.slots.len(), 8192, "not for a little");
        (0..20_000).for_each(|number| ghosts.put(hash(number), || 100));
        assert_eq!(ghosts.slots.len(), 128);
    }
}
