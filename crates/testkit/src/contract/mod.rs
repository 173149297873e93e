//! The contract that every backend must pass, through its blocking and its asynchronous face.
//!
//! A backend's integration tests call [`check`] with the real store behind it, and
//! [`check_faults`] with a [`Proxy`](crate::proxy::Proxy) in between.

mod cancelling;
mod face;
mod faults;
mod locks;
mod ttl;
mod values;
mod waiting;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use cachekit_backends::Backend;

pub use self::face::Face;
use self::face::{Awaited, Blocking};
pub use self::faults::check_faults;

/// The time that an operation of the suite may take.
const TIMEOUT: Duration = Duration::from_secs(10);

type Case = (&'static str, fn(&dyn Face, &str));

/// Runs every case that the backend's capabilities allow, blocking and asynchronous.
///
/// # Panics
/// When a case fails; the message names it.
pub fn check(backend: &dyn Backend) {
    let capabilities = backend.capabilities();
    let mut cases: Vec<Case> = values::CASES.to_vec();
    if capabilities.ttl {
        cases.extend(ttl::CASES);
    }
    if capabilities.lock {
        cases.extend(values::ATOMIC_CASES);
        cases.extend(locks::CASES);
    }
    run(&cases, &Blocking(backend));
    if let Some(awaited) = Awaited::of(backend) {
        run(&cases, &awaited);
        run_named("cancelled calls", &awaited.name(), |prefix| {
            cancelling::check(&awaited, prefix)
        });
        if capabilities.lock {
            run_named("waiting", &awaited.name(), |prefix| {
                waiting::check(&awaited, prefix)
            });
        }
    }
}

/// Calls `body` with the backend's blocking face, and with its asynchronous one if it has it.
pub fn each_face(backend: &dyn Backend, mut body: impl FnMut(&dyn Face)) {
    body(&Blocking(backend));
    if let Some(awaited) = Awaited::of(backend) {
        body(&awaited);
    }
}

fn run(cases: &[Case], face: &dyn Face) {
    for (name, case) in cases {
        run_named(name, &face.name(), |prefix| case(face, prefix));
    }
}

/// Runs one case with a prefix of its own for keys.
fn run_named(case: &str, face: &str, body: impl FnOnce(&str)) {
    let unique = std::process::id();
    let prefix = format!("contract:{unique}:{face}:{case}:").replace(' ', "-");
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&prefix))) {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it panicked");
        panic!("contract, {face}, {case}: {message}");
    }
}
