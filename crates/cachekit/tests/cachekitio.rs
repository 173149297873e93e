//! Caches over a CachekitIO service: what they report to it.

mod common;

use std::{path::PathBuf, sync::Arc};

use cachekit::{
    backends::{CachekitIOBackend, CachekitIOConfig},
    prelude::*,
};
use cachekit_testkit::scripted::{ScriptedApi, Step};
use common::{SOON, built, run};

#[derive(Debug, Clone, PartialEq)]
struct Broken;

/// A cache of its own, as another process would have it. Each test runs in a process of its own,
/// whose trust this changes.
fn process(url: &str, key: &str, ca: PathBuf) -> CacheBuilder {
    // SAFETY: nothing else in this process reads or writes the environment at this time: the test's
    // own thread calls it, before any call of a backend.
    unsafe { std::env::set_var("SSL_CERT_FILE", ca) };
    let config = CachekitIOConfig::with_custom_host(url, key).expect("a good URL");
    Cache::builder()
        .backend(Arc::new(CachekitIOBackend::new(config)))
        .namespace("test")
        .timeout(SOON)
        .adaptive_timeout(None)
}

#[test]
fn functions_report_their_hits_and_misses() {
    let api = ScriptedApi::start();
    api.otherwise(Step::Answer(404, Vec::new(), Vec::new()));
    let cache = built(process(&api.url(), "ck_test_k", api.ca()));
    let told = || {
        let seen = api.seen();
        let last = seen.last().expect("a request");
        ["l1-hits", "l2-hits", "misses", "l1-status"].map(|name| {
            let header = last.header(&format!("x-cachekit-{name}"));
            header.unwrap_or("-").to_owned()
        })
    };
    let twice = cache.function("test", "twice");
    let get = |x: u64| {
        let twice = twice.call_blocking(&(x,), || Ok::<_, Broken>(2 * x));
        assert_eq!(twice, Ok(2 * x));
    };
    get(1);
    assert_eq!(told(), ["0", "0", "0", "enabled"]);
    for _ in 0..3 {
        get(1);
    }
    get(2);
    assert_eq!(told(), ["3", "0", "1", "enabled"]);
    // All functions of the cache count, and awaited calls too.
    let other = cache.get_or_compute_blocking("text", || Ok::<_, Broken>(7));
    assert_eq!(other, Ok(7));
    let awaited = cache.get_or_compute("more", || async { Ok::<_, Broken>(8) });
    assert_eq!(run(awaited), Ok(8));
    // `twice` has told its second miss with nothing since: it is told at its next visit.
    assert_eq!(told(), ["3", "0", "2", "enabled"]);
    get(3);
    assert_eq!(told(), ["3", "0", "3", "enabled"]);
}
