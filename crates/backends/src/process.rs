//! State that does not survive a fork.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, OnceLock};

/// A number that tells a fork's child from its parent, for one look at memory: asking the kernel
/// for the process id is a system call each time.
///
/// It is counted up in the child by a handler of `pthread_atfork`. A child made by a bare `clone`
/// system call does not run such handlers, nor those of anybody else.
pub fn generation() -> u32 {
    static REGISTERED: Once = Once::new();
    static FORKS: AtomicU32 = AtomicU32::new(0);
    #[cfg(unix)]
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    REGISTERED.call_once(|| {
        #[cfg(unix)]
        // SAFETY: the handler only counts; it stays registered as long as the library is loaded,
        // which is as long as the process lives, since its threads are never ended.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        #[cfg(unix)]
        assert_eq!(
            failed, 0,
            "the handler's few bytes of memory were not to be had"
        );
    });
    FORKS.load(Ordering::Relaxed)
}

/// A value of which every process has its own: a fork's child gets a new one, and the parent's is
/// leaked there, neither used nor dropped, so that the parent's sockets stay whole.
///
/// Reading costs one look at memory. No lock is taken that a thread of the parent may have
/// held when the process forked.
pub(crate) struct PerProcess<T> {
    first: Entry<T>,
}

struct Entry<T> {
    generation: u32,
    /// Present until dropped.
    value: Option<T>,
    next: OnceLock<Box<Entry<T>>>,
}

impl<T> PerProcess<T> {
    /// This process's value is `value`.
    pub(crate) fn new(value: T) -> Self {
        Self {
            first: Entry::new(generation(), value),
        }
    }

    /// This process's value, made if this is a fork's child that asks for the first time.
    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &T {
        self.get_for(generation(), make)
    }

    fn get_for(&self, current: u32, make: impl FnOnce() -> T) -> &T {
        let mut last = &self.first;
        while let Some(next) = last.next.get() {
            last = next;
        }
        if last.generation != current {
            // Two threads may get here at once. Both then find the entry that was set first.
            let _ = last.next.set(Box::new(Entry::new(current, make())));
            last = last
                .next
                .get()
                .expect("it was set by this thread or another one");
        }
        last.value.as_ref().expect("a value is only taken by drop")
    }
}

impl<T> Entry<T> {
    fn new(generation: u32, value: T) -> Self {
        Self {
            generation,
            value: Some(value),
            next: OnceLock::new(),
        }
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        if self.generation != generation() {
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
        let other = generation() ^ 1;
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
