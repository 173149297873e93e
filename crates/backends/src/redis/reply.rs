//! Replies of a Redis server (RESP2) and how they are read from a byte stream.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};

use crate::net::{LONGER, Reader, garbage, line_of};

/// A server's answer to one command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Nil,
    Int(i64),
    Status(Box<str>),
    Bulk(Bytes),
    Array(Vec<Reply>),
    Error(Refusal),
}

impl Reply {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nothing",
            Self::Int(_) => "a number",
            Self::Status(_) => "a status",
            Self::Bulk(_) => "a value",
            Self::Array(_) => "an array",
            Self::Error(_) => "an error",
        }
    }

    /// The text of a value or status that is UTF-8.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Bulk(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Status(text) => Some(text),
            _ => None,
        }
    }
}

/// An error reply: its first word ("MOVED", "WRONGTYPE", …) and the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Box<str>,
    pub(crate) detail: Box<str>,
}

impl Refusal {
    pub(super) fn parse(line: &str) -> Self {
        let (code, detail) = line.split_once(' ').unwrap_or((line, ""));
        Self {
            code: code.into(),
            detail: detail.into(),
        }
    }
}

/// Redis itself refuses longer values.
const MAX_BULK: usize = 512 << 20;
/// Our commands' replies nest three deep.
const MAX_DEPTH: usize = 8;
/// Reads one reply, waiting for its bytes as long as the input does.
///
/// # Errors
/// Those of the input; `UnexpectedEof` when it ends; `InvalidData` when it is not RESP2.
pub(super) fn read<R: Read>(reader: &mut Reader<R>) -> io::Result<Reply> {
    read_at(reader, 0)
}

fn read_at<R: Read>(reader: &mut Reader<R>, depth: usize) -> io::Result<Reply> {
    let (&kind, text) = reader
        .line()?
        .split_first()
        .ok_or_else(|| garbage("an empty line"))?;
    match kind {
        b'$' => match number(text)? {
            -1 => Ok(Reply::Nil),
            length => reader.block(bulk_length(length)?).map(Reply::Bulk),
        },
        b':' => number(text).map(Reply::Int),
        b'+' => Ok(Reply::Status(String::from_utf8_lossy(text).into())),
        b'-' => Ok(Reply::Error(Refusal::parse(&String::from_utf8_lossy(text)))),
        b'*' => match number(text)? {
            -1 => Ok(Reply::Nil),
            _ if depth == MAX_DEPTH => Err(garbage("arrays within arrays within arrays")),
            length if length < 0 => Err(garbage("a negative length")),
            length => {
                let mut items = Vec::new();
                for _ in 0..length {
                    items.push(read_at(reader, depth + 1)?);
                }
                Ok(Reply::Array(items))
            }
        },
        other => Err(unknown(other)),
    }
}

/// Takes the next reply out of received bytes; `None` if it is not all there yet.
///
/// Values of `SHARED` bytes and more stay in the buffer's memory instead of being copied.
///
/// # Errors
/// `InvalidData` when the bytes are not RESP2.
pub(super) fn take(buffer: &mut BytesMut) -> io::Result<Option<Reply>> {
    let Some(length) = measure(buffer, 0)? else {
        return Ok(None);
    };
    let large = length >= SHARED;
    let mut cursor = Cursor {
        bytes: if large {
            buffer.split_to(length).freeze()
        } else {
            Bytes::copy_from_slice(&buffer[..length])
        },
        at: 0,
    };
    if !large {
        buffer.advance(length);
    }
    cursor.reply().map(Some)
}

/// From this size on a reply is not copied out of the buffer.
const SHARED: usize = 32 << 10;

/// The length in bytes of the reply at the start of `bytes`; `None` if it is not all there yet.
fn measure(bytes: &[u8], depth: usize) -> io::Result<Option<usize>> {
    let Some((text, next)) = line_of(bytes)? else {
        return Ok(None);
    };
    let (&kind, text) = text.split_first().ok_or_else(|| garbage("an empty line"))?;
    match kind {
        b':' | b'+' | b'-' => Ok(Some(next)),
        b'$' => {
            let length = number(text)?;
            if length == -1 {
                return Ok(Some(next));
            }
            let whole = next + bulk_length(length)? + 2;
            Ok((bytes.len() >= whole).then_some(whole))
        }
        b'*' => {
            if depth == MAX_DEPTH {
                return Err(garbage("arrays within arrays within arrays"));
            }
            let mut at = next;
            for _ in 0..items(number(text)?)? {
                match measure(&bytes[at..], depth + 1)? {
                    Some(length) => at += length,
                    None => return Ok(None),
                }
            }
            Ok(Some(at))
        }
        other => Err(unknown(other)),
    }
}

fn bulk_length(length: i64) -> io::Result<usize> {
    usize::try_from(length)
        .ok()
        .filter(|&length| length <= MAX_BULK)
        .ok_or_else(|| garbage(&format!("a value of {length} bytes")))
}

/// The number of an array's items; an absent array has none.
fn items(length: i64) -> io::Result<i64> {
    match length {
        -1 => Ok(0),
        length if length < 0 => Err(garbage("a negative length")),
        length => Ok(length),
    }
}

fn unknown(kind: u8) -> io::Error {
    garbage(&format!("a reply that begins with byte 0x{kind:02x}"))
}

/// Reads a reply that [`measure`] has found to be all there.
struct Cursor {
    bytes: Bytes,
    at: usize,
}

impl Cursor {
    fn reply(&mut self) -> io::Result<Reply> {
        let rest = &self.bytes[self.at..];
        let (text, next) = line_of(rest)?.ok_or_else(|| garbage("half a line"))?;
        let (&kind, text) = text.split_first().ok_or_else(|| garbage("an empty line"))?;
        let simple = match kind {
            b':' => Some(Reply::Int(number(text)?)),
            b'+' => Some(Reply::Status(String::from_utf8_lossy(text).into())),
            b'-' => Some(Reply::Error(Refusal::parse(&String::from_utf8_lossy(text)))),
            _ if text == b"-1" => Some(Reply::Nil),
            _ => None,
        };
        let length = if simple.is_none() { number(text)? } else { 0 };
        self.at += next;
        match (simple, kind) {
            (Some(reply), _) => Ok(reply),
            (None, b'$') => {
                let end = self.at + bulk_length(length)?;
                let value = self.bytes.slice(self.at..end);
                if &self.bytes[end..end + 2] != b"\r\n" {
                    return Err(garbage(LONGER));
                }
                self.at = end + 2;
                Ok(Reply::Bulk(value))
            }
            (None, _) => (0..items(length)?)
                .map(|_| self.reply())
                .collect::<io::Result<_>>()
                .map(Reply::Array),
        }
    }
}

fn number(text: &[u8]) -> io::Result<i64> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| garbage("a number that is none"))
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
