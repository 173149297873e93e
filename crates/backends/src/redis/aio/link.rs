//! The multiplexed connection that asynchronous callers of one runtime share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use redis::{RedisConnectionInfo, RedisError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;

use super::pipe::Pipe;
use crate::error::{BackendError, ErrorKind};
use crate::redis::config::{Address, Login};
use crate::redis::connection::hello;
use crate::redis::error::{Failure, broken, refused, unanswered};
use crate::redis::node::{Node, Request, after};
use crate::redis::reply::{Refusal, Reply};
use crate::redis::stream::{prepare, server_name};

/// One server's multiplexed connections, one per tokio runtime: a connection is served by a task,
/// which runs only while its own runtime does.
#[derive(Default)]
pub(in crate::redis) struct Link {
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    list: Vec<(runtime::Id, Line)>,
    opened: u64,
}

enum Line {
    Opening(u64, Opening),
    Open(Arc<Open>),
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Open>, Failure>>>;

/// An open multiplexed connection.
struct Open {
    pipe: Pipe,
    opened: Instant,
    /// When the last reply came, in nanoseconds since `opened`.
    last_reply: AtomicU64,
}

/// A byte stream of either kind.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

impl Link {
    /// Lets go of the connections; calls that wait for a reply still get it.
    pub(in crate::redis) fn disconnect(&self) {
        let dropped = std::mem::take(&mut self.lines.lock().list);
        drop(dropped);
    }

    /// This runtime's connection, or the one being opened.
    fn line(node: &Arc<Node>) -> Result<Arc<Open>, Opening> {
        let id = runtime::Handle::current().id();
        let mut lines = node.link.lines.lock();
        for (runtime, line) in &lines.list {
            match line {
                _ if *runtime != id => {}
                Line::Opening(_, opening) => return Err(opening.clone()),
                Line::Open(open) if !open.pipe.is_closed() => return Ok(Arc::clone(open)),
                Line::Open(_) => {}
            }
        }
        // What is closed goes, also that of runtimes that are gone.
        lines.list.retain(|(_, line)| match line {
            Line::Opening(..) => true,
            Line::Open(open) => !open.pipe.is_closed(),
        });
        lines.opened += 1;
        let ticket = lines.opened;
        let opening = {
            let node = Arc::clone(node);
            // On a task of its own, so that no caller's cancellation hurts those who wait too.
            tokio::spawn(async move {
                let opened = Open::new(&node).await.map(Arc::new);
                node.link.settle(ticket, opened.as_ref().ok());
                opened
            })
        };
        let opening = async {
            opening.await.unwrap_or_else(|stopped| {
                let message = "the runtime stopped while the connection was made";
                let error = BackendError::new(ErrorKind::Unknown, "connect", message);
                Err(Failure {
                    error: error.with_source(stopped),
                    lost: true,
                })
            })
        };
        let opening = opening.boxed().shared();
        lines
            .list
            .push((id, Line::Opening(ticket, opening.clone())));
        Err(opening)
    }

    /// Replaces the line being opened by what came of it.
    fn settle(&self, ticket: u64, opened: Option<&Arc<Open>>) {
        let mut lines = self.lines.lock();
        let is_it =
            |(_, line): &(runtime::Id, Line)| matches!(line, Line::Opening(t, _) if *t == ticket);
        if let Some(at) = lines.list.iter().position(is_it) {
            match opened {
                Some(open) => lines.list[at].1 = Line::Open(Arc::clone(open)),
                None => {
                    lines.list.swap_remove(at);
                }
            }
        }
    }

