//! A new connection to the API: name, guard, TCP, TLS, HTTP/2.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::CachekitIOConfig;
use super::error::Failure;
use crate::error::{BackendError, ErrorKind, Result};
use crate::net::lookup::resolve_async;
use crate::net::tls::{certificate_remedy, tls_client_config};

/// How much of one body may be under way unread, and of all bodies together.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// The largest piece of a body at a time.
const FRAME: u32 = 256 << 10;

/// The addresses of a host's name.
pub(super) type Resolver = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// Makes connections, and keeps what they have in common.
pub(super) struct Connector {
    config: CachekitIOConfig,
    tls: OnceLock<Result<Arc<ClientConfig>>>,
    /// In place of the system's, in tests.
    resolver: Option<Resolver>,
}

impl Connector {
    pub(super) fn new(config: CachekitIOConfig) -> Self {
        Self {
            config,
            tls: OnceLock::new(),
            resolver: None,
        }
    }

    /// Connects within the runtime that polls this, which also serves the connection.
    pub(super) async fn connect(
        &self,
        deadline: Instant,
    ) -> std::result::Result<SendRequest<Full<Bytes>>, Failure> {
        let tls = self.tls().map_err(Failure::permanent)?;
        let stream = self.dial(deadline).await?;
        let host = self.config.endpoint.host.as_str();
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            self.failed(
                ErrorKind::Permanent,
                "is no name that a certificate could hold",
                None,
            )
        })?;
        let stream = TlsConnector::from(tls)
            .connect(name, stream)
            .await
            .map_err(|error| self.untrusted(error))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(self.failed(
                ErrorKind::Permanent,
                "does not speak HTTP/2; a proxy before the API must pass it on",
                None,
            ));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error.to_string()))?;
        tokio::spawn(async move {
            // Its end shows in what was asked on it.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the CachekitIO API ended");
            }
        });
        Ok(sender)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>> {
        self.tls
            .get_or_init(|| {
                let mut config = ClientConfig::clone(&*tls_client_config()?);
                config.alpn_protocols = vec![b"h2".to_vec()];
                Ok(Arc::new(config))
            })
            .clone()
    }

    /// Connects to one of the host's addresses that may be dialled: judged is the very address that
    /// the socket is given, so that no name can mean one thing when it is checked and another when
    /// it is used.
    async fn dial(&self, deadline: Instant) -> std::result::Result<TcpStream, Failure> {
        let addresses = self.resolve(deadline).await?;
        let allowed: Vec<_> = addresses
            .iter()
            .filter(|address| self.config.may_dial(address.ip()))
            .collect();
        if let (Some(address), []) = (addresses.first(), &*allowed) {
            return Err(self.forbidden(address.ip()));
        }
        let mut last = None;
        for (done, address) in allowed.iter().enumerate() {
            // An unreachable first address must leave time for the next one.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(allowed.len() - done).unwrap_or(u32::MAX);
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    prepare(&stream).map_err(|error| self.broken(&error.to_string()))?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(match last {
            Some(error) => self.broken(&error.to_string()),
            None => self.broken("the name has no address"),
        })
    }

    async fn resolve(&self, deadline: Instant) -> std::result::Result<Vec<SocketAddr>, Failure> {
        let endpoint = &self.config.endpoint;
        let (host, port) = (endpoint.host.as_str(), endpoint.port);
        if let Some(resolver) = self.resolver {
            return resolver(host, port).map_err(|error| self.broken(&error.to_string()));
        }
        let found = resolve_async(host, port, deadline).await;
        found.map_err(|error| self.broken(&error.to_string()))
    }

    fn forbidden(&self, address: IpAddr) -> Failure {
        let remedy = if self.config.custom_host {
            "no cache can be there"
        } else {
            "for a server of your own network set CACHEKIT_ALLOW_CUSTOM_HOST=true"
        };
        self.failed(
            ErrorKind::Permanent,
            &format!("is {address}, an address that is not dialled; {remedy}"),
            None,
        )
    }

    fn untrusted(&self, error: io::Error) -> Failure {
        match certificate_remedy(&error, "SSL_CERT_FILE") {
            Some(remedy) => self.failed(
                ErrorKind::Permanent,
                &format!("is not trusted: {error}; {remedy}"),
                Some(error),
            ),
            None => self.broken(&error.to_string()),
        }
    }

    /// The failure of a connection that could not be made: nothing was asked on it yet.
    fn broken(&self, what: &str) -> Failure {
        let error = self.error(ErrorKind::Transient, &format!("cannot be reached: {what}"));
        Failure::unsent(error)
    }

    fn failed(&self, kind: ErrorKind, what: &str, source: Option<io::Error>) -> Failure {
        let error = self.error(kind, what);
        Failure::permanent(match source {
            Some(source) => error.with_source(source),
            None => error,
        })
    }

    fn error(&self, kind: ErrorKind, what: &str) -> BackendError {
        let endpoint = &self.config.endpoint;
        BackendError::new(
            kind,
            "connect",
            format!("{}:{} {what}", endpoint.host, endpoint.port),
        )
    }
}

/// No waiting for full packets, and probes that notice a peer that vanished.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10)),
    )
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
