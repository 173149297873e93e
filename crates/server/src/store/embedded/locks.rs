//! The embedded store's locks. They live in memory: a restart releases them all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::super::{Lock, Place, Scope};

struct Lease {
    id: String,
    until: Instant,
    scope: Scope,
    /// Those who watch the lock see this go.
    watched: watch::Sender<()>,
}

/// The locks that are held.
#[derive(Default)]
pub(super) struct Locks(Mutex<Table>);

#[derive(Default)]
struct Table {
    leases: HashMap<Arc<str>, Lease>,
    held: HashMap<Scope, usize>,
}

impl Table {
    fn remove(&mut self, full: &str) -> Option<Lease> {
        let lease = self.leases.remove(full)?;
        let held = self
            .held
            .get_mut(&lease.scope)
            .expect("a held lock is counted");
        *held -= 1;
        if *held == 0 {
            self.held.remove(&lease.scope);
        }
        Some(lease)
    }

    /// The lease, if it lasts and `id` holds it.
    fn mine(&mut self, place: &Place, id: &str, now: Instant) -> Option<&mut Lease> {
        self.leases.get_mut(place.full()).filter(|lease| {
            lease.until > now && bool::from(lease.id.as_bytes().ct_eq(id.as_bytes()))
        })
    }
}

impl Locks {
    pub(super) fn take(
        &self,
        place: &Place,
        id: &str,
        lease: Duration,
        now: Instant,
        most: usize,
    ) -> Lock {
        let table = &mut *self.0.lock();
        match table.leases.get(place.full()) {
            Some(lease) if lease.until > now => return Lock::Held(lease.until - now),
            _ => drop(table.remove(place.full())),
        }
        let held = table.held.entry(place.scope().clone()).or_default();
        if *held >= most {
            return Lock::TooMany;
        }
        *held += 1;
        let lease = Lease {
            id: id.to_owned(),
            until: now + lease,
            scope: place.scope().clone(),
            watched: watch::Sender::default(),
        };
        table.leases.insert(place.full().clone(), lease);
        Lock::Acquired
    }

    pub(super) fn renew(&self, place: &Place, id: &str, lease: Duration, now: Instant) -> bool {
        match self.0.lock().mine(place, id, now) {
            Some(mine) => {
                mine.until = now + lease;
                true
            }
            None => false,
        }
    }

    pub(super) fn is_held(&self, place: &Place, id: &str, now: Instant) -> bool {
        self.0.lock().mine(place, id, now).is_some()
    }

    pub(super) fn release(&self, place: &Place, id: &str, now: Instant) -> bool {
        let mut table = self.0.lock();
        let mine = table.mine(place, id, now).is_some();
        if mine {
            table.remove(place.full());
        }
        mine
    }

    /// Ends the lock, whoever holds it; false if nobody does.
    pub(super) fn end(&self, place: &Place, now: Instant) -> bool {
        let ended = self.0.lock().remove(place.full());
        ended.is_some_and(|lease| lease.until > now)
    }

    /// The rest of the lease, and what goes when the lock is released; None if it is free.
    pub(super) fn watch(
        &self,
        place: &Place,
        now: Instant,
    ) -> Option<(Duration, watch::Receiver<()>)> {
        let table = self.0.lock();
        let lease = table.leases.get(place.full())?;
        let left = lease.until.checked_duration_since(now)?;
        (!left.is_zero()).then(|| (left, lease.watched.subscribe()))
    }

    /// Forgets the leases that have ended.
    pub(super) fn sweep(&self, now: Instant) {
        let mut table = self.0.lock();
        let ended: Vec<Arc<str>> = table
            .leases
            .iter()
            .filter(|(_, lease)| lease.until <= now)
            .map(|(full, _)| full.clone())
            .collect();
        for full in ended {
            table.remove(&full);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().leases.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Mode;

    const LEASE: Duration = Duration::from_secs(10);

    #[test]
    fn one_holds_it_until_the_lease_ends() {
        let locks = Locks::default();
        let place = Place::new(&Scope::new(Mode::Live, "t"), "a");
        let start = Instant::now();
        assert_eq!(locks.take(&place, "one", LEASE, start, 9), Lock::Acquired);
        assert_eq!(
            locks.take(&place, "two", LEASE, start, 9),
            Lock::Held(LEASE)
        );
        assert!(!locks.release(&place, "two", start));
        assert!(locks.renew(&place, "one", LEASE, start + LEASE / 2));
        assert_eq!(
            locks.take(&place, "two", LEASE, start + LEASE, 9),
            Lock::Held(LEASE / 2)
        );
        let later = start + LEASE * 2;
        assert!(!locks.renew(&place, "one", LEASE, later));
        assert!(!locks.release(&place, "one", later));
        assert_eq!(locks.take(&place, "two", LEASE, later, 9), Lock::Acquired);
        assert!(locks.release(&place, "two", later));
        assert_eq!(locks.len(), 0);
    }

    #[test]
    fn a_scope_holds_so_many_and_sweeping_frees_them() {
        let locks = Locks::default();
        let scope = Scope::new(Mode::Live, "t");
        let now = Instant::now();
        let take = |key: &str, now| locks.take(&Place::new(&scope, key), "id", LEASE, now, 2);
        assert_eq!(take("a", now), Lock::Acquired);
        assert_eq!(take("b", now), Lock::Acquired);
        assert_eq!(take("c", now), Lock::TooMany);
        let other = Place::new(&Scope::new(Mode::Test, "t"), "c");
        assert_eq!(locks.take(&other, "id", LEASE, now, 2), Lock::Acquired);
        locks.sweep(now + LEASE);
        assert_eq!(locks.len(), 0);
        assert_eq!(take("c", now + LEASE), Lock::Acquired);
    }
}
