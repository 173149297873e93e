//! From a value to the bytes of its entry, with the value that those bytes are read as.

use std::sync::Arc;

use bytes::Bytes;
use cachekit_wire::{frame::Extension, interop};

use crate::{
    core::Settings,
    encryption::{self, Sealer},
    error::{Error, ErrorKind},
    payload::{self, Body, PayloadPolicy},
    value::{Decode, Held},
};

/// A value ready to be stored.
pub(crate) struct Sealable {
    body: Vec<u8>,
    /// What every hit gets, in either layer: the value as it comes back.
    twin: Held,
}

impl Sealable {
    /// Encodes a value, and reads it back: what is in the process is what others would read.
    ///
    /// # Errors
    /// When it does not serialize, or not to what its type can be read from.
    pub(crate) fn new(
        held: &Held,
        decode: Decode,
        policy: &PayloadPolicy,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let refused = |what: &str, error: String, remedy: &str| {
            // It may quote the value, as serde does what it did not expect.
            let message = match settings.encrypts() {
                true => what.to_owned(),
                false => format!("{what}: {error}"),
            };
            Error::new(ErrorKind::Value, message, remedy)
        };
        let body = held.encode().map_err(|error| {
            let remedy = "correct its Serialize, or keep it in the process with no backend";
            refused("not cached, the value does not serialize", error, remedy)
        })?;
        let body = match policy.bare {
            false => body,
            true => interop::normalized(&body).map_err(|error| {
                let remedy =
                    "store values of maps with text keys, lists, finite numbers, text and bytes";
                let what = "not cached, the value is not in the interop data model";
                refused(what, error.to_string(), remedy)
            })?,
        };
        let twin = decode(&body).map_err(|error| {
            let remedy = "make its Deserialize read what its Serialize writes \
                          (skipped fields need #[serde(default)])";
            refused(
                "not cached, the value does not come back from its own bytes",
                error,
                remedy,
            )
        })?;
        Ok(Self { body, twin })
    }

    /// The entry's bytes, and what L1 holds of them.
    ///
    /// # Errors
    /// When they pass the limit.
    pub(crate) fn seal(
        &self,
        settings: &Settings,
        policy: &PayloadPolicy,
        sealer: Option<&Sealer>,
        x: Extension,
    ) -> Result<(Bytes, Held), Error> {
        let too_large = |message: String| {
            let remedy = "raise max_value_bytes, or cache less in one value";
            Error::new(ErrorKind::Value, message, remedy)
        };
        let sealed = payload::seal(Body::msgpack(&self.body), policy, sealer, x)
            .map_err(|error| too_large(format!("not cached: {error}")))?;
        let limit = settings.max_value_bytes;
        if sealed.len() as u64 > limit {
            return Err(too_large(format!(
                "not cached: the stored value has {} bytes, more than the limit of {limit}",
                sealed.len()
            )));
        }
        let held = match sealer.filter(|sealer| sealer.encryption().encrypts) {
            Some(sealer) => {
                encryption::ciphertext(&sealed, sealer, policy).expect("it was encrypted just now")
            }
            None => Arc::clone(&self.twin),
        };
        Ok((sealed, held))
    }
}
