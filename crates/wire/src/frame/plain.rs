//! The headers of plain MessagePack values, compared as bytes instead of parsed as JSON.

use super::{Extension, Header, MAGIC, PREAMBLE, Serializer, VERSION};

/// One such header, without the closing brace, before which `x` may stand.
struct Plain {
    json: &'static [u8],
    serializer: Serializer,
    compressed: bool,
}

macro_rules! plain {
    ($name:literal, $serializer:ident, $compressed:literal) => {
        Plain {
            json: concat!(
                r#"{"s": ""#,
                $name,
                r#"", "m": {"format": "msgpack", "encoding": "utf-8", "compressed": "#,
                $compressed,
                r#", "original_type": "msgpack"}, "v": "2.0""#
            )
            .as_bytes(),
            serializer: Serializer::$serializer,
            compressed: $compressed,
        }
    };
}

static PLAIN: [Plain; 4] = [
    plain!("default", Default, true),
    plain!("default", Default, false),
    plain!("auto", Auto, true),
    plain!("auto", Auto, false),
];

/// The JSON text, up to its closing brace and without `x`, of a header that is one of the plain ones.
pub(super) fn text_of(header: &Header) -> Option<&'static [u8]> {
    let plain = PLAIN
        .iter()
        .find(|p| p.serializer == header.serializer && p.compressed == header.compressed)?;
    let same = header.format == "msgpack"
        && header.encoding == "utf-8"
        && header.original_type.as_deref() == Some("msgpack")
        && !header.encrypted;
    same.then_some(plain.json)
}

/// Header and payload of a frame that has one of the plain headers, with or without our own `x`.
///
/// `None` only says that the long way must be taken.
pub(super) fn recognise(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (preamble, rest) = bytes.split_first_chunk::<PREAMBLE>()?;
    let &[m0, m1, version, l0, l1, l2, l3] = preamble;
    if [m0, m1] != *MAGIC || version != VERSION {
        return None;
    }
    let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    let (json, payload) = rest.split_at_checked(len)?;
    let plain = PLAIN.iter().find(|p| json.starts_with(p.json))?;
    let x = match &json[plain.json.len()..] {
        b"}" => Extension::default(),
        tail => {
            let inside = tail.strip_prefix(br#", "x": {"#)?.strip_suffix(b"}}")?;
            Extension::from_written(inside)?
        }
    };
    let header = Header {
        x,
        ..Header::msgpack(plain.serializer.clone(), plain.compressed)
    };
    Some((header, payload))
}
