//! What the operations do in their turn; both faces wait for the turn in their own way.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use cachekit_wire::keys::fit_key;

use super::layout::{Header, Kind, LOCK_PREFIX, Slot, key_hash};
use super::turn::{Content, Turn};

/// A lock's holder, as it is stored: the token, and the number under which it may be asked for.
pub(super) struct Holder<'a> {
    pub(super) token: &'a [u8],
    pub(super) owner: u64,
}

impl<'a> Holder<'a> {
    fn to_bytes(token: &str, owner: u64) -> Vec<u8> {
        let mut out = owner.to_le_bytes().to_vec();
        out.extend_from_slice(token.as_bytes());
        out
    }

    pub(super) fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (owner, token) = bytes.split_first_chunk()?;
        Some(Self {
            token,
            owner: u64::from_le_bytes(*owner),
        })
    }
}

/// The longest key that a lock is named after: its record must fit one slot.
const LONGEST_NAME: usize = 4096;

/// The key under which the lock on `key` is stored. Locks on very long keys are named after a hash.
pub(super) fn lock_name(key: &str) -> String {
    format!("{LOCK_PREFIX}{}", fit_key(key, LONGEST_NAME, |_| true))
}

/// What came of trying to take a lock.
pub(super) enum Taken {
    /// It is ours, and this is the entry.
    Ours(Option<(Slot, Bytes)>),
    /// Somebody's lease ends then; 0 is never.
    Until(u64),
}

impl Turn<'_> {
    /// The live entry of a key.
    pub(super) fn value(&mut self, key: &str) -> io::Result<Option<(Slot, Bytes)>> {
        Ok(self.read(key)?.map(|(place, value)| (place.slot, value)))
    }

    /// The live slot of a key.
    pub(super) fn slot(&mut self, key: &str) -> io::Result<Option<Slot>> {
        let found = self.find(key_hash(key))?.map(|place| place.slot);
        Ok(found.filter(|slot| slot.lives(self.now)))
    }

    /// Shows that the store can be written to.
    pub(super) fn prove(&mut self) -> io::Result<Header> {
        self.begin()?;
        Ok(self.header)
    }

    /// Stores a value unless there is one; gives what was there.
    pub(super) fn add(&mut self, key: &str, content: Content<'_>) -> io::Result<Option<Bytes>> {
        if let Some((_, value)) = self.read(key)? {
            return Ok(Some(value));
        }
        self.put(key, content, 0)?;
        Ok(None)
    }

    /// Removes entries and locks. Gives how many of them lived, and the hashes of the locks.
    pub(super) fn delete(&mut self, keys: &[&str]) -> io::Result<(u64, Vec<u128>)> {
        let (mut removed, mut locks) = (0, Vec::new());
        for key in keys {
            let hash = key_hash(key);
            if let Some(place) = self.find(hash)? {
                removed += u64::from(place.slot.lives(self.now));
                self.remove(&place)?;
                if place.slot.kind == Kind::Lock {
                    locks.push(hash);
                }
            }
        }
        Ok((removed, locks))
    }

    /// Gives an entry another end; false if there is none.
    pub(super) fn expire(&mut self, key: &str, expiry: u64) -> io::Result<bool> {
        match self.find(key_hash(key))? {
            Some(place) if place.slot.lives(self.now) => {
                let slot = Slot {
                    expiry,
                    ..place.slot
                };
                self.write_slot(place.index, &slot)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Takes the lock on `key` unless somebody who lives holds it.
    pub(super) fn take_lock(&mut self, key: &str, token: &str, expiry: u64) -> io::Result<Taken> {
        let name = lock_name(key);
        if let Some((place, bytes)) = self.read(&name)?
            && let Some(holder) = Holder::from_bytes(&bytes)
            && holder.token != token.as_bytes()
            && self.live.alive.is(holder.owner)
        {
            return Ok(Taken::Until(place.slot.expiry));
        }
        let found = self.value(key)?;
        let holder = Holder::to_bytes(token, self.live.alive.own()?);
        self.put(&name, Content::Small(&holder), expiry)?;
        Ok(Taken::Ours(found))
    }

    fn holds(&mut self, name: &str, token: &str) -> io::Result<bool> {
        let found = self.read(name)?;
        let holder = found
            .as_ref()
            .and_then(|(_, bytes)| Holder::from_bytes(bytes));
        Ok(holder.is_some_and(|holder| holder.token == token.as_bytes()))
    }

    /// Extends a lease; false if the lock is not held with this token.
    pub(super) fn renew(&mut self, key: &str, token: &str, expiry: u64) -> io::Result<bool> {
        let name = lock_name(key);
        Ok(self.holds(&name, token)? && self.expire(&name, expiry)?)
    }

    /// Releases the lock; false if it is not held with this token.
    pub(super) fn release(&mut self, key: &str, token: &str) -> io::Result<bool> {
        let name = lock_name(key);
        if !self.holds(&name, token)? {
            return Ok(false);
        }
        self.delete(&[&name])?;
        Ok(true)
    }

    /// Stores a value if the lock is held with this token, and releases it; true if it was released. The
    /// lock is released even if the value could not be stored.
    pub(super) fn put_and_release(
        &mut self,
        key: &str,
        content: Content<'_>,
        expiry: u64,
        token: &str,
    ) -> io::Result<(bool, io::Result<()>)> {
        if !self.holds(&lock_name(key), token)? {
            return Ok((false, Ok(())));
        }
        let stored = self.put(key, content, expiry);
        Ok((self.release(key, token)?, stored))
    }
}

/// The rest of a lease that ends at `expiry`.
pub(super) fn rest(expiry: u64, now: u64) -> Duration {
    match expiry {
        0 => Duration::MAX,
        end => Duration::from_micros(end.saturating_sub(now)),
    }
}
