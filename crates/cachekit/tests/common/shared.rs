//! The stores that processes share, each as it is in use.

use std::sync::Arc;

use cachekit::{
    Cache,
    backends::{
        Backend, CachekitIOBackend, CachekitIOConfig, FileBackend, FileConfig, MemcachedBackend,
        MemcachedConfig, RedisBackend,
    },
};
use cachekit_testkit::{
    TempDir,
    servers::{CachekitServer, MemcachedServer, RedisServer},
};

use super::{SOON, built};

/// A store that processes share.
pub(crate) enum Shared {
    File(TempDir),
    Redis(RedisServer),
    Memcached(MemcachedServer),
    /// `cachekit serve` over TLS, and Redis where that is behind it.
    CachekitIO(CachekitServer, Option<RedisServer>),
}

impl Shared {
    /// Runs a test on each of them.
    pub(crate) fn each(test: impl Fn(&Self)) {
        test(&Self::File(TempDir::new()));
        test(&Self::Redis(RedisServer::start()));
        test(&Self::Memcached(MemcachedServer::start()));
        test(&Self::CachekitIO(CachekitServer::start(), None));
        let redis = RedisServer::start();
        let flags = ["--store", "redis", "--redis-url", &redis.url()];
        test(&Self::CachekitIO(CachekitServer::with(&flags), Some(redis)));
    }

    /// What a process must have in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::File(directory) => vec![("STORE", directory.path().display().to_string())],
            Self::Redis(server) => vec![("STORE", server.url())],
            Self::Memcached(server) => vec![("STORE", server.url())],
            Self::CachekitIO(server, _) => vec![
                ("STORE", server.url()),
                ("STORE_KEY", server.key().to_owned()),
                ("SSL_CERT_FILE", server.ca().display().to_string()),
            ],
        }
    }

    /// A cache of its own, as another process would have it. Each test runs in a process of its own,
    /// whose environment this changes.
    pub(crate) fn process(&self) -> Cache {
        for (name, value) in self.environment() {
            // SAFETY: nothing else in this process reads or writes the environment at this time: the
            // test's own thread calls it, before any call of this backend.
            unsafe { std::env::set_var(name, value) };
        }
        process()
    }
}

/// A cache over the store that the environment names.
pub(crate) fn process() -> Cache {
    let named = |name| std::env::var(name).expect("the test has set it");
    let store = named("STORE");
    let backend: Arc<dyn Backend> = match store.split(':').next() {
        Some("https") => {
            let config = CachekitIOConfig::with_custom_host(&store, named("STORE_KEY"));
            Arc::new(CachekitIOBackend::new(config.expect("a good URL")))
        }
        Some("redis") => Arc::new(RedisBackend::from_url(&store).expect("a good URL")),
        Some("memcached") => {
            let config = MemcachedConfig::from_url(&store).expect("a good URL");
            Arc::new(MemcachedBackend::new(config))
        }
        _ => Arc::new(FileBackend::new(FileConfig::new(store)).expect("good settings")),
    };
    built(
        Cache::builder()
            .backend(backend)
            .namespace("test")
            .timeout(SOON)
            .adaptive_timeout(None),
    )
}
