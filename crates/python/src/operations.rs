//! What is asked of a cached function beside calling it: forget, look, count, report.

use std::{sync::Arc, time::UNIX_EPOCH};

use cachekit::{
    encryption::{Refusal, Tier},
    shared,
    store::{Store, Unavailable},
};
use cachekit_engine::{stats::StatsSnapshot, time::Clock};
use parking_lot::Mutex;
use pyo3::{
    intern,
    prelude::*,
    types::{PyCFunction, PyDict, PyList, PyTuple},
};

use crate::{
    async_call::{AsyncCall, Purpose},
    backend::Resolved,
    bridge::LoopBridge,
    clock::CLOCK,
    codec::{KeyBuf, Scope},
    core::{Core, Once, now},
    health, log, outcall,
    plan::{Laid, Plan, Reason, plan, plan_or},
    value::hand_out,
};

/// How an entry of this process is forgotten.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It is gone.
    Hard,
    /// It is served until one refresh, begun by the next call, has replaced it.
    Soft,
}

/// What was forgotten in this process.
enum Forgotten {
    /// Calls, by their L1 keys.
    Calls(Vec<Box<[u8]>>, Way),
    /// All of the function's.
    Everything(Way),
}

impl Core {
    /// The L1 key of a call; `None` when it has none.
    fn l1_key(
        this: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> PyResult<Option<(KeyBuf, Scope)>> {
        Self::l1_key_or(Reason::Logged, this, args, kwargs)
    }

    fn l1_key_or(
        reason: Reason,
        this: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> PyResult<Option<(KeyBuf, Scope)>> {
        let laid = Laid::new(args, kwargs)?;
        let mut key = KeyBuf::new();
        match plan_or(reason, this.py(), this, laid.raw(), &mut key)? {
            Plan::Cached(scope) => Ok(Some((key, scope))),
            Plan::Uncached | Plan::Bypass | Plan::Plainly => Ok(None),
        }
    }

    /// Forgets calls in this process; returns their keys here and in the shared layer.
    fn forget_here(
        this: &Bound<'_, Self>,
        resolved: &Resolved,
        calls: &Bound<'_, PyList>,
        soft: bool,
    ) -> PyResult<(Forgotten, Vec<String>)> {
        let core = this.get();
        let way = core.way(soft);
        let mut forgotten = Vec::new();
        let mut stored = Vec::new();
        for call in calls.iter() {
            let (args, kwargs): (Bound<'_, PyTuple>, Bound<'_, PyDict>) = call.extract()?;
            // These are all the ways to write one call, which not all can be made: `self` goes by position.
            let keyed = Self::l1_key_or(Reason::Dropped, this, &args, &kwargs)?;
            let Some((key, scope)) = keyed else { continue };
            core.forget_key(key.as_slice(), way);
            if core.shared_store(resolved, scope).is_some() {
                stored.push(core.stored_key(resolved, key.as_slice()));
                forgotten.push(key.as_slice().into());
            }
        }
        Ok((Forgotten::Calls(forgotten, way), stored))
    }

    /// Says that the shared layer was not told to forget, once until it is told something again.
    pub(crate) fn note_told(&self, py: Python<'_>, store: &Store, told: Result<(), Unavailable>) {
        log::events(py, store.guards(), store.backend().name());
        match told {
            Ok(()) => self.warn_again(Once::Untold),
            Err(error) => self.warn_once(py, Once::Untold, || {
                format!(
                    "invalidated in this process only, {} could not be told ({error}); \
                     what it holds lives until its TTL",
                    store.backend().name()
                )
            }),
        }
    }

    /// Keeps the fills that run in this process out of the cache; returns their keys in the shared
    /// layer, so that nobody waits for the locks that they hold there.
    fn doom_fills(&self, resolved: &Resolved) -> Vec<String> {
        let keys = self.function.doom_fills();
        keys.iter()
            .map(|key| self.stored_key(resolved, key))
            .collect()
    }

    /// How to forget: what no refresh would ever replace is not served on.
    fn way(&self, soft: bool) -> Way {
        match soft && self.options.swr_ratio.is_some() {
            true => Way::Soft,
            false => Way::Hard,
        }
    }

    fn forget_key(&self, key: &[u8], way: Way) {
        match way {
            Way::Hard => drop(self.function.invalidate(key)),
            Way::Soft => self.function.soften(key),
        }
    }

    fn forget_all(&self, way: Way) {
        match way {
            Way::Hard => drop(self.function.clear()),
            Way::Soft => self.function.soften_all(),
        }
    }

    /// Forgets again, once the shared layer has: a call in between may have read there what was about
    /// to go, and kept it.
    fn forget_again(&self, forgotten: &Forgotten) {
        match forgotten {
            Forgotten::Calls(keys, way) => {
                for key in keys {
                    self.forget_key(key, *way);
                }
            }
            Forgotten::Everything(way) => self.forget_all(*way),
        }
    }

    /// Tells the shared layer to forget, on the I/O thread. The returned future is done when it is
    /// told; whether or not anybody awaits it or it is cancelled, a failure is said.
    fn tell(
        this: &Bound<'_, Self>,
        forgotten: Forgotten,
        telling: Option<(
            Store,
            impl Future<Output = Result<(), Unavailable>> + Send + 'static,
        )>,
    ) -> PyResult<Py<PyAny>> {
        let py = this.py();
        let Some((store, operation)) = telling else {
            return Ok(LoopBridge::submit(py, std::future::ready(()))?.0);
        };
        let told = Arc::new(Mutex::new(None));
        let theirs = Arc::clone(&told);
        let operation = async move {
            let result = operation.await;
            *theirs.lock() = Some(result);
        };
        // The caller gets a future of its own: cancelling it must not cut this short.
        let (ended, _) = LoopBridge::submit(py, operation)?;
        let future = ended
            .call_method0(py, intern!(py, "get_loop"))?
            .call_method0(py, intern!(py, "create_future"))?;
        let core = this.clone().unbind();
        let outer = future.clone_ref(py);
        let note = PyCFunction::new_closure(py, None, None, move |args, _| -> PyResult<()> {
            let py = args.py();
            core.get().forget_again(&forgotten);
            if let Some(result) = told.lock().take() {
                core.get().note_told(py, &store, result);
            }
            if !outer.call_method0(py, intern!(py, "done"))?.is_truthy(py)? {
                outer.call_method1(py, intern!(py, "set_result"), (py.None(),))?;
            }
            Ok(())
        })?;
        ended.call_method1(py, intern!(py, "add_done_callback"), (note,))?;
        Ok(future)
    }
}

#[pymethods]
impl Core {
    /// The value in L1 for a call, as a hit would hand it out, without counting one; else None.
    #[pyo3(name = "_lookup")]
    fn lookup_call(
        this: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let Some((key, _)) = Self::l1_key(this, args, kwargs)? else {
            return Ok(None);
        };
        match this.get().function.peek(key.as_slice(), CLOCK.coarse()) {
            Some(entry) => hand_out(this.py(), this.get(), &entry.value).map(Some),
            None => Ok(None),
        }
    }

    /// The key of a call's entry in the backend.
    #[pyo3(name = "_key_for")]
    fn key_for(
        this: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> PyResult<String> {
        let laid = Laid::new(args, kwargs)?;
        let mut key = KeyBuf::new();
        match plan(this.py(), this, laid.raw(), &mut key)? {
            Plan::Cached(_) => {
                let resolved = this.get().resolve(this.py())?;
                Ok(this.get().stored_key(&resolved, key.as_slice()))
            }
            Plan::Uncached | Plan::Bypass | Plan::Plainly => {
                Err(pyo3::exceptions::PyTypeError::new_err(
                    "this call has no key: it runs uncached, and the log says why",
                ))
            }
        }
    }

    /// Forgets calls in both layers.
    #[pyo3(name = "_invalidate")]
    fn invalidate(this: &Bound<'_, Self>, calls: &Bound<'_, PyList>, soft: bool) -> PyResult<()> {
        let py = this.py();
        let resolved = this.get().resolve(py)?;
        let (forgotten, stored) = Self::forget_here(this, &resolved, calls, soft)?;
        let Some(store) = resolved.store.as_ref().filter(|_| !stored.is_empty()) else {
            return Ok(());
        };
        let keys: Vec<&str> = stored.iter().map(String::as_str).collect();
        let told = py.detach(|| store.forget(&keys, resolved.budget));
        this.get().forget_again(&forgotten);
        this.get().note_told(py, store, told);
        Ok(())
    }

    /// As `_invalidate`, awaitable; it starts at once.
    #[pyo3(name = "_ainvalidate")]
    fn ainvalidate(
        this: &Bound<'_, Self>,
        calls: &Bound<'_, PyList>,
        soft: bool,
    ) -> PyResult<Py<PyAny>> {
        let py = this.py();
        let resolved = this.get().resolve(py)?;
        let (forgotten, stored) = Self::forget_here(this, &resolved, calls, soft)?;
        let store = resolved.store.filter(|_| !stored.is_empty());
        let telling = store.map(|store| {
            let theirs = store.clone();
            let telling = async move { theirs.forget_async(&stored, resolved.budget).await };
            (store, telling)
        });
        Self::tell(this, forgotten, telling)
    }

    /// Forgets every call, and unless `soft` the statistics.
    #[pyo3(name = "_clear")]
    fn clear(this: &Bound<'_, Self>, soft: bool) -> PyResult<()> {
        let py = this.py();
        let core = this.get();
        let way = core.way(soft);
        core.forget_all(way);
        if !soft {
            core.function.stats.reset();
        }
        let resolved = core.resolve(py)?;
        let fills = core.doom_fills(&resolved);
        let Some(store) = core.shared_store(&resolved, Scope::Shared) else {
            return Ok(());
        };
        let clearing = core.clearing(&resolved);
        let told = py.detach(|| {
            shared::clear(store, &clearing, resolved.budget)?;
            let fills: Vec<&str> = fills.iter().map(String::as_str).collect();
            store.forget(&fills, resolved.budget)
        });
        core.forget_again(&Forgotten::Everything(way));
        core.note_told(py, store, told);
        Ok(())
    }

    /// As `_clear`, awaitable; it starts at once.
    #[pyo3(name = "_aclear")]
    fn aclear(this: &Bound<'_, Self>, soft: bool) -> PyResult<Py<PyAny>> {
        let py = this.py();
        let core = this.get();
        let way = core.way(soft);
        core.forget_all(way);
        if !soft {
            core.function.stats.reset();
        }
        let resolved = core.resolve(py)?;
        let clearing = core.clearing(&resolved);
        let fills = core.doom_fills(&resolved);
        let store = core.shared_store(&resolved, Scope::Shared).cloned();
        let telling = store.map(|store| {
            let theirs = store.clone();
            let telling = async move {
                shared::clear_async(&theirs, &clearing, resolved.budget).await?;
                theirs.forget_async(&fills, resolved.budget).await
            };
            (store, telling)
        });
        Self::tell(this, Forgotten::Everything(way), telling)
    }

    /// hits, misses, L1 hits, L2 hits, maxsize, currsize, mean L2 latency in ms, time of the last
    /// operation, session.
    #[pyo3(name = "_info")]
    #[allow(
        clippy::type_complexity,
        reason = "one row of numbers for a NamedTuple"
    )]
    fn info(
        &self,
    ) -> (
        u64,
        u64,
        u64,
        u64,
        Option<u64>,
        Option<usize>,
        f64,
        Option<f64>,
        Option<String>,
    ) {
        let stats: StatsSnapshot = self.function.stats.snapshot();
        let last = stats.last_operation.map(|tick| {
            let ago = now().since(tick);
            let wall = CLOCK.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
            wall.saturating_sub(ago).as_secs_f64()
        });
        (
            stats.hits(),
            stats.misses,
            stats.l1_hits,
            stats.l2_hits,
            None,
            self.options.l1.then(|| self.function.len()),
            stats.l2_average_latency().as_secs_f64() * 1e3,
            last,
            None,
        )
    }

    /// What the guards are doing, of those that are on; None before the first use of a backend.
    #[pyo3(name = "_health")]
    fn health<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.resolved_store()
            .map(|store| health::of(py, store.guards()))
            .transpose()
    }

