//! The asyncio driver's native half: one awaited call that L1 could not answer.
//!
//! The Python half (`cachekit/_drive.py`) awaits and calls the function; every decision and every
//! byte is here or below.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cachekit::shared::{Locked, Reply, Request, Shared};
use cachekit_backends::process::generation;
use cachekit_engine::{fill::Fill, flight::Join, time::Clock};
use futures_util::future::AbortHandle;
use parking_lot::Mutex;
use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyRuntimeError,
    intern,
    prelude::*,
    types::{PyDict, PyTuple},
};

use crate::{
    backend::Resolved,
    bridge::LoopBridge,
    clock::CLOCK,
    codec::Scope,
    core::{Core, Once, caller, leading, leading_var, now},
    filling::{Filling, Next, Settling},
    sync_call::{deliver, later, report},
    value::{Delivered, hand_out},
};

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To answer its caller.
    Answer,
    /// To refresh an entry that is still served.
    Refresh,
    /// To put its result in the place of whatever there is.
    Replace,
}

/// One awaited call.
#[pyclass(module = "cachekit._native")]
pub(crate) struct AsyncCall {
    #[pyo3(get)]
    func: Py<PyAny>,
    #[pyo3(get)]
    args: Py<PyTuple>,
    #[pyo3(get)]
    kwargs: Option<Py<PyDict>>,
    core: Py<Core>,
    key: Box<[u8]>,
    scope: Scope,
    purpose: Purpose,
    resolved: Option<Resolved>,
    filling: Option<Box<Filling>>,
    landed: Landed,
    asked: Option<Arc<Mutex<Asked>>>,
    /// Ends the wait that is under way.
    waiting: Option<AbortHandle>,
    /// When this call stops waiting for others.
    until: Option<Instant>,
    /// The process in which it began.
    process: u32,
}

/// What a flight that is waited for brought, once it has: `None` inside if it was abandoned.
type Landed = Arc<Mutex<Option<Option<Arc<Delivered>>>>>;

/// A request under way, as both threads see it.
enum Asked {
    Waiting,
    Answered(Reply),
    /// Nobody will take the reply: a lock that was acquired must be released.
    Orphaned,
    /// Nobody will take the reply of a write: the flight must outlive it.
    Settling(Box<Settling>),
}

/// What `join` tells the Python half; the numbers are its constants.
const HIT: u8 = 0;
const WAIT: u8 = 1;
const ALONE: u8 = 2;
const LEAD: u8 = 3;
const AGAIN: u8 = 4;

impl AsyncCall {
    pub(crate) fn create(
        py: Python<'_>,
        core: Py<Core>,
        key: &[u8],
        scope: Scope,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
        purpose: Purpose,
    ) -> Self {
        let func = core.get().func.clone_ref(py);
        Self {
            func,
            args,
            kwargs,
            core,
            key: key.into(),
            scope,
            purpose,
            resolved: None,
            filling: None,
            landed: Landed::default(),
            asked: None,
            waiting: None,
            until: None,
            process: generation(),
        }
    }

    /// The same call with another function to run.
    pub(crate) fn with_function(mut self, function: Py<PyAny>) -> Self {
        self.func = function;
        self
    }

    fn filling(&mut self) -> PyResult<&mut Filling> {
        self.filling
            .as_deref_mut()
            .ok_or_else(|| PyRuntimeError::new_err("this call leads no flight"))
    }
}

