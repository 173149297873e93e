//! A page of metrics over HTTP/1.1, with or without TLS.

use std::fmt::Display;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cachekit::backends::{certificate_remedy, tls_client_config};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue};
use hyper::http::uri::Scheme;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::snapshot::Snapshot;

/// The server's own setting; who may read it there may read it here.
pub(super) const TOKEN_VARIABLE: &str = "CACHEKIT_SERVER_METRICS_TOKEN";
/// What one page may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A page that is larger is none of metrics.
const LARGEST: usize = 64 << 20;
const PATH: &str = "/metrics";

/// Where metrics are read, and as who.
pub(super) struct Endpoint {
    uri: Uri,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    authorization: Option<HeaderValue>,
}

impl Endpoint {
    /// The one of this URL, asked with this token. Errors are lines for people.
    pub(super) fn new(url: &str, token: Option<&str>) -> Result<Self, String> {
        let wrong = |why: &dyn Display| {
            format!("{url:?} {why}; name an endpoint as in http://localhost:9090/metrics")
        };
        let uri: Uri = url
            .parse()
            .map_err(|error| wrong(&format!("is no URL: {error}")))?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong(&"does not begin with http:// or https://")),
        };
        let authority = uri
            .authority()
            .expect("a URL with a scheme has an authority");
        if authority.as_str().contains('@') {
            // Not shown, as it may hold a password.
            return Err(format!(
                "the URL names a user; put a bearer token into {TOKEN_VARIABLE} instead"
            ));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority
            .port_u16()
            .unwrap_or(if is_tls { 443 } else { 80 });
        let tls = match is_tls {
            true => Some(
                tls_client_config()
                    .map_err(|error| error.to_string())?
                    .into(),
            ),
            false => None,
        };
        let bearer = |token: &str| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| format!("{TOKEN_VARIABLE} holds characters that no token has"))?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        };
        Ok(Self {
            host,
            port,
            tls,
            authorization: token.map(bearer).transpose()?,
            uri,
        })
    }

    /// What it says now. Errors are lines for people, with the URL.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, String> {
        let page = match tokio::time::timeout(TIMEOUT, self.page()).await {
            Ok(page) => page,
            Err(_) => Err(format!("does not answer within {} s", TIMEOUT.as_secs())),
        };
        let about = |why: String| format!("{} {why}", self.uri);
        let page = page.map_err(about)?;
        Snapshot::read(&page, Instant::now()).ok_or_else(|| {
            about(
                "shows no metrics of cachekit; name the server's /metrics or a program's own"
                    .to_owned(),
            )
        })
    }

    async fn page(&self) -> Result<String, String> {
        let unreachable = |error: io::Error| format!("cannot be reached: {error}");
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(unreachable)?;
        let Some(tls) = &self.tls else {
            let peer = stream.peer_addr().map_err(unreachable)?;
            if self.authorization.is_some() && !peer.ip().to_canonical().is_loopback() {
                return Err(format!(
                    "would get the token of {TOKEN_VARIABLE} in the clear; use https, or unset it"
                ));
            }
            return self.ask(stream).await;
        };
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| "has a host that no certificate could name".to_owned())?;
        let stream = tls.connect(name, stream).await;
        self.ask(stream.map_err(untrusted)?).await
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<String, String> {
        let broken = |error: hyper::Error| format!("does not answer as HTTP: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Its errors are those of what was asked on it.
        tokio::spawn(connection);
        let path = match self.uri.path_and_query() {
            Some(path) if *path != "/" => path.as_str(),
            _ => PATH,
        };
        let authority = self
            .uri
            .authority()
            .expect("it was looked at when this was made");
        let mut request = Request::get(path)
            .header(HOST, authority.as_str())
            .header(ACCEPT, "text/plain;version=0.0.4");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .expect("its parts are valid");
        let answer = sender.send_request(request).await.map_err(broken)?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(answer.status()));
        }
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| format!("breaks off: {error}"))?;
        String::from_utf8(body.to_bytes().into()).map_err(|_| "shows no text".to_owned())
    }
}

fn untrusted(error: io::Error) -> String {
    match certificate_remedy(&error, "SSL_CERT_FILE") {
        Some(remedy) => format!("is not trusted: {error}; {remedy}"),
        None => format!("cannot be reached by TLS: {error}"),
    }
}

fn refusal(status: StatusCode) -> String {
    let remedy = match status.as_u16() {
        401 | 403 => format!(
            "; give its token in {TOKEN_VARIABLE}, or ask from its own machine or at its admin_listen address"
        ),
        404 => "; name the path of its metrics".to_owned(),
        300..=399 => "; name the URL that it leads to".to_owned(),
        _ => String::new(),
    };
    format!("answers {status}{remedy}")
}
