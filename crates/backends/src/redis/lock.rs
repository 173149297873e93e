//! The distributed lock: one key per lock, set if absent, removed only by its holder.
//!
//! The lock on `key` is the Redis key `<key>:lock` and holds the holder's token. Its release is
//! announced on the channel `<key>:lock:released`.

use std::time::Duration;

use super::Servers;
use super::cluster::are_together;
use super::command::{self, Command, Replies, milliseconds};
use super::node::Request;
use crate::backend::{Found, LockReply, Locking, Remaining};
use crate::error::Result;

/// Removes the lock if the token is the holder's, and tells those who wait. A user that may not
/// publish still releases.
const UNLOCK: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[1])
redis.pcall('PUBLISH', ARGV[2], '')
return 1";

/// Stores the value if the token is the holder's, releases the lock and tells those who wait. What
/// takes the lock away, its end or an invalidation, so keeps a value that was computed before out.
/// Released even if the value was refused: those who wait must not wait in vain.
const SET_AND_UNLOCK: &str = "\
local function set()
  if ARGV[3] == '' then return redis.pcall('SET', KEYS[2], ARGV[2]) end
  return redis.pcall('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
end
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] then
  if holder and string.sub(holder, 1, 2) == 'CK' then return set() end
  return false
end
local stored = set()
redis.call('UNLINK', KEYS[1])
redis.pcall('PUBLISH', KEYS[1] .. ':released', '')
return stored";

/// Stores the value and takes the lock away from whoever holds it, in one step.
const SET_AND_END: &str = "\
local stored
if ARGV[2] == '' then stored = redis.call('SET', KEYS[2], ARGV[1])
else stored = redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2]) end
if redis.call('UNLINK', KEYS[1]) == 1 then redis.pcall('PUBLISH', KEYS[1] .. ':released', '') end
return stored";

/// Extends the lease if the token is the holder's.
const RENEW: &str = "\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

/// The names that belong to the lock on a key.
pub(super) struct Names {
    /// The Redis key of the lock.
    pub(super) lock: String,
    /// The channel on which its release is announced.
    pub(super) channel: String,
}

impl Names {
    pub(super) fn of(key: &str) -> Self {
        Self {
            lock: format!("{key}{LOCK}"),
            channel: format!("{key}{LOCK}{RELEASED}"),
        }
    }
}

const LOCK: &str = ":lock";
const RELEASED: &str = ":released";

/// Where the release of a lock is announced, if a Redis key of this name is one.
pub(super) fn channel_of(name: &str) -> Option<String> {
    name.ends_with(LOCK).then(|| format!("{name}{RELEASED}"))
}

/// Tells those who wait that the lock is gone. A user that may not publish is refused, and they look for
/// themselves.
pub(super) fn announce(channel: &str) -> Command<'_> {
    Command::new("PUBLISH").arg(channel).arg("")
}

/// Takes the lock if it is free, and tells who holds it and for how long.
pub(super) fn take<'a>(names: &'a Names, token: &'a str, lease: u64) -> [Command<'a>; 3] {
    let lock = names.lock.as_str();
    [
        Command::new("SET")
            .arg(lock)
            .arg(token)
            .arg("NX")
            .arg("PX")
            .number(lease),
        Command::new("GET").arg(lock),
        command::ttl(lock),
    ]
}

pub(super) fn unlock<'a>(names: &'a Names, token: &'a str) -> Command<'a> {
    Command::new("EVAL")
        .arg(UNLOCK)
        .arg("1")
        .arg(&names.lock)
        .arg(token)
        .arg(&names.channel)
}

/// One script for both, where the key and its lock are on the same server.
pub(super) fn set_and_unlock<'a>(
    names: &'a Names,
    key: &'a str,
    value: &'a [u8],
    life: Option<u64>,
    token: &'a str,
) -> Command<'a> {
    let command = Command::new("EVAL")
        .arg(SET_AND_UNLOCK)
        .arg("2")
        .arg(&names.lock)
        .arg(key)
        .arg(token)
        .arg(value);
    match life {
        Some(milliseconds) => command.number(milliseconds),
        None => command.arg(""),
    }
}

/// One script for both, where the key and its lock are on the same server.
pub(super) fn set_and_end<'a>(
    names: &'a Names,
    key: &'a str,
    value: &'a [u8],
    life: Option<u64>,
) -> Command<'a> {
    let command = Command::new("EVAL")
        .arg(SET_AND_END)
        .arg("2")
        .arg(&names.lock)
        .arg(key)
        .arg(value);
    match life {
        Some(milliseconds) => command.number(milliseconds),
        None => command.arg(""),
    }
}

/// Whether the reply to a GET of the lock lets the holder of `token` store its value.
pub(super) fn may_store(holder: Option<&[u8]>, token: &str) -> bool {
    holder.is_some_and(|holder| holder == token.as_bytes() || holder.starts_with(ENTRY))
}

