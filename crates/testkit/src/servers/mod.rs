//! Real servers for tests, on free ports of this machine, stopped when dropped.

mod cachekit;
mod memcached;
mod process;
mod redis;
mod sentinel;
mod tls;

pub use self::cachekit::CachekitServer;
pub use self::memcached::{MemcachedOptions, MemcachedServer};
pub use self::process::{free_port, wait_until};
pub use self::redis::{RedisCluster, RedisOptions, RedisServer};
pub use self::sentinel::RedisSentinels;
pub use self::tls::Certificates;