#[pymethods]
impl AsyncCall {
    /// Joins or starts the flight: HIT, WAIT (a future is to be awaited), ALONE or LEAD.
    fn join(&mut self, py: Python<'_>) -> PyResult<(u8, Option<Py<PyAny>>)> {
        let core = self.core.clone_ref(py);
        let core = core.get();
        if self.resolved.is_none() {
            if core.is_disabled(py)? {
                return Ok((ALONE, None));
            }
            let resolved = core.resolve(py)?;
            core.warn_if_local(py, &resolved, self.scope);
            self.resolved = Some(resolved);
        }
        let resolved = self.resolved.as_ref().expect("set just before");
        if !LoopBridge::available(py) {
            core.warn_once(py, Once::NoLoop, || {
                "awaited outside an asyncio event loop: runs uncached".to_owned()
            });
            core.function.stats.miss(now());
            return Ok((ALONE, None));
        }
        let leading = leading(py)?;
        if self.purpose == Purpose::Replace {
            core.function.supersede(&self.key);
        }
        match core.function.join(&self.key, caller(false, &leading)) {
            Join::Lead(leader) => {
                let hit = core.function.lookup(&self.key, CLOCK.coarse());
                if let Some(hit) = hit.filter(|_| self.purpose == Purpose::Answer) {
                    if hit.refresh {
                        hit.entry.end_refresh();
                    }
                    if let Ok(value) = hand_out(py, core, &hit.entry.value) {
                        core.function.stats.l1_hit(now());
                        leader.land(Delivered::Value(Arc::clone(&hit.entry)));
                        return Ok((HIT, Some(value)));
                    }
                }
                if self.purpose == Purpose::Refresh && !core.is_served(&self.key) {
                    return Ok((ALONE, None));
                }
                let store = core.shared_store(resolved, self.scope);
                let shared = store.map(|store| core.shared(resolved, store, &self.key));
                let policy = core.fill_policy(store, resolved.budget);
                let fill = if self.purpose == Purpose::Refresh {
                    Fill::refresh(policy)
                } else {
                    Fill::new(policy)
                };
                let resolved = resolved.clone();
                let core = self.core.clone_ref(py);
                let mut filling = Filling::new(core, leader, fill, shared, resolved);
                if self.purpose == Purpose::Replace {
                    filling = filling.replacing();
                }
                self.filling = Some(Box::new(filling));
                Ok((LEAD, None))
            }
            // Somebody else has begun in between.
            Join::Wait(_) if self.purpose == Purpose::Replace => Ok((AGAIN, None)),
            Join::Wait(waiter) => {
                // One patience for all the flights that this call waits for.
                let until = *self
                    .until
                    .get_or_insert_with(|| later(core.options.lock_wait));
                self.landed = Landed::default();
                let slot = Arc::clone(&self.landed);
                let operation = async move {
                    let landed = tokio::time::timeout_at(until.into(), waiter).await;
                    // Out of patience: as if the result could not be shared.
                    let landed = landed.unwrap_or_else(|_| Some(Arc::new(Delivered::Unshareable)));
                    *slot.lock() = Some(landed);
                };
                match LoopBridge::submit(py, operation) {
                    Ok((future, abort)) => {
                        self.waiting = Some(abort);
                        Ok((WAIT, Some(future)))
                    }
                    Err(error) => {
                        core.warn_no_bridge(py, &error);
                        core.function.stats.miss(now());
                        Ok((ALONE, None))
                    }
                }
            }
            Join::Alone => {
                if self.purpose == Purpose::Answer {
                    core.function.stats.miss(now());
                }
                Ok((ALONE, None))
            }
        }
    }

    /// What the flight that was waited for brought: HIT with the value, ALONE, or AGAIN to join anew.
    fn landed(&mut self, py: Python<'_>) -> PyResult<(u8, Option<Py<PyAny>>)> {
        let Some(landed) = self.landed.lock().take() else {
            return Err(PyRuntimeError::new_err("the flight has not landed"));
        };
        let Some(delivered) = landed else {
            return Ok((AGAIN, None));
        };
        let core = self.core.get();
        match deliver(py, core, &delivered)? {
            Some(value) => Ok((HIT, Some(value))),
            None => {
                core.function.stats.miss(now());
                Ok((ALONE, None))
            }
        }
    }

