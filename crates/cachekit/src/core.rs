//! What the clones of a cache share.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use cachekit_engine::{
    fill::{FillPolicy, LockPolicy},
    l1::{Ceiling, Entry, L1},
    time::{Clock, Tick},
};
use cachekit_wire::interop::Operation;
use parking_lot::Mutex;

use crate::{
    clock::{COARSE_STEP, SystemClock},
    encryption::{DEFAULT_TENANT, Encryption, Sealer, SecurityReport},
    guards::Event,
    payload::PayloadPolicy,
    runtime,
    scope::{Common, Scope},
    shared::Shared,
    store::Store,
    value::Held,
};

/// How long a distributed lock's lease lasts unless it is renewed: what a dead holder costs.
const LEASE: Duration = Duration::from_secs(3);
/// A shard of L1 holds at least this much, since no entry can be larger than its shard.
const LEAST_SHARD: u64 = 16 << 20;

/// What the L1s of all caches of this process may hold together.
static CEILING: LazyLock<Arc<Ceiling>> = LazyLock::new(|| Arc::new(Ceiling::new(u64::MAX)));

/// The precise time.
pub(crate) fn now() -> Tick {
    SystemClock.now()
}

/// What the builder decided.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) namespace: Option<String>,
    pub(crate) tenant: Option<String>,
    /// Whether `tenant` was chosen, so that no other's entries may be read.
    pub(crate) own_tenant: bool,
    pub(crate) encryption: Option<Encryption>,
    /// Whose keys encrypt, where it is not `tenant`.
    pub(crate) deployment: Option<String>,
    /// The life of entries; `None` is without end.
    pub(crate) ttl: Option<Duration>,
    /// `None`: nothing is kept in the process.
    pub(crate) l1_bytes: Option<u64>,
    /// The limit of all caches of the process together; `None` leaves it as it is.
    pub(crate) l1_total_bytes: Option<u64>,
    pub(crate) payload: PayloadPolicy,
    pub(crate) max_value_bytes: u64,
    pub(crate) lock: bool,
    pub(crate) lock_wait: Duration,
    /// What one call may spend on the shared layer.
    pub(crate) timeout: Duration,
    /// Nothing is cached at all.
    pub(crate) disabled: bool,
}

impl Settings {
    /// The tenant whose keys encrypt.
    pub(crate) fn key_tenant(&self) -> &str {
        let named = self.deployment.as_deref().or(self.tenant.as_deref());
        named.unwrap_or(DEFAULT_TENANT)
    }

    /// Whether values are kept as ciphertext only.
    pub(crate) fn encrypts(&self) -> bool {
        self.encryption
            .as_ref()
            .is_some_and(|encryption| encryption.encrypts)
    }
}

/// What is cached: a function by module and name, or an interop operation.
#[derive(PartialEq, Eq, Hash)]
enum Name {
    Function(Box<str>, Box<str>),
    Operation(Operation),
}

/// The shared state of a cache.
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) l1: Option<Arc<L1<Held>>>,
    pub(crate) store: Option<Store>,
    pub(crate) security: SecurityReport,
    /// The entries that are named by text.
    pub(crate) texts: Arc<Scope>,
    functions: Mutex<HashMap<Name, Arc<Scope>>>,
}

impl Core {
    pub(crate) fn new(settings: Settings, store: Option<Store>) -> Self {
        if let Some(limit) = settings.l1_total_bytes {
            CEILING.set_limit(limit);
        }
        let l1 = settings.l1_bytes.map(|bytes| Arc::new(sharded(bytes)));
        let texts = Arc::new(Scope::of_text(&common(&settings, l1.as_ref())));
        Self {
            settings,
            l1,
            store,
            security: SecurityReport::default(),
            texts,
            functions: Mutex::default(),
        }
    }

    /// The entries of one function; the same for every caller that names it.
    pub(crate) fn function(&self, module: &str, name: &str) -> Arc<Scope> {
        let mut functions = self.functions.lock();
        let scope = functions
            .entry(Name::Function(module.into(), name.into()))
            .or_insert_with(|| {
                let common = common(&self.settings, self.l1.as_ref());
                Arc::new(Scope::of_function(&common, module, name))
            });
        Arc::clone(scope)
    }

