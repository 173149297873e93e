//! How Python makes a Memcached backend.

use std::{sync::Arc, time::Duration};

use cachekit_backends::{
    Backend,
    memcached::{MemcachedBackend, MemcachedConfig},
};
use pyo3::prelude::*;

/// What Python says about the servers; a single one may be a URL.
pub(super) struct Settings {
    pub(super) servers: Vec<String>,
    pub(super) pool_size: usize,
    pub(super) connect_timeout: Duration,
    pub(super) retry_attempts: u32,
    pub(super) key_prefix: String,
    pub(super) max_item_size: usize,
}

/// The backend. Nothing is connected before the first use.
pub(super) fn open(py: Python<'_>, settings: Settings) -> PyResult<Arc<dyn Backend>> {
    let config = match settings.servers.as_slice() {
        [url] if url.contains("://") => MemcachedConfig::from_url(url),
        servers => MemcachedConfig::from_servers(servers),
    };
    let config = config
        .map_err(|error| super::native::raise(py, &error, None))?
        .pool_size(settings.pool_size)
        .connect_timeout(settings.connect_timeout)
        .retry_attempts(settings.retry_attempts)
        .key_prefix(settings.key_prefix)
        .max_item_size(settings.max_item_size);
    Ok(Arc::new(MemcachedBackend::new(config)))
}
