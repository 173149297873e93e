//! Requests of the meta protocol, and what the backend reads from their replies.
//!
//! The same requests and readings serve blocking and asynchronous callers. The protocol is
//! memcached's `doc/protocol.txt`; every request asks for a reply and carries its number, which the
//! reply repeats.

use std::io::{self, Write};

use bytes::Bytes;

use super::error::{refused, unexpected};
use super::life::remaining;
use super::reply::{Flags, Reply};
use crate::backend::Found;
use crate::error::Result;

/// A request. Keys are as they are stored.
#[derive(Clone, Copy)]
pub(crate) enum Command<'a> {
    /// The item, with its remaining life and its version.
    Get { key: &'a str, version: bool },
    /// Whether there is an item, and its remaining life.
    Look { key: &'a str },
    /// A new life for the item.
    Touch { key: &'a str, life: i64 },
    /// A new item.
    Set {
        key: &'a str,
        value: &'a [u8],
        life: i64,
        only: Only,
    },
    /// The item's removal, whatever it is or only in this version.
    Delete { key: &'a str, version: Option<u64> },
    /// The server's version.
    Version,
    /// The user and password of a new connection.
    Login {
        username: &'a str,
        password: &'a str,
    },
}

/// Under which condition an item is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    Always,
    IfAbsent,
    IfVersion(u64),
}

impl<'a> Command<'a> {
    pub(super) fn get(key: &'a str) -> Self {
        Self::Get {
            key,
            version: false,
        }
    }

    pub(super) fn set(key: &'a str, value: &'a [u8], life: i64) -> Self {
        Self::Set {
            key,
            value,
            life,
            only: Only::Always,
        }
    }

    pub(super) fn add(key: &'a str, value: &'a [u8], life: i64) -> Self {
        Self::Set {
            key,
            value,
            life,
            only: Only::IfAbsent,
        }
    }

    pub(super) fn delete(key: &'a str) -> Self {
        Self::Delete { key, version: None }
    }

    /// The key whose item this request changes.
    pub(super) fn changes(&self) -> Option<&'a str> {
        match self {
            Self::Touch { key, .. } | Self::Set { key, .. } | Self::Delete { key, .. } => Some(key),
            Self::Get { .. } | Self::Look { .. } | Self::Version | Self::Login { .. } => None,
        }
    }

    /// Appends the request as it is sent.
    pub(super) fn encode(
        &self,
        number: u32,
        out: &mut Vec<u8>,
        mut long: impl FnMut(&mut Vec<u8>, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Self::Get { key, version } => {
                let version = if *version { " c" } else { "" };
                write!(out, "mg {key} v t{version} O{number}\r\n")
            }
            Self::Look { key } => write!(out, "mg {key} t O{number}\r\n"),
            Self::Touch { key, life } => write!(out, "mg {key} T{life} O{number}\r\n"),
            Self::Set {
                key,
                value,
                life,
                only,
            } => {
                write!(out, "ms {key} {} T{life} c O{number}", value.len())?;
                match only {
                    Only::Always => {}
                    Only::IfAbsent => out.extend_from_slice(b" ME"),
                    Only::IfVersion(version) => write!(out, " C{version}")?,
                }
                out.extend_from_slice(b"\r\n");
                long(out, value)?;
                out.extend_from_slice(b"\r\n");
                Ok(())
            }
            Self::Delete { key, version: None } => write!(out, "md {key} O{number}\r\n"),
            Self::Delete {
                key,
                version: Some(version),
            } => write!(out, "md {key} C{version} O{number}\r\n"),
            Self::Version => {
                out.extend_from_slice(b"version\r\n");
                Ok(())
            }
            Self::Login { username, password } => {
                let length = username.len() + 1 + password.len();
                write!(out, "set login 0 0 {length}\r\n{username} {password}\r\n")
            }
        }
    }
}

/// The replies to a batch, read in order. A refusal is an error.
pub(super) struct Replies {
    operation: &'static str,
    replies: std::vec::IntoIter<Reply>,
}

impl Replies {
    pub(super) fn new(operation: &'static str, replies: Vec<Reply>) -> Self {
        Self {
            operation,
            replies: replies.into_iter(),
        }
    }

    fn next(&mut self) -> Result<Reply> {
        match self.replies.next() {
            Some(Reply::Refused(line)) => Err(refused(self.operation, &line)),
            Some(reply) => Ok(reply),
            None => Err(unexpected(self.operation)),
        }
    }

    /// The reply to a get: the value and what is known about it.
    pub(super) fn value(&mut self) -> Result<Option<(Bytes, Flags)>> {
        match self.next()? {
            Reply::Value(value, flags) => Ok(Some((value, flags))),
            Reply::Not(_) => Ok(None),
            _ => Err(unexpected(self.operation)),
        }
    }

    /// The reply to a get, as an entry.
    pub(super) fn found(&mut self, want_ttl: bool) -> Result<Option<Found>> {
        Ok(self.value()?.map(|(value, flags)| Found {
            value,
            remaining: remaining(flags.ttl.filter(|_| want_ttl)),
        }))
    }

    /// The reply to anything else: what there is to know where it was done, None where it was not.
    pub(super) fn done(&mut self) -> Result<Option<Flags>> {
        match self.next()? {
            Reply::Done(flags) => Ok(Some(flags)),
            Reply::Not(_) => Ok(None),
            _ => Err(unexpected(self.operation)),
        }
    }

    pub(super) fn version(&mut self) -> Result<Box<str>> {
        match self.next()? {
            Reply::Version(version) => Ok(version),
            _ => Err(unexpected(self.operation)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(command: Command<'_>) -> String {
        let mut out = Vec::new();
        let append = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        command.encode(7, &mut out, append).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_request_as_it_is_sent() {
        let key = "k";
        for (command, expected) in [
            (Command::get(key), "mg k v t O7\r\n"),
            (Command::Get { key, version: true }, "mg k v t c O7\r\n"),
            (Command::Look { key }, "mg k t O7\r\n"),
            (Command::Touch { key, life: 5 }, "mg k T5 O7\r\n"),
            (
                Command::set(key, b"a\r\nb", 5),
                "ms k 4 T5 c O7\r\na\r\nb\r\n",
            ),
            (Command::add(key, b"", 0), "ms k 0 T0 c O7 ME\r\n\r\n"),
            (
                Command::Set {
                    key,
                    value: b"v",
                    life: 5,
                    only: Only::IfVersion(9),
                },
                "ms k 1 T5 c O7 C9\r\nv\r\n",
            ),
            (Command::delete(key), "md k O7\r\n"),
            (
                Command::Delete {
                    key,
                    version: Some(9),
                },
                "md k C9 O7\r\n",
            ),
            (Command::Version, "version\r\n"),
            (
                Command::Login {
                    username: "bob",
                    password: "pw",
                },
                "set login 0 0 6\r\nbob pw\r\n",
            ),
        ] {
            assert_eq!(encoded(command), expected);
        }
    }
}