    fn forget(&self, open: &Arc<Open>) {
        let is_it = |line: &Line| matches!(line, Line::Open(other) if Arc::ptr_eq(other, open));
        self.lines.lock().list.retain(|(_, line)| !is_it(line));
    }
}

/// Sends the commands on the runtime's connection to `node` and waits for the replies.
///
/// A connection that had been open before and is lost is replaced once.
pub(in crate::redis) async fn call(
    node: &Arc<Node>,
    request: &Request<'_>,
) -> Result<Vec<Reply>, Failure> {
    let (open, is_new) = match Link::line(node) {
        Ok(open) => (open, false),
        Err(opening) => (opened(node, request, opening).await?, true),
    };
    match open.exchange(node, request).await {
        Err(failure) if failure.lost && !is_new && failure.error.kind() != ErrorKind::Timeout => {
            let open = match Link::line(node) {
                Ok(open) => open,
                Err(opening) => opened(node, request, opening).await?,
            };
            open.exchange(node, request).await
        }
        outcome => outcome,
    }
}

async fn opened(
    node: &Node,
    request: &Request<'_>,
    opening: Opening,
) -> Result<Arc<Open>, Failure> {
    match timeout_at(request.deadline.into(), opening).await {
        Ok(opened) => opened.map_err(|failure| Failure {
            error: failure.error.with_operation(request.operation),
            ..failure
        }),
        Err(_) => Err(late(node, request)),
    }
}

fn late(node: &Node, request: &Request<'_>) -> Failure {
    Failure {
        error: unanswered(request.operation, &node.address, request.timeout),
        lost: true,
    }
}

impl Open {
    async fn new(node: &Node) -> Result<Self, Failure> {
        let limit = node.shared.config.connect_timeout;
        let connecting = async {
            let pipe = Pipe::open(connect(node, after(limit)).await?);
            let hello = hello(node.login(), node.database());
            let replies = pipe.call(&hello).await.map_err(|error| Failure {
                error: broken("connect", &node.address, error, limit),
                lost: true,
            })?;
            for reply in replies {
                if let Reply::Error(refusal) = reply {
                    return Err(Failure {
                        error: refused("connect", &refusal),
                        lost: false,
                    });
                }
            }
            Ok(pipe)
        };
        match tokio::time::timeout(limit, connecting).await {
            Ok(connected) => connected.map(|pipe| Self {
                pipe,
                opened: Instant::now(),
                last_reply: AtomicU64::new(0),
            }),
            Err(_) => Err(Failure {
                error: unanswered("connect", &node.address, limit),
                lost: true,
            }),
        }
    }

    /// Nanoseconds since this connection was opened.
    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    async fn exchange(
        self: &Arc<Self>,
        node: &Node,
        request: &Request<'_>,
    ) -> Result<Vec<Reply>, Failure> {
        let sent = self.now();
        match timeout_at(request.deadline.into(), self.pipe.call(request.batch)).await {
            Ok(Ok(replies)) => {
                self.last_reply.store(self.now(), Ordering::Relaxed);
                Ok(replies)
            }
            Ok(Err(error)) => Err(self.drop_for(node, node.lost(request, error))),
            // Others' replies arrive: the server is slow with this one. Otherwise the connection
            // may be dead without a sign, and the next call gets a new one.
            Err(_) if self.last_reply.load(Ordering::Relaxed) > sent => Err(late(node, request)),
            Err(_) => Err(self.drop_for(node, late(node, request))),
        }
    }

    fn drop_for(self: &Arc<Self>, node: &Node, failure: Failure) -> Failure {
        node.link.forget(self);
        failure
    }
}

/// Connects to the node's server, with the TLS handshake where one is wanted.
pub(super) async fn connect(
    node: &Node,
    deadline: Instant,
) -> Result<Box<dyn ByteStream>, Failure> {
    let tls = node
        .shared
        .tls()
        .map_err(|error| Failure { error, lost: false })?;
    let connecting = async {
        let (host, stream) = match &node.address {
            Address::Unix(path) => {
                return Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn ByteStream>);
            }
            Address::Tcp { host, port } => (host, connect_tcp(host, *port, deadline).await?),
        };
        Ok(match tls {
            Some(config) => {
                let connector = TlsConnector::from(Arc::clone(config));
                Box::new(connector.connect(server_name(host)?, stream).await?)
            }
            None => Box::new(stream),
        })
    };
    connecting.await.map_err(|error| Failure {
        error: broken(
            "connect",
            &node.address,
            error,
            node.shared.config.connect_timeout,
        ),
        lost: true,
    })
}

async fn connect_tcp(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let mut last = None;
    for (done, address) in addresses.iter().enumerate() {
        // An unreachable first address must leave time for the next one.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - done).unwrap_or(u32::MAX);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                prepare(&socket2::SockRef::from(&stream))?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other(format!("the name '{host}' has no address"))))
}

/// How the client library logs in.
pub(super) fn connection_info(node: &Node) -> RedisConnectionInfo {
    let Login { username, password } = node.login();
    let mut info = RedisConnectionInfo::default()
        .set_db(node.database().into())
        .set_skip_set_lib_name();
    if let Some(username) = username {
        info = info.set_username(username);
    }
    if let Some(password) = password {
        info = info.set_password(password);
    }
    info
}

/// What an error of the client library means.
pub(super) fn failed(operation: &'static str, node: &Node, error: &RedisError) -> Failure {
    if let Some(code) = error.code() {
        let refusal = Refusal {
            code: code.into(),
            detail: error.detail().unwrap_or_default().into(),
        };
        return Failure {
            error: refused(operation, &refusal),
            lost: false,
        };
    }
    if error.kind() == redis::ErrorKind::AuthenticationFailed {
        let message = format!(
            "{} refused the login; check the user and password of the URL",
            node.address
        );
        return Failure {
            error: BackendError::new(ErrorKind::Authentication, operation, message),
            lost: false,
        };
    }
    Failure {
        error: BackendError::new(
            ErrorKind::Transient,
            operation,
            format!("{}: {error}", node.address),
        ),
        lost: true,
    }
}
