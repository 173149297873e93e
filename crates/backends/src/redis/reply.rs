//! Replies of a Redis server (RESP2) and how they are read from a byte stream.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};

/// A server's answer to one command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
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
pub(super) struct Refusal {
    pub(super) code: Box<str>,
    pub(super) detail: Box<str>,
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
/// The longest line without a length in front: errors, numbers, statuses.
const MAX_LINE: usize = 64 << 10;
/// Our commands' replies nest three deep.
const MAX_DEPTH: usize = 8;
/// A value up to this size gets its memory at once (untouched zero pages), a larger one as its
/// bytes arrive, so that a false length costs nothing.
const AT_ONCE: usize = 16 << 20;

/// Reads replies from a byte stream. After an error the stream's position is unknown, and the
/// reader must not be used again.
pub(super) struct ReplyReader<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    received: bool,
}

impl<R: Read> ReplyReader<R> {
    const BUFFER: usize = 16 << 10;

    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; Self::BUFFER],
            start: 0,
            end: 0,
            received: false,
        }
    }

    pub(super) fn input(&self) -> &R {
        &self.input
    }

    pub(super) fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// Whether bytes were received that no reply has used.
    pub(super) fn has_unread(&self) -> bool {
        self.start != self.end
    }

    /// Whether any byte was received since this was last asked.
    pub(super) fn take_received(&mut self) -> bool {
        std::mem::take(&mut self.received)
    }

    /// Reads one reply, waiting for its bytes as long as the input does.
    ///
    /// # Errors
    /// Those of the input; `UnexpectedEof` when it ends; `InvalidData` when it is not RESP2.
    pub(super) fn read(&mut self) -> io::Result<Reply> {
        self.read_at(0)
    }

    fn read_at(&mut self, depth: usize) -> io::Result<Reply> {
        let (from, to) = self.line()?;
        let (&kind, text) = self.buffer[from..to]
            .split_first()
            .ok_or_else(|| garbage("an empty line"))?;
        match kind {
            b'$' => match number(text)? {
                -1 => Ok(Reply::Nil),
                length => self.bulk(length).map(Reply::Bulk),
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
                        items.push(self.read_at(depth + 1)?);
                    }
                    Ok(Reply::Array(items))
                }
            },
            other => Err(unknown(other)),
        }
    }

    /// The next line without its end, as a range of the buffer; the reader has moved behind it.
    fn line(&mut self) -> io::Result<(usize, usize)> {
        let mut seen = 0;
        loop {
            let pending = &self.buffer[self.start + seen..self.end];
            if let Some(at) = pending.iter().position(|&b| b == b'\n') {
                let (from, to) = (self.start, self.start + seen + at);
                self.start = to + 1;
                return match self.buffer[from..to].last() {
                    Some(b'\r') => Ok((from, to - 1)),
                    _ => Err(garbage("a line that does not end in CR LF")),
                };
            }
            seen = self.end - self.start;
            if seen > MAX_LINE {
                return Err(garbage("a line without an end"));
            }
            self.fill()?;
        }
    }

    fn bulk(&mut self, length: i64) -> io::Result<Bytes> {
        let length = bulk_length(length)?;
        let whole = length + 2;
        if whole <= self.buffer.len() {
            while self.end - self.start < whole {
                self.fill()?;
            }
            let bytes = &self.buffer[self.start..self.start + whole];
            self.start += whole;
            return match bytes.strip_suffix(b"\r\n") {
                Some(value) => Ok(Bytes::copy_from_slice(value)),
                None => Err(garbage("a value longer than its length")),
            };
        }
        let mut value = vec![0; whole.min(AT_ONCE)];
        let have = (self.end - self.start).min(value.len());
        value[..have].copy_from_slice(&self.buffer[self.start..self.start + have]);
        self.start += have;
        self.input.read_exact(&mut value[have..])?;
        while value.len() < whole {
            let have = value.len();
            value.resize(whole.min(have * 2), 0);
            self.input.read_exact(&mut value[have..])?;
        }
        if !value.ends_with(b"\r\n") {
            return Err(garbage("a value longer than its length"));
        }
        value.truncate(length);
        Ok(Bytes::from(value))
    }

    /// Receives some more bytes into the buffer.
    fn fill(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        let received = self.input.read(&mut self.buffer[self.end..])?;
        if received == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection",
            ));
        }
        self.received = true;
        self.end += received;
        Ok(())
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

/// The first line without its end, and where the next one begins.
fn line_of(bytes: &[u8]) -> io::Result<Option<(&[u8], usize)>> {
    match bytes.iter().take(MAX_LINE).position(|&b| b == b'\n') {
        Some(at) => match bytes[..at].strip_suffix(b"\r") {
            Some(line) => Ok(Some((line, at + 1))),
            None => Err(garbage("a line that does not end in CR LF")),
        },
        None if bytes.len() >= MAX_LINE => Err(garbage("a line without an end")),
        None => Ok(None),
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
                    return Err(garbage("a value longer than its length"));
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

fn garbage(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what} was received, which is not the Redis protocol"),
    )
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
