//! A backend of somebody else's, without futures and locks, and what happens between its operations.

mod common;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use cachekit::{
    backends::{Backend, BackendError, Capabilities, ErrorKind as Kind, Found, Health, Remaining},
    prelude::*,
};
use common::{built, eventually, run};

#[derive(Debug, Clone, PartialEq)]
struct Broken;

type Hook = Box<dyn FnOnce() + Send>;

/// Entries in a map.
#[derive(Default)]
struct Memory {
    entries: Mutex<HashMap<String, Vec<u8>>>,
    /// What to do before the next operation of that name on a key that begins so.
    hook: Mutex<Option<(&'static str, &'static str, Hook)>>,
    panics: Mutex<bool>,
}

impl Memory {
    fn before(
        &self,
        operation: &'static str,
        prefix: &'static str,
        hook: impl FnOnce() + Send + 'static,
    ) {
        *self.hook.lock().expect("no panic") = Some((operation, prefix, Box::new(hook)));
    }

    fn happen(&self, operation: &str, key: &str) {
        assert!(
            !*self.panics.lock().expect("no panic"),
            "a backend's defect"
        );
        let due = self
            .hook
            .lock()
            .expect("no panic")
            .take_if(|(name, prefix, _)| *name == operation && key.starts_with(*prefix));
        if let Some((_, _, hook)) = due {
            thread::spawn(hook).join().expect("no panic");
        }
    }

    fn holds(&self, key: &str) -> bool {
        self.entries.lock().expect("no panic").contains_key(key)
    }
}

impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.ttl = true;
        capabilities
    }

    fn get(&self, key: &str, _: bool, _: Duration) -> Result<Option<Found>, BackendError> {
        self.happen("get", key);
        let entries = self.entries.lock().expect("no panic");
        Ok(entries.get(key).map(|value| Found {
            value: value.clone().into(),
            remaining: Remaining::For(Duration::from_secs(60)),
        }))
    }

    fn set(
        &self,
        key: &str,
        value: &[u8],
        _: Option<Duration>,
        _: Duration,
    ) -> Result<(), BackendError> {
        self.happen("set", key);
        self.entries
            .lock()
            .expect("no panic")
            .insert(key.into(), value.into());
        Ok(())
    }

    fn delete(&self, key: &str, _: Duration) -> Result<bool, BackendError> {
        self.happen("delete", key);
        Ok(self.entries.lock().expect("no panic").remove(key).is_some())
    }

    fn exists(&self, key: &str, _: Duration) -> Result<bool, BackendError> {
        Ok(self.holds(key))
    }

    fn ttl(&self, _: &str, _: Duration) -> Result<Option<Remaining>, BackendError> {
        Ok(None)
    }

    fn expire(&self, _: &str, _: Duration, _: Duration) -> Result<bool, BackendError> {
        Ok(false)
    }

    fn health(&self, _: Duration) -> Result<Health, BackendError> {
        Err(BackendError::new(
            Kind::Permanent,
            "health",
            "not asked for here",
        ))
    }
}

fn cache(memory: &Arc<Memory>) -> Cache {
    built(Cache::builder().backend(memory.clone()).namespace("test"))
}

/// A task's and a thread's way to do the same.
fn both_ways(test: impl Fn(bool)) {
    test(true);
    test(false);
}

fn compute(cache: &Cache, blocking: bool, key: &str, value: u32) -> u32 {
    let got = match blocking {
        true => cache.get_or_compute_blocking(key, || Ok::<_, Broken>(value)),
        false => run(cache.get_or_compute(key, || async { Ok::<_, Broken>(value) })),
    };
    got.expect("it does not fail")
}

#[test]
fn five_blocking_operations_are_enough() {
    both_ways(|blocking| {
        let memory = Arc::new(Memory::default());
        let (one, other) = (cache(&memory), cache(&memory));
        assert_eq!(compute(&one, blocking, "k", 1), 1);
        assert_eq!(compute(&other, blocking, "k", 2), 1);
        if blocking {
            one.set_blocking("k", 3u32).expect("it works");
            assert_eq!(cache(&memory).get_blocking("k"), Some(3u32));
            one.invalidate_blocking("k").expect("it works");
            one.clear_blocking().expect("it works");
        } else {
            run(one.set("k", 3u32)).expect("it works");
            assert_eq!(run(cache(&memory).get("k")), Some(3u32));
            run(one.invalidate("k")).expect("it works");
            run(one.clear()).expect("it works");
        }
        assert!(!memory.holds("test:k"));
        assert_eq!(other.stats().l2_hits, 1);
    });
}

