//! What the tests of the Rust face share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod shared;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cachekit::{Cache, CacheBuilder, backends::RedisBackend};
use cachekit_testkit::servers::RedisServer;

/// How long a test waits for what must happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const MS: Duration = Duration::from_millis(1);

/// A cache of its own, with its own connections and L1, as another process would have it. It waits for
/// its store for as long as a busy machine takes.
pub(crate) fn process(server: &RedisServer) -> CacheBuilder {
    Cache::builder()
        .backend(backend(server))
        .namespace("test")
        .timeout(SOON)
        .adaptive_timeout(None)
}

pub(crate) fn backend(server: &RedisServer) -> Arc<RedisBackend> {
    Arc::new(RedisBackend::from_url(&server.url()).expect("a server's URL is good"))
}

pub(crate) fn local() -> Cache {
    Cache::builder().build().expect("good options")
}

pub(crate) fn built(builder: CacheBuilder) -> Cache {
    builder.build().expect("good options")
}

/// The future's output on any executor: this one is neither tokio nor ours.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    cachekit::park::block_on(future, SOON, SOON, || true).expect("it ends in time")
}

/// How often something ran.
#[derive(Clone, Default)]
pub(crate) struct Runs(Arc<AtomicUsize>);

impl Runs {
    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Waits until something is so.
pub(crate) fn eventually(what: &str, so: impl FnMut() -> bool) {
    cachekit_testkit::servers::wait_until(what, so);
}
