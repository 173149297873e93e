//! The rule that picks a backend from the environment: the first variable that is set wins.

use std::{ffi::OsString, sync::Arc, time::Duration};

use cachekit_backends::{Backend, BackendError};
#[cfg(feature = "cachekitio")]
use cachekit_backends::{CachekitIOBackend, CachekitIOConfig};
#[cfg(all(feature = "file", unix))]
use cachekit_backends::{FileBackend, FileConfig};
#[cfg(feature = "memcached")]
use cachekit_backends::{MemcachedBackend, MemcachedConfig};
#[cfg(feature = "redis")]
use cachekit_backends::{RedisBackend, RedisConfig};

use crate::{
    builder::{CacheBuilder, TIMEOUT},
    error::Error,
    settings::{self, Setting, Values, Variables, remedy},
};

/// The tenant of those who configure nothing but a Redis URL.
const TENANT: &str = "default";

#[derive(Clone, Copy)]
enum Kind {
    CachekitIO,
    Redis,
    Memcached,
    File,
}

/// The variables that choose a backend, in the order in which they win.
const KINDS: [(Kind, &[&str]); 4] = [
    (Kind::CachekitIO, &["CACHEKIT_API_KEY"]),
    (Kind::Redis, &["CACHEKIT_REDIS_URL", "REDIS_URL"]),
    (Kind::Memcached, &["CACHEKIT_MEMCACHED_SERVERS"]),
    (Kind::File, &["CACHEKIT_FILE_CACHE_DIR"]),
];

/// What the variables choose.
#[derive(Clone)]
pub(crate) struct Selected {
    kind: Kind,
    /// The variable that chose.
    pub(crate) variable: &'static str,
    /// Those that would have chosen another backend.
    pub(crate) ignored: Vec<&'static str>,
}

/// The choice of the variables, if they make one.
pub(crate) fn selected(
    variables: &Variables<impl Fn(&str) -> Option<OsString>>,
) -> Result<Option<Selected>, Error> {
    let mut found = Vec::new();
    for (kind, names) in KINDS {
        for name in names {
            if variables.text(name)?.is_some() {
                found.push((kind, *name));
                break;
            }
        }
    }
    let Some((kind, variable)) = found.first().copied() else {
        return Ok(None);
    };
    Ok(Some(Selected {
        kind,
        variable,
        ignored: found[1..].iter().map(|(_, name)| *name).collect(),
    }))
}

impl Selected {
    /// The settings of the backend.
    pub(crate) fn table(&self) -> &'static [Setting] {
        match self.kind {
            Kind::CachekitIO => settings::CACHEKITIO,
            Kind::Redis => settings::REDIS,
            Kind::Memcached => settings::MEMCACHED,
            Kind::File => settings::FILE,
        }
    }

    /// The backend, and what one call may spend on it. Connects to nothing.
    pub(crate) fn make(
        &self,
        variables: &Variables<impl Fn(&str) -> Option<OsString>>,
    ) -> Result<(Arc<dyn Backend>, Duration), Error> {
        let values = variables.read(self.table())?;
        let chosen: Result<Chosen, Error> = match self.kind {
            #[cfg(feature = "cachekitio")]
            Kind::CachekitIO => cachekitio(&values),
            #[cfg(feature = "redis")]
            Kind::Redis => redis(&values, self.variable),
            #[cfg(feature = "memcached")]
            Kind::Memcached => memcached(&values),
            #[cfg(all(feature = "file", unix))]
            Kind::File => file(&values),
            #[allow(unreachable_patterns, reason = "when nothing is left out")]
            _ => Err(self.left_out()),
        };
        let (backend, timeout) = chosen?;
        Ok((backend, timeout.unwrap_or(TIMEOUT)))
    }

    fn left_out(&self) -> Error {
        let (backend, feature) = match self.kind {
            Kind::CachekitIO => ("CachekitIO", "cachekitio"),
            Kind::Redis => ("Redis", "redis"),
            Kind::Memcached => ("Memcached", "memcached"),
            Kind::File => ("File", "file"),
        };
        Error::configuration(
            format!(
                "{} selects the {backend} backend, which this program was built without",
                self.variable
            ),
            &format!(
                "unset it, or build with the feature \"{feature}\" of cachekit-cache (File needs a Unix system)"
            ),
        )
    }
}

/// Gives `builder` the backend that the variables choose, and its timeout. Connects to nothing.
pub(crate) fn choose(
    builder: CacheBuilder,
    variables: &Variables<impl Fn(&str) -> Option<OsString>>,
) -> Result<CacheBuilder, Error> {
    let Some(selected) = selected(variables)? else {
        tracing::info!(
            target: "cachekit",
            "no backend is configured: what is cached stays in this process (set CACHEKIT_REDIS_URL, \
             CACHEKIT_MEMCACHED_SERVERS, CACHEKIT_FILE_CACHE_DIR or CACHEKIT_API_KEY to share it)"
        );
        return Ok(builder);
    };
    if !selected.ignored.is_empty() {
        tracing::warn!(
            target: "cachekit",
            "several backends are configured: {} is used, {} ignored",
            selected.variable,
            selected.ignored.join(", ")
        );
    }
    let (backend, timeout) = selected.make(variables)?;
    let builder = builder.backend(backend).timeout(timeout);
    Ok(match selected.kind {
        Kind::Redis => builder.default_tenant(TENANT),
        _ => builder,
    })
}