    /// The entries refused, by reason and layer, and the encrypted ones that a function read which
    /// does not encrypt.
    #[pyo3(name = "_security")]
    fn security_report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = PyDict::new(py);
        for why in Refusal::ALL {
            let part = PyDict::new(py);
            for tier in Tier::ALL {
                part.set_item(tier.name(), self.security.refusals(why, tier))?;
            }
            report.set_item(why.name(), part)?;
        }
        report.set_item("drift_reads", self.security.drift_reads())?;
        Ok(report)
    }

    /// Lets a later hit start the refresh of an entry again.
    #[pyo3(name = "_end_refresh")]
    fn refresh_ended(&self, key: &[u8]) {
        self.end_refresh(key);
    }

    /// Makes the next call look for settings and backend anew.
    #[pyo3(name = "_reset_backend")]
    fn forget_backend(&self) {
        self.reset_backend();
    }

    /// Runs the function for a call and stores the result, in the background: the refresh of an
    /// entry that is still served. Does nothing if another caller already fills the key.
    #[pyo3(name = "_refresh")]
    fn refresh(
        this: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        let laid = Laid::new(args, kwargs)?;
        let Some((key, scope)) = Self::l1_key(this, args, kwargs)? else {
            return Ok(());
        };
        crate::sync_call::refresh(this.py(), this, key.as_slice(), scope, laid.raw())
    }

    /// As `_refresh`, as a call for the asyncio driver; None for a call that has no key.
    #[pyo3(name = "_refresh_call")]
    fn refresh_call(
        this: &Bound<'_, Self>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> PyResult<Option<AsyncCall>> {
        let Some((key, scope)) = Self::l1_key(this, args, kwargs)? else {
            return Ok(None);
        };
        Ok(Some(AsyncCall::create(
            this.py(),
            this.clone().unbind(),
            key.as_slice(),
            scope,
            args.clone().unbind(),
            Some(kwargs.clone().unbind()),
            Purpose::Refresh,
        )))
    }

    /// Calls `func` and puts its result in the place of what is cached for a call; returns the result.
    #[pyo3(name = "_replace")]
    fn replace(
        this: &Bound<'_, Self>,
        func: Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> PyResult<Py<PyAny>> {
        let key = match this.get().is_disabled(this.py())? {
            true => None,
            false => Self::l1_key(this, args, kwargs)?,
        };
        let Some((key, scope)) = key else {
            return outcall::call(&func, args, Some(kwargs)).map(Bound::unbind);
        };
        let laid = Laid::new(args, kwargs)?;
        let func = func.unbind();
        crate::sync_call::replace(this.py(), this, (key.as_slice(), scope), &func, laid.raw())
    }

    /// As `_replace`, as a call for the asyncio driver; None for a call that has no key.
    #[pyo3(name = "_replace_call")]
    fn replace_call(
        this: &Bound<'_, Self>,
        func: Py<PyAny>,
        args: &Bound<'_, PyTuple>,
        kwargs: &Bound<'_, PyDict>,
    ) -> PyResult<Option<AsyncCall>> {
        if this.get().is_disabled(this.py())? {
            return Ok(None);
        }
        let Some((key, scope)) = Self::l1_key(this, args, kwargs)? else {
            return Ok(None);
        };
        let call = AsyncCall::create(
            this.py(),
            this.clone().unbind(),
            key.as_slice(),
            scope,
            args.clone().unbind(),
            Some(kwargs.clone().unbind()),
            Purpose::Replace,
        );
        Ok(Some(call.with_function(func)))
    }

    #[getter]
    fn _is_async(&self) -> bool {
        self.options.is_async
    }

    #[getter]
    fn _is_method(&self) -> bool {
        self.options.method
    }

    #[getter]
    fn _name(&self) -> String {
        self.name()
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.func)?;
        self.options.traverse(&visit)
    }
}
