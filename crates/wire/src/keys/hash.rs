use blake2::{Blake2b, Digest, digest::consts::U32};

/// The hexadecimal digits of a whole [`content_hash`].
pub(super) const HEX_LEN: usize = 64;

/// The unkeyed Blake2b hash of `bytes`, with a digest size of 32 bytes.
#[must_use]
pub fn content_hash(bytes: &[u8]) -> [u8; 32] {
    Blake2b::<U32>::digest(bytes).into()
}

/// Appends `bytes` in lower-case hexadecimal.
pub(crate) fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; HEX_LEN];
    for (pair, b) in hex.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(b >> 4)];
        pair[1] = DIGITS[usize::from(b & 0x0f)];
    }
    out.push_str(
        std::str::from_utf8(&hex[..2 * bytes.len()]).expect("hexadecimal digits are ASCII"),
    );
}
