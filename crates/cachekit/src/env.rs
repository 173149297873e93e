//! The environment variables that a cache is made from.

use std::ffi::OsString;

use crate::{
    builder::CacheBuilder,
    cache::Cache,
    encryption::{KeyError, Keychain, MasterKey},
    error::Error,
    selection,
    settings::{self, Values, Variables, remedy},
};

const MIB: u64 = 1 << 20;

/// Changes `builder` as the variables say.
pub(crate) fn read(
    builder: CacheBuilder,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<CacheBuilder, Error> {
    let variables = Variables(variable);
    let mut builder = selection::choose(builder, &variables)?;
    let values = variables.read(settings::PROCESS)?;
    if let Some(ttl) = values.seconds("default_ttl") {
        builder = builder.ttl(ttl);
    }
    if let Some(mib) = values.integer("l1_max_size_mb") {
        builder = builder.l1_bytes(mib.saturating_mul(MIB));
    }
    if let Some(mib) = values.integer("l1_total_mb") {
        builder = builder.l1_total_bytes(mib.saturating_mul(MIB));
    }
    if values.boolean("l1_enabled") == Some(false) {
        builder = builder.no_l1();
    }
    if let Some(compression) = values.boolean("enable_compression") {
        builder = builder.compression(compression);
    }
    builder = compression_level(builder, &values)?;
    let bytes = values.integer("max_value_size");
    let mib = values.integer("max_chunk_size_mb");
    let limits = [bytes, mib.map(|mib| mib.saturating_mul(MIB))];
    if let Some(limit) = limits.into_iter().flatten().min() {
        builder = builder.max_value_bytes(limit);
    }
    builder = encryption(builder, &values)?;
    let disabled = values.boolean("disabled");
    Ok(builder.disabled(disabled.unwrap_or(false)))
}

/// What is wrong with settings of the process that are allowed each by itself.
pub(crate) fn problems(values: &Values) -> Vec<Error> {
    let of_keys = [master_key(values).err(), previous_keys(values).err()];
    let mut found: Vec<Error> = of_keys.into_iter().flatten().collect();
    if found.is_empty() {
        found.extend(encryption(Cache::production(), values).err());
    }
    found.extend(compression_level(Cache::production(), values).err());
    found
}

fn compression_level(builder: CacheBuilder, values: &Values) -> Result<CacheBuilder, Error> {
    let level = values.integer("compression_level");
    match level.filter(|_| values.boolean("enable_compression") != Some(false)) {
        Some(level) => compress(builder, u8::try_from(level).unwrap_or(u8::MAX)),
        None => Ok(builder),
    }
}

#[cfg(feature = "lz4hc")]
#[expect(clippy::unnecessary_wraps, reason = "as it is without the feature")]
fn compress(builder: CacheBuilder, level: u8) -> Result<CacheBuilder, Error> {
    Ok(builder.compression_level(level))
}

#[cfg(not(feature = "lz4hc"))]
fn compress(_: CacheBuilder, level: u8) -> Result<CacheBuilder, Error> {
    Err(Error::configuration(
        format!("CACHEKIT_COMPRESSION_LEVEL={level} asks for what this program was built without"),
        "unset it, or build with the feature \"lz4hc\" of cachekit-cache",
    ))
}

/// The keys, and whether everything is encrypted.
fn encryption(mut builder: CacheBuilder, values: &Values) -> Result<CacheBuilder, Error> {
    if let Some(name) = values.text("deployment_uuid") {
        builder = builder.deployment(name.to_lowercase());
    }
    let all = values.text("encryption").is_some();
    let older = previous_keys(values)?;
    let Some(key) = master_key(values)? else {
        return match all {
            false => Ok(builder),
            true => Err(Error::configuration(
                format!("CACHEKIT_ENCRYPTION is set and {MASTER_KEY} is not"),
                "set it to what `openssl rand -hex 32` prints",
            )),
        };
    };
    let keys = Keychain::new(key, older).map_err(|error| wrong(PREVIOUS_KEYS, "", error))?;
    Ok(builder.keys(keys, all))
}

const MASTER_KEY: &str = "CACHEKIT_MASTER_KEY";
const PREVIOUS_KEYS: &str = "CACHEKIT_PREVIOUS_MASTER_KEYS";

fn wrong(name: &str, which: &str, error: KeyError) -> Error {
    Error::configuration(format!("{name} {which}{error}"), &remedy(name))
}

fn master_key(values: &Values) -> Result<Option<MasterKey>, Error> {
    let key = values.text("master_key");
    let key = key.map(|text| MasterKey::from_hex(&text)).transpose();
    key.map_err(|error| wrong(MASTER_KEY, "", error))
}

fn previous_keys(values: &Values) -> Result<Vec<MasterKey>, Error> {
    let keys = values.keys("previous_master_keys").unwrap_or_default();
    let keys = keys.iter().zip(1..).map(|(text, number)| {
        MasterKey::from_hex(text)
            .map_err(|error| wrong(PREVIOUS_KEYS, &format!("(key {number}) "), error))
    });
    keys.collect()
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
