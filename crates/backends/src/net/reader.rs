//! Lines and counted blocks of bytes, which is what replies are made of.

use std::io::{self, Read};

use bytes::Bytes;

/// The longest line: a reply without a counted block.
const MAX_LINE: usize = 64 << 10;
/// A block up to this size gets its memory at once (untouched zero pages), a larger one as its
/// bytes arrive, so that a false length costs nothing.
pub(crate) const AT_ONCE: usize = 16 << 20;

/// Reads lines and blocks from a byte stream. After an error the stream's position is unknown, and
/// the reader must not be used again.
pub(crate) struct Reader<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    received: bool,
}

impl<R: Read> Reader<R> {
    pub(crate) const BUFFER: usize = 16 << 10;

    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; Self::BUFFER],
            start: 0,
            end: 0,
            received: false,
        }
    }

    pub(crate) fn input(&self) -> &R {
        &self.input
    }

    pub(crate) fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// Whether bytes were received that no reply has used.
    pub(crate) fn has_unread(&self) -> bool {
        self.start != self.end
    }

    /// Whether any byte was received since this was last asked.
    pub(crate) fn take_received(&mut self) -> bool {
        std::mem::take(&mut self.received)
    }

    /// The next line without its end (CR LF).
    ///
    /// # Errors
    /// Those of the input; `UnexpectedEof` when it ends; `InvalidData` when the line has no end.
    pub(crate) fn line(&mut self) -> io::Result<&[u8]> {
        let mut seen = 0;
        loop {
            let pending = &self.buffer[self.start + seen..self.end];
            if let Some(at) = pending.iter().position(|&b| b == b'\n') {
                let (from, to) = (self.start, self.start + seen + at);
                self.start = to + 1;
                return match self.buffer[from..to].strip_suffix(b"\r") {
                    Some(line) => Ok(line),
                    None => Err(garbage("a line that does not end in CR LF")),
                };
            }
            seen = self.end - self.start;
            if seen > MAX_LINE {
                return Err(garbage("a line without an end"));
            }
            self.fill()?;
        }
    }

    /// The next `length` bytes, behind which a line must end.
    ///
    /// # Errors
    /// Those of the input; `UnexpectedEof` when it ends; `InvalidData` when no line ends there.
    pub(crate) fn block(&mut self, length: usize) -> io::Result<Bytes> {
        let whole = length + 2;
        if whole <= self.buffer.len() {
            while self.end - self.start < whole {
                self.fill()?;
            }
            let bytes = &self.buffer[self.start..self.start + whole];
            self.start += whole;
            return match bytes.strip_suffix(b"\r\n") {
                Some(value) => Ok(Bytes::copy_from_slice(value)),
                None => Err(garbage(LONGER)),
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
            return Err(garbage(LONGER));
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

/// What a block is that does not end where its length says.
pub(crate) const LONGER: &str = "a value longer than its length";

/// The first line without its end, and where the next one begins; None if it is not all there yet.
///
/// # Errors
/// `InvalidData` when the line has no end.
pub(crate) fn line_of(bytes: &[u8]) -> io::Result<Option<(&[u8], usize)>> {
    match bytes.iter().take(MAX_LINE).position(|&b| b == b'\n') {
        Some(at) => match bytes[..at].strip_suffix(b"\r") {
            Some(line) => Ok(Some((line, at + 1))),
            None => Err(garbage("a line that does not end in CR LF")),
        },
        None if bytes.len() >= MAX_LINE => Err(garbage("a line without an end")),
        None => Ok(None),
    }
}

/// The error of bytes that the server's protocol does not know.
pub(crate) fn garbage(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what} was received, which is not the server's protocol"),
    )
}
