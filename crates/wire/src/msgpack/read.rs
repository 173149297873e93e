use super::{DecodeError, DecodeErrorKind, MAX_DEPTH};

/// One MessagePack value, or the header of a container whose elements are the next tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    /// nil.
    Nil,
    /// true or false.
    Bool(bool),
    /// An integer that fits an `i64`, whatever its width on the wire.
    Int(i64),
    /// An integer above [`i64::MAX`].
    UInt(u64),
    /// A float64, or a float32 widened.
    F64(f64),
    /// A string.
    Str(&'a str),
    /// A binary.
    Bin(&'a [u8]),
    /// The header of an array: this many values follow.
    Array(u32),
    /// The header of a map: this many pairs of key and value follow.
    Map(u32),
    /// An extension value: its application type and data.
    Ext(i8, &'a [u8]),
}

/// A pull parser over a slice.
///
/// A failed [`next`](Self::next) leaves the reader where it was.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `input`.
    #[inline]
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self {
            rest: input,
            len: input.len(),
        }
    }

    /// The bytes not yet read.
    #[inline]
    #[must_use]
    pub const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes have been read.
    #[inline]
    #[must_use]
    pub const fn position(&self) -> usize {
        self.len - self.rest.len()
    }

    /// Whether all bytes have been read.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that the document ended with the input.
    ///
    /// # Errors
    /// [`DecodeErrorKind::TrailingBytes`] if something is left.
    #[inline]
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.error(DecodeErrorKind::TrailingBytes))
        }
    }

    /// Reads one token.
    ///
    /// Container lengths are checked against the remaining bytes (an element has at least one byte,
    /// a map's pair two), so a caller may allocate for the announced number of elements.
    ///
    /// # Errors
    /// [`DecodeErrorKind::Truncated`] at the end of the input and within a value,
    /// [`DecodeErrorKind::ReservedByte`], [`DecodeErrorKind::InvalidUtf8`] or
    /// [`DecodeErrorKind::LengthExceedsInput`].
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "an end of input is an error here, not a None"
    )]
    pub fn next(&mut self) -> Result<Token<'a>, DecodeError> {
        let Some((&tag, rest)) = self.rest.split_first() else {
            return Err(self.error(DecodeErrorKind::Truncated));
        };
        match tag {
            0x00..=0x7f => self.done(rest, Token::Int(i64::from(tag))),
            0xe0..=0xff => self.done(rest, Token::Int(i64::from(tag as i8))),
            0xa0..=0xbf => self.str(rest, usize::from(tag & 0x1f)),
            0x80..=0x8f => self.map(rest, u32::from(tag & 0x0f)),
            0x90..=0x9f => self.array(rest, u32::from(tag & 0x0f)),
            0xc0 => self.done(rest, Token::Nil),
            0xc1 => Err(self.error(DecodeErrorKind::ReservedByte)),
            0xc2 => self.done(rest, Token::Bool(false)),
            0xc3 => self.done(rest, Token::Bool(true)),
            0xc4 => {
                let (n, rest) = self.operand(rest)?;
                self.bin(rest, usize::from(u8::from_be_bytes(n)))
            }
            0xc5 => {
                let (n, rest) = self.operand(rest)?;
                self.bin(rest, usize::from(u16::from_be_bytes(n)))
            }
            0xc6 => {
                let (n, rest) = self.operand(rest)?;
                self.bin(rest, u32::from_be_bytes(n) as usize)
            }
            0xc7 => {
                let (n, rest) = self.operand(rest)?;
                self.ext(rest, usize::from(u8::from_be_bytes(n)))
            }
            0xc8 => {
                let (n, rest) = self.operand(rest)?;
                self.ext(rest, usize::from(u16::from_be_bytes(n)))
            }
            0xc9 => {
                let (n, rest) = self.operand(rest)?;
                self.ext(rest, u32::from_be_bytes(n) as usize)
            }
            0xca => {
                let (v, rest) = self.operand(rest)?;
                self.done(rest, Token::F64(f64::from(f32::from_be_bytes(v))))
            }
            0xcb => {
                let (v, rest) = self.operand(rest)?;
                self.done(rest, Token::F64(f64::from_be_bytes(v)))
            }
            0xcc => {
                let (v, rest) = self.operand(rest)?;
                self.done(rest, Token::Int(i64::from(u8::from_be_bytes(v))))
            }
            0xcd => {
                let (v, rest) = self.operand(rest)?;
                self.done(rest, Token::Int(i64::from(u16::from_be_bytes(v))))
            }
            0xce => {
                let (v, rest) = self.operand(rest)?;
                self.done(rest, Token::Int(i64::from(u32::from_be_bytes(v))))
            }
            0xcf => {
                let (v, rest) = self.operand(rest)?;
                let v = u64::from_be_bytes(v);
                self.done(rest, i64::try_from(v).map_or(Token::UInt(v), Token::Int))
            }
            0xd0 => {
                let (v, rest) = self.operand(rest)?;
                self.done(rest, Token::Int(i64::from(i8::from_be_bytes(v))))
            }
            0xd1 => {
                let (v, rest) = self.operand(rest)?;
                self.done(rest, Token::Int(i64::from(i16::from_be_bytes(v))))
            }
            0xd2 => {
                let (v, rest) = self.operand(rest)?;
                self.done(rest, Token::Int(i64::from(i32::from_be_bytes(v))))
            }
            0xd3 => {
                let (v, rest) = self.operand(rest)?;
                self.done(rest, Token::Int(i64::from_be_bytes(v)))
            }
            0xd4..=0xd8 => self.ext(rest, 1 << (tag - 0xd4)),
            0xd9 => {
                let (n, rest) = self.operand(rest)?;
                self.str(rest, usize::from(u8::from_be_bytes(n)))
            }
            0xda => {
                let (n, rest) = self.operand(rest)?;
                self.str(rest, usize::from(u16::from_be_bytes(n)))
            }
            0xdb => {
                let (n, rest) = self.operand(rest)?;
                self.str(rest, u32::from_be_bytes(n) as usize)
            }
            0xdc => {
                let (n, rest) = self.operand(rest)?;
                self.array(rest, u32::from(u16::from_be_bytes(n)))
            }
            0xdd => {
                let (n, rest) = self.operand(rest)?;
                self.array(rest, u32::from_be_bytes(n))
            }
            0xde => {
                let (n, rest) = self.operand(rest)?;
                self.map(rest, u32::from(u16::from_be_bytes(n)))
            }
            0xdf => {
                let (n, rest) = self.operand(rest)?;
                self.map(rest, u32::from_be_bytes(n))
            }
        }
    }

    #[inline(always)]
    fn done(&mut self, rest: &'a [u8], token: Token<'a>) -> Result<Token<'a>, DecodeError> {
        self.rest = rest;
        Ok(token)
    }

    #[inline(always)]
    fn operand<const N: usize>(&self, rest: &'a [u8]) -> Result<([u8; N], &'a [u8]), DecodeError> {
        match rest.split_first_chunk::<N>() {
            Some((v, rest)) => Ok((*v, rest)),
            None => Err(self.error(DecodeErrorKind::Truncated)),
        }
    }

    #[inline(always)]
    fn take(&self, rest: &'a [u8], n: usize) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
        rest.split_at_checked(n)
            .ok_or_else(|| self.error(DecodeErrorKind::Truncated))
    }

    #[inline(always)]
    fn str(&mut self, rest: &'a [u8], n: usize) -> Result<Token<'a>, DecodeError> {
        let (v, rest) = self.take(rest, n)?;
        match text(v) {
            Some(v) => self.done(rest, Token::Str(v)),
            None => Err(self.error(DecodeErrorKind::InvalidUtf8)),
        }
    }

    #[inline(always)]
    fn bin(&mut self, rest: &'a [u8], n: usize) -> Result<Token<'a>, DecodeError> {
        let (v, rest) = self.take(rest, n)?;
        self.done(rest, Token::Bin(v))
    }

    #[inline(always)]
    fn ext(&mut self, rest: &'a [u8], n: usize) -> Result<Token<'a>, DecodeError> {
        let ([ty], rest) = self.operand(rest)?;
        let (v, rest) = self.take(rest, n)?;
        self.done(rest, Token::Ext(ty as i8, v))
    }

    #[inline(always)]
    fn array(&mut self, rest: &'a [u8], n: u32) -> Result<Token<'a>, DecodeError> {
        if n as usize > rest.len() {
            return Err(self.error(DecodeErrorKind::LengthExceedsInput(n)));
        }
        self.done(rest, Token::Array(n))
    }

    #[inline(always)]
    fn map(&mut self, rest: &'a [u8], n: u32) -> Result<Token<'a>, DecodeError> {
        if n as usize > rest.len() / 2 {
            return Err(self.error(DecodeErrorKind::LengthExceedsInput(n)));
        }
        self.done(rest, Token::Map(n))
    }

    #[cold]
    fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError::new(self.position(), kind)
    }
}

/// `bytes` as a string, if they are UTF-8.
///
/// Most strings in data are short and ASCII, and for those `from_utf8` costs more than the rest of
/// the token together; looking at words of eight bytes halves the time of reading records.
#[inline(always)]
fn text(bytes: &[u8]) -> Option<&str> {
    if is_ascii(bytes) {
        // SAFETY: ASCII is UTF-8.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).ok()
}

/// Whether all bytes are below 128, for few bytes; also false for many, which are left to std.
#[inline(always)]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = |b: &[u8; 8]| u64::from_ne_bytes(*b);
    let half = |b: &[u8; 4]| u64::from(u32::from_ne_bytes(*b));
    // The first and the last word overlap where the length is between multiples.
    let bits = match bytes {
        [] => 0,
        [a] => u64::from(*a),
        [a, b] => u64::from(a | b),
        [a, b, c] => u64::from(a | b | c),
        _ if bytes.len() < 8 => match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => half(first) | half(last),
            _ => HIGH,
        },
        _ if bytes.len() <= 64 => {
            let (words, _) = bytes.as_chunks();
            let last = bytes.last_chunk().map_or(HIGH, word);
            words.iter().fold(last, |bits, b| bits | word(b))
        }
        _ => HIGH,
    };
    bits & HIGH == 0
}

/// Skips one value with everything inside it, without recursion.
///
/// # Errors
/// Those of [`Reader::next`], and [`DecodeErrorKind::TooDeep`] past [`MAX_DEPTH`] containers. The
/// reader then stands at the value that could not be skipped.
pub fn skip(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    // How many values each open container still lacks, innermost last.
    let mut open: Vec<u64> = Vec::new();
    loop {
        let position = reader.position();
        let children = match reader.next()? {
            Token::Array(n) => Some(u64::from(n)),
            Token::Map(n) => Some(2 * u64::from(n)),
            _ => None,
        };
        if let Some(n) = children {
            if open.len() == MAX_DEPTH {
                return Err(DecodeError::new(position, DecodeErrorKind::TooDeep));
            }
            if n > 0 {
                open.push(n);
                continue;
            }
        }
        // One value is complete; so is each container whose last value it was.
        loop {
            match open.last_mut() {
                None => return Ok(()),
                Some(n) if *n > 1 => {
                    *n -= 1;
                    break;
                }
                Some(_) => {
                    open.pop();
                }
            }
        }
    }
}
