//! The blocking driver: one call of a function that L1 could not answer, on the calling thread.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cachekit::{
    park::{Stopped, block_on},
    shared::Request,
};
use cachekit_engine::{
    fill::Fill,
    flight::{Join, Waiter},
    time::Clock,
};
use pyo3::{exceptions::PyException, ffi, intern, prelude::*, types::PyTuple};

use crate::{
    backend::Resolved,
    clock::CLOCK,
    codec::Scope,
    core::{Core, caller, leading, leading_var, now},
    entry,
    filling::{Filling, Next},
    log, outcall,
    serializer::Origin,
    value::{Delivered, hand_out},
};

/// A call's arguments as the interpreter passed them.
#[derive(Clone, Copy)]
pub(crate) struct RawArgs {
    pub(crate) args: *const *mut ffi::PyObject,
    pub(crate) count: usize,
    pub(crate) kwnames: *mut ffi::PyObject,
}

impl RawArgs {
    /// Calls `function` with the same arguments.
    pub(crate) fn call(self, py: Python<'_>, function: &Py<PyAny>) -> PyResult<Py<PyAny>> {
        #[cfg(Py_3_11)]
        // SAFETY: the interpreter keeps the arguments alive during the call that passed them, and
        // this value does not outlive that call.
        unsafe {
            outcall::vectorcall(function.bind(py), self.args, self.count, self.kwnames)
        }
        #[cfg(not(Py_3_11))]
        {
            let (args, kwargs) = crate::plan::collect(py, self)?;
            outcall::call(function.bind(py), &args, kwargs.as_ref()).map(Bound::unbind)
        }
    }
}

/// How often a waiting thread looks for signals.
const SIGNALS: Duration = Duration::from_millis(50);

/// Answers a call that missed L1.
///
/// Recursive functions have this frame and that of [`lead`] on the stack once per level: what needs
/// room is in functions of its own, and the filling is on the heap.
pub(crate) fn call_missed(
    py: Python<'_>,
    core: &Bound<'_, Core>,
    key: &[u8],
    scope: Scope,
    args: RawArgs,
) -> PyResult<Py<PyAny>> {
    match turn(py, core, key, scope)? {
        Turn::Done(value) => Ok(value),
        Turn::Lead(filling) => lead(py, &core.get().func, filling, args),
        Turn::Alone => run_alone(py, core.get(), args),
        Turn::Disabled => args.call(py, &core.get().func),
    }
}

/// How a caller that missed goes on.
enum Turn {
    /// With what another caller has brought.
    Done(Py<PyAny>),
    /// As the leader of the key's flight.
    Lead(Box<Filling>),
    /// By running the function itself.
    Alone,
    /// The same, and nothing counts it: the settings turn caching off.
    Disabled,
}

/// Joins the key's flight, and waits for it where another caller leads.
///
/// # Errors
/// The function's own exception, brought by its leader; what a signal handler raised meanwhile.
#[inline(never)]
fn turn(py: Python<'_>, core: &Bound<'_, Core>, key: &[u8], scope: Scope) -> PyResult<Turn> {
    let this = core.get();
    if this.is_disabled(py)? {
        return Ok(Turn::Disabled);
    }
    let resolved = this.resolve(py)?;
    this.warn_if_local(py, &resolved, scope);
    let leading = leading(py)?;
    let deadline = later(this.options.lock_wait);
    loop {
        match this.function.join(key, caller(true, &leading)) {
            Join::Lead(leader) => {
                // Whoever led before may have landed since this caller looked.
                if let Some(hit) = this.function.lookup(key, CLOCK.coarse()) {
                    if hit.refresh {
                        hit.entry.end_refresh();
                    }
                    if let Ok(value) = hand_out(py, this, &hit.entry.value) {
                        this.function.stats.l1_hit(now());
                        leader.land(Delivered::Value(Arc::clone(&hit.entry)));
                        return Ok(Turn::Done(value));
                    }
                }
                let store = this.shared_store(&resolved, scope);
                let shared = store.map(|store| this.shared(&resolved, store, key));
                let fill = Fill::new(this.fill_policy(store, resolved.budget));
                let core = core.clone().unbind();
                let filling = Filling::new(core, leader, fill, shared, resolved.clone());
                return Ok(Turn::Lead(Box::new(filling)));
            }
            Join::Wait(waiter) => match wait(py, waiter, deadline)? {
                Waited::Landed(delivered) => {
                    let value = deliver(py, this, &delivered)?;
                    return Ok(value.map_or(Turn::Alone, Turn::Done));
                }
                Waited::Abandoned => {}
                Waited::TimedOut => return Ok(Turn::Alone),
            },
            Join::Alone => return Ok(Turn::Alone),
        }
    }
}

