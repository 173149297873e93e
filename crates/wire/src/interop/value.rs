//! Stored values: one MessagePack document.

use super::NotFinite;
use crate::msgpack::{
    DecodeError, Reader, Token, skip, write_array_header, write_bin, write_bool, write_f64,
    write_i64, write_map_header, write_nil, write_str, write_u64,
};

/// Why bytes are not an interop value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// They begin as a frame does.
    #[error(
        "an entry of a function without interop= (it begins with a frame's magic bytes \"CK\"): \
         a writer of that kind has this key; give every writer the same interop= and namespace="
    )]
    Framed,
    /// Not exactly one well-formed document.
    #[error("not one MessagePack document: {0}")]
    Format(#[from] DecodeError),
}

/// Checks that stored bytes are one well-formed document of any encoding, nested at most
/// [`MAX_DEPTH`](crate::msgpack::MAX_DEPTH) deep, with nothing behind it.
///
/// # Errors
/// [`ValueError`].
pub fn document(bytes: &[u8]) -> Result<(), ValueError> {
    // No document of more than one byte begins with a "C", which is the integer 67.
    if bytes.starts_with(b"CK") {
        return Err(ValueError::Framed);
    }
    let mut reader = Reader::new(bytes);
    skip(&mut reader)?;
    reader.finish()?;
    Ok(())
}

/// Why a document cannot be stored as an interop value; each says where, in bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unwritable {
    /// Not exactly one well-formed document.
    #[error(transparent)]
    Format(#[from] ValueError),
    /// A float without a value.
    #[error("at byte {at}: {cause}")]
    NotFinite {
        /// Where.
        at: usize,
        /// That it is none.
        cause: NotFinite,
    },
    /// A map's key that is no text.
    #[error("at byte {at}: the keys of an interop map are text")]
    Key {
        /// Where.
        at: usize,
    },
    /// An extension value.
    #[error("at byte {at}: an extension value, which is not in the interop data model")]
    Extension {
        /// Where.
        at: usize,
    },
}

/// The document as interop values are written: everything in its shortest form, floats as float64.
///
/// # Errors
/// [`Unwritable`] for what is not in the interop data model.
pub fn normalized(bytes: &[u8]) -> Result<Vec<u8>, Unwritable> {
    document(bytes)?;
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8);
    let mut reader = Reader::new(bytes);
    // Of each open map, how many keys and values are to come; an even number means a key.
    // Arrays count beside them, so that closing either is found.
    let mut open: Vec<(bool, u64)> = Vec::new();
    while !reader.is_empty() {
        let at = reader.position();
        let token = reader.next().map_err(ValueError::from)?;
        let is_key = match open.last_mut() {
            Some((is_map, left)) => {
                *left -= 1;
                *is_map && *left % 2 == 1
            }
            None => false,
        };
        if is_key && !matches!(token, Token::Str(_)) {
            return Err(Unwritable::Key { at });
        }
        match token {
            Token::Nil => write_nil(&mut out),
            Token::Bool(v) => write_bool(&mut out, v),
            Token::Int(v) => write_i64(&mut out, v),
            Token::UInt(v) => write_u64(&mut out, v),
            Token::F64(v) if v.is_finite() => write_f64(&mut out, v),
            Token::F64(_) => {
                let cause = NotFinite;
                return Err(Unwritable::NotFinite { at, cause });
            }
            Token::Str(v) => write_str(&mut out, v),
            Token::Bin(v) => write_bin(&mut out, v),
            Token::Array(n) => {
                write_array_header(&mut out, n);
                open.push((false, u64::from(n)));
            }
            Token::Map(n) => {
                write_map_header(&mut out, n);
                open.push((true, 2 * u64::from(n)));
            }
            Token::Ext(..) => return Err(Unwritable::Extension { at }),
        }
        while open.last().is_some_and(|&(_, left)| left == 0) {
            open.pop();
        }
    }
    Ok(out)
}
