//! One decorated function: its options, its engine and the backend that was found for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use cachekit::{
    clearing::Clearing,
    clock::COARSE_STEP,
    encryption::{Sealer, SecurityReport},
    shared::Shared,
    store::Store,
    telling::Told,
};
use cachekit_engine::{
    fill::{FillPolicy, LockPolicy},
    function::{Function, KEY_PREFIX},
    l1::Entry,
    time::{Clock, Tick},
    waits::{Caller, FlightId, ThreadKey},
};
use cachekit_wire::keys::{self, KeyPrefix};
use parking_lot::Mutex;
use pyo3::{
    exceptions::PyValueError,
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyTuple},
};

use crate::{
    answer::DISABLED,
    backend::{self, Resolved},
    clock::CLOCK,
    codec::{ArgPolicy, Scope},
    log::log,
    namespace::{self, Namespace},
    options::{Options, Settings, Ttl},
    outcall,
    value::{Delivered, Kept},
};

/// How long a distributed lock's lease lasts unless it is renewed: what a dead holder costs.
const LEASE: Duration = Duration::from_secs(3);
/// What one call may spend on the shared layer when its backend names no timeout.
pub(crate) const BUDGET: Duration = Duration::from_secs(1);

/// The engine of one decorated function.
#[pyclass(frozen, weakref, module = "cachekit._native")]
pub(crate) struct Core {
    pub(crate) func: Py<PyAny>,
    pub(crate) options: Options,
    pub(crate) function: Function<Kept, Delivered>,
    pub(crate) args: ArgPolicy,
    pub(crate) namespace: Arc<Namespace>,
    keys: KeyPrefix,
    clearing: Clearing,
    resolved: Mutex<Option<Resolved>>,
    told: Told,
    warned: AtomicU32,
    /// What was refused for want of trust.
    pub(crate) security: SecurityReport,
}

/// What a function warns about once.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub(crate) enum Once {
    Unkeyable = 1,
    Unencodable = 2,
    TooLarge = 4,
    LocalOnly = 8,
    LocalKey = 16,
    Unusable = 32,
    Newer = 64,
    TtlFunction = 128,
    Altered = 256,
    Uncopyable = 512,
    Unresolved = 1024,
    NoLoop = 2048,
    Untold = 4096,
    NoTenant = 8192,
    Drift = 16384,
}

impl Core {
    pub(crate) fn create(func: Py<PyAny>, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let py = options.py();
        let options = Options::from_dict(options)?;
        let name = options.namespace.as_deref();
        let namespace = namespace::get(name.unwrap_or("default"), options.l1_max_bytes);
        let keys = KeyPrefix::new(name, &options.module, &options.qualname);
        Ok(Self {
            func,
            function: Function::new(options.l1.then(|| Arc::clone(&namespace.l1))),
            args: ArgPolicy::new(
                py,
                options.parameters.clone(),
                options.method,
                &options.ignore,
            ),
            clearing: clearing(&options, &keys),
            keys,
            namespace,
            resolved: Mutex::new(None),
            told: Told::default(),
            warned: AtomicU32::new(0),
            security: SecurityReport::default(),
            options,
        })
    }

