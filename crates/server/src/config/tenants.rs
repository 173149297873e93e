//! The `[tenants.NAME]` sections of the configuration file.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Config, Size, Value};
use crate::keys::check_tenant;

/// What a tenant's section may set. What it leaves out comes from the settings of all tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantSection {
    max_bytes: Option<Size>,
    max_entries: Option<u64>,
    requests_per_second: Option<u32>,
    burst: Option<u32>,
    default_ttl: Option<Duration>,
}

impl TenantSection {
    pub(super) fn has_quota(&self) -> bool {
        self.max_bytes.is_some() || self.max_entries.is_some()
    }
}

/// The limits that hold for one tenant. `None` means no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Bytes of keys, values and 64 for each entry.
    pub max_bytes: Option<u64>,
    /// Entries.
    pub max_entries: Option<u64>,
    /// Requests per second.
    pub requests_per_second: Option<u32>,
    /// Requests that may come at once.
    pub burst: u32,
    /// Life of entries stored without a TTL.
    pub default_ttl: Duration,
}

impl Config {
    /// The limits of a tenant: its section's, else those of all.
    #[must_use]
    pub fn limits(&self, tenant: &str) -> TenantLimits {
        let section = self.tenants.get(tenant).cloned().unwrap_or_default();
        let requests_per_second = section.requests_per_second.or(self.requests_per_second);
        let two_seconds = requests_per_second.unwrap_or(0).saturating_mul(2).max(1);
        TenantLimits {
            max_bytes: section
                .max_bytes
                .or(self.tenant_max_bytes)
                .map(|size| size.0),
            max_entries: section.max_entries.or(self.tenant_max_entries),
            requests_per_second,
            burst: section.burst.or(self.burst).unwrap_or(two_seconds).max(1),
            default_ttl: section.default_ttl.unwrap_or(self.default_ttl),
        }
    }
}

/// Reads the `tenants` table. The error names the tenant and the setting.
pub(super) fn read(value: toml::Value) -> Result<BTreeMap<String, TenantSection>, String> {
    let toml::Value::Table(table) = value else {
        return Err("tenants must be sections, as in [tenants.acme]".to_owned());
    };
    let mut tenants = BTreeMap::new();
    for (tenant, section) in table {
        check_tenant(&tenant).map_err(|error| error.to_string())?;
        let toml::Value::Table(section) = section else {
            return Err(format!("tenants.{tenant} must be a section"));
        };
        let mut read = TenantSection::default();
        for (name, value) in section {
            let text = super::scalar(value)
                .ok_or_else(|| format!("tenants.{tenant}.{name} must be a text or a number"))?;
            set(&mut read, &name, &text)
                .map_err(|error| format!("tenants.{tenant}.{name}: {error}"))?;
        }
        tenants.insert(tenant, read);
    }
    Ok(tenants)
}

fn set(section: &mut TenantSection, name: &str, text: &str) -> Result<(), String> {
    let wrong = |wanted: &str| format!("{text:?} is not {wanted}");
    let positive = |text: &str| match u32::parse(text) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(wrong("a whole number above 0")),
    };
    match name {
        "max_bytes" => section.max_bytes = Some(Size::parse(text).map_err(wrong)?),
        "max_entries" => section.max_entries = Some(u64::parse(text).map_err(wrong)?),
        "requests_per_second" => section.requests_per_second = Some(positive(text)?),
        "burst" => section.burst = Some(positive(text)?),
        "default_ttl" => {
            let ttl = Duration::parse(text).map_err(wrong)?;
            if !(1..=crate::api::MAX_TTL).contains(&ttl.as_secs()) || ttl.subsec_nanos() != 0 {
                return Err(wrong("1s to 30d in whole seconds"));
            }
            section.default_ttl = Some(ttl);
        }
        _ => {
            return Err(
                "a tenant has max_bytes, max_entries, requests_per_second, burst and default_ttl"
                    .to_owned(),
            );
        }
    }
    Ok(())
}
