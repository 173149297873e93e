//! Redis commands, and what the backend reads from their replies.
//!
//! The same commands and readings serve blocking and asynchronous callers.

use std::time::Duration;

use super::error::refused;
use super::reply::Reply;
use crate::backend::{Found, Remaining};
use crate::error::{BackendError, ErrorKind, Result};

/// One word of a command.
#[derive(Clone, Copy)]
pub(super) enum Word<'a> {
    Bytes(&'a [u8]),
    Number(u64),
}

/// A command: its name and arguments.
#[derive(Clone, Copy)]
pub(crate) struct Command<'a> {
    words: [Word<'a>; Command::MAX_WORDS],
    count: usize,
}

impl<'a> Command<'a> {
    const MAX_WORDS: usize = 8;

    pub(super) fn new(name: &'static str) -> Self {
        Self {
            words: [Word::Bytes(name.as_bytes()); Self::MAX_WORDS],
            count: 1,
        }
    }

    /// The command with one more argument.
    pub(super) fn arg(self, bytes: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.word(Word::Bytes(bytes.as_ref()))
    }

    /// The command with one more argument, a number in decimal digits.
    pub(super) fn number(self, number: u64) -> Self {
        self.word(Word::Number(number))
    }

    fn word(mut self, word: Word<'a>) -> Self {
        self.words[self.count] = word;
        self.count += 1;
        self
    }

    pub(super) fn words(&self) -> &[Word<'a>] {
        &self.words[..self.count]
    }
}

/// Decimal digits of a number, without an allocation.
pub(super) struct Digits {
    buffer: [u8; 20],
    start: usize,
}

impl Digits {
    pub(super) fn of(mut number: u64) -> Self {
        let mut buffer = [0; 20];
        let mut start = buffer.len();
        loop {
            start -= 1;
            buffer[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { buffer, start };
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

/// GET, with PTTL behind it when the remaining life is wanted: the first `1 + want_ttl` of two.
pub(super) fn get(key: &str) -> [Command<'_>; 2] {
    [Command::new("GET").arg(key), Command::new("PTTL").arg(key)]
}

/// Two reads in one pipeline: GET (and PTTL) of one key, GET of another.
pub(super) fn get_with<'a>(key: &'a str, beside: &'a str, want_ttl: bool) -> Vec<Command<'a>> {
    let mut batch = get(key)[..1 + usize::from(want_ttl)].to_vec();
    batch.push(Command::new("GET").arg(beside));
    batch
}

/// SET unless there is an entry, then GET of what is there.
pub(super) fn add<'a>(key: &'a str, value: &'a [u8]) -> [Command<'a>; 2] {
    [
        Command::new("SET").arg(key).arg(value).arg("NX"),
        Command::new("GET").arg(key),
    ]
}

/// SET, with a life in milliseconds or for ever.
pub(super) fn set<'a>(key: &'a str, value: &'a [u8], life: Option<u64>) -> Command<'a> {
    let command = Command::new("SET").arg(key).arg(value);
    match life {
        Some(milliseconds) => command.arg("PX").number(milliseconds),
        None => command,
    }
}

/// Removal that leaves freeing the memory to the server's background.
pub(super) fn delete(key: &str) -> Command<'_> {
    Command::new("UNLINK").arg(key)
}

pub(super) fn exists(key: &str) -> Command<'_> {
    Command::new("EXISTS").arg(key)
}

pub(super) fn ttl(key: &str) -> Command<'_> {
    Command::new("PTTL").arg(key)
}

pub(super) fn expire(key: &str, milliseconds: u64) -> Command<'_> {
    Command::new("PEXPIRE").arg(key).number(milliseconds)
}

/// A life in whole milliseconds, rounded up. More than 30 000 years is as good as that.
///
/// # Errors
/// [`ErrorKind::Permanent`] when it is zero, which the server would refuse.
pub(super) fn milliseconds(operation: &'static str, life: Duration) -> Result<u64> {
    const MOST: u128 = 1_000_000_000_000_000;
    let milliseconds = life.as_nanos().div_ceil(1_000_000).min(MOST);
    match u64::try_from(milliseconds) {
        Ok(milliseconds) if milliseconds > 0 => Ok(milliseconds),
        _ => Err(BackendError::new(
            ErrorKind::Permanent,
            operation,
            "a life of 0 seconds was asked for; give a positive one, or none for an entry that does not expire",
        )),
    }
}

