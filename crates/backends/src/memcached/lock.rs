//! The distributed lock: one item per lock, added if absent, changed and removed only in the version
//! that holds the holder's token.
//!
//! The lock on `key` is the item `<key>:cachekit-lock`, kept on the server that has the key. Memcached
//! may evict it like any item: then another caller takes the lock, and the first one's value is not
//! stored.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::command::{Command, Only};
use super::life::{life, remaining};
use super::operations::{Operations, Way, left};
use super::servers::jittered;
use crate::backend::{Found, LockReply, Released, Remaining};
use crate::deadline::after;
use crate::error::Result;

const SUFFIX: &str = ":cachekit-lock";
/// What every stored entry begins with. No holder's token does: they are hexadecimal.
const ENTRY: &[u8] = b"CK";
/// How often a waiter looks: at first, and at most after doubling.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(32);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(1);

/// The name of the lock on `key`.
pub(super) fn name(key: &str) -> String {
    format!("{key}{SUFFIX}")
}

/// The key whose lock has this name.
pub(super) fn key_of(name: &str) -> Option<&str> {
    name.strip_suffix(SUFFIX)
}

/// Who holds a lock.
enum Holder {
    /// The asker, in this version of the item.
    Us(u64),
    /// An entry of that very name is stored there, so that the key cannot be locked: everybody goes
    /// on as if alone.
    Entry,
    SomebodyElse,
    Nobody,
}

impl Operations {
    pub(super) async fn try_lock(
        &self,
        way: Way,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<LockReply> {
        let name = name(key);
        let lease = life("lock", Some(lease))?;
        let (lock, entry) = (self.place(&name), self.place(key));
        let batch = [
            Command::add(&lock.stored, token.as_bytes(), lease),
            Command::get(&lock.stored),
            Command::get(&entry.stored),
        ];
        let mut replies = self.run(way, "lock", &entry, &batch, timeout).await?;
        let taken = replies.done()?.is_some();
        let holder = replies.value()?;
        let found: Option<Found> = replies.found(true)?;
        Ok(match holder {
            _ if taken => LockReply::Acquired(found),
            // It holds our token where the reply to a first attempt was lost.
            Some((holder, _)) if holder == token.as_bytes() || holder.starts_with(ENTRY) => {
                LockReply::Acquired(found)
            }
            Some((_, flags)) => LockReply::Held {
                remaining: match remaining(flags.ttl) {
                    Remaining::For(remaining) => remaining,
                    Remaining::Forever | Remaining::Unknown => Duration::MAX,
                },
            },
            None => LockReply::Held {
                remaining: Duration::ZERO,
            },
        })
    }

    pub(super) async fn renew(
        &self,
        way: Way,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<bool> {
        let deadline = after(timeout);
        let life = life("renew", Some(lease))?;
        let name = name(key);
        let Holder::Us(version) = self.holder(way, "renew", &name, token, timeout).await? else {
            return Ok(false);
        };
        let place = self.place(&name);
        let batch = [Command::Set {
            key: &place.stored,
            value: token.as_bytes(),
            life,
            only: Only::IfVersion(version),
        }];
        let mut replies = self
            .run(way, "renew", &place, &batch, left(deadline))
            .await?;
        Ok(replies.done()?.is_some())
    }

    pub(super) async fn unlock(
        &self,
        way: Way,
        key: &str,
        token: &str,
        timeout: Duration,
    ) -> Result<bool> {
        let deadline = after(timeout);
        let name = name(key);
        let Holder::Us(version) = self.holder(way, "unlock", &name, token, timeout).await? else {
            return Ok(false);
        };
        let place = self.place(&name);
        let batch = [Command::Delete {
            key: &place.stored,
            version: Some(version),
        }];
        let mut replies = self
            .run(way, "unlock", &place, &batch, left(deadline))
            .await?;
        Ok(replies.done()?.is_some())
    }

    /// Stores the value, then gives the lock back in the version that was seen before. If it was
    /// not there any more, the value is taken back, in the version that was stored.
    ///
    /// Whoever takes the lock away removes it before the entry, so a value that was computed before
    /// is either removed with the entry or taken back here.
    pub(super) async fn set_and_unlock(
        &self,
        way: Way,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        token: &str,
        timeout: Duration,
    ) -> Result<()> {
        let deadline = after(timeout);
        let life = life("set", ttl)?;
        if let Err(error) = self.check_size(value) {
            // Those who wait must not wait in vain.
            self.unlock(way, key, token, timeout).await?;
            return Err(error);
        }
        let name = name(key);
        let version = match self.holder(way, "set", &name, token, timeout).await? {
            Holder::Us(version) => version,
            Holder::Entry => return self.set(way, key, value, ttl, left(deadline)).await,
            Holder::SomebodyElse | Holder::Nobody => return Ok(()),
        };
        let (lock, entry) = (self.place(&name), self.place(key));
        let batch = [
            Command::set(&entry.stored, value, life),
            Command::Delete {
                key: &lock.stored,
                version: Some(version),
            },
        ];
        let mut replies = self.run(way, "set", &entry, &batch, left(deadline)).await?;
        let stored = replies.done()?;
        let was_ours = replies.done()?.is_some();
        if let Some(flags) = stored.filter(|_| !was_ours) {
            let undo = [Command::Delete {
                key: &entry.stored,
                version: flags.cas,
            }];
            self.run(way, "set", &entry, &undo, left(deadline))
                .await?
                .done()?;
        }
        Ok(())
    }

    /// Looks until the lock is free: memcached tells nobody of a release.
    pub(super) async fn released(&self, key: &str, at_most: Duration) -> Result<Released> {
        let name = name(key);
        let place = self.place(&name);
        let batch = [Command::Look { key: &place.stored }];
        let end = after(at_most);
        let mut pause = FIRST_LOOK;
        loop {
            let mut replies = self.run(Way::Shared, "lock", &place, &batch, LOOK).await?;
            if replies.done()?.is_none() {
                return Ok(Released::Notified);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Released::Elapsed);
            }
            tokio::time::sleep(jittered(pause).min(left)).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    async fn holder(
        &self,
        way: Way,
        operation: &'static str,
        name: &str,
        token: &str,
        timeout: Duration,
    ) -> Result<Holder> {
        let place = self.place(name);
        let batch = [Command::Get {
            key: &place.stored,
            version: true,
        }];
        let mut replies = self.run(way, operation, &place, &batch, timeout).await?;
        let value: Option<(Bytes, _)> = replies.value()?;
        Ok(match value {
            Some((holder, flags)) if holder == token.as_bytes() => {
                flags.cas.map_or(Holder::SomebodyElse, Holder::Us)
            }
            Some((holder, _)) if holder.starts_with(ENTRY) => Holder::Entry,
            Some(_) => Holder::SomebodyElse,
            None => Holder::Nobody,
        })
    }
}
