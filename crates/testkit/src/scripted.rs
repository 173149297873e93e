//! An HTTP/2 server over TLS that answers as a test tells it to: what no well-behaved server does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio_rustls::TlsAcceptor;

use crate::servers::Certificates;

/// What becomes of one request.
#[derive(Clone, Debug)]
pub enum Step {
    /// It is answered.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// It is answered by a body whose pieces come one every so often.
    Drip(Vec<u8>, Duration),
    /// It is answered by so many zero bytes, whatever they announce.
    Zeros(usize),
    /// A part of a body comes, and then the end of the stream as an error.
    HalfBody,
    /// The stream ends without an answer.
    Reset,
    /// The connection ends without an answer.
    Cut,
    /// Nothing ever comes.
    Hang,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A server on a free loopback port, stopped when dropped.
#[derive(Debug)]
pub struct ScriptedApi {
    address: SocketAddr,
    certificates: Certificates,
    state: Arc<State>,
    _stop_on_drop: oneshot::Sender<()>,
}

#[derive(Debug)]
struct State {
    steps: Mutex<VecDeque<Step>>,
    otherwise: Mutex<Step>,
    seen: Mutex<Vec<Seen>>,
    cut: Notify,
    accepted: std::sync::atomic::AtomicUsize,
}

impl ScriptedApi {
    /// Starts one that speaks `protocol` ("h2") and answers 404 to everything.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn speaking(protocol: &'static str) -> Self {
        let certificates = Certificates::new();
        let acceptor = acceptor(&certificates, protocol);
        let state = Arc::new(State {
            steps: Mutex::default(),
            otherwise: Mutex::new(Step::Answer(404, Vec::new(), Vec::new())),
            seen: Mutex::default(),
            cut: Notify::new(),
            accepted: std::sync::atomic::AtomicUsize::new(0),
        });
        let (stop_on_drop, stopped) = oneshot::channel::<()>();
        let (bound, address) = std::sync::mpsc::channel();
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a poller");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let _ = bound.send(listener.local_addr().expect("bound"));
                tokio::select! {
                    () = serve(listener, acceptor, serving) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address: address.recv().expect("the server starts"),
            certificates,
            state,
            _stop_on_drop: stop_on_drop,
        }
    }

    /// Starts one that speaks HTTP/2.
    #[must_use]
    pub fn start() -> Self {
        Self::speaking("h2")
    }

    /// The server's URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port())
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The authority to trust.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.certificates.ca()
    }

    /// What becomes of the next requests, in order of arrival.
    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.state.steps.lock().extend(steps);
    }

    /// What becomes of requests beyond the script.
    pub fn otherwise(&self, step: Step) {
        *self.state.otherwise.lock() = step;
    }

    /// The requests since the last look.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.seen.lock())
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.state
            .accepted
            .load(std::sync::atomic::Ordering::SeqCst)
    }
}

fn acceptor(certificates: &Certificates, protocol: &str) -> TlsAcceptor {
    let (certificate, key) = certificates.server();
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .expect("it was just made");
    let key = PrivateKeyDer::from_pem_file(key).expect("it was just made");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .expect("the certificate and key belong together");
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        state
            .accepted
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return; // The client does not trust it.
            };
            let answering = Arc::clone(&state);
            let service = service_fn(move |request| answer(Arc::clone(&answering), request));
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = state.cut.notified() => {}
            }
        });
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?;
    let headers = head.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    state.seen.lock().push(Seen {
        method: head.method.to_string(),
        path: head
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        headers: headers.collect(),
        body: body.to_bytes().to_vec(),
    });
    let step = state.steps.lock().pop_front();
    let step = step.unwrap_or_else(|| state.otherwise.lock().clone());
    let response = Response::builder();
    let full = |bytes: Vec<u8>| Full::new(Bytes::from(bytes)).map_err(never).boxed();
    let made = match step {
        Step::Answer(status, headers, body) => {
            let response = headers
                .into_iter()
                .fold(response.status(status), |response, (name, value)| {
                    response.header(name, value)
                });
            response.body(full(body))
        }
        Step::Drip(bytes, pause) => response.body(dripping(bytes, pause)),
        Step::Zeros(length) => response.body(full(vec![0; length])),
        Step::HalfBody => response
            .header("content-length", "10")
            .body(dripping(Vec::new(), Duration::ZERO)),
        Step::Reset => return Err(std::io::Error::other("as the script says")),
        Step::Cut => {
            state.cut.notify_waiters();
            std::future::pending().await
        }
        Step::Hang => std::future::pending().await,
    };
    Ok(made.expect("the script's answers are possible"))
}

fn never(never: Infallible) -> std::io::Error {
    match never {}
}

/// The bytes one by one; without any, an error in their place.
fn dripping(bytes: Vec<u8>, pause: Duration) -> Body {
    let broken = bytes.is_empty();
    let pieces = bytes
        .into_iter()
        .map(Ok)
        .chain(broken.then(|| Err(std::io::Error::other("half"))));
    let frames = futures_util::stream::unfold(pieces, move |mut pieces| async move {
        let piece = pieces.next()?;
        tokio::time::sleep(pause).await;
        Some((
            piece.map(|byte| Frame::data(Bytes::from(vec![byte]))),
            pieces,
        ))
    });
    BodyExt::boxed(StreamBody::new(frames))
}
