//! A client of the API for tests and load: one connection, either version of HTTP.

// Each test binary uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cachekit_testkit::servers::CachekitServer;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The versions that the server speaks.
pub const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

enum Sender {
    Http1(Mutex<http1::SendRequest<Full<Bytes>>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One connection and a key.
pub struct Client {
    sender: Sender,
    base: String,
    key: String,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The text member of the JSON body.
    pub fn member(&self, name: &str) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        match &body[name] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// What may go wrong with a request that a server has not answered.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A TLS connection to a loopback port that speaks this version.
pub async fn tls(port: u16, ca: &Path, version: Version) -> Result<TlsStream<TcpStream>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = match version {
        Version::Http1 => vec![b"http/1.1".to_vec()],
        Version::Http2 => vec![b"h2".to_vec()],
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("127.0.0.1")?;
    Ok(connector.connect(name, stream).await?)
}

impl Client {
    pub async fn connect(
        port: u16,
        ca: &Path,
        key: &str,
        version: Version,
    ) -> Result<Self, Failure> {
        let stream = TokioIo::new(tls(port, ca, version).await?);
        let sender = match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Sender::Http1(Mutex::new(sender))
            }
            Version::Http2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(1 << 20)
                    .initial_connection_window_size(4 << 20)
                    .handshake(stream)
                    .await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Self {
            sender,
            base: format!("https://127.0.0.1:{port}"),
            key: key.to_owned(),
        })
    }

    /// A connection to the server with its own key.
    pub async fn of(server: &CachekitServer, version: Version) -> Self {
        Self::with_key(server, server.key(), version).await
    }

    pub async fn with_key(server: &CachekitServer, key: &str, version: Version) -> Self {
        Self::connect(server.port(), &server.ca(), key, version)
            .await
            .expect("the server accepts connections")
    }

    /// Sends a request to a path below `/v1/cache/`.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Failure> {
        self.try_send_at(method, &format!("/v1/cache/{path}"), headers, body)
            .await
    }

    /// Sends a request to any path.
    pub async fn try_send_at(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method);
        request = match &self.sender {
            Sender::Http1(_) => request.uri(path).header("host", "127.0.0.1"),
            Sender::Http2(_) => request.uri(format!("{}{path}", self.base)),
        };
        if !self.key.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.key));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into()))?;
        let response = match &self.sender {
            Sender::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await?;
                let response = sender.send_request(request).await?;
                let (parts, body) = response.into_parts();
                // The next request waits until this answer is read.
                let body = body.collect().await?.to_bytes();
                return Ok(Answer {
                    status: parts.status.as_u16(),
                    headers: parts.headers,
                    body,
                });
            }
            Sender::Http2(sender) => {
                let mut sender = sender.clone();
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.try_send(method, path, headers, body)
            .await
            .expect("the server answers")
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send("PUT", path, &[], body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "").await
    }

    pub fn version(&self) -> Version {
        match self.sender {
            Sender::Http1(_) => Version::Http1,
            Sender::Http2(_) => Version::Http2,
        }
    }

    /// Tries to take a lock.
    pub async fn lock(&self, key: &str, milliseconds: u64) -> Answer {
        let body = format!("{{\"timeout_ms\":{milliseconds}}}");
        let json = [("content-type", "application/json")];
        self.send("POST", &format!("{key}/lock"), &json, body).await
    }

    /// The value of a metric without labels.
    pub async fn metric(&self, name: &str) -> u64 {
        let answer = self.try_send_at("GET", "/metrics", &[], "").await;
        let answer = answer.expect("the server answers");
        let value = answer.text().lines().find_map(|line| {
            let (found, value) = line.split_once(' ')?;
            (found == name).then(|| value.parse().expect("a number"))
        });
        value.unwrap_or_else(|| panic!("no metric {name} in\n{}", answer.text()))
    }
}

/// Waits until the server has begun to take a value in.
pub async fn under_way(server: &CachekitServer) {
    let client = Client::of(server, Version::Http2).await;
    eventually("a value is on its way", 20, async || {
        client.metric("cachekit_server_in_flight_bytes").await > 0
    })
    .await;
}

/// Polls until it is true, for at most so many seconds.
pub async fn eventually(what: &str, seconds: u64, mut is: impl AsyncFnMut() -> bool) {
    let limit = std::time::Duration::from_secs(seconds);
    let polled = tokio::time::timeout(limit, async {
        while !is().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    assert!(polled.await.is_ok(), "not within {seconds} s: {what}");
}
