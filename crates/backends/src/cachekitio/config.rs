//! Where the API is and who asks: [`CachekitIOConfig`].

use std::fmt;
use std::net::IpAddr;

use http::uri::{Authority, Uri};
use secrecy::{ExposeSecret, SecretString};

use super::address::Reach;
use crate::error::{BackendError, ErrorKind, Result};

/// The managed service.
pub const DEFAULT_URL: &str = "https://api.cachekit.io";

/// The hosts, with all below them, that a key may be sent to without `allow_custom_host`.
const HOSTS: [&str; 2] = ["api.cachekit.io", "api.staging.cachekit.io"];

/// Where the API is, the key that it asks for, and how hard to try.
#[derive(Clone)]
pub struct CachekitIOConfig {
    pub(super) endpoint: Endpoint,
    key: SecretString,
    pub(super) custom_host: bool,
    pub(super) max_retries: u32,
    pub(super) pool_size: usize,
}

/// A server's address as its URL says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// What stands in front of every path: `https://host[:port][/prefix]`, without a slash at the end.
    pub(super) base: String,
}

impl CachekitIOConfig {
    /// Takes the API's URL and key. The host must be the managed service's (`api.cachekit.io`,
    /// `api.staging.cachekit.io`, or below them).
    ///
    /// # Errors
    /// [`ErrorKind::Permanent`] when the URL is not `https://host[:port][/path]`, when its host is
    /// another's, or when the key is empty or could not be sent in a header. No message shows the key.
    pub fn new(api_url: &str, api_key: impl Into<SecretString>) -> Result<Self> {
        Self::read(api_url, api_key.into(), false)
    }

    /// As [`Self::new`], for a server of one's own: any host is taken, also one of a private
    /// network. The URL must not come from strangers then, who could point it at what only this
    /// machine reaches.
    ///
    /// # Errors
    /// Those of [`Self::new`], but for the host's name.
    pub fn with_custom_host(api_url: &str, api_key: impl Into<SecretString>) -> Result<Self> {
        Self::read(api_url, api_key.into(), true)
    }

    fn read(api_url: &str, key: SecretString, custom_host: bool) -> Result<Self> {
        let endpoint = Endpoint::read(api_url)?;
        if !custom_host {
            endpoint.check_host()?;
        }
        let exposed = key.expose_secret();
        if exposed.is_empty() || !exposed.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(misconfigured(
                "the API key is empty or holds spaces, line ends or other characters that no key has; copy it again",
            ));
        }
        Ok(Self {
            endpoint,
            key,
            custom_host,
            max_retries: 3,
            pool_size: 10,
        })
    }

    /// Sets how often a call is repeated after a transient failure (3), within the call's time.
    #[must_use]
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Sets how many connections blocking calls may hold (10, at least 1). Asynchronous calls share
    /// one connection per runtime.
    #[must_use]
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections.max(1);
        self
    }

    /// The API's URL, without a slash at the end.
    #[must_use]
    pub fn api_url(&self) -> &str {
        &self.endpoint.base
    }

    pub(super) fn key(&self) -> &str {
        self.key.expose_secret()
    }

    /// Whether an address may be dialled.
    pub(super) fn may_dial(&self, address: IpAddr) -> bool {
        match Reach::of(address) {
            Reach::Public => true,
            Reach::Private => self.custom_host,
            Reach::Never => false,
        }
    }
}

impl fmt::Debug for CachekitIOConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachekitIOConfig")
            .field("api_url", &self.endpoint.base)
            .field("key", &"***")
            .field("custom_host", &self.custom_host)
            .field("max_retries", &self.max_retries)
            .field("pool_size", &self.pool_size)
            .finish()
    }
}

impl Endpoint {
    fn read(url: &str) -> Result<Self> {
        let url = url.trim();
        // Nothing of a URL that was not understood is shown: anything may have been pasted there.
        let uri: Uri = url.parse().map_err(|_| {
            misconfigured("the API URL is not a URL; write it like https://api.cachekit.io")
        })?;
        match uri.scheme_str() {
            Some("https") => {}
            Some(scheme) => {
                return Err(misconfigured(&format!(
                    "the API URL begins with {scheme}://, and the key is only sent over https://"
                )));
            }
            None => {
                return Err(misconfigured(
                    "the API URL has no scheme; write it like https://api.cachekit.io",
                ));
            }
        }
        let authority = uri
            .authority()
            .filter(|authority| !authority.host().is_empty())
            .ok_or_else(|| misconfigured("the API URL names no host"))?;
        if authority.as_str().contains('@') {
            return Err(misconfigured(
                "the API URL must not hold a user or password; the key goes into CACHEKIT_API_KEY",
            ));
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(misconfigured(
                "the API URL must end with its path; remove what begins with ? or #",
            ));
        }
        let host = authority
            .host()
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            host,
            port: port(authority)?,
            base: format!("https://{}{path}", authority.as_str().to_ascii_lowercase()),
        })
    }

    /// Refuses hosts that are not the managed service's.
    fn check_host(&self) -> Result<()> {
        let host = self.host.as_str();
        let known = HOSTS.iter().any(|known| {
            host.strip_suffix(known)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        if known {
            return Ok(());
        }
        Err(misconfigured(&format!(
            "the API URL's host '{host}' is not {}; for a server of your own set CACHEKIT_ALLOW_CUSTOM_HOST=true",
            HOSTS.join(" or "),
        )))
    }
}

fn port(authority: &Authority) -> Result<u16> {
    let written = authority.as_str().rsplit(']').next().unwrap_or_default();
    match (authority.port_u16(), written.contains(':')) {
        (Some(0), _) | (None, true) => Err(misconfigured(
            "the API URL's port is not a number from 1 to 65535",
        )),
        (Some(port), _) => Ok(port),
        (None, false) => Ok(443),
    }
}

fn misconfigured(what: &str) -> BackendError {
    BackendError::new(ErrorKind::Permanent, "configure", what)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
