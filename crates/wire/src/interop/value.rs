//! Stored values: one MessagePack document.

use super::{NotFinite, write_map};
use crate::msgpack::{
    DecodeError, Reader, Token, skip, write_array_header, write_bin, write_bool, write_f64,
    write_i64, write_nil, write_str, write_u64,
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

/// The document as interop values are written: everything in its shortest form, floats as float64,
/// maps in the order of their keys.
///
/// # Errors
/// [`Unwritable`] for what is not in the interop data model.
pub fn normalized(bytes: &[u8]) -> Result<Vec<u8>, Unwritable> {
    // From here on lengths are true and nesting is bounded.
    document(bytes)?;
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8);
    write(&mut Reader::new(bytes), &mut out)?;
    Ok(out)
}

fn write(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    let at = reader.position();
    match reader.next().map_err(ValueError::from)? {
        Token::Nil => write_nil(out),
        Token::Bool(v) => write_bool(out, v),
        Token::Int(v) => write_i64(out, v),
        Token::UInt(v) => write_u64(out, v),
        Token::F64(v) if v.is_finite() => write_f64(out, v),
        Token::F64(_) => {
            let cause = NotFinite;
            return Err(Unwritable::NotFinite { at, cause });
        }
        Token::Str(v) => write_str(out, v),
        Token::Bin(v) => write_bin(out, v),
        Token::Array(n) => {
            write_array_header(out, n);
            for _ in 0..n {
                write(reader, out)?;
            }
        }
        Token::Map(n) => {
            let mut ends = Vec::with_capacity(n as usize);
            let mut values = Vec::new();
            for _ in 0..n {
                let at = reader.position();
                let Token::Str(key) = reader.next().map_err(ValueError::from)? else {
                    return Err(Unwritable::Key { at });
                };
                let start = values.len();
                write(reader, &mut values)?;
                ends.push((key, start..values.len()));
            }
            let mut entries: Vec<_> = ends
                .into_iter()
                .map(|(key, value)| (key, &values[value]))
                .collect();
            write_map(out, &mut entries);
        }
        Token::Ext(..) => return Err(Unwritable::Extension { at }),
    }
    Ok(())
}