    /// The entries of an interop operation; the same for every caller that names it.
    pub(crate) fn operation(&self, operation: Operation) -> Arc<Scope> {
        let mut functions = self.functions.lock();
        let scope = functions
            .entry(Name::Operation(operation.clone()))
            .or_insert_with(|| {
                let common = common(&self.settings, self.l1.as_ref());
                Arc::new(Scope::of_operation(&common, operation))
            });
        Arc::clone(scope)
    }

    /// Every scope that was used so far.
    pub(crate) fn scopes(&self) -> Vec<Arc<Scope>> {
        let functions = self.functions.lock();
        std::iter::once(&self.texts)
            .chain(functions.values())
            .map(Arc::clone)
            .collect()
    }

    /// The entry of the shared layer for an L1 key, where there is a shared layer.
    pub(crate) fn shared(&self, scope: &Scope, l1_key: &[u8]) -> Option<Shared> {
        let store = self.store.as_ref()?;
        if let Some(tally) = store.backend().tally() {
            scope.told.tell(tally, &scope.function.stats.snapshot());
        }
        let key = scope.protocol_key(l1_key);
        let tenant = self.settings.tenant.as_deref();
        let clearing = scope.clearing.clone();
        Some(Shared::new(store.clone(), tenant, key, clearing))
    }

    /// The encryption of the entry for an L1 key, where there is a key to encrypt with.
    pub(crate) fn sealer(&self, scope: &Scope, l1_key: &[u8]) -> Option<Sealer> {
        let encryption = self.settings.encryption.as_ref()?;
        let key = match self.settings.own_tenant {
            true => scope.protocol_key(l1_key),
            // As published writers do, who put `default` before the key without being asked.
            false => scope.stored_key(l1_key),
        };
        let sealer = Sealer::new(encryption, self.settings.key_tenant(), key);
        Some(sealer.expect("the builder has checked the tenant's name"))
    }

    pub(crate) fn fill_policy(&self) -> FillPolicy {
        let lockable = self.store.as_ref().is_some_and(Store::has_lock);
        FillPolicy {
            lock: (self.settings.lock && lockable).then_some(LockPolicy {
                lease: LEASE,
                wait: self.settings.lock_wait,
            }),
            ..self.read_policy()
        }
    }

    /// For reads that compute nothing.
    pub(crate) fn read_policy(&self) -> FillPolicy {
        FillPolicy {
            shared: self.store.is_some(),
            lock: None,
            budget: self.settings.timeout,
        }
    }

    /// Removes a stored entry without waiting for it.
    pub(crate) fn delete_behind(&self, shared: &Shared) {
        let (shared, budget) = (shared.clone(), self.settings.timeout);
        runtime::handle().spawn(async move {
            // The guards count a failure; the entry then lives until its TTL.
            let _ = shared
                .store()
                .delete_async(&[shared.key().to_owned()], budget)
                .await;
        });
    }

    /// Logs what the guards have seen.
    pub(crate) fn report(&self) {
        let Some(store) = &self.store else { return };
        let backend = store.backend().name();
        while let Some(event) = store.guards().next_event() {
            match event {
                Event::Down(error) => tracing::warn!(
                    target: "cachekit",
                    "{backend} is unavailable, functions run uncached until it is back: {error}"
                ),
                Event::Recovered { lasted, failures } => tracing::info!(
                    target: "cachekit",
                    "{backend} is back after {lasted:.1?}; {failures} operations failed"
                ),
            }
        }
    }
}

fn common<'a>(settings: &'a Settings, l1: Option<&'a Arc<L1<Held>>>) -> Common<'a> {
    Common {
        namespace: settings.namespace.as_deref(),
        tenant: settings.tenant.as_deref(),
        l1,
        payload: &settings.payload,
    }
}

fn sharded(bytes: u64) -> L1<Held> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let most = usize::try_from(bytes / LEAST_SHARD).unwrap_or(usize::MAX);
    L1::with_ceiling(bytes, most.clamp(1, threads * 4), Arc::clone(&CEILING))
}

/// An L1 entry that lives for `life` from `from` on.
pub(crate) fn entry(
    held: Held,
    from: Tick,
    life: Option<Duration>,
    generation: u64,
) -> Entry<Held> {
    let weight = held.weight();
    let mut entry = Entry::new(held, weight);
    entry.generation = generation;
    if let Some(life) = life {
        // Hits are judged by the coarse clock, which may lag by its step.
        entry.expires = from.plus(life).minus(COARSE_STEP);
    }
    entry
}