pub(super) fn renew<'a>(names: &'a Names, token: &'a str, lease: u64) -> Command<'a> {
    Command::new("EVAL")
        .arg(RENEW)
        .arg("1")
        .arg(&names.lock)
        .arg(token)
        .number(lease)
}

/// What every stored entry begins with. No holder's token does: they are hexadecimal.
const ENTRY: &[u8] = b"CK";

/// Reads the answers to [`take`]: None when there is nobody to wait for.
///
/// A lock that already holds our token is ours: the first attempt's reply was lost. Where an entry
/// of that very name is stored, the key cannot be locked at all, and waiting would be for nothing:
/// everybody goes on as if alone. Renewing and releasing then say that the lock is not held, and
/// leave the entry as it is.
pub(super) fn held(replies: &mut Replies, token: &str) -> Result<Option<Duration>> {
    let taken = replies.done()?;
    let holder = replies.value()?;
    let remaining = replies.remaining()?;
    if taken || holder.is_some_and(|holder| holder == token.as_bytes() || holder.starts_with(ENTRY))
    {
        return Ok(None);
    }
    Ok(Some(match remaining {
        Some(Remaining::For(remaining)) => remaining,
        Some(Remaining::Forever | Remaining::Unknown) => Duration::MAX,
        None => Duration::ZERO,
    }))
}

/// The reply to a caller, given who holds the lock and what is stored.
pub(super) fn reply(held: Option<Duration>, found: Option<Found>) -> LockReply {
    match held {
        Some(remaining) => LockReply::Held { remaining },
        None => LockReply::Acquired(found),
    }
}

impl Locking for Servers {
    fn try_lock(
        &self,
        key: &str,
        token: &str,
        lease: Duration,
        timeout: Duration,
    ) -> Result<LockReply> {
        let names = Names::of(key);
        let take = take(&names, token, milliseconds("lock", lease)?);
        let get = command::get(key);
        let topology = self.topology();
        if !topology.is_cluster() {
            let batch = [take[0], take[1], take[2], get[0], get[1]];
            let mut replies = self.run("lock", key, &batch, timeout)?;
            let held = held(&mut replies, token)?;
            return Ok(reply(held, replies.found(true)?));
        }
        // The key and its lock may be on different servers; the order of the two matters.
        let request = Request::new("lock", &take, timeout);
        let held = held(&mut topology.run(Some(&names.lock), &request)?, token)?;
        if held.is_some() {
            return Ok(reply(held, None));
        }
        let read = Request {
            batch: &get,
            ..request
        };
        let found = topology
            .run(Some(key), &read)
            .and_then(|mut replies| replies.found(true));
        if found.is_err() {
            // Nobody would know that the lock is ours.
            let _ = topology.run(
                Some(&names.lock),
                &Request {
                    batch: &[unlock(&names, token)],
                    ..request
                },
            );
        }
        Ok(reply(None, found?))
    }

    fn renew(&self, key: &str, token: &str, lease: Duration, timeout: Duration) -> Result<bool> {
        let names = Names::of(key);
        let command = renew(&names, token, milliseconds("renew", lease)?);
        self.run("renew", &names.lock, &[command], timeout)?.any()
    }

    fn unlock(&self, key: &str, token: &str, timeout: Duration) -> Result<bool> {
        let names = Names::of(key);
        self.run("unlock", &names.lock, &[unlock(&names, token)], timeout)?
            .any()
    }

    fn name(&self, key: &str) -> String {
        Names::of(key).lock
    }

    fn set_and_unlock(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        token: &str,
        timeout: Duration,
    ) -> Result<()> {
        let names = Names::of(key);
        let life = ttl.map(|ttl| milliseconds("set", ttl)).transpose()?;
        let topology = self.topology();
        if !topology.is_cluster() || are_together(key, &names.lock) {
            let script = set_and_unlock(&names, key, value, life, token);
            self.run("set", key, &[script], timeout)?.done()?;
            return Ok(());
        }
        let look = [Command::new("GET").arg(&names.lock)];
        let looking = Request::new("set", &look, timeout);
        let holder = topology.run(Some(&names.lock), &looking)?.value()?;
        if !may_store(holder.as_deref(), token) {
            return Ok(());
        }
        let batch = [command::set(key, value, life), unlock(&names, token)];
        let request = Request {
            batch: &batch[..1],
            ..looking
        };
        let stored = topology
            .run(Some(key), &request)
            .and_then(|mut replies| replies.done());
        // Released even if the value was not stored: those who wait must not wait in vain.
        let unlocking = Request {
            batch: &batch[1..],
            ..request
        };
        let unlocked = topology
            .run(Some(&names.lock), &unlocking)
            .and_then(|mut replies| replies.any());
        stored?;
        unlocked?;
        Ok(())
    }
}