/// Logs what the guards of this call's backend have seen.
pub(crate) fn report(py: Python<'_>, resolved: &Resolved) {
    if let Some(store) = &resolved.store {
        log::events(py, store.guards(), store.backend().name());
    }
}

/// The moment so long from now; a wait of centuries is one of a century.
pub(crate) fn later(wait: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    Instant::now() + wait.min(CENTURY)
}

fn run_alone(py: Python<'_>, core: &Core, args: RawArgs) -> PyResult<Py<PyAny>> {
    core.function.stats.miss(now());
    args.call(py, &core.func)
}

/// Leads a flight to its end.
#[inline(never)]
fn lead(
    py: Python<'_>,
    function: &Py<PyAny>,
    mut filling: Box<Filling>,
    args: RawArgs,
) -> PyResult<Py<PyAny>> {
    loop {
        match ask_until_due(py, &mut filling) {
            Ok(Due::Run) => {
                let result = {
                    let _context = Leading::enter(py, filling.flight())?;
                    args.call(py, function)
                };
                filling.ran(py, result);
            }
            Ok(Due::Finish) => return finish(py, filling),
            Err(interrupt) => {
                filling.abandon();
                return Err(interrupt);
            }
        }
    }
}

/// What a flight's leader has to do itself.
enum Due {
    Run,
    Finish,
}

/// Asks the shared layer whatever is to be asked now.
///
/// # Errors
/// What a signal handler raised meanwhile.
#[inline(never)]
fn ask_until_due(py: Python<'_>, filling: &mut Filling) -> PyResult<Due> {
    loop {
        match filling.next() {
            Next::Ask(request) => ask(py, filling, request)?,
            Next::Run => return Ok(Due::Run),
            Next::Finish => return Ok(Due::Finish),
        }
    }
}

#[inline(never)]
fn finish(py: Python<'_>, filling: Box<Filling>) -> PyResult<Py<PyAny>> {
    let store = filling.shared().map(|shared| shared.store().clone());
    let result = filling.finish(py);
    if let Some(store) = store {
        log::events(py, store.guards(), store.backend().name());
    }
    result
}

/// Asks the shared layer and hands the reply to the filling.
///
/// # Errors
/// What a signal handler raised meanwhile.
fn ask(py: Python<'_>, filling: &mut Filling, request: Request) -> PyResult<()> {
    let shared = filling
        .shared()
        .expect("only fills with a shared layer ask it")
        .clone();
    let mut interrupted = None;
    match py.detach(|| shared.perform(request, || check_signals(&mut interrupted))) {
        Ok(reply) => {
            filling.reply(py, reply);
            // Ctrl-C in a backend of the user's own must reach the caller before anything runs that
            // would swallow it, as finalizers and callbacks of the garbage collector do.
            py.check_signals()
        }
        Err(_) => Err(interrupted.expect("a request is interrupted by an exception only")),
    }
}

/// Marks the current context as leading a flight while it lives.
struct Leading<'py> {
    py: Python<'py>,
    token: Bound<'py, PyAny>,
}

impl<'py> Leading<'py> {
    fn enter(py: Python<'py>, flight: u64) -> PyResult<Self> {
        let var = leading_var(py)?;
        let outer: Bound<'_, PyTuple> = var.call_method0(intern!(py, "get"))?.cast_into()?;
        let inner = outer.add((flight,))?;
        let token = var.call_method1(intern!(py, "set"), (inner,))?;
        Ok(Self { py, token })
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        // The function may have raised; its exception is held in Rust, not in the interpreter.
        let reset = leading_var(self.py)
            .and_then(|var| var.call_method1(intern!(self.py, "reset"), (&self.token,)));
        if let Err(error) = reset {
            log::report(self.py, error);
        }
    }
}

enum Waited {
    Landed(Arc<Delivered>),
    Abandoned,
    TimedOut,
}

fn wait(py: Python<'_>, waiter: Waiter<Delivered>, deadline: Instant) -> PyResult<Waited> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut interrupted = None;
    let landed = py.detach(|| block_on(waiter, left, SIGNALS, || check_signals(&mut interrupted)));
    match landed {
        Ok(Some(delivered)) => Ok(Waited::Landed(delivered)),
        Ok(None) => Ok(Waited::Abandoned),
        Err(Stopped::TimedOut) => Ok(Waited::TimedOut),
        Err(Stopped::Interrupted) => {
            Err(interrupted.expect("a wait is interrupted by an exception only"))
        }
    }
}

