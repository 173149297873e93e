use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use cachekit_wire::encryption::{KeyError, Keyring, MasterKey, TenantError, TenantKeys};
use parking_lot::Mutex;

/// Derived keys are kept for so many tenants; the keys of another one take some microseconds.
const MOST_TENANTS: usize = 1024;

/// Master keys, and the keys of those tenants that have been met.
pub struct Keychain {
    ring: Keyring,
    tenants: Mutex<HashMap<Box<str>, Arc<TenantKeys>>>,
}

impl Keychain {
    /// A chain that encrypts with `current` and also decrypts with the `previous` keys, newest first.
    ///
    /// # Errors
    /// More than three previous keys, or one of them twice.
    pub fn new(current: MasterKey, previous: Vec<MasterKey>) -> Result<Self, KeyError> {
        Ok(Self {
            ring: Keyring::new(current, previous)?,
            tenants: Mutex::default(),
        })
    }

    /// The keys of a tenant.
    ///
    /// # Errors
    /// When the name is empty or too long.
    pub fn tenant(&self, name: &str) -> Result<Arc<TenantKeys>, TenantError> {
        if let Some(keys) = self.tenants.lock().get(name) {
            return Ok(Arc::clone(keys));
        }
        let keys = TenantKeys::derive(&self.ring, name, fresh() as u32)?;
        let mut tenants = self.tenants.lock();
        if tenants.len() >= MOST_TENANTS {
            // Names come from headers too, which anybody may write: the map must not grow with them.
            tenants.clear();
        }
        let keys = tenants.entry(name.into()).or_insert_with(|| Arc::new(keys));
        Ok(Arc::clone(keys))
    }
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keychain([REDACTED])")
    }
}

/// Random bits of the operating system, drawn anew at each call.
///
/// The time of day is mixed in, which takes nothing from them: two virtual machines that resume from
/// one snapshot may find their operating systems' generators in one state for a moment.
pub fn fresh() -> u64 {
    let random = getrandom::u64().expect("the operating system gives randomness");
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    random ^ now.map_or(0, |now| now.as_nanos() as u64)
}
