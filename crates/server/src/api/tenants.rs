//! The tenants that have asked for something, with their limits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::error::ApiError;
use crate::config::{Config, QuotaPolicy, TenantLimits};
use crate::keys::{KeyRecord, Mode};
use crate::limits::Bucket;
use crate::store::{Quota, Scope};

/// A tenant in one mode.
pub(super) struct Tenant {
    pub(super) scope: Scope,
    pub(super) limits: TenantLimits,
    pub(super) quota: Quota,
    bucket: Mutex<Bucket>,
}

impl Tenant {
    fn new(record: &KeyRecord, config: &Config) -> Self {
        let limits = config.limits(&record.tenant);
        Self {
            scope: Scope::new(record.mode, &record.tenant),
            quota: Quota {
                bytes: limits.max_bytes,
                entries: limits.max_entries,
                reject: config.quota_policy == QuotaPolicy::Reject,
            },
            bucket: Mutex::new(Bucket::full(limits.burst, Instant::now())),
            limits,
        }
    }

    /// Counts a request against the tenant's rate.
    pub(super) fn admit(&self, now: Instant) -> Result<(), ApiError> {
        let Some(rate) = self.limits.requests_per_second else {
            return Ok(());
        };
        let taken = self.bucket.lock().take(rate, self.limits.burst, now);
        taken.map_err(|after| {
            ApiError::too_many("rate_limited", "the tenant sends too many requests", after)
        })
    }
}

/// The tenants, each made when it first asks. There are never more than the key file names.
#[derive(Default)]
pub(super) struct Tenants(RwLock<HashMap<(Mode, String), Arc<Tenant>>>);

impl Tenants {
    /// The tenant of a key.
    pub(super) fn of(&self, record: &KeyRecord, config: &Config) -> Arc<Tenant> {
        let name = (record.mode, record.tenant.clone());
        if let Some(tenant) = self.0.read().get(&name) {
            return tenant.clone();
        }
        let mut tenants = self.0.write();
        let made = || Arc::new(Tenant::new(record, config));
        tenants.entry(name).or_insert_with(made).clone()
    }
}
