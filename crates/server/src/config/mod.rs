//! The server's settings: one table of names, defaults and ranges, read from a TOML file, the
//! environment and the command line, the later winning.

mod tenants;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::tenants::{TenantLimits, TenantSection};
pub(crate) use self::value::words;
pub use self::value::{Secret, Size, Value};

/// What the names of environment variables start with.
pub const ENVIRONMENT_PREFIX: &str = "CACHEKIT_SERVER_";

/// One row of the table of settings.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Setting {
    /// The name in the file; in upper case behind [`ENVIRONMENT_PREFIX`] in the environment; with
    /// dashes on the command line.
    pub name: &'static str,
    /// The text that holds when nothing else is said.
    pub default: &'static str,
    /// The least and the greatest value, where there are such.
    pub range: Option<(&'static str, &'static str)>,
    /// What it is for, in a sentence.
    pub about: &'static str,
}

impl Setting {
    /// The environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.name.to_ascii_uppercase())
    }

    /// The command line's option, without the dashes in front.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

words! {
    /// Where entries rest.
    StoreKind {
        /// In files of this machine.
        Embedded = "embedded",
        /// In Redis, which several replicas share.
        Redis = "redis",
    }
    "embedded or redis"
}

words! {
    /// What an acknowledged write has survived.
    Durability {
        /// The end of the process. A power loss may cost what was written since the last sync.
        Process = "process",
        /// A power loss: every group of writes is synced before it is acknowledged.
        Power = "power",
    }
    "process or power"
}

words! {
    /// What happens to a write for which a tenant's quota has no room.
    QuotaPolicy {
        /// The tenant's expired and oldest unused entries make room.
        Evict = "evict",
        /// The write is refused with 429.
        Reject = "reject",
    }
    "evict or reject"
}

words! {
    /// How log lines look.
    LogFormat {
        /// One JSON object per line.
        Json = "json",
        /// Text for people.
        Text = "text",
    }
    "json or text"
}

macro_rules! settings {
    ($($name:ident: $type:ty = $default:literal $([$least:literal, $greatest:literal])?, $about:literal;)+) => {
        /// Everything that can be set. The table in `docs/server.md` and `cachekit serve --help`
        /// explain each field.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct Config {
            $(#[doc = $about] pub $name: $type,)+
            /// The tenants that the file names.
            pub tenants: BTreeMap<String, TenantSection>,
        }

        /// The table of settings.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            default: $default,
            range: settings!(@range $($least, $greatest)?),
            about: $about,
        }),+];

        impl Config {
            fn read(texts: &Texts) -> Result<Self, ConfigError> {
                Ok(Self {
                    $($name: {
                        let range: Option<(&str, &str)> = settings!(@range $($least, $greatest)?);
                        let value: $type = texts.value(stringify!($name))?;
                        settings!(@check texts, value, stringify!($name), range, $type $(, $least)?);
                        value
                    },)+
                    tenants: BTreeMap::new(),
                })
            }
        }
    };
    (@range) => { None };
    (@range $least:literal, $greatest:literal) => { Some(($least, $greatest)) };
    (@check $texts:ident, $value:ident, $name:expr, $range:ident, $type:ty) => { let _ = $range; };
    (@check $texts:ident, $value:ident, $name:expr, $range:ident, $type:ty, $least:literal) => {
        $texts.within(&$value, $name, $range.expect("the row has a range"))?;
    };
}