/// Replies of one pipeline, read in order.
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

    /// The next reply; an error reply becomes an error.
    pub(super) fn next(&mut self) -> Result<Reply> {
        match self.replies.next() {
            Some(Reply::Error(refusal)) => Err(refused(self.operation, &refusal)),
            Some(reply) => Ok(reply),
            None => Err(self.unexpected(&Reply::Nil)),
        }
    }

    /// A whole number.
    pub(super) fn int(&mut self) -> Result<i64> {
        match self.next()? {
            Reply::Int(number) => Ok(number),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Whether a command that answers with a count did something.
    pub(super) fn any(&mut self) -> Result<bool> {
        Ok(self.int()? > 0)
    }

    /// A status such as OK; false for the nil of a SET that was not done.
    pub(super) fn done(&mut self) -> Result<bool> {
        match self.next()? {
            Reply::Status(_) => Ok(true),
            Reply::Nil => Ok(false),
            other => Err(self.unexpected(&other)),
        }
    }

    /// A value, or None.
    pub(super) fn value(&mut self) -> Result<Option<bytes::Bytes>> {
        match self.next()? {
            Reply::Bulk(value) => Ok(Some(value)),
            Reply::Nil => Ok(None),
            other => Err(self.unexpected(&other)),
        }
    }

    /// An array.
    pub(super) fn array(&mut self) -> Result<Vec<Reply>> {
        match self.next()? {
            Reply::Array(items) => Ok(items),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The answer of PTTL; None when there is no entry.
    pub(super) fn remaining(&mut self) -> Result<Option<Remaining>> {
        Ok(match self.int()? {
            -1 => Some(Remaining::Forever),
            milliseconds => u64::try_from(milliseconds)
                .ok()
                .map(|milliseconds| Remaining::For(Duration::from_millis(milliseconds))),
        })
    }

    /// The answers of GET and, when it was sent, PTTL.
    pub(super) fn found(&mut self, with_ttl: bool) -> Result<Option<Found>> {
        let value = self.value()?;
        let remaining = if with_ttl {
            // An entry that expired between the two has no time left.
            self.remaining()?.unwrap_or(Remaining::For(Duration::ZERO))
        } else {
            Remaining::Unknown
        };
        Ok(value.map(|value| Found { value, remaining }))
    }

    /// The answers to [`get_with`].
    pub(super) fn found_with(
        &mut self,
        with_ttl: bool,
    ) -> Result<(Option<Found>, Option<bytes::Bytes>)> {
        Ok((self.found(with_ttl)?, self.value()?))
    }

    /// The answers to [`add`]: what is there now. `value` is what was to be added.
    pub(super) fn added(&mut self, value: &[u8]) -> Result<bytes::Bytes> {
        self.done()?;
        // Nothing: it was deleted between the two commands. What was added counts then.
        Ok(self
            .value()?
            .unwrap_or_else(|| bytes::Bytes::copy_from_slice(value)))
    }

    fn unexpected(&self, reply: &Reply) -> BackendError {
        BackendError::new(
            ErrorKind::Permanent,
            self.operation,
            format!(
                "the server answered with {}, which this command never returns; is it a Redis server?",
                reply.kind()
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_digits() {
        for number in [0, 7, 10, 999, u64::MAX] {
            assert_eq!(Digits::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn fractions_of_milliseconds_round_up() {
        let of = |nanoseconds| milliseconds("set", Duration::from_nanos(nanoseconds));
        assert_eq!(of(1).ok(), Some(1));
        assert_eq!(of(1_000_000).ok(), Some(1));
        assert_eq!(of(1_000_001).ok(), Some(2));
        assert_eq!(
            of(0).map_err(|error| error.kind()),
            Err(ErrorKind::Permanent)
        );
        assert!(milliseconds("set", Duration::MAX).is_ok_and(|most| i64::try_from(most).is_ok()));
    }
}