#[test]
fn an_invalidation_during_the_write_outlives_it() {
    both_ways(|blocking| {
        let memory = Arc::new(Memory::default());
        let cache = cache(&memory);
        let other = cache.clone();
        memory.before("set", "test:k", move || {
            other.invalidate_blocking("k").expect("it works");
        });
        assert_eq!(compute(&cache, blocking, "k", 1), 1);
        eventually("what was written is deleted", || !memory.holds("test:k"));
        assert_eq!(cache.get_blocking::<u32>("k"), None);
    });
}

#[test]
fn a_reader_between_cannot_bring_back_what_is_invalidated() {
    both_ways(|blocking| {
        let memory = Arc::new(Memory::default());
        let cache = cache(&memory);
        compute(&cache, blocking, "k", 1);
        let other = cache.clone();
        memory.before("delete", "test:k", move || {
            // L1 has forgotten it, the store has not yet.
            assert_eq!(other.get_blocking("k"), Some(1u32));
        });
        match blocking {
            true => cache.invalidate_blocking("k"),
            false => run(cache.invalidate("k")),
        }
        .expect("it works");
        assert_eq!(cache.get_blocking::<u32>("k"), None);
    });
}

#[test]
fn a_reader_between_cannot_bring_back_what_is_cleared() {
    both_ways(|blocking| {
        let memory = Arc::new(Memory::default());
        let cache = cache(&memory);
        compute(&cache, blocking, "k", 1);
        let other = cache.clone();
        memory.before("set", "ck:gen:", move || {
            assert_eq!(other.get_blocking("k"), Some(1u32));
        });
        match blocking {
            true => cache.clear_blocking(),
            false => run(cache.clear()),
        }
        .expect("it works");
        assert_eq!(cache.get_blocking::<u32>("k"), None);
    });
}

#[test]
fn who_comes_while_a_value_is_set_gets_that_value() {
    both_ways(|blocking| {
        let memory = Arc::new(Memory::default());
        let cache = cache(&memory);
        compute(&cache, blocking, "k", 1);
        let (started, waiting) = std::sync::mpsc::channel();
        let other = cache.clone();
        memory.before("set", "test:k", move || {
            thread::spawn(move || started.send(compute(&other, blocking, "k", 9)));
            thread::sleep(Duration::from_millis(50));
        });
        match blocking {
            true => cache.set_blocking("k", 2u32),
            false => run(cache.set("k", 2u32)),
        }
        .expect("it works");
        assert_eq!(waiting.recv().expect("it answers"), 2);
    });
}

#[test]
fn a_backend_that_panics_is_one_that_failed() {
    both_ways(|blocking| {
        let memory = Arc::new(Memory::default());
        let cache = cache(&memory);
        *memory.panics.lock().expect("no panic") = true;
        assert_eq!(compute(&cache, blocking, "k", 1), 1);
        assert_eq!(cache.get_blocking("k"), Some(1u32), "kept in memory");
        let error = match blocking {
            true => cache.invalidate_blocking("k"),
            false => run(cache.invalidate("k")),
        }
        .expect_err("it panics");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    });
}

#[test]
fn a_task_does_not_wait_for_a_backend_that_hangs() {
    let memory = Arc::new(Memory::default());
    let budget = Duration::from_millis(100);
    let cache = built(
        Cache::builder()
            .backend(memory.clone())
            .namespace("test")
            .timeout(budget)
            .breaker(None)
            .adaptive_timeout(None),
    );
    let (release, held) = std::sync::mpsc::channel::<()>();
    memory.before("get", "test:k", move || {
        held.recv().expect_err("nothing is sent");
    });
    let started = Instant::now();
    let got = run(cache.get_or_compute("k", || async { Ok::<_, Broken>(7u32) }));
    let took = started.elapsed();
    assert_eq!(got, Ok(7));
    assert!(took >= budget, "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(release);
}
