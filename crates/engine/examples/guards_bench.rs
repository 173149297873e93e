//! What the guards around a backend cost per operation, in nanoseconds.
//!
//! `cargo run --release -p cachekit-engine --example guards_bench`
#![allow(clippy::print_stdout, reason = "a benchmark prints its numbers")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit_engine::backpressure::{Backpressure, BackpressureConfig};
use cachekit_engine::breaker::{Breaker, BreakerConfig, FailureKind, Permission};
use cachekit_engine::deadline::{AdaptiveTimeout, TimeoutConfig};
use cachekit_engine::outage::Outage;
use cachekit_engine::stats::Stats;
use cachekit_engine::time::Tick;

/// The best of several runs of `work`, in nanoseconds per call.
fn best(what: &str, mut work: impl FnMut(u64)) {
    const CALLS: u64 = 1_000_000;
    let run = |_| {
        let start = Instant::now();
        for number in 0..CALLS {
            work(black_box(number));
        }
        start.elapsed().as_nanos() as f64 / CALLS as f64
    };
    let nanos = (0..5).map(run).fold(f64::INFINITY, f64::min);
    println!("{what:34} {nanos:6.1} ns");
}

fn main() {
    let breaker = Arc::new(Breaker::new(BreakerConfig::default()));
    best("breaker closed, success", |now| {
        if let Permission::Granted(permit) = breaker.try_acquire(Tick(now)) {
            black_box(permit.success(Tick(now)));
        }
    });
    best("breaker closed, success, owned", |now| {
        if let Permission::Granted(permit) = breaker.try_acquire_owned(Tick(now)) {
            black_box(permit.success(Tick(now)));
        }
    });
    if let Permission::Granted(permit) = breaker.try_acquire(Tick(0)) {
        black_box(permit.failure(Tick(0), FailureKind::Authentication));
    }
    best("breaker open, refused", |_| {
        black_box(breaker.try_acquire(Tick(1)).is_granted());
    });

    let gate = Arc::new(Backpressure::new(BackpressureConfig::default()));
    best("backpressure, in and out", |_| {
        drop(black_box(gate.try_enter()))
    });

    let timeout = AdaptiveTimeout::new(TimeoutConfig::default());
    best("adaptive timeout, record", |number| {
        let nanos = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 50_000_000;
        timeout.record(Duration::from_nanos(nanos));
    });
    best("adaptive timeout, read", |_| {
        black_box(timeout.current(Duration::from_secs(1)));
    });

    let (outage, stats) = (Outage::default(), Stats::default());
    best("outage, success", |now| {
        black_box(outage.on_success(Tick(now)));
    });
    best("statistics, L1 hit", |now| stats.l1_hit(Tick(now)));
}
