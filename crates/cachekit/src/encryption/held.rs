//! What L1 holds of a cache that encrypts.

use std::{any::Any, sync::Arc};

use bytes::Bytes;

use super::{Sealed, Sealer};
use crate::{
    payload::{self, PayloadPolicy, Unusable},
    value::{Cached, Held},
};

/// A value that stays encrypted; each hit decrypts and reads it.
struct Ciphertext {
    sealed: Sealed,
    policy: PayloadPolicy,
}

/// The encrypted entry `stored` as L1 holds it.
///
/// # Errors
/// When it is no encrypted entry.
pub(crate) fn ciphertext(
    stored: &Bytes,
    sealer: &Sealer,
    policy: &PayloadPolicy,
) -> Result<Held, Unusable> {
    Ok(Arc::new(Ciphertext {
        sealed: payload::sealed(stored, policy, sealer)?,
        policy: policy.clone(),
    }))
}

impl Cached for Ciphertext {
    fn encode(&self) -> Result<Vec<u8>, String> {
        let read = |body: &[u8], _: &_| Ok(body.to_vec());
        payload::open_sealed(&self.sealed, &self.policy, &mut Vec::new(), read)
            .map_err(|unusable| unusable.to_string())
    }

    fn weight(&self) -> u64 {
        (self.sealed.weight() + size_of::<PayloadPolicy>()) as u64
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
