/// Where encoded bytes go.
///
/// `Vec<u8>` is the usual one; a hasher or a counter can be another.
pub trait Sink {
    /// Appends one byte.
    fn push(&mut self, b: u8);
    /// Appends all of `b`.
    fn extend(&mut self, b: &[u8]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn push(&mut self, b: u8) {
        Vec::push(self, b);
    }

    #[inline]
    fn extend(&mut self, b: &[u8]) {
        self.extend_from_slice(b);
    }
}

/// Writes nil.
#[inline]
pub fn write_nil<S: Sink + ?Sized>(out: &mut S) {
    out.push(0xc0);
}

/// Writes a boolean.
#[inline]
pub fn write_bool<S: Sink + ?Sized>(out: &mut S, v: bool) {
    out.push(0xc2 | u8::from(v));
}

/// Writes a signed integer in its shortest form; values from 0 take the unsigned forms.
#[inline]
pub fn write_i64<S: Sink + ?Sized>(out: &mut S, v: i64) {
    if v >= 0 {
        write_u64(out, v as u64);
    } else if v >= -32 {
        out.push(v as u8);
    } else if v >= i64::from(i8::MIN) {
        out.extend(&[0xd0, v as u8]);
    } else if v >= i64::from(i16::MIN) {
        tagged(out, 0xd1, (v as i16).to_be_bytes());
    } else if v >= i64::from(i32::MIN) {
        tagged(out, 0xd2, (v as i32).to_be_bytes());
    } else {
        tagged(out, 0xd3, v.to_be_bytes());
    }
}

/// Writes an unsigned integer in its shortest form.
#[inline]
pub fn write_u64<S: Sink + ?Sized>(out: &mut S, v: u64) {
    if v < 0x80 {
        out.push(v as u8);
    } else if v <= u64::from(u8::MAX) {
        out.extend(&[0xcc, v as u8]);
    } else if v <= u64::from(u16::MAX) {
        tagged(out, 0xcd, (v as u16).to_be_bytes());
    } else if v <= u64::from(u32::MAX) {
        tagged(out, 0xce, (v as u32).to_be_bytes());
    } else {
        tagged(out, 0xcf, v.to_be_bytes());
    }
}

/// Writes a float as float64, bit for bit (NaN payloads and the sign of zero are kept).
#[inline]
pub fn write_f64<S: Sink + ?Sized>(out: &mut S, v: f64) {
    tagged(out, 0xcb, v.to_be_bytes());
}

/// Writes a string.
///
/// # Panics
/// If it has 4 GiB or more, for which the format has no header; callers bound sizes before encoding.
#[inline]
pub fn write_str<S: Sink + ?Sized>(out: &mut S, v: &str) {
    write_str_header(out, length(v.len()));
    out.extend(v.as_bytes());
}

/// Writes the header of a string of `len` bytes; the caller appends them.
#[inline]
pub fn write_str_header<S: Sink + ?Sized>(out: &mut S, len: u32) {
    if len < 32 {
        out.push(0xa0 | len as u8);
    } else if len <= u32::from(u8::MAX) {
        out.extend(&[0xd9, len as u8]);
    } else {
        long_header(out, 0xda, len);
    }
}

/// Writes a binary.
///
/// # Panics
/// If it has 4 GiB or more, for which the format has no header; callers bound sizes before encoding.
#[inline]
pub fn write_bin<S: Sink + ?Sized>(out: &mut S, v: &[u8]) {
    write_bin_header(out, length(v.len()));
    out.extend(v);
}

/// Writes the header of a binary of `len` bytes; the caller appends them.
#[inline]
pub fn write_bin_header<S: Sink + ?Sized>(out: &mut S, len: u32) {
    if len <= u32::from(u8::MAX) {
        out.extend(&[0xc4, len as u8]);
    } else {
        long_header(out, 0xc5, len);
    }
}

/// Writes the header of an array; `len` values follow.
#[inline]
pub fn write_array_header<S: Sink + ?Sized>(out: &mut S, len: u32) {
    if len < 16 {
        out.push(0x90 | len as u8);
    } else {
        long_header(out, 0xdc, len);
    }
}

/// Writes the header of a map; `len` pairs of key and value follow.
#[inline]
pub fn write_map_header<S: Sink + ?Sized>(out: &mut S, len: u32) {
    if len < 16 {
        out.push(0x80 | len as u8);
    } else {
        long_header(out, 0xde, len);
    }
}

/// Writes an extension value of application type `ty`.
///
/// # Panics
/// If `data` has 4 GiB or more, for which the format has no header.
#[inline]
pub fn write_ext<S: Sink + ?Sized>(out: &mut S, ty: i8, data: &[u8]) {
    let len = length(data.len());
    match len {
        1 => out.push(0xd4),
        2 => out.push(0xd5),
        4 => out.push(0xd6),
        8 => out.push(0xd7),
        16 => out.push(0xd8),
        _ if len <= u32::from(u8::MAX) => out.extend(&[0xc7, len as u8]),
        _ => long_header(out, 0xc8, len),
    }
    out.push(ty as u8);
    out.extend(data);
}

/// A 16-bit length under `tag16`, or a 32-bit one under the tag after it.
#[inline]
fn long_header<S: Sink + ?Sized>(out: &mut S, tag16: u8, len: u32) {
    if len <= u32::from(u16::MAX) {
        tagged(out, tag16, (len as u16).to_be_bytes());
    } else {
        tagged(out, tag16 + 1, len.to_be_bytes());
    }
}

/// A tag and its big-endian operand in one append, so that a `Vec` checks its capacity once.
#[inline]
fn tagged<S: Sink + ?Sized, const N: usize>(out: &mut S, tag: u8, operand: [u8; N]) {
    let mut bytes = [0; 9];
    bytes[0] = tag;
    bytes[1..=N].copy_from_slice(&operand);
    out.extend(&bytes[..=N]);
}

#[inline]
fn length(len: usize) -> u32 {
    u32::try_from(len).expect("MessagePack has no header for 4 GiB; callers bound sizes first")
}