settings! {
    listen: SocketAddr = "127.0.0.1:8443", "Address and port of the API.";
    tls_cert: Option<PathBuf> = "", "PEM file with the certificate and its chain; read again when it changes.";
    tls_key: Option<PathBuf> = "", "PEM file with the certificate's private key.";
    plain: bool = "false", "Serve HTTP without TLS; only on a loopback address.";
    admin_listen: Option<SocketAddr> = "", "A second address, without TLS, for /healthz, /readyz and /metrics only.";
    metrics_token: Option<Secret> = "", "Bearer token for /metrics on the API's address; without one, only loopback peers may read it there.";
    data_dir: PathBuf = "cachekit-data", "Directory of the embedded store and of the key file.";
    keys_file: Option<PathBuf> = "", "The key file; keys.json in the data directory when not set.";
    store: StoreKind = "embedded", "Where entries rest: embedded, or redis when several replicas share them.";
    redis_url: Option<Secret> = "", "URL of the Redis servers (single, cluster or sentinel) for store = redis.";
    redis_timeout: Duration = "2s" ["10ms", "1m"], "The longest time one Redis operation may take.";
    max_bytes: Size = "1GiB" ["1MiB", "1024TiB"], "Bytes that the embedded store holds at most: keys, values and 64 bytes for each entry.";
    max_entries: u64 = "1000000" ["1", "4000000000"], "Entries that the embedded store holds at most.";
    durability: Durability = "process", "What an acknowledged write has survived: process (kill -9) or power (a power loss).";
    sync_interval: Duration = "1s" ["10ms", "1h"], "Time between two syncs to the disk with durability = process.";
    min_free_disk: Size = "256MiB" ["0", "1024TiB"], "Writes are refused with 503 while the disk has less than this free.";
    block_cache: Size = "64MiB" ["1MiB", "1TiB"], "Memory for blocks of the embedded store that were read lately.";
    max_value: Size = "128MiB" ["1KiB", "1GiB"], "The largest value; a larger one is refused with 413.";
    default_ttl: Duration = "1h" ["1s", "30d"], "Life of entries that are stored without a TTL.";
    tenant_max_bytes: Option<Size> = "" , "Quota of bytes per tenant and mode, unless its section says otherwise.";
    tenant_max_entries: Option<u64> = "", "Quota of entries per tenant and mode, unless its section says otherwise.";
    quota_policy: QuotaPolicy = "evict", "What a write beyond the quota does: evict the tenant's own oldest entries, or reject with 429.";
    requests_per_second: Option<u32> = "", "Requests per second and tenant, unless its section says otherwise; more are answered with 429.";
    burst: Option<u32> = "", "Requests that may come at once before the rate applies; two seconds' worth when not set.";
    max_lock: Duration = "1h" ["1s", "1d"], "The longest lease of a lock.";
    max_locks: usize = "100000" ["1", "100000000"], "Locks held at once per tenant in the embedded store.";
    max_connections: usize = "1024" ["1", "1000000"], "Open connections; more wait to be accepted.";
    max_streams: u32 = "128" ["1", "10000"], "Concurrent HTTP/2 streams per connection.";
    http2_window: Size = "256KiB" ["64KiB", "16MiB"], "HTTP/2 flow-control window per stream; twice that per connection.";
    max_header_bytes: Size = "16KiB" ["8KiB", "1MiB"], "Request line and headers together.";
    max_in_flight: Size = "256MiB" ["1MiB", "1TiB"], "Bytes of values on their way in or out, all connections together; more wait a second, then 503.";
    handshake_timeout: Duration = "10s" ["100ms", "10m"], "Time for the TLS handshake.";
    header_timeout: Duration = "10s" ["100ms", "10m"], "Time for a new connection's first request to arrive; later ones have idle_timeout.";
    body_timeout: Duration = "15s" ["100ms", "1h"], "Time for a body, sent or received, on top of what it may take at the least rate.";
    min_rate: Size = "16KiB" ["1", "1GiB"], "The least rate, in bytes per second, at which peers must send and take bodies.";
    idle_timeout: Duration = "5m" ["100ms", "1d"], "A connection without a request for this long is closed.";
    drain_delay: Duration = "0s" ["0s", "10m"], "Time between turning unready and refusing connections, for load balancers to notice.";
    drain_timeout: Duration = "30s" ["0s", "1h"], "Time for running requests to end after SIGTERM.";
    log_format: LogFormat = "json", "Log lines as json or text, on standard error.";
    log_level: String = "info", "error, warn, info, debug (a line per request) or trace.";
}

/// A setting that cannot be used: which, from where, and what would do instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Where a setting's text came from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Environment,
    Flag,
}

