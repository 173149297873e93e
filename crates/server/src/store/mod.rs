//! Where entries rest: the [`Store`] trait, the embedded store and Redis.

mod embedded;
mod redis;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use self::embedded::{EmbeddedOptions, EmbeddedStore};
pub use self::redis::RedisStore;
use crate::keys::Mode;

/// A tenant's space of entries: the tenant and the mode of the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// The scope of a tenant's live or test keys.
    #[must_use]
    pub fn new(mode: Mode, tenant: &str) -> Self {
        Self(format!("{}:{tenant}", mode.as_str()).into())
    }

    /// `live:TENANT` or `test:TENANT`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where an entry is: a key within a scope.
///
/// No two scopes share a place. Tenants' names hold no `:`, so the text before a place's third
/// part is the scope and nothing that a client sends can change it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    scope: Scope,
    full: Arc<str>,
}

impl Place {
    /// The place of `key` in `scope`.
    #[must_use]
    pub fn new(scope: &Scope, key: &str) -> Self {
        Self {
            scope: scope.clone(),
            full: format!("{}:{key}", scope.as_str()).into(),
        }
    }

    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Scope and key as one text, unique among all places.
    #[must_use]
    pub fn full(&self) -> &Arc<str> {
        &self.full
    }

    /// The place whose text this is.
    fn from_full(full: &str) -> Option<Self> {
        let mode = full.find(':')?;
        let scope = mode + 1 + full[mode + 1..].find(':')?;
        Some(Self {
            scope: Scope(full[..scope].into()),
            full: full.into(),
        })
    }
}

/// How long an entry lives: fresh for `fresh`, then readable as stale for `stale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The time to live.
    pub fresh: Duration,
    /// The time after it during which the entry is served as stale.
    pub stale: Duration,
}

/// What is known of an entry without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The rest of its fresh life; zero when it is stale.
    pub fresh_for: Duration,
    /// The value's length.
    pub size: u64,
}

impl Facts {
    /// Whether the entry is past its TTL.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.fresh_for.is_zero()
    }
}

/// A tenant's share of the store. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of keys, values and [`ENTRY_OVERHEAD`] for each entry.
    pub bytes: Option<u64>,
    /// Entries.
    pub entries: Option<u64>,
    /// Whether a write without room is refused instead of making room.
    pub reject: bool,
}

/// What is counted for an entry besides its key and value, in bytes.
pub const ENTRY_OVERHEAD: u64 = 64;

/// Whose lock is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The holder's with this id.
    Id(String),
    /// Whoever holds it.
    Anybody,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is stored.
    Stored,
    /// It is larger than the tenant's quota or the store.
    TooLarge,
    /// The quota has no room and its policy is to refuse.
    OverQuota,
    /// The lock that it was to be stored under is not held, or not by this holder.
    NotHeld,
}

/// What came of trying to take a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// The lock is the caller's.
    Acquired,
    /// Somebody else holds it, for so long unless the lease is renewed.
    Held(Duration),
    /// The tenant holds as many locks as it may.
    TooMany,
}

/// What a store has done and holds, for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Entries.
    pub entries: u64,
    /// Bytes of keys, values and [`ENTRY_OVERHEAD`] for each entry.
    pub bytes: u64,
    /// Bytes of files.
    pub disk: u64,
    /// Entries that made room for others.
    pub evicted: u64,
    /// Entries that ended by their TTL.
    pub expired: u64,
    /// Locks held.
    pub locks: u64,
}

/// Why a store could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot at the moment.
    #[error("{0}")]
    Unavailable(String),
    /// Its disk is full.
    #[error("{0}")]
    Full(String),
}

impl StoreError {
    fn unavailable(what: impl fmt::Display) -> Self {
        Self::Unavailable(what.to_string())
    }
}

/// Result of a store's operation.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A store of entries and locks. Its futures never block the thread that polls them.
pub trait Store: Send + Sync {
    /// "embedded" or "redis".
    fn name(&self) -> &'static str;

    /// The length of the value at `place`, or 0 where asking would cost as much as reading.
    fn size_hint(&self, place: &Place) -> usize {
        let _ = place;
        0
    }

    /// The entry's facts.
    fn facts<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Option<Facts>>>;

    /// The entry.
    fn get<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Option<(Facts, Bytes)>>>;

    /// Stores an entry, whole or not at all. With a holder's id only while that one holds the lock at
    /// `place`, which is released once the entry is stored. With [`Holder::Anybody`] the lock ends,
    /// whoever holds it: nobody who took it without knowing of this entry stores another one under it.
    fn put<'a>(
        &'a self,
        place: &'a Place,
        value: Bytes,
        life: Life,
        quota: Quota,
        holder: Option<&'a Holder>,
    ) -> BoxFuture<'a, Result<Put>>;

    /// Removes the entry; true if there was one. With `lock` also ends the lock at `place`, whoever
    /// holds it: what its holder then wants to store under it is not stored.
    fn delete<'a>(&'a self, place: &'a Place, lock: bool) -> BoxFuture<'a, Result<bool>>;

    /// Gives the entry a new fresh life from now, its stale time unchanged; false if there is none.
    fn expire<'a>(&'a self, place: &'a Place, fresh: Duration) -> BoxFuture<'a, Result<bool>>;

    /// Takes the lock at `place` for `lease` if it is free. `id` is the holder's secret.
    fn lock<'a>(
        &'a self,
        place: &'a Place,
        id: &'a str,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Lock>>;

    /// Gives the lock a new lease from now; false if `id` does not hold it.
    fn renew<'a>(
        &'a self,
        place: &'a Place,
        id: &'a str,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool>>;

    /// Releases the lock; false if `id` does not hold it.
    fn unlock<'a>(&'a self, place: &'a Place, id: &'a str) -> BoxFuture<'a, Result<bool>>;

    /// Ends the lock, whoever holds it; false if nobody does.
    fn end_lock<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<bool>>;

    /// Waits until the lock is free, for `at_most`; the rest of its lease if it is not.
    fn watch_lock<'a>(
        &'a self,
        place: &'a Place,
        at_most: Duration,
    ) -> BoxFuture<'a, Result<Option<Duration>>>;

    /// Whether the store can serve now.
    fn check(&self) -> BoxFuture<'_, Result<()>>;

    /// What it has done and holds, as far as it counts.
    fn usage(&self) -> Usage;

    /// Makes everything durable and ends. Later operations fail.
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever two tenants call their keys, their places differ.
        #[test]
        fn tenants_never_share_a_place(
            tenants in ("[a-z0-9_-]{1,5}", "[a-z0-9_-]{1,5}"),
            keys in ("[A-Za-z0-9_.:-]{1,12}", "[A-Za-z0-9_.:-]{1,12}"),
            modes in (any::<bool>(), any::<bool>()),
        ) {
            let mode = |live| if live { Mode::Live } else { Mode::Test };
            let one = Place::new(&Scope::new(mode(modes.0), &tenants.0), &keys.0);
            let two = Place::new(&Scope::new(mode(modes.1), &tenants.1), &keys.1);
            let same = (modes.0, &tenants.0, &keys.0) == (modes.1, &tenants.1, &keys.1);
            prop_assert_eq!(one.full() == two.full(), same);
            prop_assert_eq!(Place::from_full(one.full()), Some(one));
        }
    }
}
