//! State that does not survive a fork.

use std::sync::OnceLock;

/// A value of which every process has its own: a fork's child gets a new one, and the parent's is
/// leaked there, neither used nor dropped, so that the parent's sockets stay whole.
///
/// Reading costs one look at the process id. No lock is taken that a thread of the parent may have
/// held when the process forked.
pub(crate) struct PerProcess<T> {
    first: Entry<T>,
}

struct Entry<T> {
    pid: u32,
    /// Present until dropped.
    value: Option<T>,
    next: OnceLock<Box<Entry<T>>>,
}

impl<T> PerProcess<T> {
    /// This process's value is `value`.
    pub(crate) fn new(value: T) -> Self {
        Self {
            first: Entry::new(std::process::id(), value),
        }
    }

    /// This process's value, made if this is a fork's child that asks for the first time.
    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &T {
        self.get_for(std::process::id(), make)
    }

    fn get_for(&self, pid: u32, make: impl FnOnce() -> T) -> &T {
        let mut last = &self.first;
        while let Some(next) = last.next.get() {
            last = next;
        }
        if last.pid != pid {
            // Two threads may get here at once. Both then find the entry that was set first.
            let _ = last.next.set(Box::new(Entry::new(pid, make())));
            last = last
                .next
                .get()
                .expect("it was set by this thread or another one");
        }
        last.value.as_ref().expect("a value is only taken by drop")
    }
}

impl<T> Entry<T> {
    fn new(pid: u32, value: T) -> Self {
        Self {
            pid,
            value: Some(value),
            next: OnceLock::new(),
        }
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            std::mem::forget(self.value.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn each_process_has_its_own_and_leaves_the_others_alone() {
        let (parents, childs) = (Arc::new(1), Arc::new(2));
        // Seen from a child: the first value belongs to another process.
        let other = std::process::id() ^ 1;
        let value = PerProcess {
            first: Entry::new(other, Arc::clone(&parents)),
        };
        assert_eq!(**value.get_for(other, || unreachable!("it exists")), 1);
        assert_eq!(**value.get(|| Arc::clone(&childs)), 2);
        assert_eq!(**value.get(|| unreachable!("it exists")), 2);
        drop(value);
        assert_eq!(Arc::strong_count(&parents), 2, "leaked");
        assert_eq!(Arc::strong_count(&childs), 1, "dropped");
    }
}
