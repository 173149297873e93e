//! The hit path: the key, a look into L1, the value. Everything else is behind [`slow`].

use std::sync::atomic::{AtomicBool, Ordering};

use cachekit_engine::time::Clock;
use pyo3::{intern, prelude::*, sync::PyOnceLock};

use crate::{
    async_call::AsyncCall,
    clock::CLOCK,
    codec::{Held, KeyBuf},
    core::Core,
    plan::{Plan, bypassed, call_function, collect, plan},
    sync_call::{self, RawArgs},
    value::hand_out,
};

/// Whether caching is off in this process.
pub(crate) static DISABLED: AtomicBool = AtomicBool::new(false);
/// Answers a call from L1, or by everything that comes after a miss.
#[inline]
pub(crate) fn answer(py: Python<'_>, core: &Bound<'_, Core>, args: RawArgs) -> PyResult<Py<PyAny>> {
    let this = core.get();
    if DISABLED.load(Ordering::Relaxed) {
        return slow(|py| {
            let bypass = !args.kwnames.is_null() && bypassed(py, args);
            call_function(py, this, args, bypass)
        });
    }
    let mut key = KeyBuf::new();
    let scope = match plan(py, core, args, &mut key)? {
        Plan::Cached(scope) => scope,
        Plan::Uncached => return slow(|py| call_function(py, this, args, false)),
        Plan::Bypass => return slow(|py| call_function(py, this, args, true)),
    };
    let now = CLOCK.coarse();
    if let Some(hit) = this.function.lookup(key.as_slice(), now) {
        this.function.stats.l1_hit(now);
        if hit.refresh {
            slow(|py| refresh_later(py, core, &hit.entry, args));
        }
        return hand_out(py, &hit.entry.value, this.options.copy);
    }
    slow(|py| sync_call::call_missed(py, core, key.as_slice(), scope, args))
}

/// Leaves the hit path: what follows may drop Python objects and release the GIL, for which PyO3
/// must know that this thread holds it.
#[cold]
#[inline(never)]
fn slow<R>(body: impl FnOnce(Python<'_>) -> R) -> R {
    Python::attach(body)
}

/// Hands the refresh that is due to the Python face's background workers.
fn refresh_later(
    py: Python<'_>,
    core: &Bound<'_, Core>,
    entry: &cachekit_engine::l1::Entry<Held>,
    args: RawArgs,
) {
    let scheduled = collect(py, args).and_then(|(positional, keywords)| {
        py.import(intern!(py, "cachekit._background"))?
            .call_method1(intern!(py, "refresh_later"), (core, positional, keywords))
    });
    match scheduled {
        Ok(accepted) if accepted.is_truthy().unwrap_or(false) => {}
        Ok(_) => entry.end_refresh(), // At capacity or not copyable: a later hit asks again.
        Err(error) => {
            entry.end_refresh();
            error.write_unraisable(py, None);
        }
    }
}

/// What awaiting a call comes to.
pub(crate) enum Awaited {
    /// The value, at once.
    Value(Py<PyAny>),
    /// A coroutine that brings it.
    Coroutine(Py<PyAny>),
}

/// Answers an awaited call from L1, or makes the coroutine that does.
#[inline]
pub(crate) fn answer_async(
    py: Python<'_>,
    core: &Bound<'_, Core>,
    args: RawArgs,
) -> PyResult<Awaited> {
    let this = core.get();
    let mut key = KeyBuf::new();
    let plan = if DISABLED.load(Ordering::Relaxed) {
        let bypass = !args.kwnames.is_null() && bypassed(py, args);
        if bypass { Plan::Bypass } else { Plan::Uncached }
    } else {
        plan(py, core, args, &mut key)?
    };
    let scope = match plan {
        Plan::Cached(scope) => scope,
        Plan::Uncached => {
            return slow(|py| call_function(py, this, args, false).map(Awaited::Coroutine));
        }
        Plan::Bypass => {
            return slow(|py| call_function(py, this, args, true).map(Awaited::Coroutine));
        }
    };
    let now = CLOCK.coarse();
    if let Some(hit) = this.function.lookup(key.as_slice(), now) {
        this.function.stats.l1_hit(now);
        if hit.refresh {
            slow(|py| refresh_later(py, core, &hit.entry, args));
        }
        return hand_out(py, &hit.entry.value, this.options.copy).map(Awaited::Value);
    }
    slow(|py| {
        let (positional, keywords) = collect(py, args)?;
        let call = AsyncCall::create(
            py,
            core.clone().unbind(),
            key.as_slice(),
            scope,
            positional.unbind(),
            keywords.map(Bound::unbind),
            false,
        );
        static DRIVE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let drive = DRIVE.import(py, "cachekit._drive", "drive")?;
        drive
            .call1((call,))
            .map(|coroutine| Awaited::Coroutine(coroutine.unbind()))
    })
}
