use super::{Header, MAGIC, PREAMBLE, VERSION, plain};

/// Appends magic, version, length and JSON of `header`; the caller appends the payload.
///
/// The JSON is what Python's `json.dumps(…, ensure_ascii=False)` makes of it: `", "` and `": "`
/// between the parts, other characters than `"`, `\` and controls as they stand.
///
/// # Panics
/// If the strings of the header come to 4 GiB or more; they are names, bounded by the callers.
pub fn write(header: &Header, out: &mut Vec<u8>) {
    out.reserve(256);
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    match plain::text_of(header) {
        Some(text) => out.extend_from_slice(text),
        None => push_members(header, out),
    }
    if !header.x.is_empty() {
        out.extend_from_slice(br#", "x": {"#);
        let mut separator: &[u8] = b"";
        for (name, value) in header.x.fields() {
            if let Some(value) = value {
                out.extend_from_slice(separator);
                out.extend_from_slice(&[b'"', name, b'"', b':', b' ']);
                push_number(out, value);
                separator = b", ";
            }
        }
        out.push(b'}');
    }
    out.push(b'}');
    let len = u32::try_from(out.len() - length_at - 4).expect("a header of names is below 4 GiB");
    out[length_at..length_at + 4].copy_from_slice(&len.to_be_bytes());
}

/// Lengthens a frame's head, as [`write`] has made it in `head`, by spaces that mean nothing, so that what
/// stands `behind` bytes after it begins at a multiple of 64 of the frame. Numbers that are read where they
/// lie need a round address, and are copied from any other.
pub fn round(head: &mut Vec<u8>, behind: usize) {
    let at = head.len() + behind;
    let spaces = at.next_multiple_of(64) - at;
    let brace = head.len() - 1;
    head.splice(brace..brace, std::iter::repeat_n(b' ', spaces));
    let len = u32::try_from(head.len() - PREAMBLE).expect("a header of names is below 4 GiB");
    head[PREAMBLE - 4..PREAMBLE].copy_from_slice(&len.to_be_bytes());
}

/// `{"s": …, "m": {…}, "v": "2.0"`, without the closing brace.
fn push_members(header: &Header, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"s": "#);
    push_string(out, header.serializer.name());
    out.extend_from_slice(br#", "m": {"format": "#);
    push_string(out, &header.format);
    out.extend_from_slice(br#", "encoding": "#);
    push_string(out, &header.encoding);
    out.extend_from_slice(if header.compressed {
        br#", "compressed": true"#
    } else {
        br#", "compressed": false"#
    });
    push_member(out, "original_type", header.original_type.as_deref());
    if header.encrypted {
        out.extend_from_slice(br#", "encrypted": true"#);
        push_member(out, "tenant_id", header.tenant_id.as_deref());
        push_member(
            out,
            "encryption_algorithm",
            header.encryption_algorithm.as_deref(),
        );
        push_member(out, "key_fingerprint", header.key_fingerprint.as_deref());
    }
    out.extend_from_slice(br#"}, "v": "2.0""#);
}

fn push_member(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(b", ");
        push_string(out, name);
        out.extend_from_slice(b": ");
        push_string(out, value);
    }
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut start = 0;
    for (at, b) in text.bytes().enumerate() {
        let short = match b {
            b'"' | b'\\' => b,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0x00..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[start..at]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
            out.extend_from_slice(&[b'0', b'0', digit(b >> 4), digit(b & 0x0f)]);
        }
        start = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[start..]);
    out.push(b'"');
}

fn push_number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
