use std::borrow::Cow;

use super::EnvelopeError;
use crate::msgpack::{Reader, Token};

/// The four fields of an envelope, unchecked against each other.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// The LZ4 block.
    pub(super) block: Cow<'a, [u8]>,
    /// XXH3-64 of the uncompressed bytes.
    pub(super) checksum: u64,
    /// The number of uncompressed bytes.
    pub(super) original: u32,
    /// What the payload is.
    pub(super) format: &'a str,
}

impl<'a> Parts<'a> {
    /// Reads the one document that `bytes` must be.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let mut reader = Reader::new(bytes);
        let parts = match reader.next()? {
            Token::Array(4) => Self {
                block: block(&mut reader)?,
                checksum: checksum(&mut reader)?,
                original: original(&mut reader)?,
                format: format(&mut reader)?,
            },
            Token::Map(4) => Self::read_map(&mut reader)?,
            Token::Array(_) => return Err(shape("an array of another length than four")),
            Token::Map(_) => return Err(shape("a map of another length than four")),
            _ => return Err(shape("neither an array nor a map")),
        };
        reader.finish()?;
        Ok(parts)
    }

    /// The form with named fields, in any order.
    #[cold]
    fn read_map(reader: &mut Reader<'a>) -> Result<Self, EnvelopeError> {
        let (mut a, mut b, mut c, mut d) = (None, None, None, None);
        for _ in 0..4 {
            match reader.next()? {
                Token::Str("compressed_data") => a = Some(block(reader)?),
                Token::Str("checksum") => b = Some(checksum(reader)?),
                Token::Str("original_size") => c = Some(original(reader)?),
                Token::Str("format") => d = Some(format(reader)?),
                _ => return Err(shape("a map with an unknown field")),
            }
        }
        let (Some(block), Some(checksum), Some(original), Some(format)) = (a, b, c, d) else {
            return Err(shape("a map that lacks a field"));
        };
        Ok(Self {
            block,
            checksum,
            original,
            format,
        })
    }
}

fn block<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, EnvelopeError> {
    match reader.next()? {
        Token::Bin(bytes) => Ok(Cow::Borrowed(bytes)),
        // The form of writers before core 0.4. The reader has checked the length.
        Token::Array(n) => {
            let mut bytes = Vec::with_capacity(n as usize);
            for _ in 0..n {
                bytes.push(byte(reader)?);
            }
            Ok(Cow::Owned(bytes))
        }
        _ => Err(shape(
            "its first field is neither bytes nor an array of them",
        )),
    }
}

fn checksum(reader: &mut Reader<'_>) -> Result<u64, EnvelopeError> {
    let mut sum = [0; 8];
    match reader.next()? {
        Token::Array(8) => {
            for b in &mut sum {
                *b = byte(reader)?;
            }
        }
        Token::Bin(bytes) if bytes.len() == sum.len() => sum.copy_from_slice(bytes),
        _ => return Err(shape("its checksum is not eight bytes")),
    }
    Ok(u64::from_be_bytes(sum))
}

#[inline]
fn byte(reader: &mut Reader<'_>) -> Result<u8, EnvelopeError> {
    match reader.next()? {
        Token::Int(v) => u8::try_from(v).map_err(|_| shape("a byte above 255 or below 0")),
        _ => Err(shape("a byte that is no integer")),
    }
}

fn original(reader: &mut Reader<'_>) -> Result<u32, EnvelopeError> {
    match reader.next()? {
        Token::Int(v) => {
            u32::try_from(v).map_err(|_| shape("its size is no unsigned 32-bit integer"))
        }
        _ => Err(shape("its size is no unsigned 32-bit integer")),
    }
}

fn format<'a>(reader: &mut Reader<'a>) -> Result<&'a str, EnvelopeError> {
    match reader.next()? {
        Token::Str(name) => Ok(name),
        _ => Err(shape("the name of its format is no string")),
    }
}

#[cold]
fn shape(what: &'static str) -> EnvelopeError {
    EnvelopeError::Shape(what)
}
