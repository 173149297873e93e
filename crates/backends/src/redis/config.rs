//! Where the Redis servers are and how to log in: [`RedisConfig`] and the URLs it is read from.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{BackendError, ErrorKind, Result};
use crate::net::{Address, Login, Parts, TlsOptions, parse_host, parse_hosts};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// How the servers are arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One server.
    Single(Address),
    /// A master that the sentinels name.
    Sentinel {
        sentinels: Vec<Address>,
        service: String,
    },
    /// A cluster; any of the nodes tells about the others.
    Cluster(Vec<Address>),
}

/// Where the Redis (or Valkey) servers are, how to log in, and how many connections to keep.
///
/// Read from a URL by [`RedisConfig::from_url`]:
///
/// | URL | meaning |
/// |---|---|
/// | `redis://[user:password@]host[:port][/db]` | one server over TCP |
/// | `rediss://…` | the same over TLS |
/// | `unix:///path`, `redis+unix://[user:password@]/path[?db=n]` | one server over a Unix socket |
/// | `redis+cluster://[user:password@]h1:p,h2:p` | a cluster; `rediss+cluster` over TLS |
/// | `redis+sentinel://[user:password@]h1:p,h2:p/service[/db]` | the master that the sentinels name; `rediss+sentinel` over TLS |
///
/// `valkey` may stand for `redis` in every scheme (`valkey`, `valkeys`, `valkey+unix`,
/// `valkey+cluster`, `valkeys+cluster`, …). Special characters of a password are percent-encoded.
///
/// Options after `?`, joined by `&`:
///
/// | option | meaning |
/// |---|---|
/// | `db` | database number, where the path has no room for it |
/// | `username`, `password` | as in front of the `@` |
/// | `ssl_ca` (`ssl_ca_certs`) | PEM file of the certificates to trust, instead of the system's |
/// | `ssl_cert`, `ssl_key` (`ssl_certfile`, `ssl_keyfile`) | PEM files of the client's certificate and key |
/// | `insecure=true` (`ssl_cert_reqs=none`) | accept any server certificate; for tests |
/// | `socket_timeout`, `health_check_interval`, … | options of redis-py, ignored: a URL may serve several programs |
/// | `sentinel_username`, `sentinel_password` | login at the sentinels |
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    pub(super) layout: Layout,
    pub(super) login: Login,
    pub(super) sentinel_login: Login,
    pub(super) database: u32,
    pub(super) tls: Option<TlsOptions>,
    pub(super) pool_size: usize,
    pub(super) connect_timeout: Duration,
}

impl RedisConfig {
    /// Reads a URL; see the table above.
    ///
    /// # Errors
    /// [`ErrorKind::Permanent`] when the URL is not understood. The message names the part and
    /// the remedy, and never contains the user information.
    pub fn from_url(url: &str) -> Result<Self> {
        let parts = Parts::split(url.trim(), "redis://host:6379/0")?;
        let (transport, tls) = transport(&parts)?;
        let mut options = Options::default();
        for (name, value) in &parts.query {
            options.set(name, value)?;
        }
        let path = parts.path.as_str();
        let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        let mut database = options.database;
        let layout = match transport {
            Transport::Tcp => {
                if parts.hosts.contains(',') {
                    return Err(bad_url(
                        "several hosts need the scheme redis+cluster:// or redis+sentinel://",
                    ));
                }
                match segments.as_slice() {
                    [] => {}
                    [db] => database = Some(parse_database(db)?),
                    _ => {
                        return Err(bad_url(
                            "the path of a single server is at most /db, as in redis://host:6379/0",
                        ));
                    }
                }
                Layout::Single(parse_host(&parts.hosts, REDIS_PORT)?)
            }
            Transport::Unix => {
                if !parts.hosts.is_empty() || path.is_empty() {
                    return Err(bad_url(
                        "a Unix socket is written with three slashes and an absolute path, as in unix:///run/redis.sock?db=0",
                    ));
                }
                Layout::Single(Address::Unix(PathBuf::from(path)))
            }
            Transport::Cluster => {
                if !segments.is_empty() && segments != ["0"] || database.is_some_and(|db| db != 0) {
                    return Err(bad_url("a cluster has no database but 0; remove the path"));
                }
                Layout::Cluster(parse_hosts(&parts.hosts, REDIS_PORT)?)
            }
            Transport::Sentinel => {
                let service = match segments.as_slice() {
                    [service] => service,
                    [service, db] => {
                        database = Some(parse_database(db)?);
                        service
                    }
                    _ => {
                        return Err(bad_url(
                            "the path of redis+sentinel:// is /service or /service/db, as in redis+sentinel://h1:26379,h2:26379/mymaster/0",
                        ));
                    }
                };
                Layout::Sentinel {
                    sentinels: parse_hosts(&parts.hosts, SENTINEL_PORT)?,
                    service: (*service).to_owned(),
                }
            }
        };
        if !tls && options.tls != TlsOptions::default() {
            return Err(bad_url(
                "TLS options need a TLS scheme (rediss://, rediss+cluster://, rediss+sentinel://)",
            ));
        }
        let login = Login {
            username: parts.login.username.or(options.login.username),
            password: parts.login.password.or(options.login.password),
        };
        for login in [&login, &options.sentinel_login] {
            if login.username.is_some() && login.password.is_none() {
                return Err(bad_url(
                    "there is a user name without a password; write user:password@host, or :password@host for the default user",
                ));
            }
        }
        Ok(Self {
            layout,
            login,
            sentinel_login: options.sentinel_login,
            database: database.unwrap_or(0),
            tls: tls.then_some(options.tls),
            pool_size: 10,
            connect_timeout: Duration::from_secs(1),
        })
    }

