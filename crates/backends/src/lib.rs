//! Where cached bytes rest: the Backend trait and its implementations.
//!
//! A backend moves bytes and reports capabilities. It knows nothing of freshness, codecs or how
//! keys are made.
#![cfg_attr(
    not(all(
        feature = "cachekitio",
        feature = "file",
        feature = "memcached",
        feature = "redis"
    )),
    allow(
        dead_code,
        unused_imports,
        reason = "what only backends use that are left out"
    )
)]

mod backend;
#[cfg(feature = "cachekitio")]
pub mod cachekitio;
#[cfg(any(feature = "net", all(feature = "file", unix)))]
mod deadline;
mod error;
#[cfg(all(feature = "file", unix))]
pub mod file;
#[cfg(feature = "memcached")]
pub mod memcached;
#[cfg(feature = "net")]
mod net;
pub mod process;
#[cfg(feature = "redis")]
pub mod redis;
mod tally;

pub use backend::{
    AsyncBackend, Backend, Capabilities, Detail, Found, Health, LockReply, Locking, Released,
    Remaining,
};
pub use bytes::Bytes;
#[cfg(feature = "cachekitio")]
pub use cachekitio::{CachekitIOBackend, CachekitIOConfig};
pub use error::{BackendError, ErrorKind, Result, scrub};
#[cfg(all(feature = "file", unix))]
pub use file::{FileBackend, FileConfig};
#[cfg(feature = "memcached")]
pub use memcached::{MemcachedBackend, MemcachedConfig};
#[cfg(feature = "net")]
pub use net::tls::{certificate_remedy, tls_client_config};
#[cfg(feature = "redis")]
pub use redis::{RedisBackend, RedisConfig};
pub use tally::{Counters, Tally};
