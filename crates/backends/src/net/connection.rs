//! One blocking connection to one server.

use std::io::{self, Write};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use super::reader::Reader;
use super::stream::Stream;
use super::{Address, Protocol, in_step};
use crate::error::BackendError;

/// Byte strings from this length are sent from where they are instead of being copied.
const LONG: usize = 32 << 10;

/// A blocking connection that has said hello. After an error it must be dropped.
pub(super) struct Connection<P> {
    reader: Reader<Stream>,
    out: Vec<u8>,
    /// How many commands were sent and replies received, modulo 2^32.
    sent: u32,
    received: u32,
    /// The server has said something after which nothing can be believed.
    spoilt: bool,
    protocol: PhantomData<fn() -> P>,
}

/// Why a connection could not be opened.
pub(super) enum DialError {
    Broken(io::Error),
    Refused(BackendError),
}

/// A failed exchange of a connection.
pub(super) struct Broken {
    pub(super) error: io::Error,
    /// No byte of an answer was received.
    pub(super) unanswered: bool,
}

impl<P: Protocol> Connection<P> {
    /// Connects and says hello.
    pub(super) fn open(
        address: &Address,
        protocol: &P,
        tls: Option<&Arc<ClientConfig>>,
        deadline: Instant,
    ) -> Result<Self, DialError> {
        let stream = Stream::connect(address, tls, deadline).map_err(DialError::Broken)?;
        let mut connection = Self {
            reader: Reader::new(stream),
            out: Vec::with_capacity(256),
            sent: 0,
            received: 0,
            spoilt: false,
            protocol: PhantomData,
        };
        let hello = protocol.hello();
        if !hello.is_empty() {
            let replies = connection
                .call(&hello, deadline)
                .map_err(|broken| DialError::Broken(broken.error))?;
            if let Some(refusal) = replies.iter().find_map(P::refusal) {
                return Err(DialError::Refused(refusal));
            }
        }
        Ok(connection)
    }

    /// Sends the commands at once and reads a reply to each.
    pub(super) fn call(
        &mut self,
        batch: &[P::Command<'_>],
        deadline: Instant,
    ) -> Result<Vec<P::Reply>, Broken> {
        self.send(batch, deadline)?;
        self.receive(batch.len())
    }

    /// Sends the commands at once.
    pub(super) fn send(
        &mut self,
        batch: &[P::Command<'_>],
        deadline: Instant,
    ) -> Result<(), Broken> {
        self.reader.input_mut().set_deadline(deadline);
        self.reader.take_received();
        self.write(batch).map_err(|error| self.broken(error))
    }

    /// Reads the replies to what was sent.
    pub(super) fn receive(&mut self, count: usize) -> Result<Vec<P::Reply>, Broken> {
        let mut replies = Vec::with_capacity(count);
        for _ in 0..count {
            let reply = P::read(&mut self.reader)
                .and_then(|reply| in_step::<P>(&reply, self.received).map(|()| reply))
                .map_err(|error| self.broken(error))?;
            self.received = self.received.wrapping_add(1);
            self.spoilt |= P::is_last(&reply);
            replies.push(reply);
            if self.spoilt && replies.len() < count {
                let message = "the server did not understand a request";
                return Err(self.broken(io::Error::new(io::ErrorKind::InvalidData, message)));
            }
        }
        Ok(replies)
    }

    /// Whether the connection may serve another call: still open, nothing unread.
    pub(super) fn is_reusable(&self) -> bool {
        !self.spoilt && !self.reader.has_unread() && self.reader.input().is_quiet()
    }

    fn write(&mut self, batch: &[P::Command<'_>]) -> io::Result<()> {
        let Self {
            reader, out, sent, ..
        } = self;
        let stream = reader.input_mut();
        out.clear();
        for command in batch {
            P::encode(command, *sent, out, |out, bytes| {
                if bytes.len() < LONG {
                    out.extend_from_slice(bytes);
                } else {
                    stream.write_all(out)?;
                    stream.write_all(bytes)?;
                    out.clear();
                }
                Ok(())
            })?;
            *sent = sent.wrapping_add(1);
        }
        stream.write_all(out)?;
        stream.flush()
    }

    fn broken(&mut self, error: io::Error) -> Broken {
        Broken {
            error,
            unanswered: !self.reader.take_received(),
        }
    }
}
