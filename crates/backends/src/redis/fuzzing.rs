//! What the fuzz targets see of the parser of replies.

use bytes::BytesMut;

use super::reply::{read, take};
use crate::net::Reader;

/// Reads `bytes` as replies in both ways, blocking and out of a buffer that is filled `step` bytes at a
/// time, and checks that they agree.
///
/// # Panics
/// When they do not.
pub fn replies(bytes: &[u8], step: usize) {
    let mut reader = Reader::new(bytes);
    let mut buffer = BytesMut::new();
    let mut rest = bytes;
    loop {
        let blocking = read(&mut reader);
        let buffered = loop {
            match take(&mut buffer) {
                Ok(None) if !rest.is_empty() => {
                    let (now, later) = rest.split_at(step.clamp(1, rest.len()));
                    buffer.extend_from_slice(now);
                    rest = later;
                }
                other => break other,
            }
        };
        match (blocking, buffered) {
            (Ok(one), Ok(Some(other))) => assert_eq!(one, other),
            (Err(_), Err(_) | Ok(None)) => return,
            (one, other) => panic!("{one:?} and {other:?}"),
        }
    }
}
