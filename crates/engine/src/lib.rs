//! The decisions of cachekit: L1, flights, freshness, breaker, statistics. No I/O, no clock.

pub mod backpressure;
pub mod breaker;
pub mod deadline;
pub mod fill;
pub mod flight;
pub mod function;
pub mod l1;
pub mod outage;
pub mod stats;
pub mod time;
pub mod waits;
