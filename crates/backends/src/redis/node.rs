//! Redis servers as nodes, and what is said to them.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::BytesMut;

use super::command::{Command, Digits, Word};
use super::config::RedisConfig;
use super::error::refused;
use super::reply::{self, Reply};
use crate::error::BackendError;
use crate::net::{self, Address, Dial, Login, Protocol, Reader};

pub(super) type Node = net::Node<Resp>;
pub(super) type Request<'a> = net::Request<'a, Command<'a>>;

/// What all nodes of a backend share.
pub(super) struct Shared {
    config: RedisConfig,
    dial: Arc<Dial>,
}

impl Shared {
    pub(super) fn new(config: RedisConfig) -> Arc<Self> {
        let dial = Dial::new(config.connect_timeout, config.pool_size, config.tls.clone());
        Arc::new(Self { config, dial })
    }

    /// The server at this address.
    pub(super) fn node(self: &Arc<Self>, address: &Address, role: Role) -> Arc<Node> {
        let protocol = Resp {
            shared: Arc::clone(self),
            role,
        };
        Node::new(address.clone(), protocol, &self.dial)
    }
}

/// A server's role: sentinels have a login of their own and no databases.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Store,
    Sentinel,
}

/// The Redis protocol (RESP2), as one server with this login speaks it.
pub(crate) struct Resp {
    shared: Arc<Shared>,
    role: Role,
}

impl Resp {
    pub(super) fn login(&self) -> &Login {
        match self.role {
            Role::Store => &self.shared.config.login,
            Role::Sentinel => &self.shared.config.sentinel_login,
        }
    }

    pub(super) fn database(&self) -> u32 {
        match self.role {
            Role::Store => self.shared.config.database,
            Role::Sentinel => 0,
        }
    }
}

impl Protocol for Resp {
    type Command<'a> = Command<'a>;
    type Reply = Reply;

    fn encode(
        command: &Command<'_>,
        _number: u32,
        out: &mut Vec<u8>,
        mut long: impl FnMut(&mut Vec<u8>, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        header(out, b'*', command.words().len());
        for word in command.words() {
            let digits;
            let bytes = match word {
                Word::Bytes(bytes) => bytes,
                Word::Number(number) => {
                    digits = Digits::of(*number);
                    digits.as_bytes()
                }
            };
            header(out, b'$', bytes.len());
            long(out, bytes)?;
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn read<R: Read>(reader: &mut Reader<R>) -> io::Result<Reply> {
        reply::read(reader)
    }

    fn take(buffer: &mut BytesMut) -> io::Result<Option<Reply>> {
        reply::take(buffer)
    }

    fn hello(&self) -> Vec<Command<'_>> {
        let mut hello = Vec::with_capacity(2);
        let Login { username, password } = self.login();
        if let Some(password) = password {
            let auth = Command::new("AUTH");
            hello.push(match username {
                Some(username) => auth.arg(username).arg(password),
                None => auth.arg(password),
            });
        }
        if self.database() != 0 {
            hello.push(Command::new("SELECT").number(self.database().into()));
        }
        hello
    }

    fn refusal(reply: &Reply) -> Option<BackendError> {
        match reply {
            Reply::Error(refusal) => Some(refused("connect", refusal)),
            _ => None,
        }
    }
}

fn header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    out.extend_from_slice(Digits::of(count as u64).as_bytes());
    out.extend_from_slice(b"\r\n");
}
