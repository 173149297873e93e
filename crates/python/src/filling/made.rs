//! What the function returned or raised: readied for both layers and for those who wait.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cachekit::encryption::Tier;
use cachekit_engine::{
    fill::RunAnswer,
    l1::Entry,
    time::{Clock, Tick},
};
use pyo3::{exceptions::PyException, ffi, prelude::*};

use super::{
    Filling, Keep, Outcome,
    kept::{as_stored, held},
};
use crate::{
    clock::CLOCK,
    core::{Core, Once, now},
    encryption,
    entry::{self, NotStored},
    value::Delivered,
};

impl Filling {
    /// Takes what the function returned or raised.
    pub(crate) fn ran(&mut self, py: Python<'_>, result: PyResult<Py<PyAny>>) {
        let ended = now();
        let core = self.core.clone_ref(py);
        let core = core.get();
        if !self.fill.is_refresh() && !self.replacing {
            core.function.stats.miss(ended);
        }
        let answer = match result {
            Ok(object) => {
                let storable = self.take_result(py, core, object.bind(py), ended);
                self.outcome = match self.interrupted.take() {
                    Some(interrupt) => Outcome::Raised(interrupt),
                    None => Outcome::Value(object),
                };
                storable
            }
            Err(error) => {
                self.deliver = Some(if error.is_instance_of::<PyException>(py) {
                    Delivered::Raised(error.clone_ref(py))
                } else {
                    Delivered::Unshareable // Replaced by abandoning the flight in `finish`.
                });
                self.outcome = Outcome::Raised(error);
                false
            }
        };
        self.fill.on_run(if answer {
            RunAnswer::Storable
        } else {
            RunAnswer::NotStorable
        });
        if !answer && self.purge {
            self.delete_behind();
        }
    }

    /// Readies a result for both layers; true if there is something to write to the shared one.
    fn take_result(
        &mut self,
        py: Python<'_>,
        core: &Core,
        object: &Bound<'_, PyAny>,
        at: Tick,
    ) -> bool {
        self.deliver = Some(Delivered::Unshareable);
        if is_spent_by_use(object) {
            core.warn_once(py, Once::Unencodable, || {
                format!(
                    "not cached: the result is {}, which can be used up once only; \
                     return a list, or make the function a coroutine function",
                    object.get_type()
                )
            });
            return false;
        }
        let life = match core.ttl(&self.resolved.settings, object) {
            Ok(life) => life,
            Err(error) if !error.is_instance_of::<PyException>(py) => {
                self.interrupted = Some(error);
                return false;
            }
            Err(error) => {
                core.warn_once(py, Once::TtlFunction, || {
                    // What it says may quote the result.
                    let told = match self.resolved.settings.encrypts() {
                        true => error.get_type(py).to_string(),
                        false => error.to_string(),
                    };
                    format!("the ttl= function failed, so results are not cached: {told}")
                });
                return false;
            }
        };
        if life.is_some_and(|life| life.is_zero()) {
            return false;
        }
        let exact = self.shared.is_none() && !self.resolved.settings.encrypts();
        let sealed = if exact {
            None
        } else {
            Some(self.seal(py, core, object, life))
        };
        if sealed.as_ref().is_some_and(Option::is_none) {
            return false; // Not encodable or too large: the caller's alone.
        }
        let sealed = sealed.flatten();
        if self.keeps() {
            let kept = match (
                &sealed,
                sealed.as_ref().and_then(|bytes| self.ciphertext(bytes)),
            ) {
                (_, Some(kept)) => Some(kept),
                (Some(bytes), None) if core.options.codec.is_table(object) => as_stored(bytes),
                (Some(bytes), None) if !core.options.codec.is_standard() => {
                    self.twin(py, core, bytes)
                }
                _ => held(py, core, object, exact),
            };
            self.keep = kept.map(|(held, weight)| Keep {
                held,
                weight,
                from: at,
                life,
                full: life,
            });
        }
        match (&self.keep, &sealed) {
            (Some(_), _) => {}
            (None, Some(bytes)) => {
                self.deliver = Some(Delivered::Stored(bytes.clone(), self.sealer.clone()));
            }
            (None, None) => {
                if let Some((held, _)) = held(py, core, object, exact) {
                    self.deliver = Some(Delivered::Value(Arc::new(Entry::new(held, 0))));
                }
            }
        }
        let Some(bytes) = sealed.filter(|_| self.shared.is_some() && !self.frozen) else {
            return false;
        };
        self.store = Some((bytes, life));
        true
    }

    fn seal(
        &mut self,
        py: Python<'_>,
        core: &Core,
        object: &Bound<'_, PyAny>,
        life: Option<Duration>,
    ) -> Option<Bytes> {
        let (shared, sealer) = (self.shared.as_ref(), self.sealer.as_ref());
        let x = shared.map(|shared| shared.extension(self.generation, life, CLOCK.wall()));
        let x = x.unwrap_or_default();
        match entry::seal(py, core, &self.resolved.settings, object, sealer, x) {
            Ok(sealed) => {
                if let Some(sealer) = sealer.filter(|sealer| sealer.encryption().encrypts) {
                    let tier = self.shared.as_ref().map_or(Tier::L1, |_| Tier::L2);
                    encryption::sealed(py, core, sealer, tier);
                }
                Some(sealed)
            }
            Err(NotStored::Interrupted(error)) => {
                self.interrupted = Some(error);
                None
            }
            Err(NotStored::Because(kind, reason)) => {
                core.warn_once(py, kind, || format!("not cached{reason}"));
                None
            }
        }
    }
}

/// Whether a result is gone once somebody has iterated over or awaited it.
fn is_spent_by_use(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: reads the slots of a live object's type.
    unsafe {
        let asyncs = (*ffi::Py_TYPE(object.as_ptr())).tp_as_async;
        let awaits = !asyncs.is_null() && (*asyncs).am_await.is_some();
        awaits || ffi::PyIter_Check(object.as_ptr()) != 0
    }
}
