//! A small pool of blocking connections: the one used last is the next to be used.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// At most `size` items, lent to one caller each.
pub(crate) struct Pool<T> {
    state: Mutex<State<T>>,
    freed: Condvar,
    size: usize,
}

struct State<T> {
    idle: Vec<T>,
    lent: usize,
    /// Counts the clearings; items lent before the last one do not come back.
    era: u64,
}

/// The right to use one of the pool's places, until dropped.
pub(crate) struct Place<'a, T> {
    pool: &'a Pool<T>,
    era: u64,
    returned: Option<T>,
}

impl<T> Pool<T> {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            state: Mutex::new(State {
                idle: Vec::new(),
                lent: 0,
                era: 0,
            }),
            freed: Condvar::new(),
            size,
        }
    }

    /// A place, with the idle item used last if there is one. None when all places stay taken
    /// until the deadline.
    pub(crate) fn take(&self, deadline: Instant) -> Option<(Place<'_, T>, Option<T>)> {
        let mut state = self.state.lock();
        while state.lent == self.size {
            if self.freed.wait_until(&mut state, deadline).timed_out() && state.lent == self.size {
                return None;
            }
        }
        state.lent += 1;
        let place = Place {
            pool: self,
            era: state.era,
            returned: None,
        };
        Some((place, state.idle.pop()))
    }

    /// A place with the idle item used last, if there are both at this moment.
    pub(crate) fn take_idle(&self) -> Option<(Place<'_, T>, T)> {
        let mut state = self.state.lock();
        if state.lent == self.size {
            return None;
        }
        let item = state.idle.pop()?;
        state.lent += 1;
        let place = Place {
            pool: self,
            era: state.era,
            returned: None,
        };
        Some((place, item))
    }

    /// Drops the idle items, and those that are lent when they come back.
    pub(crate) fn clear(&self) {
        let mut state = self.state.lock();
        state.era += 1;
        let dropped = std::mem::take(&mut state.idle);
        drop(state);
        drop(dropped);
    }

    /// How many items are idle and how many places are lent.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.idle.len(), state.lent)
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }
}

impl<T> Place<'_, T> {
    /// Gives the place back with an item that others may use.
    pub(crate) fn give_back(mut self, item: T) {
        self.returned = Some(item);
    }
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.lent -= 1;
        let mut outdated = self.returned.take();
        if self.era == state.era {
            state.idle.extend(outdated.take());
        }
        drop(state);
        self.pool.freed.notify_one();
        drop(outdated);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn the_last_used_item_is_used_next() {
        let pool = Pool::new(3);
        let (a, none) = pool.take(soon()).expect("a place");
        assert_eq!(none, None);
        let (b, _) = pool.take(soon()).expect("a place");
        a.give_back("a");
        b.give_back("b");
        let (place, item) = pool.take(soon()).expect("a place");
        assert_eq!(item, Some("b"));
        drop(place);
        assert_eq!(pool.take(soon()).expect("a place").1, Some("a"));
        assert_eq!(pool.take(soon()).expect("a place").1, None);
    }

    #[test]
    fn a_full_pool_makes_callers_wait_until_the_deadline() {
        let pool = Pool::<()>::new(1);
        let taken = pool.take(soon()).expect("a place");
        let deadline = Instant::now() + Duration::from_millis(30);
        assert!(pool.take(deadline).is_none());
        assert!(Instant::now() >= deadline);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| pool.take(soon()).is_some());
            drop(taken);
            assert!(waiter.join().expect("no panic"));
        });
    }

    #[test]
    fn cleared_items_do_not_come_back() {
        let pool = Pool::new(2);
        let (a, _) = pool.take(soon()).expect("a place");
        pool.take(soon()).expect("a place").0.give_back(1);
        pool.clear();
        a.give_back(2);
        assert_eq!(pool.take(soon()).expect("a place").1, None);
    }
}
