//! Backends as Python sees them: ours wrapped for Python, and Python's own adapted for the engine.

mod cachekitio;
mod file;
mod memcached;
mod native;
mod python;

use std::{sync::Arc, time::Duration};

use cachekit::store::{GuardConfig, Store};
use cachekit_backends::Backend;
use cachekit_engine::breaker::BreakerConfig;
use cachekit_wire::keys::tenant_key;
use pyo3::{intern, prelude::*};

pub(crate) use self::cachekitio::CachekitIO;
pub(crate) use self::native::NativeBackend;
use self::python::PythonBackend;
use crate::{
    core::BUDGET,
    log::log,
    namespace::{Guarding, Identity, Namespace},
    options::{Options, Settings},
};

/// The backend that was found for a function.
#[derive(Clone)]
pub(crate) struct Resolved {
    /// The shared layer; `None` is L1 only.
    pub(crate) store: Option<Store>,
    /// What one call may spend on it.
    pub(crate) budget: Duration,
    /// What depends on the process's settings.
    pub(crate) settings: Settings,
    tenant: Option<Arc<str>>,
}

impl Resolved {
    /// No shared layer.
    pub(crate) fn local(settings: Settings) -> Self {
        Self {
            store: None,
            budget: BUDGET,
            settings,
            tenant: None,
        }
    }

    /// Whether stored keys differ from the protocol's.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The key under which the backend stores what the protocol calls `key`.
    pub(crate) fn stored_key(&self, key: &str) -> String {
        match &self.tenant {
            Some(tenant) => tenant_key(tenant, key),
            None => key.to_owned(),
        }
    }
}

/// Readies what the Python face found for use: one of ours, any object with the five methods, or
/// `None`.
pub(crate) fn resolve(
    found: &Bound<'_, PyAny>,
    namespace: &Namespace,
    options: &Options,
    settings: Settings,
) -> PyResult<Resolved> {
    if found.is_none() {
        return Ok(Resolved::local(settings));
    }
    let (py, guards) = (found.py(), &options.guards);
    if let Some(ours) = found.getattr_opt(intern!(py, "_native"))?
        && let Ok(ours) = ours.cast::<NativeBackend>()
    {
        let ours = ours.get();
        let backend = Arc::clone(&ours.backend);
        let guarding = namespace.store(Identity::of(&backend), backend, guards);
        return Ok(Resolved {
            store: Some(guarded(py, guarding, guards)),
            budget: ours.timeout,
            settings,
            tenant: ours.tenant.clone(),
        });
    }
    let backend: Arc<dyn Backend> =
        Arc::new(PythonBackend::adopt(found, &options.excluded_exceptions)?);
    let guarding = namespace.store(Identity::of_object(found), backend, guards);
    Ok(Resolved {
        store: Some(guarded(py, guarding, guards)),
        budget: BUDGET,
        settings,
        tenant: None,
    })
}

/// The guarded backend; says so where its breaker is another than `asked` for.
fn guarded(py: Python<'_>, guarding: Guarding, asked: &GuardConfig) -> Store {
    if let Some(in_force) = guarding.other_breaker {
        let message = format!(
            "functions of one namespace share a circuit breaker per backend: the first one's ({}) is \
             in force, and another's ({}) is not; give them the same circuit_breaker=, or different \
             namespaces",
            breaker(in_force),
            breaker(asked.breaker),
        );
        log(py, "warning", "backend", &message);
    }
    guarding.store
}

fn breaker(config: Option<BreakerConfig>) -> String {
    config.map_or_else(
        || "off".to_owned(),
        |config| {
            format!(
                "failure_threshold={}, success_threshold={}, recovery_timeout={}, half_open_requests={}",
                config.failure_threshold,
                config.success_threshold,
                config.recovery_timeout.as_secs_f64(),
                config.half_open_requests,
            )
        },
    )
}
