//! The multiplexed connection that asynchronous callers of one runtime share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;

use super::error::{Failure, broken, unanswered};
use super::lookup::resolve_async;
use super::node::Node;
use super::pipe::Pipe;
use super::stream::{prepare, server_name};
use super::{Address, Protocol, Request};
use crate::deadline::after;
use crate::error::{BackendError, ErrorKind};

/// One server's multiplexed connections, one per tokio runtime: a connection is served by a task,
/// which runs only while its own runtime does.
pub(crate) struct Link<P: Protocol> {
    lines: Mutex<Lines<P>>,
}

struct Lines<P: Protocol> {
    list: Vec<(runtime::Id, Line<P>)>,
    opened: u64,
}

enum Line<P: Protocol> {
    Opening(u64, Opening<P>),
    Open(Arc<Open<P>>),
}

type Opening<P> = Shared<BoxFuture<'static, Result<Arc<Open<P>>, Failure>>>;

/// An open multiplexed connection.
struct Open<P: Protocol> {
    pipe: Pipe<P>,
    opened: Instant,
    /// When the last reply came, in nanoseconds since `opened`.
    last_reply: AtomicU64,
}

/// A byte stream of either kind.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

impl<P: Protocol> Link<P> {
    pub(super) fn new() -> Self {
        Self {
            lines: Mutex::new(Lines {
                list: Vec::new(),
                opened: 0,
            }),
        }
    }

    /// Lets go of the connections; calls that wait for a reply still get it.
    pub(super) fn disconnect(&self) {
        let dropped = std::mem::take(&mut self.lines.lock().list);
        drop(dropped);
    }

    /// This runtime's connection, or the one being opened.
    fn line(node: &Arc<Node<P>>) -> Result<Arc<Open<P>>, Opening<P>> {
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
    fn settle(&self, ticket: u64, opened: Option<&Arc<Open<P>>>) {
        let mut lines = self.lines.lock();
        let is_it = |(_, line): &(runtime::Id, Line<P>)| matches!(line, Line::Opening(t, _) if *t == ticket);
        if let Some(at) = lines.list.iter().position(is_it) {
            match opened {
                Some(open) => lines.list[at].1 = Line::Open(Arc::clone(open)),
                None => {
                    lines.list.swap_remove(at);
                }
            }
        }
    }

    fn forget(&self, open: &Arc<Open<P>>) {
        let is_it = |line: &Line<P>| matches!(line, Line::Open(other) if Arc::ptr_eq(other, open));
        self.lines.lock().list.retain(|(_, line)| !is_it(line));
    }
}

/// Sends the commands on the runtime's connection to `node` and waits for the replies.
///
/// A connection that had been open before and is lost is replaced once.
pub(super) async fn call<P: Protocol>(
    node: &Arc<Node<P>>,
    request: &Request<'_, P::Command<'_>>,
) -> Result<Vec<P::Reply>, Failure> {
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

async fn opened<P: Protocol>(
    node: &Node<P>,
    request: &Request<'_, P::Command<'_>>,
    opening: Opening<P>,
) -> Result<Arc<Open<P>>, Failure> {
    match timeout_at(request.deadline.into(), opening).await {
        Ok(opened) => opened.map_err(|failure| Failure {
            error: failure.error.with_operation(request.operation),
            ..failure
        }),
        Err(_) => Err(late(node, request)),
    }
}

fn late<P: Protocol>(node: &Node<P>, request: &Request<'_, P::Command<'_>>) -> Failure {
    Failure {
        error: unanswered(request.operation, &node.address, request.timeout),
        lost: true,
    }
}

impl<P: Protocol> Open<P> {
    async fn new(node: &Node<P>) -> Result<Self, Failure> {
        let limit = node.dial.connect_timeout;
        let connecting = async {
            let pipe = Pipe::open(connect(node, after(limit)).await?);
            let replies = pipe
                .call(&node.protocol.hello())
                .await
                .map_err(|error| Failure {
                    error: broken("connect", &node.address, error, limit),
                    lost: true,
                })?;
            match replies.iter().find_map(P::refusal) {
                Some(error) => Err(Failure { error, lost: false }),
                None => Ok(pipe),
            }
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
        node: &Node<P>,
        request: &Request<'_, P::Command<'_>>,
    ) -> Result<Vec<P::Reply>, Failure> {
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

    fn drop_for(self: &Arc<Self>, node: &Node<P>, failure: Failure) -> Failure {
        node.link.forget(self);
        failure
    }
}

/// Connects to the node's server, with the TLS handshake where one is wanted.
pub(crate) async fn connect<P: Protocol>(
    node: &Node<P>,
    deadline: Instant,
) -> Result<Box<dyn ByteStream>, Failure> {
    let tls = node
        .dial
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
        error: broken("connect", &node.address, error, node.dial.connect_timeout),
        lost: true,
    })
}

async fn connect_tcp(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let addresses = resolve_async(host, port, deadline).await?;
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
