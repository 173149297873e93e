//! The body that is one NumPy array.
//!
//! ```text
//! "NUMPY_RAW" | u16 LE length, dtype text | u16 LE bytes of shape, u32 LE per dimension | elements
//! ```
//!
//! The elements are in row-major order. Format source: the public CacheKit protocol.

pub(super) const MAGIC: &[u8] = b"NUMPY_RAW";

/// The parts of such a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumpyArray<'a> {
    /// NumPy's text for the element type: `int64`, `>i4`, `<U3`, `datetime64[D]`.
    pub dtype: &'a str,
    /// The length of each dimension; none for a single element.
    pub shape: Vec<u32>,
    /// The elements.
    pub data: &'a [u8],
}

/// Appends what precedes the elements; `None`, with `out` as it was, where the format has no room.
#[must_use]
pub fn write_numpy_head(dtype: &str, shape: &[u32], out: &mut Vec<u8>) -> Option<()> {
    let dtype_len = u16::try_from(dtype.len()).ok()?;
    let shape_len = u16::try_from(shape.len() * 4).ok()?;
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&dtype_len.to_le_bytes());
    out.extend_from_slice(dtype.as_bytes());
    out.extend_from_slice(&shape_len.to_le_bytes());
    for dimension in shape {
        out.extend_from_slice(&dimension.to_le_bytes());
    }
    Some(())
}

/// Reads the body of an array; `None` if it is something else. Whether the elements are as many as the
/// shape says is for the reader of the element type to check.
#[must_use]
pub fn read_numpy(body: &[u8]) -> Option<NumpyArray<'_>> {
    let rest = body.strip_prefix(MAGIC)?;
    let (dtype, rest) = counted(rest)?;
    let (shape, data) = counted(rest)?;
    let (dimensions, tail) = shape.as_chunks::<4>();
    if !tail.is_empty() {
        return None;
    }
    Some(NumpyArray {
        dtype: std::str::from_utf8(dtype).ok()?,
        shape: dimensions.iter().map(|d| u32::from_le_bytes(*d)).collect(),
        data,
    })
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the published package writes for `numpy.arange(4).reshape(2, 2).T[:1]`.
    const ONE_ROW: &str = "4e554d50595f5241570500696e74363408000100000002000000\
                           00000000000000000200000000000000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn the_bytes_of_the_protocol() {
        let body = bytes(ONE_ROW);
        let array = read_numpy(&body).expect("an array");
        assert_eq!((array.dtype, &array.shape[..]), ("int64", &[1, 2][..]));
        assert_eq!(array.data, &body[body.len() - 16..]);
        let mut out = Vec::new();
        write_numpy_head("int64", &[1, 2], &mut out).expect("room");
        out.extend_from_slice(array.data);
        assert_eq!(out, body);
    }

    #[test]
    fn cut_short_it_is_no_array() {
        let body = bytes(ONE_ROW);
        let head = body.len() - 16;
        for end in 0..head {
            assert_eq!(read_numpy(&body[..end]), None, "{end}");
        }
        assert!(read_numpy(&body[..head]).is_some());
        let mut odd = bytes("4e554d50595f524157 0000 0300 000000");
        assert_eq!(read_numpy(&odd), None);
        odd.push(0);
        assert_eq!(read_numpy(&odd), None);
    }

    #[test]
    fn what_has_no_room_is_left_alone() {
        let mut out = vec![7];
        assert_eq!(write_numpy_head(&"x".repeat(65_536), &[], &mut out), None);
        assert_eq!(write_numpy_head("i8", &[1; 16_384], &mut out), None);
        assert_eq!(out, [7]);
    }
}
