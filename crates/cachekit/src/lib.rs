//! A two-layer function-result cache: in-process L1 over a shared L2.
//!
//! ```
//! use std::time::Duration;
//! use cachekit::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
//! struct User {
//!     id: u64,
//!     name: String,
//! }
//!
//! #[derive(Debug, Clone, PartialEq)]
//! struct NotFound;
//!
//! async fn load(id: u64) -> Result<User, NotFound> {
//!     // A slow query.
//!     Ok(User { id, name: "Ada".into() })
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! // With CACHEKIT_REDIS_URL or REDIS_URL in the environment, entries are shared through it.
//! let cache = Cache::from_env()?.with_ttl(Duration::from_secs(300));
//!
//! let user = cache.get_or_compute("user:42", || load(42)).await; // Runs `load`.
//! let again = cache.get_or_compute("user:42", || load(42)).await; // Does not.
//! assert_eq!(user, again);
//! assert_eq!(cache.stats().l1_hits, 1);
//!
//! cache.invalidate("user:42").await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Cache`] says what is promised, [`CacheBuilder`] what can be set, [`Function`] how entries are
//! shared with Python functions. Blocking callers have the same operations under names that end in
//! `_blocking`, and tasks of any executor and threads may use one cache together.
//!
//! Each backend is a feature: `cachekitio`, `file`, `memcached`, `redis`; so are `encryption` and `lz4hc`, which is
//! [`CacheBuilder::compression_level`]. All are on by default; without them no C compiler is needed, which the backends
//! but `file` want for TLS. What the environment asks for and is left out is an error that names the feature.
//!
//! The modules below `runtime`, `store`, `shared` and their like are what this crate and the Python
//! package have in common.
#![cfg_attr(
    not(all(
        feature = "cachekitio",
        feature = "encryption",
        feature = "file",
        feature = "lz4hc",
        feature = "memcached",
        feature = "redis"
    )),
    allow(
        dead_code,
        unused_imports,
        unused_variables,
        reason = "what only features use that are left out"
    )
)]

pub mod args;
mod asking;
mod builder;
mod cache;
mod call;
mod chain;
mod change;
pub mod clearing;
pub mod clock;
mod core;
pub mod diagnosis;
pub mod encryption;
mod env;
mod error;
mod filling;
pub mod freshness;
mod function;
pub mod guards;
pub mod interop;
pub mod lease;
pub mod park;
pub mod payload;
pub mod prelude;
pub mod runtime;
mod scope;
mod seal;
mod selection;
pub mod settings;
pub mod shared;
mod stats;
pub mod store;
pub mod telling;
mod value;
mod weigh;

pub use builder::CacheBuilder;
pub use cache::Cache;
pub use cachekit_backends as backends;
pub use cachekit_engine::{
    backpressure::BackpressureConfig, breaker::BreakerConfig, deadline::TimeoutConfig,
};
pub use error::{Error, ErrorKind};
pub use function::Function;
pub use stats::Stats;
pub use value::Value;