/// Waits for a task of the I/O thread, for a little longer than it may take.
pub(crate) fn block<T: Send>(
    py: Python<'_>,
    task: tokio::task::JoinHandle<T>,
    at_most: Duration,
) -> PyResult<Option<Result<T, tokio::task::JoinError>>> {
    let mut interrupted = None;
    let limit = at_most + Duration::from_secs(1);
    let ended = py.detach(|| block_on(task, limit, SIGNALS, || check_signals(&mut interrupted)));
    match (ended, interrupted) {
        (_, Some(error)) => Err(error),
        (ended, None) => Ok(ended.ok()),
    }
}

/// Runs pending signal handlers; false and the exception when one raised.
fn check_signals(raised: &mut Option<PyErr>) -> bool {
    // Taking the GIL every 50 ms on each of hundreds of waiting threads would be a convoy of its own.
    if !is_main_thread() {
        return true;
    }
    Python::attach(|py| match py.check_signals() {
        Ok(()) => true,
        Err(error) => {
            *raised = Some(error);
            false
        }
    })
}

/// Whether signal handlers run on this thread.
fn is_main_thread() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: both calls only read the kernel's idea of the caller.
    return unsafe { libc::gettid() == libc::getpid() };
    #[cfg(not(target_os = "linux"))]
    true
}

/// What a waiter makes of a landed flight: `None` means that it must run the function itself.
///
/// # Errors
/// The function's own exception.
pub(crate) fn deliver(
    py: Python<'_>,
    core: &Core,
    delivered: &Delivered,
) -> PyResult<Option<Py<PyAny>>> {
    let value = match delivered {
        Delivered::Value(entry) => match hand_out(py, core, &entry.value) {
            Ok(value) => value,
            Err(error) if error.is_instance_of::<PyException>(py) => return Ok(None),
            Err(error) => return Err(error),
        },
        Delivered::Stored(bytes, sealer) => {
            match entry::open(py, core, bytes, sealer.as_ref(), Origin::Ours, |_| true) {
                Ok(Some(opened)) => opened.object.unbind(),
                // The leader has said why.
                Ok(None) | Err(_) => return Ok(None),
            }
        }
        Delivered::Raised(error) => {
            core.function.stats.l1_hit(now());
            return Err(error.clone_ref(py));
        }
        Delivered::Unshareable => return Ok(None),
    };
    core.function.stats.l1_hit(now());
    Ok(Some(value))
}

/// Runs the function for an entry that is still served, and stores the result.
///
/// # Errors
/// The function's own exception; the entry is then served on.
pub(crate) fn refresh(
    py: Python<'_>,
    core: &Bound<'_, Core>,
    key: &[u8],
    scope: Scope,
    args: RawArgs,
) -> PyResult<()> {
    let this = core.get();
    let resolved = this.resolve(py)?;
    let Join::Lead(leader) = this.function.join(key, caller(true, &leading(py)?)) else {
        this.end_refresh(key);
        return Ok(()); // Somebody fills the key already.
    };
    if !this.is_served(key) {
        return Ok(());
    }
    let store = this.shared_store(&resolved, scope);
    let shared = store.map(|store| this.shared(&resolved, store, key));
    let fill = Fill::refresh(this.fill_policy(store, resolved.budget));
    let filling = Box::new(Filling::new(
        core.clone().unbind(),
        leader,
        fill,
        shared,
        resolved.clone(),
    ));
    let result = lead(py, &this.func, filling, args);
    this.end_refresh(key);
    result.map(drop)
}

/// Calls `function` and puts its result in the place of what is cached for a call.
///
/// # Errors
/// The function's own exception; what was cached is then served on.
pub(crate) fn replace(
    py: Python<'_>,
    core: &Bound<'_, Core>,
    (key, scope): (&[u8], Scope),
    function: &Py<PyAny>,
    args: RawArgs,
) -> PyResult<Py<PyAny>> {
    let this = core.get();
    let resolved = this.resolve(py)?;
    this.warn_if_local(py, &resolved, scope);
    let leading = leading(py)?;
    let leader = loop {
        this.function.supersede(key);
        match this.function.join(key, caller(true, &leading)) {
            Join::Lead(leader) => break leader,
            Join::Wait(_) => {} // Somebody else has begun in between.
            Join::Alone => return args.call(py, function),
        }
    };
    let store = this.shared_store(&resolved, scope);
    let shared = store.map(|store| this.shared(&resolved, store, key));
    let fill = Fill::new(this.fill_policy(store, resolved.budget));
    let core = core.clone().unbind();
    let filling = Filling::new(core, leader, fill, shared, resolved).replacing();
    lead(py, function, Box::new(filling), args)
}
