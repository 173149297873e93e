//! What the functions of one namespace share: an L1 and, per backend, the guards.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use cachekit::store::{GuardConfig, Guards, Store};
use cachekit_backends::Backend;
use cachekit_engine::l1::{Ceiling, L1};
use parking_lot::Mutex;

use crate::{clock::ProcessClock, codec::Held};

/// The shared state of one namespace.
pub(crate) struct Namespace {
    /// Its L1. One shard: with the GIL there is no contention, and a large value may fill it all.
    pub(crate) l1: Arc<L1<Held>>,
    guards: Mutex<Vec<Guarded>>,
}

/// A backend and what stands before it in one namespace.
type Guarded = (Arc<dyn Backend>, Arc<Guards>);

static NAMESPACES: LazyLock<Mutex<HashMap<String, Arc<Namespace>>>> = LazyLock::new(Mutex::default);
static CEILING: LazyLock<Arc<Ceiling>> = LazyLock::new(|| Arc::new(Ceiling::new(u64::MAX)));

/// The namespace of that name, with room for at least `l1_bytes`.
pub(crate) fn get(name: &str, l1_bytes: u64) -> Arc<Namespace> {
    let mut all = NAMESPACES.lock();
    if let Some(namespace) = all.get(name) {
        let namespace = Arc::clone(namespace);
        drop(all);
        if l1_bytes > namespace.l1.capacity() {
            drop(namespace.l1.set_capacity(l1_bytes));
        }
        return namespace;
    }
    let namespace = Arc::new(Namespace {
        l1: Arc::new(L1::with_ceiling(l1_bytes, 1, Arc::clone(&CEILING))),
        guards: Mutex::default(),
    });
    all.insert(name.to_owned(), Arc::clone(&namespace));
    namespace
}

/// Limits the L1s of this process together.
pub(crate) fn set_ceiling(bytes: u64) {
    CEILING.set_limit(bytes);
}

impl Namespace {
    /// `backend` behind this namespace's guards for it. The first function's `config` holds.
    pub(crate) fn store(&self, backend: Arc<dyn Backend>, config: &GuardConfig) -> Store {
        let mut all = self.guards.lock();
        let known = all.iter().find(|(known, _)| Arc::ptr_eq(known, &backend));
        let guards = match known {
            Some((_, guards)) => Arc::clone(guards),
            None => {
                let guards = Arc::new(Guards::new(config.clone(), Arc::new(ProcessClock)));
                all.push((Arc::clone(&backend), Arc::clone(&guards)));
                guards
            }
        };
        Store::new(backend, guards)
    }
}

/// Forgets the guards of a parent process: a thread of it may have held a lock in one at the fork.
pub(crate) fn after_fork() {
    for namespace in NAMESPACES.lock().values() {
        std::mem::forget(std::mem::take(&mut *namespace.guards.lock()));
    }
}
