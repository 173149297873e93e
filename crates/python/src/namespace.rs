//! What the functions of one namespace share: an L1 and, per backend, the guards.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Weak},
};

use cachekit::store::{GuardConfig, Guards, Store};
use cachekit_backends::Backend;
use cachekit_engine::{
    breaker::BreakerConfig,
    l1::{Ceiling, L1},
};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::{clock::ProcessClock, value::Kept};

/// The shared state of one namespace.
pub(crate) struct Namespace {
    /// Its L1. One shard: with the GIL there is no contention, and a large value may fill it all.
    pub(crate) l1: Arc<L1<Kept>>,
    guards: Mutex<Vec<Guarded>>,
}

/// A backend and what stands before it in one namespace, for as long as a function uses them.
struct Guarded {
    identity: Identity,
    backend: Weak<dyn Backend>,
    guards: Weak<Guards>,
    breaker: Option<BreakerConfig>,
    /// Whether somebody was told that another breaker is in force than theirs.
    told: bool,
}

/// What makes two backends one: the address of the engine's backend, or of the Python object that
/// is adapted. It belongs to nothing else for as long as the backend is alive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(usize);

impl Identity {
    /// Of one of the engine's own backends.
    pub(crate) fn of(backend: &Arc<dyn Backend>) -> Self {
        Self(Arc::as_ptr(backend).addr())
    }

    /// Of a Python object that the backend keeps alive.
    pub(crate) fn of_object(object: &Bound<'_, PyAny>) -> Self {
        Self(object.as_ptr().addr())
    }
}

/// A backend behind the guards of its namespace.
pub(crate) struct Guarding {
    pub(crate) store: Store,
    /// The breaker in force, where it is another than the one asked for and nobody was told yet.
    pub(crate) other_breaker: Option<Option<BreakerConfig>>,
}

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

/// How many backends the namespace of that name keeps guards of.
pub(crate) fn guarded(name: &str) -> usize {
    let namespace = NAMESPACES.lock().get(name).map(Arc::clone);
    namespace.map_or(0, |namespace| namespace.guards.lock().len())
}

/// The guards of the namespace of that name, those of each backend in use.
pub(crate) fn guards(name: &str) -> Vec<Arc<Guards>> {
    let namespace = NAMESPACES.lock().get(name).map(Arc::clone);
    let Some(namespace) = namespace else {
        return Vec::new();
    };
    let all = namespace.guards.lock();
    all.iter()
        .filter_map(|known| known.guards.upgrade())
        .collect()
}

/// Limits the L1s of this process together.
pub(crate) fn set_ceiling(bytes: u64) {
    CEILING.set_limit(bytes);
}

impl Namespace {
    /// `backend` behind this namespace's guards for it. The first function's `config` holds for as
    /// long as any function uses the backend in this namespace.
    pub(crate) fn store(
        &self,
        identity: Identity,
        backend: Arc<dyn Backend>,
        config: &GuardConfig,
    ) -> Guarding {
        let mut all = self.guards.lock();
        // No reference is dropped under the lock, since the last one of a backend runs foreign code:
        // what is left of the forgotten is memory alone.
        all.retain(|known| known.backend.strong_count() > 0 && known.guards.strong_count() > 0);
        let known = all
            .iter_mut()
            .find(|known| known.identity == identity)
            .and_then(|known| {
                // The guards first: where the backend is gone, they go here, and are memory alone.
                let guards = known.guards.upgrade()?;
                Some((known.backend.upgrade()?, guards, known))
            });
        if let Some((theirs, guards, known)) = known {
            let differs = known.breaker != config.breaker && !known.told;
            known.told |= differs;
            let breaker = known.breaker;
            drop(all);
            // The newly adapted twin goes when no lock is held.
            drop(backend);
            return Guarding {
                store: Store::new(theirs, guards),
                other_breaker: differs.then_some(breaker),
            };
        }
        let guards = Arc::new(Guards::new(config.clone(), Arc::new(ProcessClock)));
        all.push(Guarded {
            identity,
            backend: Arc::downgrade(&backend),
            guards: Arc::downgrade(&guards),
            breaker: config.breaker,
            told: false,
        });
        Guarding {
            store: Store::new(backend, guards),
            other_breaker: None,
        }
    }
}

/// Forgets the guards of a parent process: a thread of it may have held a lock in one at the fork.
pub(crate) fn after_fork() {
    for namespace in NAMESPACES.lock().values() {
        std::mem::forget(std::mem::take(&mut *namespace.guards.lock()));
    }
}
