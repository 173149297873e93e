use super::*;

const STD: &[u8] = b"CK\x03\x00\x00\x00\x7d{\"s\": \"default\", \"m\": {\"format\": \"msgpack\", \"encoding\": \"utf-8\", \"compressed\": true, \"original_type\": \"msgpack\"}, \"v\": \"2.0\"}";
/// What cachekit 0.24.1 from PyPI wrote, up to the ciphertext.
const ENCRYPTED: &[u8] = b"CK\x03\x00\x00\x01\x23{\"s\": \"default\", \"m\": {\"format\": \"msgpack\", \"encoding\": \"utf-8\", \"compressed\": true, \"original_type\": \"msgpack\", \"encrypted\": true, \"tenant_id\": \"12345678-1234-1234-1234-123456789abc\", \"encryption_algorithm\": \"AES-256-GCM\", \"key_fingerprint\": \"a96cccd7b110780e88c810525b9b5946\"}, \"v\": \"2.0\"}";

fn written(header: &Header) -> Vec<u8> {
    let mut out = vec![];
    write(header, &mut out);
    out
}

fn json_of(frame: &[u8]) -> &str {
    std::str::from_utf8(&frame[PREAMBLE..]).expect("JSON is UTF-8")
}

/// A frame of any JSON text and no payload.
fn framed(json: &str) -> Vec<u8> {
    let len = u32::try_from(json.len()).expect("short").to_be_bytes();
    [&b"CK\x03"[..], &len, json.as_bytes()].concat()
}

fn header_of(json: &str) -> Result<Header, FrameError> {
    parse(&framed(json)).map(|f| f.header)
}

fn encrypted() -> Header {
    Header {
        encrypted: true,
        tenant_id: Some("12345678-1234-1234-1234-123456789abc".to_owned()),
        encryption_algorithm: Some("AES-256-GCM".to_owned()),
        key_fingerprint: Some("a96cccd7b110780e88c810525b9b5946".to_owned()),
        ..Header::msgpack(Serializer::Default, true)
    }
}

const FULL: Extension = Extension {
    created_ms: Some(1_700_000_000_123),
    fresh_until_ms: Some(u64::MAX),
    compute_ms: Some(0),
    generation: Some(7),
};

#[test]
fn the_protocol_examples() {
    assert_eq!(written(&Header::msgpack(Serializer::Default, true)), STD);
    assert_eq!(STD[..7], [0x43, 0x4b, 3, 0, 0, 0, 0x7d]);
    assert_eq!(
        json_of(&written(&Header::msgpack(Serializer::Default, false))),
        r#"{"s": "default", "m": {"format": "msgpack", "encoding": "utf-8", "compressed": false, "original_type": "msgpack"}, "v": "2.0"}"#
    );
    assert_eq!(
        json_of(&written(&Header::msgpack(Serializer::Auto, true))),
        r#"{"s": "auto", "m": {"format": "msgpack", "encoding": "utf-8", "compressed": true, "original_type": "msgpack"}, "v": "2.0"}"#
    );
    assert_eq!(written(&encrypted()), ENCRYPTED);
    let frame = Header {
        format: "arrow".into(),
        original_type: Some("arrow".into()),
        ..Header::msgpack(Serializer::Auto, true)
    };
    assert_eq!(
        json_of(&written(&frame)),
        r#"{"s": "auto", "m": {"format": "arrow", "encoding": "utf-8", "compressed": true, "original_type": "arrow"}, "v": "2.0"}"#
    );
}

#[test]
fn every_kind_of_header_reads_back() {
    let mut headers = vec![encrypted()];
    for serializer in [
        Serializer::Default,
        Serializer::Auto,
        Serializer::Orjson,
        Serializer::Arrow,
        Serializer::Other("My \"Ü\"\n\u{1}\u{7f}\u{2028}\u{1F600}".into()),
    ] {
        for compressed in [true, false] {
            headers.push(Header::msgpack(serializer.clone(), compressed));
        }
    }
    headers.push(Header {
        original_type: None,
        ..Header::msgpack(Serializer::Default, true)
    });
    headers.push(Header {
        encoding: "latin-1".into(),
        ..Header::msgpack(Serializer::Default, true)
    });
    headers.push(Header {
        format: "own".into(),
        ..Header::msgpack(Serializer::Default, true)
    });
    headers.push(Header {
        tenant_id: None,
        ..encrypted()
    });
    for header in headers {
        for x in [
            Extension::default(),
            FULL,
            Extension {
                generation: Some(10),
                ..Extension::default()
            },
        ] {
            let header = Header {
                x,
                ..header.clone()
            };
            let mut bytes = written(&header);
            // By JSON alone, and by whichever way `parse` takes.
            assert_eq!(Header::from_json(&bytes[PREAMBLE..]).as_ref(), Ok(&header));
            bytes.extend_from_slice(b"payload");
            let frame = parse(&bytes).expect("just written");
            assert_eq!((&frame.header, &*frame.payload), (&header, &b"payload"[..]));
            assert!(matches!(frame.payload, Cow::Borrowed(_)));
        }
    }
}

