//! The reply readers, for the fuzzer.

use std::io::Read;

use bytes::BytesMut;

use super::reply::{read, take};
use crate::net::Reader;

/// Hands out its bytes a few at a time.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.min(self.0.len()).min(buffer.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

/// The replies that the blocking reader finds before the end or the first mistake.
#[must_use]
pub fn read_all(bytes: &[u8], step: usize) -> Vec<String> {
    let mut reader = Reader::new(Drip(bytes, step));
    std::iter::from_fn(|| read(&mut reader).ok())
        .map(|reply| format!("{reply:?}"))
        .collect()
}

/// The replies that the other reader finds before the end or the first mistake.
#[must_use]
pub fn take_all(bytes: &[u8], step: usize) -> Vec<String> {
    let mut buffer = BytesMut::new();
    let mut replies = Vec::new();
    for chunk in bytes.chunks(step) {
        buffer.extend_from_slice(chunk);
        loop {
            match take(&mut buffer) {
                Ok(Some(reply)) => replies.push(format!("{reply:?}")),
                Ok(None) => break,
                Err(_) => return replies,
            }
        }
    }
    replies
}
