//! Where the memcached servers are: [`MemcachedConfig`] and what it is read from.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::routing::Routing;
use crate::error::{BackendError, ErrorKind, Result};
use crate::net::{Address, Login, Parts, TlsOptions, parse_host, parse_hosts};

const PORT: u16 = 11211;

/// Where the memcached servers are, how keys are spread over them, and how many connections to keep.
///
/// Read from a list of servers by [`Self::from_servers`] or from a URL by [`Self::from_url`]:
///
/// | URL | meaning |
/// |---|---|
/// | `memcached://[user:password@]host[:port][,host:port…]` | servers over TCP |
/// | `memcacheds://…` | the same over TLS |
/// | `memcached+unix://[user:password@]/path` | one server over a Unix socket |
///
/// Options after `?`, joined by `&`:
///
/// | option | meaning |
/// |---|---|
/// | `routing` | `rendezvous` (as pymemcache) or `ketama` (as libmemcached) |
/// | `ssl_ca` | PEM file of the certificates to trust, instead of the system's |
/// | `ssl_cert`, `ssl_key` | PEM files of the client's certificate and key |
/// | `insecure=true` | accept any server certificate; for tests |
#[derive(Clone, PartialEq, Eq)]
pub struct MemcachedConfig {
    pub(super) servers: Vec<Address>,
    pub(super) login: Login,
    pub(super) tls: Option<TlsOptions>,
    pub(super) routing: Routing,
    pub(super) key_prefix: String,
    pub(super) max_item_size: usize,
    pub(super) pool_size: usize,
    pub(super) connect_timeout: Duration,
    pub(super) retry_attempts: u32,
}

impl MemcachedConfig {
    /// The largest item that a server stores unless it is told otherwise, in bytes.
    pub const ITEM_SIZE: usize = 1 << 20;

    /// Reads servers as they stand in lists: `host:port`, `[IPv6]:port`, or `/path` of a Unix socket.
    ///
    /// # Errors
    /// [`ErrorKind::Permanent`] when there is none, or one is not understood; the message says which.
    pub fn from_servers<S: AsRef<str>>(servers: impl IntoIterator<Item = S>) -> Result<Self> {
        let addresses = servers
            .into_iter()
            .map(|server| parse_server(server.as_ref().trim()))
            .collect::<Result<Vec<_>>>()?;
        Self::of(addresses)
    }

    /// Reads a URL; see the tables above.
    ///
    /// # Errors
    /// [`ErrorKind::Permanent`] when the URL is not understood. The message names the part and
    /// the remedy, and never contains the user information.
    pub fn from_url(url: &str) -> Result<Self> {
        let parts = Parts::split(url.trim(), "memcached://host:11211")?;
        let tls = parts.scheme == "memcacheds";
        let path = parts.path.trim_end_matches('/');
        let servers = match parts.scheme.as_str() {
            "memcached" | "memcacheds" if path.is_empty() => parse_hosts(&parts.hosts, PORT)?,
            "memcached" | "memcacheds" => {
                return Err(bad(
                    "memcached has no databases; remove the path behind the hosts",
                ));
            }
            "memcached+unix" if parts.hosts.is_empty() && !path.is_empty() => {
                vec![Address::Unix(PathBuf::from(path))]
            }
            "memcached+unix" => {
                return Err(bad(
                    "a Unix socket is written with three slashes, as in memcached+unix:///run/memcached.sock",
                ));
            }
            _ => {
                return Err(bad(
                    "the scheme is unknown; use memcached, memcacheds or memcached+unix",
                ));
            }
        };
        let mut config = Self::of(servers)?;
        let mut options = TlsOptions::default();
        for (name, value) in &parts.query {
            let path = || Some(PathBuf::from(value));
            match name.as_str() {
                "routing" => {
                    config.routing = Routing::named(value).ok_or_else(|| {
                        bad(&format!(
                            "routing={value} is neither 'rendezvous' nor 'ketama'"
                        ))
                    })?;
                }
                "ssl_ca" => options.ca = path(),
                "ssl_cert" => options.certificate = path(),
                "ssl_key" => options.key = path(),
                "insecure" if matches!(value.as_str(), "true" | "1" | "") => {
                    options.insecure = true
                }
                "insecure" if matches!(value.as_str(), "false" | "0") => options.insecure = false,
                "insecure" => {
                    return Err(bad(&format!("insecure={value} is neither true nor false")));
                }
                _ => {
                    return Err(bad(&format!(
                        "the option '{name}' is unknown; there are routing, ssl_ca, ssl_cert, ssl_key and insecure"
                    )));
                }
            }
        }
        if !tls && options != TlsOptions::default() {
            return Err(bad("TLS options need the scheme memcacheds://"));
        }
        if parts.login.username.is_some() != parts.login.password.is_some() {
            return Err(bad(
                "a login is both user and password; write user:password@host",
            ));
        }
        config.login = parts.login;
        config.tls = tls.then_some(options);
        Ok(config)
    }

    fn of(servers: Vec<Address>) -> Result<Self> {
        if servers.is_empty() {
            return Err(bad("there is no server; write 127.0.0.1:11211"));
        }
        for (index, server) in servers.iter().enumerate() {
            if servers[..index].contains(server) {
                return Err(bad(&format!("the server {server} is named twice")));
            }
        }
        if servers.len() > MAX_SERVERS {
            return Err(bad(&format!("more than {MAX_SERVERS} servers are named")));
        }
        Ok(Self {
            servers,
            login: Login::default(),
            tls: None,
            routing: Routing::default(),
            key_prefix: String::new(),
            max_item_size: Self::ITEM_SIZE,
            pool_size: 10,
            connect_timeout: Duration::from_secs(2),
            retry_attempts: 2,
        })
    }

