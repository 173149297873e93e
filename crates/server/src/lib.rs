//! The self-hosted CacheKit HTTP API, what a team runs instead of the managed service.
//!
//! [`Config`] says how, [`Server::start`] runs it. The program is `cachekit serve`; its manual is
//! `docs/server.md`.

mod api;
mod config;
mod http;
mod keys;
mod limits;
mod metrics;
mod server;
mod store;
mod watch;

pub use config::{
    Config, ConfigError, Durability, ENVIRONMENT_PREFIX, LogFormat, QuotaPolicy, SETTINGS, Secret,
    Setting, Size, StoreKind, TenantLimits, TenantSection, Value, key_path,
    warn_of_unknown_variables,
};
pub use keys::{KeyError, KeyFile, KeyRecord, Keys, Mode, NewKey, Permission};
pub use server::{Server, ServerError};
pub use store::{
    ENTRY_OVERHEAD, EmbeddedOptions, EmbeddedStore, Facts, Life, Lock, Place, Put, Quota,
    RedisStore, Result, Scope, Store, StoreError, Usage,
};
