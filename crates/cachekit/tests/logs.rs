//! What the log says, and how often.

mod common;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use cachekit::{BreakerConfig, backends::Backend, prelude::*};
use cachekit_testkit::servers::RedisServer;
use common::{MS, backend, built, eventually, process};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

#[derive(Debug, Clone, PartialEq)]
struct Broken;

/// Collects the events of one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, String)>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "cachekit"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let mut lines = self.0.lock().expect("nobody panics here");
        lines.push((*event.metadata().level(), message.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Log {
    /// The lines since the last call, those of the I/O thread apart.
    fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.0.lock().expect("nobody panics here"))
    }
}

fn compute(cache: &Cache, key: &str) {
    let got = cache.get_or_compute_blocking(key, || Ok::<_, Broken>(1));
    assert_eq!(got, Ok(1));
}

#[test]
fn one_warning_per_outage_and_one_line_when_it_is_over() {
    let mut server = RedisServer::start();
    let breaker = BreakerConfig {
        recovery_timeout: 50 * MS,
        success_threshold: 1,
        ..BreakerConfig::default()
    };
    let cache = built(process(&server).breaker(breaker).no_l1());
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.clone());
    compute(&cache, "k");
    assert_eq!(log.take(), []);
    let outage = |server: &mut RedisServer| {
        server.kill();
        for _ in 0..20 {
            compute(&cache, "k");
        }
    };
    outage(&mut server);
    let lines = log.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].0, Level::WARN);
    assert!(lines[0].1.starts_with("redis is unavailable"), "{lines:?}");

    server.restart();
    let hits = cache.stats().l2_hits;
    eventually("it is used again", || {
        compute(&cache, "k");
        cache.stats().l2_hits > hits
    });
    let lines = log.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].0, Level::INFO);
    assert!(lines[0].1.starts_with("redis is back"), "{lines:?}");

    outage(&mut server);
    assert_eq!(log.take(), [], "a minute's outages are one");
}

#[test]
fn an_unusable_entry_is_explained_once_and_its_key_is_not_shown() {
    let server = RedisServer::start();
    let cache = built(process(&server));
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.clone());
    for key in ["a secret", "another"] {
        let stored = backend(&server).set(
            &format!("test:{key}"),
            b"junk",
            None,
            Duration::from_secs(1),
        );
        stored.expect("the server is up");
        compute(&cache, key);
    }
    let lines = log.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].1.contains("damaged or foreign"), "{lines:?}");
    assert!(!lines[0].1.contains("secret"), "{lines:?}");
}

#[test]
fn a_value_that_cannot_be_stored_is_explained_once() {
    let server = RedisServer::start();
    let cache = built(process(&server).max_value_bytes(10));
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.clone());
    compute(&cache, "a");
    compute(&cache, "b");
    let lines = log.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].1.contains("more than the limit of 10"),
        "{lines:?}"
    );
    assert!(lines[0].1.contains("raise max_value_bytes"), "{lines:?}");
}

#[test]
fn calls_without_a_key_are_explained_once() {
    let cache = common::local();
    let function = cache.function("shop", "price");
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.clone());
    let deep = (0..600).fold(serde_json::json!(0), |inner, _| serde_json::json!([inner]));
    for _ in 0..2 {
        let got = function.call_blocking(&deep, || Ok::<_, Broken>(1));
        assert_eq!(got, Ok(1));
    }
    let lines = log.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].1.starts_with("shop.price: called uncached"),
        "{lines:?}"
    );
    assert!(lines[0].1.contains("512"), "{lines:?}");
}
