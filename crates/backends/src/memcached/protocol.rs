//! The meta protocol, as one server with this login speaks it.

use std::io::{self, Read};

use bytes::BytesMut;

use super::command::Command;
use super::error::{is_in_step, refused};
use super::reply::{self, Reply};
use crate::error::BackendError;
use crate::net::{self, Login, Protocol, Reader};

pub(super) type Node = net::Node<Meta>;
pub(super) type Request<'a> = net::Request<'a, Command<'a>>;

/// The meta protocol.
pub(crate) struct Meta(pub(super) Login);

impl Protocol for Meta {
    type Command<'a> = Command<'a>;
    type Reply = Reply;

    fn encode(
        command: &Command<'_>,
        number: u32,
        out: &mut Vec<u8>,
        long: impl FnMut(&mut Vec<u8>, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        command.encode(number, out, long)
    }

    fn read<R: Read>(reader: &mut Reader<R>) -> io::Result<Reply> {
        reply::read(reader)
    }

    fn take(buffer: &mut BytesMut) -> io::Result<Option<Reply>> {
        reply::take(buffer)
    }

    fn hello(&self) -> Vec<Command<'_>> {
        match (&self.0.username, &self.0.password) {
            (Some(username), Some(password)) => vec![Command::Login { username, password }],
            _ => Vec::new(),
        }
    }

    fn refusal(reply: &Reply) -> Option<BackendError> {
        match reply {
            Reply::Refused(line) => Some(refused("connect", line)),
            _ => None,
        }
    }

    fn number(reply: &Reply) -> Option<u32> {
        match reply {
            Reply::Value(_, flags) | Reply::Done(flags) | Reply::Not(flags) => flags.number,
            Reply::Version(_) | Reply::Refused(_) => None,
        }
    }

    fn is_last(reply: &Reply) -> bool {
        matches!(reply, Reply::Refused(line) if !is_in_step(line))
    }
}
