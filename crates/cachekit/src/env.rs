//! The environment variables that a cache is made from.

use std::{ffi::OsString, sync::Arc, time::Duration};

use cachekit_backends::{RedisBackend, RedisConfig};

use crate::{builder::CacheBuilder, error::Error};

/// The tenant of those who configure nothing but a URL.
const TENANT: &str = "default";

/// The variables that choose a backend, in the order in which they win.
const BACKENDS: [(&str, &[&str]); 4] = [
    ("CachekitIO", &["CACHEKIT_API_KEY"]),
    ("Redis", &["CACHEKIT_REDIS_URL", "REDIS_URL"]),
    ("Memcached", &["CACHEKIT_MEMCACHED_SERVERS"]),
    ("File", &["CACHEKIT_FILE_CACHE_DIR"]),
];

struct Variables<F>(F);

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    /// A variable's text; empty is unset.
    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(value) = (self.0)(name) else {
            return Ok(None);
        };
        let text = value
            .into_string()
            .map_err(|_| Error::configuration(format!("{name} is not UTF-8"), &remedy(name)))?;
        Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    /// A variable's value, as `parse` reads it.
    fn value<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::configuration(
                format!("{name}={text:?} is not valid: {expected} is expected"),
                &remedy(name),
            )),
        }
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, Error> {
        self.value(name, "true or false", |text| {
            match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
                "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
                _ => None,
            }
        })
    }

    fn count(&self, name: &str) -> Result<Option<u64>, Error> {
        self.value(name, "a whole number above 0", |text| {
            text.parse().ok().filter(|count| *count > 0)
        })
    }

    fn seconds(&self, name: &str) -> Result<Option<Duration>, Error> {
        self.value(name, "a number of seconds above 0", |text| {
            Duration::try_from_secs_f64(text.parse().ok()?)
                .ok()
                .filter(|span| !span.is_zero())
        })
    }
}

fn remedy(name: &str) -> String {
    format!("correct {name} or unset it")
}

/// Changes `builder` as the variables say.
pub(crate) fn read(
    builder: CacheBuilder,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<CacheBuilder, Error> {
    let variables = Variables(variable);
    let mut builder = shared(builder, &variables)?;
    if let Some(ttl) = variables.seconds("CACHEKIT_DEFAULT_TTL")? {
        builder = builder.ttl(ttl);
    }
    if let Some(mib) = variables.count("CACHEKIT_L1_MAX_SIZE_MB")? {
        builder = builder.l1_bytes(mib.saturating_mul(1 << 20));
    }
    if variables.boolean("CACHEKIT_L1_ENABLED")? == Some(false) {
        builder = builder.no_l1();
    }
    if let Some(timeout) = variables.seconds("CACHEKIT_SOCKET_TIMEOUT")? {
        builder = builder.timeout(timeout);
    }
    if let Some(compression) = variables.boolean("CACHEKIT_ENABLE_COMPRESSION")? {
        builder = builder.compression(compression);
    }
    let bytes = variables.count("CACHEKIT_MAX_VALUE_SIZE")?;
    let mib = variables.count("CACHEKIT_MAX_CHUNK_SIZE_MB")?;
    let limits = [bytes, mib.map(|mib| mib.saturating_mul(1 << 20))];
    if let Some(limit) = limits.into_iter().flatten().min() {
        builder = builder.max_value_bytes(limit);
    }
    let disabled = variables.boolean("CACHEKIT_DISABLED")?;
    Ok(builder.disabled(disabled.unwrap_or(false)))
}

/// Chooses the backend.
fn shared(
    builder: CacheBuilder,
    variables: &Variables<impl Fn(&str) -> Option<OsString>>,
) -> Result<CacheBuilder, Error> {
    let mut found = Vec::new();
    for (kind, names) in BACKENDS {
        for name in names {
            if let Some(text) = variables.text(name)? {
                found.push((kind, *name, text));
                break;
            }
        }
    }
    let Some((kind, name, text)) = found.first() else {
        tracing::info!(
            target: "cachekit",
            "no backend is configured: what is cached stays in this process (set CACHEKIT_REDIS_URL to share it)"
        );
        return Ok(builder);
    };
    if found.len() > 1 {
        let ignored: Vec<&str> = found[1..].iter().map(|(_, name, _)| *name).collect();
        tracing::warn!(
            target: "cachekit",
            "several backends are configured: {name} is used, {} ignored",
            ignored.join(", ")
        );
    }
    if *kind != "Redis" {
        return Err(Error::configuration(
            format!("{name} selects the {kind} backend, which this version does not have"),
            &format!("unset {name}, or build the cache with Cache::builder()"),
        ));
    }
    // The text is not repeated: it may hold a password.
    let mut config = RedisConfig::from_url(text).map_err(|error| {
        Error::configuration(format!("{name}: {}", error.message()), &remedy(name)).caused_by(error)
    })?;
    if let Some(connections) = variables.count("CACHEKIT_CONNECTION_POOL_SIZE")? {
        config = config.pool_size(usize::try_from(connections).unwrap_or(usize::MAX));
    }
    if let Some(timeout) = variables.seconds("CACHEKIT_SOCKET_CONNECT_TIMEOUT")? {
        config = config.connect_timeout(timeout);
    }
    Ok(builder
        .backend(Arc::new(RedisBackend::new(config)))
        .tenant(TENANT))
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