/// The texts of all settings, each with its source.
#[derive(Debug, Default)]
struct Texts(BTreeMap<&'static str, (String, Source)>);

impl Texts {
    fn set(&mut self, name: &'static str, text: String, source: Source) {
        self.0.insert(name, (text, source));
    }

    /// The name of a setting as its source spells it.
    fn origin(&self, name: &'static str) -> String {
        let setting = find(name).expect("names come from the table");
        match self.0.get(name).map(|(_, source)| source) {
            Some(Source::File(path)) => format!("{name} in {}", path.display()),
            Some(Source::Environment) => setting.variable(),
            Some(Source::Flag) => format!("--{}", setting.flag()),
            None => format!("the default of {name}"),
        }
    }

    fn text(&self, name: &'static str) -> &str {
        match self.0.get(name) {
            Some((text, _)) => text,
            None => find(name).expect("names come from the table").default,
        }
    }

    fn value<T: Value>(&self, name: &'static str) -> Result<T, ConfigError> {
        let text = self.text(name);
        T::parse(text).map_err(|wanted| {
            ConfigError(format!("{}: {text:?} is not {wanted}", self.origin(name)))
        })
    }

    fn within<T: Value + PartialOrd>(
        &self,
        value: &T,
        name: &'static str,
        (least, greatest): (&'static str, &'static str),
    ) -> Result<(), ConfigError> {
        let read = |text| match T::parse(text) {
            Ok(value) => value,
            Err(wanted) => unreachable!("the table's range {text} is not {wanted}"),
        };
        if *value < read(least) || *value > read(greatest) {
            return Err(ConfigError(format!(
                "{}: {} is out of range; use {least} to {greatest}",
                self.origin(name),
                self.text(name)
            )));
        }
        Ok(())
    }
}

fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

impl Config {
    /// Reads the file, if there is one, then the environment, then the flags (pairs of setting name
    /// and text). An empty environment variable counts as unset.
    ///
    /// # Errors
    /// Names the setting as its source spells it, the text, and what would be right.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (texts, tenants) = gather(file, environment, flags)?;
        let mut config = Self::read(&texts)?;
        config.tenants = tenants;
        config.check(&texts)?;
        Ok(config)
    }

    /// The settings that must fit each other.
    fn check(&self, texts: &Texts) -> Result<(), ConfigError> {
        if self.plain {
            if !self.listen.ip().is_loopback() {
                return Err(ConfigError(format!(
                    "{}: HTTP without TLS is for loopback addresses, and {} is none; set tls_cert and tls_key instead",
                    texts.origin("plain"),
                    self.listen
                )));
            }
        } else if self.tls_cert.is_none() || self.tls_key.is_none() {
            return Err(ConfigError::new(
                "tls_cert and tls_key are needed (CACHEKIT_SERVER_TLS_CERT, CACHEKIT_SERVER_TLS_KEY); plain = true serves HTTP on a loopback address for tests",
            ));
        }
        if self.store == StoreKind::Redis && self.redis_url.is_none() {
            return Err(ConfigError(format!(
                "{}: store = redis needs redis_url (CACHEKIT_SERVER_REDIS_URL)",
                texts.origin("store")
            )));
        }
        if self.store == StoreKind::Redis {
            let limited = self.tenants.values().any(TenantSection::has_quota);
            if limited || self.tenant_max_bytes.is_some() || self.tenant_max_entries.is_some() {
                return Err(ConfigError::new(
                    "quotas of bytes and entries are counted by the embedded store only; with store = redis use Redis's maxmemory and remove them",
                ));
            }
        }
        if self.max_value.0 > self.max_in_flight.0 {
            return Err(ConfigError(format!(
                "{}: values of {} bytes never fit max_in_flight, {} bytes; raise that or lower this",
                texts.origin("max_value"),
                self.max_value.0,
                self.max_in_flight.0
            )));
        }
        let limits = [
            ("requests_per_second", self.requests_per_second),
            ("burst", self.burst),
        ];
        if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == Some(0)) {
            return Err(ConfigError(format!(
                "{}: 0 would let no request through; use a whole number above 0, or none for no limit",
                texts.origin(name)
            )));
        }
        const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
        if !LEVELS.contains(&self.log_level.as_str()) {
            return Err(ConfigError(format!(
                "{}: {:?} is not error, warn, info, debug or trace",
                texts.origin("log_level"),
                self.log_level
            )));
        }
        Ok(())
    }

    /// The path of the key file.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        key_path_in(self.keys_file.clone(), &self.data_dir)
    }
}