/// A backend, and what one call may spend on it.
type Chosen = (Arc<dyn Backend>, Option<Duration>);

/// What a backend says of its configuration, with the variable that it came from. The variable's text
/// is not repeated, which may hold a password.
fn refused(name: &str) -> impl Fn(BackendError) -> Error {
    move |error| {
        Error::configuration(format!("{name}: {}", error.message()), &remedy(name)).caused_by(error)
    }
}

fn count(values: &Values, name: &str) -> Option<usize> {
    let count = values.integer(name)?;
    Some(usize::try_from(count).unwrap_or(usize::MAX))
}

fn few(values: &Values, name: &str) -> Option<u32> {
    let count = values.integer(name)?;
    Some(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(feature = "redis")]
fn redis(values: &Values, name: &str) -> Result<Chosen, Error> {
    let url = values.text("redis_url").unwrap_or_default();
    let mut config = RedisConfig::from_url(&url).map_err(refused(name))?;
    if let Some(connections) = count(values, "connection_pool_size") {
        config = config.pool_size(connections);
    }
    if let Some(timeout) = values.seconds("socket_connect_timeout") {
        config = config.connect_timeout(timeout);
    }
    let backend = Arc::new(RedisBackend::new(config));
    Ok((backend, values.seconds("socket_timeout")))
}

#[cfg(feature = "memcached")]
fn memcached(values: &Values) -> Result<Chosen, Error> {
    let servers = values.servers("servers").unwrap_or_default();
    let config = MemcachedConfig::from_servers(servers);
    let mut config = config.map_err(refused("CACHEKIT_MEMCACHED_SERVERS"))?;
    if let Some(connections) = count(values, "max_pool_size") {
        config = config.pool_size(connections);
    }
    if let Some(timeout) = values.seconds("connect_timeout") {
        config = config.connect_timeout(timeout);
    }
    if let Some(attempts) = few(values, "retry_attempts") {
        config = config.retry_attempts(attempts);
    }
    if let Some(prefix) = values.text("key_prefix") {
        config = config.key_prefix(prefix);
    }
    if let Some(bytes) = count(values, "max_item_size_bytes") {
        config = config.max_item_size(bytes);
    }
    let backend = Arc::new(MemcachedBackend::new(config));
    Ok((backend, values.seconds("timeout")))
}

#[cfg(all(feature = "file", unix))]
fn file(values: &Values) -> Result<Chosen, Error> {
    let directory = values.text("cache_dir").unwrap_or_default();
    let size = values.integer("max_size_mb").unwrap_or(1024);
    let half = (size / 2).max(1);
    let mut largest = values.integer("max_value_mb").unwrap_or(half);
    if largest > half {
        if values.given("max_value_mb").is_some() {
            return Err(Error::configuration(
                format!(
                    "CACHEKIT_FILE_MAX_VALUE_MB={largest} is not valid: at most half of the {size} of \
                     CACHEKIT_FILE_MAX_SIZE_MB is expected"
                ),
                "lower it, or raise CACHEKIT_FILE_MAX_SIZE_MB",
            ));
        }
        largest = half;
    }
    let mut config = FileConfig::new(directory)
        .max_size_mb(size)
        .max_value_mb(largest);
    if let Some(entries) = few(values, "max_entry_count") {
        config = config.max_entry_count(entries);
    }
    if let Some(limit) = values.seconds("lock_timeout_seconds") {
        config = config.lock_timeout(limit);
    }
    if let Some(mode) = values.mode("permissions") {
        config = config.permissions(mode);
    }
    if let Some(mode) = values.mode("dir_permissions") {
        config = config.dir_permissions(mode);
    }
    let backend = FileBackend::new(config).map_err(refused("CACHEKIT_FILE_CACHE_DIR"))?;
    Ok((Arc::new(backend), None))
}

#[cfg(feature = "cachekitio")]
fn cachekitio(values: &Values) -> Result<Chosen, Error> {
    let url = values.text("api_url").unwrap_or_default();
    let key = values.text("api_key").unwrap_or_default();
    let custom = values.boolean("allow_custom_host").unwrap_or(false);
    let config = match custom {
        true => CachekitIOConfig::with_custom_host(&url, key),
        false => CachekitIOConfig::new(&url, key),
    };
    let mut config = config.map_err(|error| {
        let of_key = error.message().starts_with("the API key");
        let name = if of_key {
            "CACHEKIT_API_KEY"
        } else {
            "CACHEKIT_API_URL"
        };
        refused(name)(error)
    })?;
    if let Some(retries) = few(values, "max_retries") {
        config = config.max_retries(retries);
    }
    if let Some(connections) = count(values, "connection_pool_size") {
        config = config.pool_size(connections);
    }
    let backend = Arc::new(CachekitIOBackend::new(config));
    Ok((backend, values.seconds("timeout")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_is_left_out_is_named_with_its_feature() {
        let selected = Selected {
            kind: Kind::Memcached,
            variable: "CACHEKIT_MEMCACHED_SERVERS",
            ignored: vec![],
        };
        let told = selected.left_out().to_string();
        assert!(told.contains("CACHEKIT_MEMCACHED_SERVERS"), "{told}");
        assert!(told.contains("\"memcached\""), "{told}");
    }
}
