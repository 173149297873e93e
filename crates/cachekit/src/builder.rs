//! How a cache is made.

use std::{sync::Arc, time::Duration};

use cachekit_backends::Backend;
#[cfg(feature = "redis")]
use cachekit_backends::RedisBackend;
use cachekit_engine::{
    backpressure::BackpressureConfig, breaker::BreakerConfig, deadline::TimeoutConfig,
};
use cachekit_wire::{envelope::Compression, frame::Serializer};

use crate::{
    cache::Cache,
    clock::SystemClock,
    core::{Core, Settings},
    encryption::{Encryption, Keychain},
    env,
    error::Error,
    guards::{GuardConfig, Guards},
    payload::PayloadPolicy,
    store::Store,
};

/// The life of entries where nobody says otherwise.
const TTL: Duration = Duration::from_secs(3600);
/// What L1 holds.
const L1_BYTES: u64 = 100 << 20;
/// The largest entry that is stored.
const MAX_VALUE_BYTES: u64 = 50 << 20;
/// How long a caller waits behind another's computation.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// What one call may spend on the shared layer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// Where the shared layer comes from.
#[derive(Clone)]
enum Source {
    None,
    #[cfg(feature = "redis")]
    Redis(String),
    Given(Arc<dyn Backend>),
}

/// The options of a [`Cache`].
///
/// ```
/// use std::time::Duration;
/// use cachekit::prelude::*;
///
/// # fn main() -> Result<(), Error> {
/// let cache = Cache::builder()
///     .redis("redis://localhost:6379/0") // Nothing is connected before the first use.
///     .namespace("shop")
///     .ttl(Duration::from_secs(300))
///     .l1_bytes(32 << 20)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct CacheBuilder {
    settings: Settings,
    guards: GuardConfig,
    source: Source,
}

impl CacheBuilder {
    pub(crate) fn minimal() -> Self {
        Self {
            settings: Settings {
                namespace: None,
                tenant: None,
                own_tenant: false,
                encryption: None,
                deployment: None,
                ttl: Some(TTL),
                l1_bytes: Some(L1_BYTES),
                l1_total_bytes: None,
                payload: PayloadPolicy {
                    serializer: Serializer::Default,
                    integrity: false,
                    compression: Compression::Fast,
                    bare: false,
                },
                max_value_bytes: MAX_VALUE_BYTES,
                lock: true,
                lock_wait: LOCK_WAIT,
                timeout: TIMEOUT,
                disabled: false,
            },
            guards: GuardConfig::default(),
            source: Source::None,
        }
    }

    pub(crate) fn production() -> Self {
        Self::minimal()
            .integrity(true)
            .breaker(BreakerConfig::default())
            .backpressure(BackpressureConfig::default())
            .adaptive_timeout(TimeoutConfig::default())
    }

    /// The builder that the environment describes, which can be changed further.
    ///
    /// | variable | meaning, where it is set |
    /// |---|---|
    /// | `CACHEKIT_API_KEY` | the CachekitIO account of that key is the shared layer |
    /// | `CACHEKIT_REDIS_URL`, else `REDIS_URL` | else Redis; entries are kept apart from those of explicit backends, as tenant `default` (`t:default:…`) |
    /// | `CACHEKIT_MEMCACHED_SERVERS` | else Memcached |
    /// | `CACHEKIT_FILE_CACHE_DIR` | else a directory |
    /// | `CACHEKIT_DEFAULT_TTL` | [`ttl`](Self::ttl) in seconds |
    /// | `CACHEKIT_L1_ENABLED`, `CACHEKIT_L1_MAX_SIZE_MB` | [`no_l1`](Self::no_l1), [`l1_bytes`](Self::l1_bytes) in MiB |
    /// | `CACHEKIT_L1_TOTAL_MB` | [`l1_total_bytes`](Self::l1_total_bytes) in MiB |
    /// | `CACHEKIT_SOCKET_TIMEOUT`, `CACHEKIT_SOCKET_CONNECT_TIMEOUT` | [`timeout`](Self::timeout) and the time to connect, in seconds |
    /// | `CACHEKIT_CONNECTION_POOL_SIZE` | connections for blocking calls |
    /// | `CACHEKIT_ENABLE_COMPRESSION` | [`compression`](Self::compression) |
    /// | `CACHEKIT_COMPRESSION_LEVEL` | [`compression_level`](Self::compression_level) |
    /// | `CACHEKIT_MAX_VALUE_SIZE`, `CACHEKIT_MAX_CHUNK_SIZE_MB` | [`max_value_bytes`](Self::max_value_bytes), the smaller one |
    /// | `CACHEKIT_MASTER_KEY`, `CACHEKIT_PREVIOUS_MASTER_KEYS` | hexadecimal keys, the previous ones between commas; encrypted entries are read with them |
    /// | `CACHEKIT_ENCRYPTION` | `all`: values are [encrypted](Self::encryption) |
    /// | `CACHEKIT_DEPLOYMENT_UUID` | [`deployment`](Self::deployment) |
    /// | `CACHEKIT_DISABLED` | nothing is cached |
    ///
    /// Where none of the first four is set, what is cached stays in this process. Empty variables count as unset.
    ///
    /// # Errors
    /// When a value cannot be used; the error names the variable.
    pub fn from_env() -> Result<Self, Error> {
        env::read(Self::production(), |name| std::env::var_os(name))
    }