    /// Goes one step on: a future to await and then step again, `False` to run the function, `True`
    /// to finish.
    fn step(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(asked) = self.asked.take() {
            match std::mem::replace(&mut *asked.lock(), Asked::Orphaned) {
                Asked::Answered(reply) => self.filling()?.reply(py, reply),
                _ => return Err(PyRuntimeError::new_err("the reply is not here yet")),
            }
        }
        let filling = self.filling()?;
        let request = match filling.next() {
            Next::Ask(request) => request,
            Next::Run => return Ok(false.into_pyobject(py)?.to_owned().into_any().unbind()),
            Next::Finish => return Ok(true.into_pyobject(py)?.to_owned().into_any().unbind()),
        };
        let waits = matches!(request, Request::AwaitRelease { .. });
        let unanswered = request.unanswered();
        let shared = filling
            .shared()
            .expect("only fills with a shared layer ask it")
            .clone();
        let asked = Arc::new(Mutex::new(Asked::Waiting));
        let theirs = Arc::clone(&asked);
        let operation = async move {
            let reply = shared.perform_async(request).await;
            let left = {
                let mut asked = theirs.lock();
                match std::mem::replace(&mut *asked, Asked::Orphaned) {
                    Asked::Waiting => {
                        *asked = Asked::Answered(reply);
                        return;
                    }
                    left => left,
                }
            };
            match left {
                // The flight ends with the write, so that an invalidation has found it until now.
                Asked::Settling(settling) => settling.settle(&shared).await,
                _ => release_orphan(&shared, &reply),
            }
        };
        let (future, abort) = match LoopBridge::submit(py, operation) {
            Ok(submitted) => submitted,
            Err(error) => {
                self.core.get().warn_no_bridge(py, &error);
                self.filling()?.reply(py, unanswered);
                return self.step(py);
            }
        };
        // A wait may be cut short; what talks to the store is left to end by itself.
        self.waiting = waits.then_some(abort);
        self.asked = Some(asked);
        Ok(future)
    }

    /// Enters the flight into the context variable; the token takes it out again.
    fn enter(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let flight = self.filling()?.flight();
        let var = leading_var(py)?;
        let outer: Bound<'_, PyTuple> = var.call_method0(intern!(py, "get"))?.cast_into()?;
        let inner = outer.add((flight,))?;
        Ok(var.call_method1(intern!(py, "set"), (inner,))?.unbind())
    }

    /// Takes what the function returned.
    fn ran(&mut self, py: Python<'_>, result: Py<PyAny>) -> PyResult<()> {
        self.filling()?.ran(py, Ok(result));
        Ok(())
    }

    /// Takes what the function raised.
    fn raised(&mut self, py: Python<'_>, exception: Bound<'_, PyAny>) -> PyResult<()> {
        self.filling()?.ran(py, Err(PyErr::from_value(exception)));
        Ok(())
    }

    /// Ends the flight: the value, or the function's exception.
    fn finish(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let filling = self.filling.take();
        let filling =
            filling.ok_or_else(|| PyRuntimeError::new_err("this call leads no flight"))?;
        let result = filling.finish(py);
        if let Some(resolved) = &self.resolved {
            report(py, resolved);
        }
        result
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.func)?;
        visit.call(&self.args)?;
        visit.call(&self.kwargs)?;
        visit.call(&self.core)
    }

    /// Gives the call up: whoever waits leads. Does nothing after `finish`.
    fn close(&mut self) {
        if self.process != generation() {
            // Left over in a forked child: what is under way is the parent's, and so is its runtime.
            std::mem::forget((self.waiting.take(), self.asked.take(), self.filling.take()));
            return;
        }
        if let Some(waiting) = self.waiting.take() {
            waiting.abort();
        }
        if let Some(filling) = self.filling.take() {
            match self.asked.take() {
                Some(asked) => leave(&asked, filling),
                None => filling.abandon(),
            }
        }
        if self.purpose == Purpose::Refresh {
            self.core.get().end_refresh(&self.key);
        }
    }
}

/// Gives up a flight whose last request is under way or answered.
fn leave(asked: &Mutex<Asked>, filling: Box<Filling>) {
    let shared = filling.shared().cloned();
    let mut state = asked.lock();
    if matches!(*state, Asked::Waiting) && filling.is_writing() {
        *state = Asked::Settling(Box::new(filling.settle_later()));
        return;
    }
    let before = std::mem::replace(&mut *state, Asked::Orphaned);
    drop(state);
    if let (Asked::Answered(reply), Some(shared)) = (before, shared) {
        release_orphan(&shared, &reply);
    }
    filling.abandon();
}

/// Releases a lock that was acquired for a caller who has gone.
fn release_orphan(shared: &Shared, reply: &Reply) {
    if let Reply::Locked(Ok(Locked::Acquired(..))) = reply {
        shared.unlock_behind(Duration::from_secs(1));
    }
}
