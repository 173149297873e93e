//! What the shared layer held: decoded, judged, and kept in L1.

use bytes::Bytes;
use cachekit::{freshness, payload::Unusable, shared::Shared};
use cachekit_backends::{Found, Remaining};
use cachekit_engine::time::{Clock, Tick};
use cachekit_wire::generation::Generation;
use pyo3::prelude::*;

use super::{
    Filling, Keep, Outcome,
    kept::{as_stored, held, isolated},
    redact,
};
use crate::{
    clock::CLOCK,
    core::{Core, Once},
    encryption,
    entry::{self, Opened},
    serializer::Origin,
    value::Delivered,
};

impl Filling {
    /// Decodes what the shared layer held; false when it is not a value for this function.
    pub(super) fn absorb(&mut self, py: Python<'_>, found: Found, at: Tick) -> bool {
        if self.replacing {
            return false;
        }
        if self.leader.is_behind_outdated() {
            return false; // It may be what an invalidated flight is writing just now.
        }
        let core = self.core.clone_ref(py);
        let core = core.get();
        let current = self.generation;
        let mut remaining = found.remaining;
        let sealer = self.sealer.clone();
        let opened = entry::open(
            py,
            core,
            &found.value,
            sealer.as_ref(),
            Origin::Store,
            |x| {
                remaining = freshness::remaining(remaining, x, CLOCK.wall());
                Generation::counts(current, x.generation)
            },
        );
        let Opened { object, encrypted } = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return false, // Cleared since it was stored.
            Err(unusable) => return self.refuse(py, core, &unusable),
        };
        if let Some(sealer) = sealer.as_ref().filter(|_| encrypted) {
            encryption::opened(py, core, sealer);
        }
        if self.fill.is_refresh() {
            if self.is_due(core, remaining) {
                return false;
            }
        } else {
            core.function.stats.l2_hit(at, at.since(self.asked));
        }
        self.keep_found(core, &object, &found.value, remaining);
        if self.keep.is_none() {
            self.deliver = Some(Delivered::Stored(found.value, sealer));
        }
        self.refresh_ttl(core, found.remaining);
        self.outcome = Outcome::Value(object.unbind());
        true
    }

    /// Whether an entry with so much life left is due for a refresh, as the hit judged that asked
    /// for one. If not, another process has refreshed it.
    fn is_due(&self, core: &Core, remaining: Remaining) -> bool {
        let settings = &self.resolved.settings;
        match (
            remaining,
            core.nominal_ttl(settings),
            core.options.swr_ratio,
        ) {
            (Remaining::For(left), Some(ttl), Some(ratio)) => {
                left < ttl.mul_f64((1.0 - ratio * 0.9).clamp(0.0, 1.0))
            }
            _ => true,
        }
    }

    /// Says what is wrong with an entry, which is then computed anew; true where the callers get an
    /// error instead.
    fn refuse(&mut self, py: Python<'_>, core: &Core, unusable: &Unusable) -> bool {
        // A leader that takes the lock reads what it refused once more.
        let again = self.purge;
        if let Some(sealer) = &self.sealer
            && let Some(error) = encryption::refused(py, core, sealer, unusable, again)
        {
            self.deliver = Some(Delivered::Raised(error.clone_ref(py)));
            self.outcome = Outcome::Raised(error);
            return true;
        }
        let key = self.shared.as_ref().map_or("", Shared::key).to_owned();
        let (kind, frozen) = match unusable {
            Unusable::Newer { .. } => (Once::Newer, true),
            _ => (Once::Unusable, false),
        };
        self.frozen |= frozen;
        self.purge |= !frozen;
        core.warn_once(py, kind, || {
            format!("the entry {} is {unusable}", redact(&key))
        });
        false
    }

    fn keep_found(
        &mut self,
        core: &Core,
        object: &Bound<'_, PyAny>,
        stored: &Bytes,
        remaining: Remaining,
    ) {
        if !self.keeps() {
            return;
        }
        let life = match (remaining, core.nominal_ttl(&self.resolved.settings)) {
            // Unknown: an entry that might outlive its original is not kept.
            (Remaining::Unknown, _) => return,
            (Remaining::For(left), _) if left.is_zero() => return,
            (Remaining::Forever, nominal) => nominal,
            (Remaining::For(left), Some(nominal)) => Some(left.min(nominal)),
            (Remaining::For(left), None) => Some(left),
        };
        // The remaining life was true when the store looked, after the request was sent.
        let kept = match self.ciphertext(stored) {
            Some(kept) => Some(kept),
            None if core.options.codec.is_standard() => held(object.py(), core, object, false),
            None => isolated(object).or_else(|| as_stored(stored)),
        };
        self.keep = kept.map(|(held, weight)| Keep {
            held,
            weight,
            from: self.asked,
            life,
            full: core.nominal_ttl(&self.resolved.settings),
        });
    }

    fn refresh_ttl(&self, core: &Core, remaining: Remaining) {
        let (Some(threshold), Some(ttl), Remaining::For(left)) = (
            core.options.refresh_ttl,
            core.nominal_ttl(&self.resolved.settings),
            remaining,
        ) else {
            return;
        };
        let Some(shared) = self
            .shared
            .clone()
            .filter(|_| left < ttl.mul_f64(threshold))
        else {
            return;
        };
        let budget = self.resolved.budget;
        cachekit::runtime::handle().spawn(async move {
            // The guards have counted a failure; the entry then keeps the life it has.
            let _ = shared.store().expire_async(shared.key(), ttl, budget).await;
        });
    }
}