    /// Keeps entries in Redis or Valkey; the URL is read as
    /// [`RedisConfig`](crate::backends::RedisConfig) says.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.source = Source::Redis(url.into());
        self
    }

    /// Keeps entries in `backend`. Several caches may share one.
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.source = Source::Given(backend);
        self
    }

    /// The first part of every key; entries of different namespaces do not meet.
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.settings.namespace = Some(name.into());
        self
    }

    /// Keeps the entries of the store apart by tenant: stored keys begin with `t:{tenant}:`.
    pub fn tenant(mut self, name: impl Into<String>) -> Self {
        self.settings.own_tenant = true;
        self.default_tenant(name)
    }

    /// As [`tenant`](Self::tenant), for those who have chosen none.
    pub(crate) fn default_tenant(mut self, name: impl Into<String>) -> Self {
        self.settings.tenant = Some(name.into());
        self
    }

    /// Encrypts every value, with AES-256-GCM under a key that is derived from `keys` for the tenant,
    /// before it is kept anywhere: the store and this process's memory hold ciphertext, which each hit
    /// decrypts. Who shares entries needs the keys and the same [`tenant`](Self::tenant) or
    /// [`deployment`](Self::deployment).
    ///
    /// An entry that does not decrypt, or is not encrypted, is never served: it is logged, counted in
    /// [`Stats::refused`](crate::Stats::refused), recomputed and overwritten.
    ///
    /// ```
    /// use cachekit::{encryption::{Keychain, MasterKey}, prelude::*};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hex = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    /// let cache = Cache::builder()
    ///     .encryption(Keychain::new(MasterKey::from_hex(hex)?, vec![])?)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "encryption")]
    pub fn encryption(self, keys: Keychain) -> Self {
        self.keys(keys, true)
    }

    /// Whose keys encrypt where there are no tenants: the name that the other CacheKit SDKs call the
    /// deployment's UUID (`default`).
    pub fn deployment(mut self, name: impl Into<String>) -> Self {
        self.settings.deployment = Some(name.into());
        self
    }

    /// Reads encrypted entries with these keys, and encrypts with them if `encrypts`.
    pub(crate) fn keys(mut self, keys: Keychain, encrypts: bool) -> Self {
        self.settings.encryption = Some(Encryption {
            keychain: Arc::new(keys),
            encrypts,
            fail_closed: false, // What is computed through a cache has the function's errors alone.
            tenants: false,
        });
        self
    }

    /// How long entries live (an hour). Less than the store's unit rounds up; more than its longest
    /// life is cut to that.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.settings.ttl = Some(ttl);
        self
    }

    /// Lets entries live until they are forgotten or evicted.
    pub fn forever(mut self) -> Self {
        self.settings.ttl = None;
        self
    }

    /// The bytes that the entries in this process may hold (100 MiB). What an entry holds is
    /// estimated from how it serializes: spare capacity is not seen, and trees of dynamic values such
    /// as `serde_json::Value` take up to twice of what is counted.
    pub fn l1_bytes(mut self, bytes: u64) -> Self {
        self.settings.l1_bytes = Some(bytes);
        self
    }

    /// The bytes that the entries of all caches in this process may hold together (no limit). It is
    /// the process's: the cache that is built last decides, for all of them.
    pub fn l1_total_bytes(mut self, bytes: u64) -> Self {
        self.settings.l1_total_bytes = Some(bytes);
        self
    }

    /// Keeps nothing in this process: every hit is read from the store.
    pub fn no_l1(mut self) -> Self {
        self.settings.l1_bytes = None;
        self
    }

    /// Whether one process at a time computes a key, where the store has locks (true). A holder's
    /// lease is 3 s long and renewed while it computes.
    pub fn lock(mut self, lock: bool) -> Self {
        self.settings.lock = lock;
        self
    }

    /// How long a caller waits behind another's computation, in this process or elsewhere, before it
    /// computes by itself (30 s).
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.settings.lock_wait = wait;
        self
    }

    /// What one call may spend on the store altogether (1 s), waiting for another's computation
    /// apart.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// The circuit breaker: after several failures in a row the store is left alone for a while.
    /// `None` is off.
    pub fn breaker(mut self, config: impl Into<Option<BreakerConfig>>) -> Self {
        self.guards.breaker = config.into();
        self
    }

    /// The limit on operations under way at the store. `None` is off.
    pub fn backpressure(mut self, config: impl Into<Option<BackpressureConfig>>) -> Self {
        self.guards.backpressure = config.into();
        self
    }

    /// The timeout of single operations, which follows what the store usually takes. `None` leaves
    /// [`timeout`](Self::timeout) alone.
    pub fn adaptive_timeout(mut self, config: impl Into<Option<TimeoutConfig>>) -> Self {
        self.guards.timeout = config.into();
        self
    }

    /// Whether stored entries carry a checksum (true, [`Cache::minimal`] false). All who share
    /// entries must agree.
    pub fn integrity(mut self, integrity: bool) -> Self {
        self.settings.payload.integrity = integrity;
        self
    }

    /// Whether stored entries with a checksum are compressed (true). Readers take either.
    pub fn compression(mut self, compression: bool) -> Self {
        self.settings.payload.compression = match compression {
            true => Compression::Fast,
            false => Compression::Off,
        };
        self
    }

    /// Compresses stored entries harder: LZ4 HC of a level from 1 to 9, to which others are brought.
    #[cfg(feature = "lz4hc")]
    pub fn compression_level(mut self, level: u8) -> Self {
        self.settings.payload.compression = Compression::High(level.clamp(1, 9));
        self
    }

    /// The largest entry that is stored, in bytes (50 MiB). Larger values are not cached.
    pub fn max_value_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_value_bytes = bytes;
        self
    }

    /// Caches nothing.
    pub(crate) fn disabled(mut self, disabled: bool) -> Self {
        self.settings.disabled = disabled;
        self
    }

    /// Makes the cache. Nothing is connected before its first use.
    ///
    /// # Errors
    /// When an option's value cannot be used.
    pub fn build(self) -> Result<Cache, Error> {
        let Self {
            mut settings,
            guards,
            source,
        } = self;
        check(&settings)?;
        if let Some(encryption) = &mut settings.encryption {
            encryption.tenants = settings.own_tenant;
        }
        let backend: Option<Arc<dyn Backend>> = match source {
            _ if settings.disabled => None,
            Source::None => None,
            Source::Given(backend) => Some(backend),
            #[cfg(feature = "redis")]
            Source::Redis(url) => {
                let backend = RedisBackend::from_url(&url).map_err(|error| {
                    let message = format!("redis(): not a Redis URL: {}", error.message());
                    Error::configuration(message, "write redis://host:6379/0").caused_by(error)
                })?;
                Some(Arc::new(backend))
            }
        };
        let store = backend.map(|backend| {
            let guards = Guards::new(guards, Arc::new(SystemClock));
            Store::new(backend, Arc::new(guards))
        });
        Ok(Cache::new(Core::new(settings, store)))
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    for (name, value) in [
        ("namespace", &settings.namespace),
        ("tenant", &settings.tenant),
        ("deployment", &settings.deployment),
    ] {
        if value.as_ref().is_some_and(|value| value.trim().is_empty()) {
            return Err(Error::configuration(
                format!("{name} is empty"),
                "give it a name, or leave the option out",
            ));
        }
    }
    if let Some(encryption) = &settings.encryption {
        let found = encryption.keychain.tenant(settings.key_tenant());
        found.map_err(|error| Error::configuration(error, "give it a shorter name"))?;
    }
    if settings.ttl.is_some_and(|ttl| ttl.is_zero()) {
        return Err(Error::configuration(
            "ttl is zero, so that nothing would be cached",
            "give it a length, or call forever() for entries without end",
        ));
    }
    if settings.timeout.is_zero() {
        return Err(Error::configuration(
            "timeout is zero, so that the store would never be asked",
            "give it a length, or leave the store out",
        ));
    }
    if settings.l1_bytes == Some(0) {
        return Err(Error::configuration(
            "l1_bytes is zero",
            "give it a size, or call no_l1()",
        ));
    }
    Ok(())
}
