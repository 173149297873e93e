//! Encryption between a wrapped body and its frame: whose key, bound to what, and what was refused.
//!
//! The cipher and its key derivation are `cachekit_wire::encryption`; here are the keys of a process,
//! the rules by which an entry is taken, and the count of those that were not.

mod held;
mod keychain;
mod report;
mod sealer;

pub use cachekit_wire::encryption::{KeyError, MasterKey, TenantError};
pub(crate) use held::ciphertext;
pub use keychain::{Keychain, fresh};
pub use report::{Refusal, SecurityReport, Tier};
pub use sealer::{Encryption, Refused, Sealed, Sealer};

/// The tenant of those who name none.
pub const DEFAULT_TENANT: &str = "default";

#[cfg(test)]
mod tests;