#[test]
fn strings_are_written_as_python_does() {
    let header = Header {
        encrypted: true,
        tenant_id: Some("é\"\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}\u{2028}😀".to_owned()),
        ..Header::msgpack(Serializer::Default, true)
    };
    // json.dumps(…, ensure_ascii=False)
    let expected = "\"tenant_id\": \"é\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}\u{2028}😀\"}";
    let frame = written(&header);
    assert!(json_of(&frame).contains(expected), "{}", json_of(&frame));
}

#[test]
fn encryption_members_are_written_only_for_ciphertext() {
    let header = Header {
        encrypted: false,
        ..encrypted()
    };
    assert_eq!(written(&header), STD);
}

#[test]
fn plain_headers_take_the_short_way() {
    for serializer in [Serializer::Default, Serializer::Auto] {
        for compressed in [true, false] {
            for x in [Extension::default(), FULL] {
                let header = Header {
                    x,
                    ..Header::msgpack(serializer.clone(), compressed)
                };
                let bytes = written(&header);
                assert_eq!(plain::recognise(&bytes), Some((header, &b""[..])));
            }
        }
    }
    assert_eq!(plain::recognise(ENCRYPTED), None);
}

#[test]
fn the_extension_is_one_more_member_and_optional() {
    let header = Header {
        x: FULL,
        ..Header::msgpack(Serializer::Default, true)
    };
    let frame = written(&header);
    assert!(json_of(&frame).ends_with(
        r#"}, "v": "2.0", "x": {"c": 1700000000123, "f": 18446744073709551615, "d": 0, "g": 7}}"#
    ));
    // What others or later writers put there never makes an entry unreadable.
    let with_x = |x: &str| {
        let plain = std::str::from_utf8(&STD[PREAMBLE..STD.len() - 1]).expect("ASCII");
        header_of(&format!("{plain}, \"x\": {x}}}"))
            .expect("readable")
            .x
    };
    assert_eq!(with_x(r#"{"c": 5}"#).created_ms, Some(5));
    assert_eq!(
        with_x(r#"{"c":5,"zz":[{}],"g":9}"#),
        Extension {
            created_ms: Some(5),
            generation: Some(9),
            ..Extension::default()
        }
    );
    for x in [
        "{}",
        "null",
        "[1]",
        "5",
        "\"c\"",
        r#"{"c": -1}"#,
        r#"{"c": 1.5}"#,
        r#"{"c": "5"}"#,
        r#"{"c": 18446744073709551616}"#,
        r#"{"c": null}"#,
    ] {
        assert_eq!(with_x(x), Extension::default(), "{x}");
    }
    // Not JSON remains not JSON, on the short way too.
    let plain = std::str::from_utf8(&STD[PREAMBLE..STD.len() - 1]).expect("ASCII");
    for x in [
        r#"{"c": 05}"#,
        r#"{"c": }"#,
        r#"{"c": 5,}"#,
        r#"{"c": 5"#,
        "{",
    ] {
        assert!(header_of(&format!("{plain}, \"x\": {x}}}")).is_err(), "{x}");
    }
}

#[test]
fn the_example_of_the_documentation_is_what_is_written() {
    let x = Extension {
        created_ms: Some(1_700_000_000_123),
        fresh_until_ms: Some(1_700_000_060_123),
        compute_ms: Some(12),
        generation: Some(3),
    };
    let frame = written(&Header {
        x,
        ..Header::msgpack(Serializer::Default, true)
    });
    let page = include_str!("../../../../docs/wire.md");
    assert!(
        page.lines().any(|line| line == json_of(&frame)),
        "{}",
        json_of(&frame)
    );
}

#[test]
fn readers_tolerate_what_others_write() {
    let plain = Header::msgpack(Serializer::Default, true);
    // Compact separators, another order, unknown members, any version, nulls.
    for json in [
        r#"{"s":"default","m":{"format":"msgpack","encoding":"utf-8","compressed":true,"original_type":"msgpack"},"v":"2.0"}"#,
        r#" {"v": 9, "new": [1], "m": {"zz": {"a": []}, "original_type": "msgpack", "compressed": true}, "s": "std"} "#,
        r#"{"s": "default", "m": {"format": null, "compressed": true, "original_type": "msgpack", "encrypted": false, "tenant_id": null}}"#,
        r#"{"s": "\u0064efault", "m": {"format": "msg\u0070ack", "compressed": true, "original_type": "msgpack"}}"#,
    ] {
        assert_eq!(header_of(json).as_ref(), Ok(&plain), "{json}");
    }
    let bare = header_of(r#"{"s": "default", "m": {}}"#).expect("members may be missing");
    assert_eq!(
        bare,
        Header {
            original_type: None,
            ..Header::msgpack(Serializer::Default, false)
        }
    );
    for (name, serializer) in [
        ("std", Serializer::Default),
        ("standard", Serializer::Default),
        ("StandardSerializer", Serializer::Default),
        ("pythonic", Serializer::Auto),
        ("AutoSerializer", Serializer::Auto),
        ("OrjsonSerializer", Serializer::Orjson),
        ("ArrowSerializer", Serializer::Arrow),
        ("unknown", Serializer::Other("unknown".into())),
    ] {
        let header = header_of(&format!(r#"{{"s": "{name}", "m": {{}}}}"#)).expect("a header");
        assert_eq!(header.serializer, serializer);
    }
}

#[test]
fn bad_headers_are_refused_without_quoting_them() {
    for json in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"s": "default"}"#,
        r#"{"m": {}}"#,
        r#"{"s": 1, "m": {}}"#,
        r#"{"s": "secret", "m": []}"#,
        r#"{"s": "secret", "m": {"compressed": "secret"}}"#,
        r#"{"s": "default", "m": {}} x"#,
        "{\"s\": \"\u{0}\", \"m\": {}}",
    ] {
        let error = header_of(json).expect_err(json);
        assert!(
            matches!(error, FrameError::BadHeader { .. }),
            "{json}: {error:?}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let mut frame = framed(r#"{"s": "x", "m": {}}"#);
    frame[PREAMBLE + 7] = 0xff;
    assert!(
        matches!(parse(&frame), Err(FrameError::BadHeader { .. })),
        "not UTF-8"
    );
    let deep = format!(r#"{{"s": "x", "m": {{}}, "y": {}}}"#, "[".repeat(100_000));
    assert!(
        matches!(header_of(&deep), Err(FrameError::BadHeader { .. })),
        "no stack overflow"
    );
    let deep = format!(r#"{{"s": "x", "m": {{}}, "x": {}}}"#, "[".repeat(100_000));
    assert!(
        matches!(header_of(&deep), Err(FrameError::BadHeader { .. })),
        "no stack overflow"
    );
}

#[test]
fn foreign_and_truncated_bytes() {
    for foreign in [
        &b""[..],
        b"C",
        b"XX\x03",
        b"\x94\xc4",
        b"ck\x03",
        b"  [1]",
        b"\x00CK\x03",
    ] {
        assert_eq!(parse(foreign), Err(FrameError::NotAFrame), "{foreign:?}");
    }
    for end in 2..PREAMBLE {
        assert_eq!(
            parse(&STD[..end]),
            Err(FrameError::Truncated { have: end, need: 7 })
        );
    }
    for end in PREAMBLE..STD.len() {
        let need = STD.len();
        assert_eq!(
            parse(&STD[..end]),
            Err(FrameError::Truncated { have: end, need })
        );
    }
    assert_eq!(
        parse(b"CK\x03\xff\xff\xff\xff{}"),
        Err(FrameError::Truncated {
            have: 9,
            need: 7 + 0xffff_ffff
        })
    );
}

#[test]
fn other_versions_are_told_apart() {
    for version in 4..=255 {
        assert_eq!(
            parse(&[b'C', b'K', version]),
            Err(FrameError::Newer { version })
        );
        let mut frame = STD.to_vec();
        frame[2] = version;
        assert_eq!(parse(&frame), Err(FrameError::Newer { version }));
    }
    for version in 0..3 {
        assert_eq!(
            parse(&[b'C', b'K', version]),
            Err(FrameError::Older { version })
        );
    }
}

#[test]
fn the_form_before_frames_is_read() {
    let expected = Header::msgpack(Serializer::Default, true);
    for json in [
        r#"{"data": "cGF5bG9hZA==", "metadata": {"format": "msgpack", "encoding": "utf-8", "compressed": true, "original_type": "msgpack"}, "serializer": "default", "version": "2.0"}"#,
        " \n{\"version\":1,\"serializer\":\"std\",\"metadata\":{\"compressed\":true,\"original_type\":\"msgpack\"},\"data\":\"cGF5\\nbG9hZA==\"}\n",
    ] {
        let frame = parse(json.as_bytes()).expect("the older form");
        assert_eq!(
            (frame.header, &*frame.payload),
            (expected.clone(), &b"payload"[..])
        );
    }
    for json in [
        "{",
        "{}",
        r#"{"data": "", "serializer": "default"}"#,
        r#"{"data": "", "metadata": {}}"#,
        r#"{"metadata": {}, "serializer": "default"}"#,
        r#"{"data": [], "metadata": {}, "serializer": "default"}"#,
    ] {
        assert!(
            matches!(parse(json.as_bytes()), Err(FrameError::BadHeader { .. })),
            "{json}"
        );
    }
    assert_eq!(
        parse(br#"{"data": "cGF5b", "metadata": {}, "serializer": "default"}"#),
        Err(FrameError::BadBase64 { position: 5 })
    );
}

#[test]
fn a_rounded_head_says_the_same_and_ends_at_a_round_place() {
    for digits in 0..70 {
        let mut header = Header::msgpack(Serializer::Arrow, false);
        header.encoding = "8".repeat(digits).into();
        let mut head = Vec::new();
        write(&header, &mut head);
        round(&mut head, 8);
        assert_eq!((head.len() + 8) % 64, 0);
        head.extend_from_slice(b"the payload");
        let frame = parse(&head).expect("a frame");
        assert_eq!(
            (&frame.header, &*frame.payload),
            (&header, &b"the payload"[..])
        );
    }
}
