use cachekit_wire::frame::{Extension, FrameError, Header, Serializer, parse, write};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::Damage;

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("msgpack".to_owned()),
        Just("utf-8".to_owned()),
        any::<String>()
    ]
}

prop_compose! {
    fn extension()(
        created_ms in option::of(any::<u64>()),
        fresh_until_ms in option::of(any::<u64>()),
        compute_ms in option::of(any::<u64>()),
        generation in option::of(any::<u64>()),
    ) -> Extension {
        Extension { created_ms, fresh_until_ms, compute_ms, generation }
    }
}

prop_compose! {
    fn header()(
        name in prop_oneof![Just("default".to_owned()), Just("auto".to_owned()), Just("arrow".to_owned()), any::<String>()],
        format in word(),
        encoding in word(),
        compressed in any::<bool>(),
        original_type in option::of(word()),
        encryption in option::of((option::of(word()), option::of(word()), option::of(word()))),
        x in extension(),
    ) -> Header {
        let encrypted = encryption.is_some();
        let (tenant_id, encryption_algorithm, key_fingerprint) = encryption.unwrap_or_default();
        Header {
            serializer: Serializer::from_name(&name),
            format: format.into(),
            encoding: encoding.into(),
            compressed,
            original_type: original_type.map(Into::into),
            encrypted,
            tenant_id,
            encryption_algorithm,
            key_fingerprint,
            x,
        }
    }
}

fn framed(header: &Header, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    write(header, &mut out);
    out.extend_from_slice(payload);
    out
}

proptest! {
    #[test]
    fn any_header_reads_back(header in header(), payload in prop::collection::vec(any::<u8>(), 0..50)) {
        let bytes = framed(&header, &payload);
        let frame = parse(&bytes).expect("just written");
        prop_assert_eq!(frame.header, header);
        prop_assert_eq!(&*frame.payload, &payload[..]);
    }

    /// The header is the JSON that an independent parser takes for it, in the order of the protocol.
    #[test]
    fn headers_are_json(header in header()) {
        let bytes = framed(&header, b"");
        let json: Value = serde_json::from_slice(&bytes[7..]).expect("JSON");
        prop_assert_eq!(&json["s"], &json!(header.serializer.name()));
        prop_assert_eq!(&json["v"], &json!("2.0"));
        prop_assert_eq!(&json["m"]["format"], &json!(header.format));
        prop_assert_eq!(&json["m"]["compressed"], &json!(header.compressed));
        prop_assert_eq!(json["m"].get("original_type").cloned(), header.original_type.map(|t| json!(t)));
        prop_assert_eq!(json["m"].get("tenant_id").cloned(), header.tenant_id.map(|t| json!(t)));
        prop_assert_eq!(json["m"].get("encrypted"), header.encrypted.then_some(&json!(true)));
        prop_assert_eq!(json.get("x").is_some(), !header.x.is_empty());
        prop_assert_eq!(json["x"].get("g").cloned(), header.x.generation.map(|g| json!(g)));
    }

    #[test]
    fn damage_is_refused_or_gives_a_header(header in header(), damage in prop::collection::vec(Damage::any(), 1..4)) {
        let mut bytes = framed(&header, b"payload");
        damage.iter().for_each(|d| d.to(&mut bytes));
        match parse(&bytes) {
            // Unauthenticated: a changed header is a header. It survives being written again.
            Ok(frame) => {
                let again = framed(&Header { encrypted: true, ..frame.header.clone() }, &frame.payload);
                let again = parse(&again).expect("just written");
                prop_assert_eq!(again.header, Header { encrypted: true, ..frame.header });
                prop_assert_eq!(again.payload, frame.payload);
            }
            Err(FrameError::Newer { version }) => prop_assert!(bytes[2] == version && version > 3),
            Err(_) => {}
        }
    }

    #[test]
    fn any_bytes_parse_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
        let _ = parse(&bytes);
        let _ = parse(text.as_bytes());
        let mut framed = b"CK\x03\x00\x00\x00".to_vec();
        framed.push(bytes.len().min(255) as u8);
        framed.extend_from_slice(&bytes);
        let _ = parse(&framed);
    }

    #[test]
    fn the_form_before_frames_reads_any_payload(payload in prop::collection::vec(any::<u8>(), 0..100)) {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in payload.chunks(3) {
            let bits = group.iter().fold(0, |bits, &b| bits << 8 | u32::from(b)) << (8 * (3 - group.len()));
            for i in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
                text.push(if i <= group.len() { char::from(digit) } else { '=' });
            }
        }
        let json = json!({"data": text, "metadata": {}, "serializer": "auto", "version": "1.0"});
        let bytes = json.to_string();
        let frame = parse(bytes.as_bytes()).expect("the older form");
        prop_assert_eq!(&*frame.payload, &payload[..]);
        prop_assert_eq!(frame.header.serializer, Serializer::Auto);
    }
}