    /// The function's name for logs.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.options.module, self.options.qualname)
    }

    /// Logs a warning about this function, the first time for each kind.
    pub(crate) fn warn_once(&self, py: Python<'_>, kind: Once, message: impl FnOnce() -> String) {
        if self.warned.fetch_or(kind as u32, Ordering::Relaxed) & kind as u32 == 0 {
            log(
                py,
                "warning",
                "decorator",
                &format!("{}: {}", self.name(), message()),
            );
        }
    }

    /// Lets the next [`warn_once`](Self::warn_once) of this kind speak again.
    pub(crate) fn warn_again(&self, kind: Once) {
        self.warned.fetch_and(!(kind as u32), Ordering::Relaxed);
    }

    /// Whether a call that is not answered from L1 is to run uncached. Until the settings were read, which
    /// the first such call does, [`DISABLED`] does not tell.
    ///
    /// # Errors
    /// `ConfigurationError` for a variable with a wrong value.
    pub(crate) fn is_disabled(&self, py: Python<'_>) -> PyResult<bool> {
        static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let known = self.resolved.lock().is_some();
        if !known {
            CURRENT
                .import(py, "cachekit.config.effective", "current")?
                .call0()?;
        }
        Ok(DISABLED.load(Ordering::Relaxed))
    }

    /// The backend, found at first use. `None` is L1 only.
    ///
    /// # Errors
    /// What the Python face raises about a wrong configuration.
    pub(crate) fn resolve(&self, py: Python<'_>) -> PyResult<Resolved> {
        let resolved = self.find_backend(py)?;
        if let Some(interop) = &self.options.interop {
            // A backend's prefix may have been set since the last call.
            interop.check.call1(py, (resolved.tenant(),))?;
        }
        Ok(resolved)
    }

    fn find_backend(&self, py: Python<'_>) -> PyResult<Resolved> {
        if let Some(resolved) = &*self.resolved.lock() {
            let store = resolved.store.as_ref();
            if let Some(tally) = store.and_then(|store| store.backend().tally()) {
                self.told.tell(tally, &self.function.stats.snapshot());
            }
            return Ok(resolved.clone());
        }
        let settings = self.options.settings(py)?;
        if settings.l1_max_bytes > self.namespace.l1.capacity() {
            drop(self.namespace.l1.set_capacity(settings.l1_max_bytes));
        }
        let found = match self.options.resolve_backend.call0(py) {
            Ok(found) => found,
            Err(error) if crate::is_configuration_error(py, &error) => return Err(error),
            Err(error) => {
                // Not the caller's doing: without a shared layer this time, asked again next time.
                self.warn_once(py, Once::Unresolved, || {
                    format!("its backend cannot be made, so calls run with L1 only: {error}")
                });
                return Ok(Resolved::local(settings));
            }
        };
        let resolved = backend::resolve(found.bind(py), &self.namespace, &self.options, settings)?;
        if let (Some(_), Some(reason)) = (&resolved.store, &self.options.local_reason) {
            self.warn_once(py, Once::LocalOnly, || {
                format!(
                    "cached in this process only, because {reason}; \
                     pass namespace=, version= or key= to share its entries"
                )
            });
        }
        *self.resolved.lock() = Some(resolved.clone());
        Ok(resolved)
    }

    /// Whether an entry is still here to be refreshed: nobody asks for what was forgotten meanwhile.
    pub(crate) fn is_served(&self, l1_key: &[u8]) -> bool {
        self.function.peek(l1_key, CLOCK.coarse()).is_some()
    }

    /// Lets a later hit start a refresh again, where this one has left the entry as it was.
    pub(crate) fn end_refresh(&self, l1_key: &[u8]) {
        if let Some(entry) = self.function.peek(l1_key, CLOCK.coarse()) {
            entry.end_refresh();
        }
    }

    /// Makes the next call look for the backend anew, and forgets what came from the old one.
    pub(crate) fn reset_backend(&self) {
        *self.resolved.lock() = None;
        drop(self.function.clear());
    }

    pub(crate) fn after_fork(&self) {
        self.function.after_fork();
        // The parent's store is left alone: its locks and sockets are the parent's.
        std::mem::forget(self.resolved.lock().take());
    }

    /// Whether calls of this scope go to the shared layer.
    pub(crate) fn shared_store<'a>(
        &self,
        resolved: &'a Resolved,
        scope: Scope,
    ) -> Option<&'a Store> {
        let store = resolved.store.as_ref()?;
        (scope == Scope::Shared && self.options.local_reason.is_none()).then_some(store)
    }

    /// Says once that awaited calls run uncached, since the event loop cannot be told of results.
    pub(crate) fn warn_no_bridge(&self, py: Python<'_>, error: &PyErr) {
        self.warn_once(py, Once::NoLoop, || {
            format!("the event loop cannot be told of results, so this call runs uncached: {error}")
        });
    }

    /// Says once that calls which are keyed by an object's identity stay in this process.
    pub(crate) fn warn_if_local(&self, py: Python<'_>, resolved: &Resolved, scope: Scope) {
        if scope == Scope::Local && resolved.store.is_some() {
            self.warn_once(py, Once::LocalKey, || {
                "cached in this process only, because an argument is told apart by its identity; \
                 give its class a __cache_key__() method, or pass key="
                    .to_owned()
            });
        }
    }

    /// The protocol's key for an L1 key: without a tenant.
    pub(crate) fn protocol_key(&self, l1_key: &[u8]) -> String {
        let (_, args) = self.tenant_and_args(l1_key);
        if self.options.key.is_some() {
            let text = String::from_utf8_lossy(args); // It was a str: valid UTF-8.
            return keys::custom_key(self.options.namespace.as_deref(), &text);
        }
        if let Some(interop) = &self.options.interop {
            return interop.known.operation().key(args);
        }
        let payload = &self.options.payload;
        self.keys.key(args, payload.integrity, payload.code())
    }

    /// The entry of the shared layer for an L1 key.
    pub(crate) fn shared(&self, resolved: &Resolved, store: &Store, l1_key: &[u8]) -> Shared {
        let key = self.protocol_key(l1_key);
        let tenant = self.tenant(l1_key).or(resolved.tenant());
        Shared::new(store.clone(), tenant, key, self.clearing(resolved))
    }

    /// The key of the entry in the shared layer for an L1 key.
    pub(crate) fn stored_key(&self, resolved: &Resolved, l1_key: &[u8]) -> String {
        let key = self.protocol_key(l1_key);
        match self.tenant(l1_key).or(resolved.tenant()) {
            Some(tenant) => keys::tenant_key(tenant, &key),
            None => key,
        }
    }

    /// The tenant of a call, where calls have tenants, and what follows it in the L1 key.
    fn tenant_and_args<'k>(&self, l1_key: &'k [u8]) -> (Option<&'k str>, &'k [u8]) {
        let rest = &l1_key[KEY_PREFIX..];
        if self.options.tenant.is_none() {
            return (None, rest);
        }
        let (len, rest) = rest.split_at(2);
        let (tenant, args) = rest.split_at(usize::from(u16::from_be_bytes([len[0], len[1]])));
        let tenant = std::str::from_utf8(tenant).expect("it was written as a str");
        (Some(tenant), args)
    }

    fn tenant<'k>(&self, l1_key: &'k [u8]) -> Option<&'k str> {
        self.tenant_and_args(l1_key).0
    }

    /// The encryption of the entry for an L1 key, where there is a key to encrypt with.
    pub(crate) fn sealer(
        &self,
        settings: &Settings,
        shared: Option<&Shared>,
        l1_key: &[u8],
    ) -> Option<Sealer> {
        let secure = settings.secure.as_ref()?;
        let own = self.tenant(l1_key);
        let tenant = own.or(secure.tenant.as_deref())?;
        let key = match shared {
            // As published writers do, who put `default` before the key without being asked.
            Some(shared) if own.is_none() => shared.key().to_owned(),
            _ => self.protocol_key(l1_key),
        };
        let sealer = Sealer::new(&secure.encryption, tenant, key);
        Some(sealer.expect("tenants' names are checked where they come from"))
    }

    /// How this function's entries are cleared in the shared layer.
    pub(crate) fn clearing(&self, resolved: &Resolved) -> Clearing {
        match &self.clearing {
            Clearing::Item(key) if resolved.tenant().is_some() => {
                Clearing::Item(resolved.stored_key(key).into())
            }
            clearing => clearing.clone(),
        }
    }

    /// The store that was found, if a call has looked for one.
    pub(crate) fn resolved_store(&self) -> Option<Store> {
        self.resolved.lock().as_ref()?.store.clone()
    }

    pub(crate) fn fill_policy(&self, store: Option<&Store>, budget: Duration) -> FillPolicy {
        let lock =
            (self.options.lock && store.is_some_and(Store::has_lock)).then_some(LockPolicy {
                lease: LEASE,
                wait: self.options.lock_wait,
            });
        FillPolicy {
            shared: store.is_some(),
            lock,
            budget,
        }
    }

    /// How long a result lives; `None` is without end.
    ///
    /// # Errors
    /// What a `ttl=` function raises or returns wrongly.
    pub(crate) fn ttl(
        &self,
        settings: &Settings,
        result: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Duration>> {
        let Ttl::Computed(function) = &self.options.ttl else {
            return Ok(self.nominal_ttl(settings));
        };
        // The Python face wraps the user's function: it returns seconds or None.
        let seconds: Option<f64> =
            outcall::call1(function.bind(result.py()), (result,))?.extract()?;
        let life = seconds.map(Duration::try_from_secs_f64).transpose();
        life.map_err(|error| PyValueError::new_err(format!("{seconds:?} seconds: {error}")))
    }

    /// The configured life, for entries whose result is not at hand.
    pub(crate) fn nominal_ttl(&self, settings: &Settings) -> Option<Duration> {
        match &self.options.ttl {
            Ttl::For(ttl) => Some(settings.default_ttl.unwrap_or(*ttl)),
            Ttl::Forever | Ttl::Computed(_) => None,
        }
    }

    /// An L1 entry for `held` that lives for `life` from `from` on, of a `full` life of which the
    /// rest has passed.
    pub(crate) fn entry(
        &self,
        held: Kept,
        weight: u64,
        from: Tick,
        (life, full): (Option<Duration>, Option<Duration>),
        generation: u64,
    ) -> Entry<Kept> {
        let mut entry = Entry::new(held, weight);
        entry.generation = generation;
        if let Some(life) = life {
            // Hits are judged by the coarse clock, which may lag by its step.
            entry.expires = from.plus(life).minus(COARSE_STEP);
            if let Some(ratio) = self.options.swr_ratio {
                let full = full.map_or(life, |full| full.max(life));
                let due = full.mul_f64(ratio * jitter(from));
                if due < full {
                    // What another process stored a while ago ages from then on.
                    entry.refresh_at = from.plus(due.saturating_sub(full - life));
                }
            }
        }
        entry
    }
}

