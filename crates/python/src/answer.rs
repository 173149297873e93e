//! The hit path: the key, a look into L1, the value. Everything else is behind [`slow`].

use std::sync::atomic::{AtomicBool, Ordering};

use cachekit_engine::time::Clock;
use pyo3::{exceptions::PyException, intern, prelude::*, sync::PyOnceLock, types::PyBytes};

use crate::{
    async_call::{AsyncCall, Purpose},
    clock::CLOCK,
    codec::KeyBuf,
    core::{Core, Once},
    gil, log,
    plan::{Laid, Plan, bypass, call_function, collect, plainly, plan},
    sync_call::{self, RawArgs},
    value::{Kept, hand_out},
};

/// Whether caching is off in this process.
pub(crate) static DISABLED: AtomicBool = AtomicBool::new(false);
/// Answers a call from L1, or by everything that comes after a miss.
#[inline]
pub(crate) fn answer(py: Python<'_>, core: &Bound<'_, Core>, args: RawArgs) -> PyResult<Py<PyAny>> {
    let this = core.get();
    if DISABLED.load(Ordering::Relaxed) {
        return slow(|py| call_function(py, this, args, bypass(py, args).is_some()));
    }
    let mut key = KeyBuf::new();
    let scope = match plan(py, core, args, &mut key)? {
        Plan::Cached(scope) => scope,
        Plan::Uncached => return slow(|py| call_function(py, this, args, false)),
        Plan::Bypass => return slow(|py| call_function(py, this, args, true)),
        Plan::Plainly => {
            return slow(|py| {
                let (positional, keywords) = plainly(py, args)?;
                answer(py, core, Laid::new(&positional, &keywords)?.raw())
            });
        }
    };
    let now = CLOCK.coarse();
    if let Some(hit) = this.function.lookup(key.as_slice(), now) {
        if hit.refresh {
            slow(|py| refresh_later(py, core, &hit.entry, key.as_slice(), args));
        }
        match hand_out(py, this, &hit.entry.value) {
            Ok(value) => {
                this.function.stats.l1_hit(now);
                return Ok(value);
            }
            Err(error) => slow(|py| drop_uncopyable(py, this, key.as_slice(), error))?,
        }
    }
    slow(|py| sync_call::call_missed(py, core, key.as_slice(), scope, args))
}

/// Leaves the hit path: what follows may drop Python objects and release the GIL, for which PyO3
/// must know that this thread holds it.
#[cold]
#[inline(never)]
pub(crate) fn slow<R>(body: impl FnOnce(Python<'_>) -> R) -> R {
    // SAFETY: only called on the way from the interpreter's own call, which holds the GIL.
    unsafe { gil::attached(body) }
}

/// Drops an entry that could not be copied for a hit, so that the function runs instead.
///
/// # Errors
/// What concerns the caller: KeyboardInterrupt and its like.
fn drop_uncopyable(py: Python<'_>, core: &Core, key: &[u8], error: PyErr) -> PyResult<()> {
    if !error.is_instance_of::<PyException>(py) {
        return Err(error);
    }
    core.warn_once(py, Once::Uncopyable, || {
        format!("run again, since its cached result cannot be copied: {error}")
    });
    drop(core.function.invalidate(key));
    Ok(())
}

/// Hands the refresh that is due to the Python face's background workers.
fn refresh_later(
    py: Python<'_>,
    core: &Bound<'_, Core>,
    entry: &cachekit_engine::l1::Entry<Kept>,
    key: &[u8],
    args: RawArgs,
) {
    let scheduled = collect(py, args).and_then(|(positional, keywords)| {
        py.import(intern!(py, "cachekit._background"))?
            .call_method1(
                intern!(py, "refresh_later"),
                (core, positional, keywords, PyBytes::new(py, key)),
            )
    });
    match scheduled {
        Ok(accepted) if accepted.is_truthy().unwrap_or(false) => {}
        Ok(_) => entry.end_refresh(), // At capacity or not copyable: a later hit asks again.
        Err(error) => {
            entry.end_refresh();
            log::report(py, error);
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
        match bypass(py, args) {
            Some(_) => Plan::Bypass,
            None => Plan::Uncached,
        }
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
        Plan::Plainly => {
            return slow(|py| {
                let (positional, keywords) = plainly(py, args)?;
                answer_async(py, core, Laid::new(&positional, &keywords)?.raw())
            });
        }
    };
    let now = CLOCK.coarse();
    if let Some(hit) = this.function.lookup(key.as_slice(), now) {
        if hit.refresh {
            slow(|py| refresh_later(py, core, &hit.entry, key.as_slice(), args));
        }
        match hand_out(py, this, &hit.entry.value) {
            Ok(value) => {
                this.function.stats.l1_hit(now);
                return Ok(Awaited::Value(value));
            }
            Err(error) => slow(|py| drop_uncopyable(py, this, key.as_slice(), error))?,
        }
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
            Purpose::Answer,
        );
        static DRIVE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let drive = DRIVE.import(py, "cachekit._drive", "drive")?;
        drive
            .call1((call,))
            .map(|coroutine| Awaited::Coroutine(coroutine.unbind()))
    })
}