    /// Sets how keys are spread over the servers ([`Routing::Rendezvous`]).
    #[must_use]
    pub fn routing(mut self, routing: Routing) -> Self {
        self.routing = routing;
        self
    }

    /// Sets what stands before every key in the store (nothing). It takes part in the routing.
    #[must_use]
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Sets the largest value that is sent, in bytes (1 MiB); 0 leaves the limit to the server.
    #[must_use]
    pub fn max_item_size(mut self, bytes: usize) -> Self {
        self.max_item_size = bytes;
        self
    }

    /// Sets how many connections blocking calls may hold per server (10, at least 1).
    #[must_use]
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections.max(1);
        self
    }

    /// Sets how long connecting to one server may take (2 s); an operation's own timeout bounds it too.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how often a call that lost its connection is tried again on the same server (2). A
    /// server that fails more often in a row is left alone for a while where there are others.
    #[must_use]
    pub fn retry_attempts(mut self, attempts: u32) -> Self {
        self.retry_attempts = attempts;
        self
    }
}

/// Servers are numbered in 16 bits.
const MAX_SERVERS: usize = 1000;

impl Default for MemcachedConfig {
    /// The server on this machine at the usual port.
    fn default() -> Self {
        Self::from_servers(["127.0.0.1:11211"]).expect("the address is well-formed")
    }
}

impl fmt::Display for MemcachedConfig {
    /// The servers, without the login: "memcached 10.0.0.1:11211, 10.0.0.2:11211".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.servers.iter().map(Address::to_string).collect();
        write!(f, "memcached {}", names.join(", "))
    }
}

impl fmt::Debug for MemcachedConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemcachedConfig")
            .field("servers", &self.servers)
            .field("login", &self.login)
            .field("tls", &self.tls)
            .field("routing", &self.routing)
            .field("key_prefix", &self.key_prefix)
            .field("max_item_size", &self.max_item_size)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("retry_attempts", &self.retry_attempts)
            .finish()
    }
}

fn parse_server(text: &str) -> Result<Address> {
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.starts_with('/') {
        return Ok(Address::Unix(PathBuf::from(path)));
    }
    let end = text.rfind(']').unwrap_or(0);
    if text.is_empty() || !text[end..].contains(':') {
        return Err(bad(&format!(
            "the server '{text}' has no port; write host:port, as in 127.0.0.1:11211"
        )));
    }
    parse_host(text, PORT)
}

fn bad(what: &str) -> BackendError {
    BackendError::new(
        ErrorKind::Permanent,
        "configure",
        format!("bad Memcached address: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        let host = host.to_owned();
        Address::Tcp { host, port }
    }

    fn refused(outcome: Result<MemcachedConfig>) -> String {
        let error = outcome.expect_err("it is wrong");
        assert_eq!(error.kind(), ErrorKind::Permanent);
        error.to_string()
    }

    #[test]
    fn lists_of_servers() {
        let servers = ["a:1", "[::1]:2", "/run/m.sock", "unix:/run/n.sock"];
        let config = MemcachedConfig::from_servers(servers).expect("well-formed");
        let unix = |path: &str| Address::Unix(PathBuf::from(path));
        assert_eq!(
            config.servers,
            [
                tcp("a", 1),
                tcp("::1", 2),
                unix("/run/m.sock"),
                unix("/run/n.sock")
            ]
        );
        for (servers, part) in [
            (&[][..], "no server"),
            (&["a"], "'a' has no port"),
            (&["[::1]"], "has no port"),
            (&["a:0"], "port"),
            (&["a:70000"], "port"),
            (&["a:1", "b:1", "a:1"], "a:1 is named twice"),
        ] {
            let error = refused(MemcachedConfig::from_servers(servers));
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn urls() {
        let config = MemcachedConfig::from_url("memcached://a,b:2/?routing=ketama");
        let config = config.expect("well-formed");
        assert_eq!(config.servers, [tcp("a", 11211), tcp("b", 2)]);
        assert_eq!((config.routing, &config.tls), (Routing::Ketama, &None));

        let config = MemcachedConfig::from_url("memcacheds://bob:p%40w@a?ssl_ca=/ca.pem");
        let config = config.expect("well-formed");
        assert_eq!(config.login.password.as_deref(), Some("p@w"));
        assert_eq!(config.tls.as_ref().expect("TLS").ca, Some("/ca.pem".into()));
        assert!(!format!("{config:?}{config}").contains("p@w"));

        let config = MemcachedConfig::from_url("memcached+unix:///run/m.sock");
        assert_eq!(
            config.expect("well-formed").servers,
            [Address::Unix("/run/m.sock".into())]
        );
        for (url, part) in [
            ("memcached://", "no host"),
            ("redis://a", "scheme"),
            ("memcached://a/1", "path"),
            ("memcached://a?routing=random", "routing=random"),
            ("memcached://a?tls=1", "'tls' is unknown"),
            ("memcached://a?insecure=true", "memcacheds"),
            ("memcached://:secret@a", "both user and password"),
            ("memcached+unix://run/m.sock", "three slashes"),
        ] {
            let error = refused(MemcachedConfig::from_url(url));
            assert!(error.contains(part), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
