//! One blocking connection to one server.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;

use super::command::{Command, Digits, Word};
use super::config::{Address, Login};
use super::reply::{Refusal, Reply, ReplyReader};
use super::stream::Stream;

/// Words from this length are sent from where they are instead of being copied.
const LARGE: usize = 32 << 10;

/// A blocking connection that is logged in. After an error it must be dropped.
pub(super) struct Connection {
    reader: ReplyReader<Stream>,
    out: Vec<u8>,
}

/// What it takes to open a connection.
pub(super) struct Dial<'a> {
    pub(super) address: &'a Address,
    pub(super) login: &'a Login,
    pub(super) database: u32,
    pub(super) tls: Option<&'a Arc<ClientConfig>>,
}

/// Why a connection could not be opened.
pub(super) enum DialError {
    Broken(io::Error),
    Refused(Refusal),
}

/// A failed exchange of a connection.
pub(super) struct Broken {
    pub(super) error: io::Error,
    /// No byte of an answer was received.
    pub(super) unanswered: bool,
}

impl Connection {
    /// Connects, logs in and selects the database.
    pub(super) fn open(dial: &Dial<'_>, deadline: Instant) -> Result<Self, DialError> {
        let stream =
            Stream::connect(dial.address, dial.tls, deadline).map_err(DialError::Broken)?;
        let mut connection = Self {
            reader: ReplyReader::new(stream),
            out: Vec::with_capacity(256),
        };
        let hello = hello(dial.login, dial.database);
        if !hello.is_empty() {
            let replies = connection
                .call(&hello, deadline)
                .map_err(|broken| DialError::Broken(broken.error))?;
            for reply in replies {
                if let Reply::Error(refusal) = reply {
                    return Err(DialError::Refused(refusal));
                }
            }
        }
        Ok(connection)
    }

    /// Sends the commands at once and reads a reply to each.
    pub(super) fn call(
        &mut self,
        batch: &[Command<'_>],
        deadline: Instant,
    ) -> Result<Vec<Reply>, Broken> {
        self.reader.input_mut().set_deadline(deadline);
        self.reader.take_received();
        let mut replies = Vec::with_capacity(batch.len());
        let outcome = self.send(batch).and_then(|()| {
            for _ in batch {
                replies.push(self.reader.read()?);
            }
            Ok(())
        });
        match outcome {
            Ok(()) => Ok(replies),
            Err(error) => Err(Broken {
                error,
                unanswered: !self.reader.take_received(),
            }),
        }
    }

    /// Whether the connection may serve another call: still open, nothing unread.
    pub(super) fn is_reusable(&self) -> bool {
        !self.reader.has_unread() && self.reader.input().is_quiet()
    }

    fn send(&mut self, batch: &[Command<'_>]) -> io::Result<()> {
        let Self { reader, out } = self;
        let stream = reader.input_mut();
        out.clear();
        for command in batch {
            header(out, b'*', command.words().len());
            for word in command.words() {
                match word {
                    Word::Number(number) => append(out, Digits::of(*number).as_bytes()),
                    Word::Bytes(bytes) if bytes.len() < LARGE => append(out, bytes),
                    Word::Bytes(bytes) => {
                        header(out, b'$', bytes.len());
                        stream.write_all(out)?;
                        stream.write_all(bytes)?;
                        out.clear();
                        out.extend_from_slice(b"\r\n");
                    }
                }
            }
        }
        stream.write_all(out)?;
        stream.flush()
    }
}

/// What a new connection says first.
pub(super) fn hello(login: &Login, database: u32) -> Vec<Command<'_>> {
    let mut hello = Vec::with_capacity(2);
    if let Some(password) = &login.password {
        let auth = Command::new("AUTH");
        hello.push(match &login.username {
            Some(username) => auth.arg(username).arg(password),
            None => auth.arg(password),
        });
    }
    if database != 0 {
        hello.push(Command::new("SELECT").number(database.into()));
    }
    hello
}

/// Appends a command as it is sent.
pub(super) fn encode(out: &mut Vec<u8>, command: &Command<'_>) {
    header(out, b'*', command.words().len());
    for word in command.words() {
        match word {
            Word::Number(number) => append(out, Digits::of(*number).as_bytes()),
            Word::Bytes(bytes) => append(out, bytes),
        }
    }
}

fn append(out: &mut Vec<u8>, word: &[u8]) {
    header(out, b'$', word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

fn header(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    out.extend_from_slice(Digits::of(count as u64).as_bytes());
    out.extend_from_slice(b"\r\n");
}