/// How the function's entries are cleared. Those of `key=` functions name no function, so all of a
/// namespace share their generation item.
fn clearing(options: &Options, keys: &KeyPrefix) -> Clearing {
    match (&options.interop, &options.key) {
        (Some(interop), _) => Clearing::Keys(Arc::clone(&interop.known)),
        (None, Some(_)) => {
            let shared = KeyPrefix::new(options.namespace.as_deref(), "", "");
            Clearing::Item(shared.generation_key().into())
        }
        (None, None) => Clearing::Item(keys.generation_key().into()),
    }
}

/// A factor between 0.9 and 1.1, so that entries stored together are not refreshed together.
fn jitter(seed: Tick) -> f64 {
    let mixed = seed.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    0.9 + 0.2 * (mixed as f64 / f64::from(1 << 24))
}

static LEADING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The context variable that lists the flights which the current context leads.
pub(crate) fn leading_var<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, PyAny>> {
    let var = LEADING.get_or_try_init(py, || {
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "default"), PyTuple::empty(py))?;
        py.import(intern!(py, "contextvars"))?
            .call_method(
                intern!(py, "ContextVar"),
                ("cachekit_leading",),
                Some(&kwargs),
            )
            .map(Bound::unbind)
    })?;
    Ok(var.bind(py))
}

/// The flights that the current context leads, outermost first.
pub(crate) fn leading(py: Python<'_>) -> PyResult<Vec<FlightId>> {
    let numbers: Bound<'_, PyTuple> = leading_var(py)?
        .call_method0(intern!(py, "get"))?
        .cast_into()?;
    numbers
        .iter()
        .map(|number| Ok(FlightId::from_number(number.extract()?)))
        .collect()
}

/// The current thread as a caller.
pub(crate) fn caller(blocking: bool, leading: &[FlightId]) -> Caller<'_> {
    Caller {
        thread: Some(ThreadKey::current()),
        blocking,
        leading,
    }
}

/// The precise time.
pub(crate) fn now() -> Tick {
    CLOCK.now()
}

impl Drop for Core {
    fn drop(&mut self) {
        // Entries of a function that is gone can never be hit again.
        drop(self.function.clear());
    }
}
