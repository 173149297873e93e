//! Servers that are talked to over sockets: one address, its connections and how they fail.
//!
//! Blocking calls use a small pool of connections on the calling thread. Asynchronous calls of one
//! tokio runtime share one connection, on which they are pipelined. What the bytes mean is a
//! [`Protocol`]'s.

#![cfg_attr(
    not(all(feature = "redis", feature = "memcached")),
    allow(dead_code, reason = "each store uses its part")
)]

mod connection;
mod error;
mod link;
pub(crate) mod lookup;
mod node;
mod pipe;
pub(crate) mod pool;
mod reader;
mod stream;
pub(crate) mod tls;
mod url;

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::BytesMut;

pub(crate) use self::error::Failure;
#[cfg(feature = "redis")]
pub(crate) use self::link::connect;
pub(crate) use self::node::{Dial, Node};
#[cfg(all(test, feature = "redis"))]
pub(crate) use self::reader::AT_ONCE;
pub(crate) use self::reader::{LONGER, Reader, garbage, line_of};
pub(crate) use self::tls::TlsOptions;
pub(crate) use self::url::{Login, Parts, parse_host, parse_hosts};
use crate::deadline::after;
use crate::error::BackendError;

/// How a kind of server is spoken to. Every command gets one reply, in order.
pub(crate) trait Protocol: Send + Sync + Sized + 'static {
    /// A request that gets one reply.
    type Command<'a>: Send + Sync;
    type Reply: Send + 'static;

    /// Appends a command as it is sent. Long byte strings go through `long`, which may send them
    /// from where they are. `number` counts the connection's commands.
    fn encode(
        command: &Self::Command<'_>,
        number: u32,
        out: &mut Vec<u8>,
        long: impl FnMut(&mut Vec<u8>, &[u8]) -> io::Result<()>,
    ) -> io::Result<()>;

    /// Reads one reply, waiting for its bytes as long as the input does.
    ///
    /// # Errors
    /// Those of the input; `UnexpectedEof` when it ends; `InvalidData` when it is not the protocol.
    fn read<R: Read>(reader: &mut Reader<R>) -> io::Result<Self::Reply>;

    /// Takes the next reply out of received bytes; `None` if it is not all there yet.
    ///
    /// # Errors
    /// `InvalidData` when the bytes are not the protocol.
    fn take(buffer: &mut BytesMut) -> io::Result<Option<Self::Reply>>;

    /// What a new connection says first.
    fn hello(&self) -> Vec<Self::Command<'_>>;

    /// The error of a reply that refuses a new connection's first words.
    fn refusal(reply: &Self::Reply) -> Option<BackendError>;

    /// Which of the connection's commands this reply says that it answers.
    fn number(_reply: &Self::Reply) -> Option<u32> {
        None
    }

    /// Whether nothing that follows this reply on its connection can be believed.
    fn is_last(_reply: &Self::Reply) -> bool {
        false
    }
}

/// Looks whether a reply answers the command that is the next to be answered.
///
/// # Errors
/// `InvalidData` when it answers another one: requests and replies have lost step.
fn in_step<P: Protocol>(reply: &P::Reply, expected: u32) -> io::Result<()> {
    match P::number(reply) {
        Some(number) if number != expected => {
            Err(garbage("the reply to another request than the next one"))
        }
        _ => Ok(()),
    }
}

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    /// A host's name or address, and a port.
    Tcp { host: String, port: u16 },
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Commands for one server, and the time they may take.
pub(crate) struct Request<'a, C> {
    pub(crate) operation: &'static str,
    pub(crate) batch: &'a [C],
    pub(crate) timeout: Duration,
    pub(crate) deadline: Instant,
}

impl<C> Clone for Request<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Request<'_, C> {}

impl<'a, C> Request<'a, C> {
    pub(crate) fn new(operation: &'static str, batch: &'a [C], timeout: Duration) -> Self {
        Self {
            operation,
            batch,
            timeout,
            deadline: after(timeout),
        }
    }

    /// Other commands with the same time.
    pub(crate) fn with<'b, D>(&self, batch: &'b [D]) -> Request<'b, D> {
        Request {
            operation: self.operation,
            batch,
            timeout: self.timeout,
            deadline: self.deadline,
        }
    }

    /// The same request with one of `parts` equal shares of the time that is left.
    pub(crate) fn share(&self, parts: usize) -> Self {
        let now = Instant::now();
        let left = self.deadline.saturating_duration_since(now);
        Self {
            deadline: now + left / u32::try_from(parts).unwrap_or(u32::MAX).max(1),
            ..*self
        }
    }
}
