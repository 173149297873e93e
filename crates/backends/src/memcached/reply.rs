//! Replies of a memcached server (meta protocol) and how they are read from a byte stream.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};

use crate::net::{LONGER, Reader, garbage, line_of};

/// A server's answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// `VA`: there is an item, and here it is.
    Value(Bytes, Flags),
    /// `HD`: done, or there is an item.
    Done(Flags),
    /// `NS`, `EX`, `NF` or `EN`: not done, as the item is there already, has changed or is absent.
    Not(Flags),
    /// `VERSION`, with the version.
    Version(Box<str>),
    /// An error line, whole.
    Refused(Box<str>),
}

/// What follows a reply's first words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// The item's remaining life in seconds; -1 for no end.
    pub(super) ttl: Option<i64>,
    /// The item's version, for compare-and-swap.
    pub(super) cas: Option<u64>,
    /// The number of the request that is answered.
    pub(super) number: Option<u32>,
}

/// No server stores a longer value.
const MAX_VALUE: usize = 1 << 30;
/// From this size on a value is not copied out of the receive buffer.
const SHARED: usize = 32 << 10;

/// A reply's line: the reply, or what stands before a value of so many bytes.
enum Head {
    Whole(Reply),
    Value(usize, Flags),
}

/// Reads one reply, waiting for its bytes as long as the input does.
///
/// # Errors
/// Those of the input; `UnexpectedEof` when it ends; `InvalidData` when it is not the protocol.
pub(super) fn read<R: Read>(reader: &mut Reader<R>) -> io::Result<Reply> {
    match head(reader.line()?)? {
        Head::Whole(reply) => Ok(reply),
        Head::Value(length, flags) => Ok(Reply::Value(reader.block(length)?, flags)),
    }
}

/// Takes the next reply out of received bytes; `None` if it is not all there yet.
///
/// # Errors
/// `InvalidData` when the bytes are not the protocol.
pub(super) fn take(buffer: &mut BytesMut) -> io::Result<Option<Reply>> {
    let Some((line, next)) = line_of(buffer)? else {
        return Ok(None);
    };
    let (length, flags) = match head(line)? {
        Head::Whole(reply) => {
            buffer.advance(next);
            return Ok(Some(reply));
        }
        Head::Value(length, flags) => (length, flags),
    };
    let end = next + length;
    if buffer.len() < end + 2 {
        return Ok(None);
    }
    if &buffer[end..end + 2] != b"\r\n" {
        return Err(garbage(LONGER));
    }
    let value = if length < SHARED {
        let value = Bytes::copy_from_slice(&buffer[next..end]);
        buffer.advance(end + 2);
        value
    } else {
        buffer.advance(next);
        let value = buffer.split_to(length).freeze();
        buffer.advance(2);
        value
    };
    Ok(Some(Reply::Value(value, flags)))
}

fn head(line: &[u8]) -> io::Result<Head> {
    let (word, rest) = match line.iter().position(|&byte| byte == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &line[line.len()..]),
    };
    Ok(Head::Whole(match word {
        b"VA" => {
            let mut words = words(rest);
            let length = words.next().map(number::<usize>).transpose()?;
            let length = length
                .filter(|&length| length <= MAX_VALUE)
                .ok_or_else(|| garbage("a value without a usable length"))?;
            return Ok(Head::Value(length, flags(words)?));
        }
        b"HD" => Reply::Done(flags(words(rest))?),
        b"EN" | b"NF" | b"NS" | b"EX" => Reply::Not(flags(words(rest))?),
        // What answers a login.
        b"STORED" => Reply::Done(Flags::default()),
        b"VERSION" => Reply::Version(String::from_utf8_lossy(rest).into()),
        b"ERROR" | b"CLIENT_ERROR" | b"SERVER_ERROR" => {
            Reply::Refused(String::from_utf8_lossy(line).into())
        }
        _ => return Err(garbage("a line of another kind")),
    }))
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
}

fn flags<'a>(words: impl Iterator<Item = &'a [u8]>) -> io::Result<Flags> {
    let mut flags = Flags::default();
    for word in words {
        match word.split_first() {
            Some((b't', text)) => flags.ttl = Some(number(text)?),
            Some((b'c', text)) => flags.cas = Some(number(text)?),
            Some((b'O', text)) => flags.number = Some(number(text)?),
            // Newer servers may have more to say.
            _ => {}
        }
    }
    Ok(flags)
}

fn number<N: std::str::FromStr>(text: &[u8]) -> io::Result<N> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| garbage("a number that is none"))
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
