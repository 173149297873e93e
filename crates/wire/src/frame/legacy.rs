//! The form before frames: `{"data": base64, "metadata": {…}, "serializer": name, "version": …}`.

use std::borrow::Cow;

use serde::Deserialize;

use super::header::Metadata;
use super::{Extension, Frame, FrameError};

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    serializer: Cow<'a, str>,
}

#[cold]
pub(super) fn parse(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(FrameError::NotAFrame);
    }
    let raw: Raw<'_> = serde_json::from_slice(bytes)?;
    let payload = Cow::Owned(base64(raw.data.as_bytes())?);
    Ok(Frame {
        header: raw
            .metadata
            .into_header(&raw.serializer, Extension::default()),
        payload,
    })
}

/// Decodes padded base64 of the standard alphabet; line ends and spaces are skipped.
fn base64(text: &[u8]) -> Result<Vec<u8>, FrameError> {
    let bad = |position| FrameError::BadBase64 { position };
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut digits, mut padding) = (0_u32, 0, 0);
    for (position, &b) in text.iter().enumerate() {
        let digit = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if digits + padding >= 2 => {
                padding += 1;
                if digits + padding > 4 {
                    return Err(bad(position));
                }
                continue;
            }
            b' ' | b'\n' | b'\r' | b'\t' => continue,
            _ => return Err(bad(position)),
        };
        if padding > 0 {
            return Err(bad(position));
        }
        bits = bits << 6 | u32::from(digit);
        digits += 1;
        if digits == 4 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, digits) = (0, 0);
        }
    }
    // A last group of two or three digits, padded to four; the bits beyond whole bytes are zero.
    match (digits, padding) {
        (0, 0) => {}
        (2, 2) if bits & 0x0f == 0 => out.push((bits >> 4) as u8),
        (3, 1) if bits & 0x03 == 0 => out.extend_from_slice(&(bits >> 2).to_be_bytes()[2..]),
        _ => return Err(bad(text.len())),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg==", b"foob"),
            ("Zm9v\nYmE=", b"fooba"),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
        ] {
            assert_eq!(base64(text.as_bytes()), Ok(bytes.to_vec()), "{text}");
        }
        for text in [
            "Z",
            "Zg",
            "Zg=",
            "Zm8",
            "Zg===",
            "=",
            "====",
            "Zg==Zg==",
            "Zh==",
            "Zm9=",
            "Zm9v=",
            "Z-_=",
            "Zm9v Yg===",
        ] {
            assert!(base64(text.as_bytes()).is_err(), "{text}");
        }
    }
}