    /// Sets how many connections blocking calls may hold per server (10, at least 1).
    #[must_use]
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections.max(1);
        self
    }

    /// Sets how long connecting to one server may take (1 s); an operation's own timeout bounds it too.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }
}

impl Default for RedisConfig {
    /// The server on this machine at the usual port.
    fn default() -> Self {
        Self::from_url("redis://localhost:6379").expect("the URL is well-formed")
    }
}

impl fmt::Display for RedisConfig {
    /// The servers, without the login: "redis 127.0.0.1:6379, db 0".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: &[Address]| {
            let texts: Vec<String> = addresses.iter().map(Address::to_string).collect();
            texts.join(",")
        };
        match &self.layout {
            Layout::Single(address) => write!(f, "redis {address}, db {}", self.database),
            Layout::Sentinel { sentinels, service } => {
                write!(
                    f,
                    "redis sentinel {} service {service}, db {}",
                    list(sentinels),
                    self.database
                )
            }
            Layout::Cluster(seeds) => write!(f, "redis cluster {}", list(seeds)),
        }
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("layout", &self.layout)
            .field("login", &self.login)
            .field("sentinel_login", &self.sentinel_login)
            .field("database", &self.database)
            .field("tls", &self.tls)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

#[derive(Clone, Copy)]
enum Transport {
    Tcp,
    Unix,
    Cluster,
    Sentinel,
}

fn transport(parts: &Parts) -> Result<(Transport, bool)> {
    let (base, arrangement) = parts.scheme.split_once('+').unwrap_or((&parts.scheme, ""));
    let tls = match base {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        "unix" if arrangement.is_empty() => return Ok((Transport::Unix, false)),
        _ => return Err(unknown_scheme(parts)),
    };
    let transport = match arrangement {
        "" => Transport::Tcp,
        "cluster" => Transport::Cluster,
        "sentinel" => Transport::Sentinel,
        "unix" if !tls => Transport::Unix,
        _ => return Err(unknown_scheme(parts)),
    };
    Ok((transport, tls))
}

fn unknown_scheme(parts: &Parts) -> BackendError {
    let known = parts.scheme.len() <= 24
        && parts
            .scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+');
    let shown = if known { parts.scheme.as_str() } else { "…" };
    bad_url(&format!(
        "the scheme '{shown}' is unknown; use redis, rediss, unix, redis+cluster or redis+sentinel"
    ))
}

#[derive(Default)]
struct Options {
    database: Option<u32>,
    login: Login,
    sentinel_login: Login,
    tls: TlsOptions,
}

impl Options {
    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let text = || Some(value.to_owned());
        let path = || Some(PathBuf::from(value));
        match name {
            "db" => self.database = Some(parse_database(value)?),
            "username" => self.login.username = text(),
            "password" => self.login.password = text(),
            "sentinel_username" => self.sentinel_login.username = text(),
            "sentinel_password" => self.sentinel_login.password = text(),
            "ssl_ca" | "ssl_ca_certs" => self.tls.ca = path(),
            "ssl_cert" | "ssl_certfile" => self.tls.certificate = path(),
            "ssl_key" | "ssl_keyfile" => self.tls.key = path(),
            "insecure" => {
                self.tls.insecure = match value {
                    "true" | "1" | "" => true,
                    "false" | "0" => false,
                    _ => {
                        return Err(bad_url(&format!(
                            "insecure={value} is neither true nor false"
                        )));
                    }
                }
            }
            "ssl_cert_reqs" => {
                self.tls.insecure = match value {
                    "none" | "CERT_NONE" => true,
                    // To a client the middle one of Python's three says the same as the last.
                    "required" | "optional" | "CERT_REQUIRED" | "CERT_OPTIONAL" => false,
                    _ => {
                        return Err(bad_url(&format!(
                            "ssl_cert_reqs={value} is neither 'required', 'optional' nor 'none'"
                        )));
                    }
                }
            }
            _ if OTHER_CLIENTS.contains(&name) => tracing::info!(
                target: "cachekit",
                "the Redis URL's option {name} is for other clients, and is ignored"
            ),
            _ => {
                return Err(bad_url(&format!(
                    "the option '{name}' is unknown; there are db, username, password, ssl_ca, ssl_cert, ssl_key, \
                     insecure, sentinel_username and sentinel_password"
                )));
            }
        }
        Ok(())
    }
}

/// Options that redis-py takes and that say nothing about where the server is or whom to trust. A URL
/// like `REDIS_URL` serves several programs.
const OTHER_CLIENTS: [&str; 11] = [
    "client_name",
    "decode_responses",
    "encoding",
    "health_check_interval",
    "max_connections",
    "protocol",
    "retry_on_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
    "socket_timeout",
    "timeout",
];

fn parse_database(text: &str) -> Result<u32> {
    text.parse()
        .map_err(|_| bad_url(&format!("the database '{text}' is not a number; write /0")))
}

fn bad_url(what: &str) -> BackendError {
    BackendError::new(
        ErrorKind::Permanent,
        "configure",
        format!("bad Redis URL: {what}"),
    )
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