fn key_path_in(keys_file: Option<PathBuf>, data_dir: &Path) -> PathBuf {
    keys_file.unwrap_or_else(|| data_dir.join("keys.json"))
}

/// The path of the key file that a server with these settings uses, of which those that do not
/// concern it need not be usable. The arguments are those of [`Config::load`].
///
/// # Errors
/// When the file cannot be read.
pub fn key_path(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: impl IntoIterator<Item = (String, String)>,
) -> Result<PathBuf, ConfigError> {
    let (texts, _) = gather(file, environment, flags)?;
    let data_dir: PathBuf = texts.value("data_dir")?;
    Ok(key_path_in(texts.value("keys_file")?, &data_dir))
}

/// The texts of the settings, and the tenants of the file.
fn gather(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: impl IntoIterator<Item = (String, String)>,
) -> Result<(Texts, BTreeMap<String, TenantSection>), ConfigError> {
    let mut texts = Texts::default();
    let mut tenants = BTreeMap::new();
    if let Some(path) = file {
        let content = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        tenants = read_file(&content, path, &mut texts)?;
    }
    for (variable, text) in environment {
        let name = variable.strip_prefix(ENVIRONMENT_PREFIX);
        // Names that no setting has are told by `warn_of_unknown_variables`.
        if let Some(setting) = name.and_then(|name| find(&name.to_ascii_lowercase()))
            && !text.is_empty()
        {
            texts.set(setting.name, text, Source::Environment);
        }
    }
    for (name, text) in flags {
        let setting = find(&name)
            .ok_or_else(|| ConfigError(format!("--{name}: no setting has this name")))?;
        texts.set(setting.name, text, Source::Flag);
    }
    Ok((texts, tenants))
}

/// Warns of those of the environment's `names` that begin as the settings' do and are none. They are no
/// error: orchestrators make up variables of such names for services.
pub fn warn_of_unknown_variables(names: impl IntoIterator<Item = String>) {
    let unknown = unknown_variables(names);
    if !unknown.is_empty() {
        tracing::warn!(variables = unknown.join(", "), "no setting has these names");
    }
}

fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let is_unknown = |name: &String| {
        name.strip_prefix(ENVIRONMENT_PREFIX)
            .is_some_and(|rest| rest != "CONFIG" && find(&rest.to_ascii_lowercase()).is_none())
    };
    let mut unknown: Vec<String> = names.into_iter().filter(is_unknown).collect();
    unknown.sort_unstable();
    unknown
}

/// Reads the file's settings into `texts` and returns its tenants.
fn read_file(
    content: &str,
    path: &Path,
    texts: &mut Texts,
) -> Result<BTreeMap<String, TenantSection>, ConfigError> {
    let at = |what: &dyn fmt::Display| ConfigError(format!("{}: {what}", path.display()));
    let table: toml::Table = content
        .parse()
        .map_err(|error: toml::de::Error| at(&error.to_string().trim()))?;
    let mut tenants = BTreeMap::new();
    for (name, value) in table {
        if name == "tenants" {
            tenants = tenants::read(value).map_err(|error| at(&error))?;
            continue;
        }
        let setting = find(&name).ok_or_else(|| {
            at(&format_args!(
                "no setting is called {name}; `cachekit serve --help` lists them"
            ))
        })?;
        let text = scalar(value).ok_or_else(|| {
            at(&format_args!(
                "{name} must be a text, a number or true or false"
            ))
        })?;
        texts.set(setting.name, text, Source::File(path.to_owned()));
    }
    Ok(tenants)
}

/// The text of a value that is neither a list nor a table nor a date.
fn scalar(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
