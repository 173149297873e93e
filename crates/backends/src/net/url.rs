//! URLs that say where servers are and how to log in.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::Address;
use crate::error::{BackendError, ErrorKind, Result};

/// A user's name and password, never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.password.is_some() {
            "***"
        } else {
            "none"
        })
    }
}

/// A URL's parts, percent-decoded where they are single values.
pub(crate) struct Parts {
    pub(crate) scheme: String,
    pub(crate) login: Login,
    /// Hosts with their ports, joined by commas.
    pub(crate) hosts: String,
    pub(crate) path: String,
    /// Options by name, in their order.
    pub(crate) query: Vec<(String, String)>,
}

impl Parts {
    /// Takes a URL apart; `example` shows how one is written.
    ///
    /// # Errors
    /// [`ErrorKind::Permanent`] when it is none; the message never contains the user information.
    pub(crate) fn split(url: &str, example: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(bad_url(&format!("there is no scheme; write {example}")));
        };
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(authority_end);
        // Nothing of such a URL may be repeated in a message: what looks like a host may be the
        // beginning of a password.
        if tail.contains('@') || tail.contains('#') {
            return Err(bad_url(
                "there is a '@' or '#' behind the host; percent-encode special characters (/ is %2F, ? is %3F, # is %23, @ is %40)",
            ));
        }
        let (user_info, hosts) = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => (Some(user_info), hosts),
            None => (None, authority),
        };
        let (username, password) =
            match user_info.map(|info| info.split_once(':').unwrap_or((info, ""))) {
                Some((username, password)) => {
                    (non_empty(decode(username)?), non_empty(decode(password)?))
                }
                None => (None, None),
            };
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let query = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(name)?, decode(value)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            login: Login { username, password },
            hosts: hosts.to_owned(),
            path: decode(path)?,
            query,
        })
    }
}

pub(crate) fn parse_hosts(text: &str, default_port: u16) -> Result<Vec<Address>> {
    if text.is_empty() {
        return Err(bad_url("there is no host behind the ://"));
    }
    text.split(',')
        .map(|host| parse_host(host, default_port))
        .collect()
}

pub(crate) fn parse_host(text: &str, default_port: u16) -> Result<Address> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest
            .split_once(']')
            .ok_or_else(|| bad_url("an IPv6 address is written in brackets, as in [::1]:6379"))?;
        (host, port.strip_prefix(':'))
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(bad_url(
                    "an IPv6 address is written in brackets, as in [::1]:6379",
                ));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let host = if host.is_empty() {
        "localhost".to_owned()
    } else {
        decode(host)?
    };
    let port = match port {
        None | Some("") => default_port,
        // The text is not repeated: without a '@' it may be a password.
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => {
                return Err(bad_url(
                    "what follows the host's ':' is not a port from 1 to 65535; a login is written user:password@host:port",
                ));
            }
        },
    };
    Ok(Address::Tcp { host, port })
}

fn decode(text: &str) -> Result<String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| bad_url("a percent-encoded part is not UTF-8"))
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn bad_url(what: &str) -> BackendError {
    BackendError::new(
        ErrorKind::Permanent,
        "configure",
        format!("bad URL: {what}"),
    )
}
