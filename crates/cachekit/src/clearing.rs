//! How a family of entries is cleared as a whole in the shared layer.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cachekit_wire::interop::Operation;
use parking_lot::Mutex;

/// How many keys of an interop operation are remembered: 8 MiB of memory at most.
const REMEMBERED: usize = 1 << 17;
const HASH_BYTES: usize = 32;

/// What clearing a family takes.
#[derive(Debug, Clone)]
pub enum Clearing {
    /// Entries name a generation: replacing the item under this key clears them all, in every process.
    Item(Arc<str>),
    /// Entries say nothing but their value, as those of interop mode: they are removed one by one,
    /// as far as this process knows them.
    Keys(Arc<KnownKeys>),
}

/// The keys of an interop operation that this process has written or found.
#[derive(Debug)]
pub struct KnownKeys {
    operation: Operation,
    hashes: Mutex<HashSet<[u8; HASH_BYTES]>>,
    overflowed: AtomicBool,
}

impl KnownKeys {
    /// None yet.
    #[must_use]
    pub fn new(operation: Operation) -> Self {
        Self {
            operation,
            hashes: Mutex::default(),
            overflowed: AtomicBool::new(false),
        }
    }

    /// The operation whose keys they are.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Remembers that there is an entry under a key of the operation's. Beyond some 130 000 keys
    /// another one is forgotten instead, which is logged once.
    pub(crate) fn note(&self, key: &str) {
        let Some(hash) = key.strip_prefix(self.operation.prefix()).and_then(unhex) else {
            return;
        };
        let mut hashes = self.hashes.lock();
        if hashes.len() >= REMEMBERED && !hashes.contains(&hash) {
            let other = hashes.iter().next().copied();
            other.map(|other| hashes.remove(&other));
            if !self.overflowed.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    target: "cachekit",
                    "{}…: more than {REMEMBERED} entries; clearing the function will leave some of them \
                     until their TTL",
                    self.operation.prefix()
                );
            }
        }
        hashes.insert(hash);
    }

    /// Hands out all of the keys and forgets them.
    pub(crate) fn take(&self) -> Vec<String> {
        let hashes = std::mem::take(&mut *self.hashes.lock());
        hashes
            .iter()
            .map(|hash| self.operation.key_of(hash))
            .collect()
    }
}

fn unhex(hex: &str) -> Option<[u8; HASH_BYTES]> {
    let mut hash = [0; HASH_BYTES];
    if hex.len() != 2 * HASH_BYTES {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> KnownKeys {
        KnownKeys::new(Operation::new("users", "get").expect("good names"))
    }

    #[test]
    fn keys_come_back_once() {
        let known = known();
        let one = known.operation().key(b"\x91\x01");
        let two = known.operation().key(b"\x91\x02");
        for key in [&one, &two, &one] {
            known.note(key);
        }
        known.note("users:get:short");
        known.note("other:get:61598716255080080f6456eb065c2e51badfaa4320b0efe97469c29cffee8875");
        let mut all = known.take();
        all.sort();
        let mut expected = vec![one, two];
        expected.sort();
        assert_eq!(all, expected);
        assert!(known.take().is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let known = known();
        for n in 0..=REMEMBERED as u32 {
            known.note(&known.operation().key(&n.to_be_bytes()));
        }
        assert_eq!(known.hashes.lock().len(), REMEMBERED);
        let last = known.operation().key(&(REMEMBERED as u32).to_be_bytes());
        assert!(known.take().contains(&last), "the newest is known");
    }
}
