//! The lock among processes: an entry of its own kind under a name made from the key.
//!
//! It holds the holder's token, and the number of a byte in the file `alive` that the holder's process
//! keeps locked as long as it lives. So the lock of a process that was killed is free at once, and that of
//! one that hangs when its lease ends.

use std::time::{Duration, Instant};

use super::Shared;
use super::changes::{Holder, Taken, lock_name, rest};
use super::layout::key_hash;
use super::live::Live;
use super::store::Store;
use super::turn::Content;
use super::wake::{Waiters, announce};
use crate::backend::{AsyncBackend, LockReply, Locking, Released, Remaining};
use crate::error::Result;

/// How often a waiter looks whether the holder still lives, although nobody announced anything.
const LOOK: Duration = Duration::from_millis(100);
/// How long one look may take.
const ANSWER: Duration = Duration::from_secs(1);
/// The same where announcements are not to be had; it doubles up to [`LOOK`].
const LOOK_BLIND: Duration = Duration::from_millis(5);

impl Store {
    pub(super) fn lock_reply(&self, taken: Taken) -> LockReply {
        match taken {
            Taken::Ours(found) => LockReply::Acquired(found.map(|found| self.found(found, true))),
            Taken::Until(expiry) => LockReply::Held {
                remaining: rest(expiry, self.now()),
            },
        }
    }

    /// Wakes those who wait for these locks. They also look by themselves, so that a failure costs time.
    pub(super) fn announce(&self, locks: &[u128]) {
        let Ok(live) = self.live() else { return };
        for hash in locks {
            if let Err(error) = announce(&live.directory, *hash) {
                tracing::debug!("the release of a lock was not announced: {error}");
            }
        }
    }

    pub(super) fn announce_release(&self, key: &str, released: bool) {
        if released {
            self.announce(&[key_hash(&lock_name(key))]);
        }
    }

    /// Stores a value, if there is one, while the lock is held with this token, and releases it.
    pub(super) fn put_and_unlock(
        &self,
        key: &str,
        content: Result<Content<'_>>,
        expiry: u64,
        token: &str,
        timeout: Duration,
    ) -> Result<()> {
        let content = match content {
            Ok(content) => content,
            Err(error) => {
                // Those who wait must not wait in vain.
                Locking::unlock(self, key, token, timeout)?;
                return Err(error);
            }
        };
        let (released, stored) = self.in_turn("set", timeout, |turn| {
            turn.put_and_release(key, content, expiry, token)
        })?;
        self.announce_release(key, released);
        stored.map_err(|error| self.failed("set", error))
    }
}

impl Shared {
    /// The rest of the lease of a holder who lives; None when the lock is free.
    async fn held(&self, live: &Live, name: &str, timeout: Duration) -> Result<Option<Duration>> {
        let found = AsyncBackend::get(self, name, true, timeout).await?;
        Ok(found.and_then(|found| {
            let holder = Holder::from_bytes(&found.value)?;
            let lease = match found.remaining {
                Remaining::For(lease) => lease,
                Remaining::Forever | Remaining::Unknown => Duration::MAX,
            };
            live.alive.is(holder.owner).then_some(lease)
        }))
    }

    pub(super) async fn wait_released(&self, key: &str, at_most: Duration) -> Result<Released> {
        let name = lock_name(key);
        let hash = key_hash(&name);
        let start = Instant::now();
        let live = self.opened().await?;
        let waiters = live.waiters.get_or_init(|| Waiters::new(&live.directory));
        let mut blind = LOOK_BLIND;
        loop {
            // Listening begins before the look, so that no release falls in between.
            let mut notified = waiters
                .as_ref()
                .map(|waiters| Box::pin(waiters.of(hash).notified()));
            if let Some(notified) = &mut notified {
                notified.as_mut().enable();
            }
            let Some(lease) = self.held(&live, &name, ANSWER).await? else {
                return Ok(Released::Notified);
            };
            let left = at_most.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(Released::Elapsed);
            }
            let lease = lease.saturating_add(Duration::from_millis(1));
            match notified {
                Some(notified) => {
                    let pause = left.min(lease).min(LOOK);
                    // Woken or not: look.
                    let _ = tokio::time::timeout(pause, notified).await;
                }
                None => {
                    tokio::time::sleep(left.min(lease).min(blind)).await;
                    blind = (blind * 2).min(LOOK);
                }
            }
        }
    }
}

impl Locking for Store {
    fn try_lock(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<LockReply> {
        let expiry = self.expiry("lock", Some(lease))?;
        let taken = self.in_turn("lock", timeout, |turn| turn.take_lock(key, token, expiry))?;
        Ok(self.lock_reply(taken))
    }

    fn renew(&self, key: &str, token: &str, lease: Duration, timeout: Duration) -> Result<bool> {
        let expiry = self.expiry("renew", Some(lease))?;
        self.in_turn("renew", timeout, |turn| turn.renew(key, token, expiry))
    }

    fn unlock(&self, key: &str, token: &str, timeout: Duration) -> Result<bool> {
        let released = self.in_turn("unlock", timeout, |turn| turn.release(key, token))?;
        self.announce_release(key, released);
        Ok(released)
    }

    fn set_and_unlock(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        token: &str,
        timeout: Duration,
    ) -> Result<()> {
        let expiry = self.expiry("set", ttl)?;
        let content = self
            .admit(key, value)
            .and_then(|()| self.content(key, value, timeout));
        self.put_and_unlock(key, content, expiry, token, timeout)
    }

    fn name(&self, key: &str) -> String {
        lock_name(key)
    }
}
