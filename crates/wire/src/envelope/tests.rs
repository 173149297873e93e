use super::*;
use crate::msgpack::{write_bin, write_map_header};

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hexadecimal"))
        .collect()
}

fn sealed(payload: &[u8], format: &str, compression: Compression) -> Vec<u8> {
    let mut out = Vec::new();
    seal(payload, format, compression, &mut out).expect("within the limits");
    out
}

fn opened(bytes: &[u8]) -> Result<(Vec<u8>, &str), EnvelopeError> {
    let mut into = Vec::new();
    let format = open(bytes, &mut into)?;
    Ok((into, format))
}

/// `{"a": 1, "b": [1, 2], "c": "x"}` in MessagePack.
const SMALL_MAP: &[u8] = b"\x83\xa1a\x01\xa1b\x92\x01\x02\xa1c\xa1x";

#[test]
fn the_protocol_examples() {
    let empty = unhex("949100982d06cc800538ccd3cc94ccc200a76d73677061636b");
    assert_eq!(opened(&empty), Ok((vec![], "msgpack")));
    // The same in today's form is what we write.
    let today = unhex("94c40100982d06cc800538ccd3cc94ccc200a76d73677061636b");
    assert_eq!(sealed(b"", "msgpack", Compression::Fast), today);
    assert_eq!(sealed(b"", "msgpack", Compression::Off), today);

    let map =
        unhex("94c40ed083a16101a162920102a163a17898ccb1cce97ecca748cce340310da76d73677061636b");
    assert_eq!(opened(&map), Ok((SMALL_MAP.to_vec(), "msgpack")));
    assert_eq!(sealed(SMALL_MAP, "msgpack", Compression::Fast), map);
    assert_eq!(sealed(SMALL_MAP, "msgpack", Compression::Off), map);
}

/// An envelope of raw fields, for the forms that `seal` never writes.
fn raw(block: &[u8], checksum: u64, original: u64, format: &str) -> Vec<u8> {
    let mut out = vec![];
    write_array_header(&mut out, 4);
    write_bin(&mut out, block);
    write_bin(&mut out, &checksum.to_be_bytes());
    write_u64(&mut out, original);
    write_str(&mut out, format);
    out
}

#[test]
fn older_forms_are_read() {
    let sum = checksum(SMALL_MAP);
    let block = [&[0xd0], SMALL_MAP].concat();
    let expected = Ok((SMALL_MAP.to_vec(), "msgpack"));
    assert_eq!(
        opened(&raw(&block, sum, 13, "msgpack")),
        expected,
        "checksum as bin"
    );

    let mut ints = vec![];
    write_array_header(&mut ints, 4);
    write_array_header(&mut ints, block.len() as u32);
    block
        .iter()
        .for_each(|&b| write_u64(&mut ints, u64::from(b)));
    ints.extend_from_slice(&raw(&block, sum, 13, "msgpack")[1 + 2 + block.len()..]);
    assert_eq!(opened(&ints), expected, "data as integers");

    let mut map = vec![];
    write_map_header(&mut map, 4);
    write_str(&mut map, "format");
    write_str(&mut map, "msgpack");
    write_str(&mut map, "compressed_data");
    write_bin(&mut map, &block);
    write_str(&mut map, "original_size");
    write_u64(&mut map, 13);
    write_str(&mut map, "checksum");
    write_bin(&mut map, &sum.to_be_bytes());
    assert_eq!(opened(&map), expected, "named fields");
}

#[test]
fn every_size_class_round_trips_both_ways() {
    let lens = (0..=20).chain([
        254, 255, 256, 269, 270, 271, 524, 525, 526, 65533, 65534, 65535, 65536, 300_000,
    ]);
    for len in lens {
        let even: Vec<u8> = (0..len).map(|i| (i / 7) as u8).collect();
        let wild: Vec<u8> = (0..len as u64)
            .map(|i| (checksum(&i.to_le_bytes())) as u8)
            .collect();
        for payload in [&even, &wild] {
            for compression in [Compression::Fast, Compression::Off] {
                let bytes = sealed(payload, "dataframe", compression);
                let (back, format) = opened(&bytes).expect("just sealed");
                assert!(
                    back == *payload && format == "dataframe",
                    "{len} {compression:?}"
                );
            }
            let off = sealed(payload, "x", Compression::Off);
            assert!(
                off.len() <= len + len / 255 + 40,
                "literals cost {}",
                off.len() - len
            );
        }
    }
}

#[test]
fn sealing_appends_and_opening_replaces() {
    let mut out = b"before".to_vec();
    seal(b"payload", "f", Compression::Fast, &mut out).expect("small");
    assert!(out.starts_with(b"before"));
    let envelope = out.split_off(6);
    for mut into in [vec![], vec![9; 3], vec![9; 500], Vec::with_capacity(500)] {
        assert_eq!(open(&envelope, &mut into), Ok("f"));
        assert_eq!(into, b"payload");
    }
    let mut into = vec![9; 500];
    open(&envelope[1..], &mut into).expect_err("cut");
    assert!(into.is_empty(), "nothing half-done is left");
}

#[test]
fn damage_is_found() {
    let payload = b"the quick brown fox jumps over the lazy dog, the quick brown fox".repeat(5);
    let envelope = sealed(&payload, "msgpack", Compression::Fast);
    for end in 0..envelope.len() {
        assert!(opened(&envelope[..end]).is_err(), "cut at {end}");
    }
    let format_at = envelope.len() - "msgpack".len();
    for at in 0..format_at {
        for bit in 0..8 {
            let mut damaged = envelope.clone();
            damaged[at] ^= 1 << bit;
            // Another encoding of the same fields may exist; another payload may not.
            if let Ok((back, format)) = opened(&damaged) {
                assert_eq!(
                    (&back, format),
                    (&payload, "msgpack"),
                    "bit {bit} of byte {at}"
                );
            }
        }
    }
    let mut longer = envelope;
    longer.push(0xc0);
    assert!(matches!(opened(&longer), Err(EnvelopeError::Malformed(_))));
}

#[test]
fn errors_say_what_was_wrong() {
    let sum = checksum(b"abc");
    let good = b"\x30abc";
    assert_eq!(opened(&raw(good, sum, 3, "f")), Ok((b"abc".to_vec(), "f")));
    assert_eq!(
        opened(&raw(good, 7, 3, "f")),
        Err(EnvelopeError::Checksum {
            declared: 7,
            actual: sum
        })
    );
    assert_eq!(
        opened(&raw(good, sum, 4, "f")),
        Err(EnvelopeError::Size {
            declared: 4,
            actual: 3
        })
    );
    assert!(matches!(
        opened(&raw(good, sum, 2, "f")),
        Err(EnvelopeError::Block(_))
    ));
    assert!(matches!(
        opened(&raw(b"", sum, 3, "f")),
        Err(EnvelopeError::Block(_))
    ));
    assert!(matches!(
        opened(&raw(b"", checksum(b""), 0, "f")),
        Err(EnvelopeError::Block(_))
    ));
    assert!(matches!(
        opened(&raw(good, sum, 1 << 32, "f")),
        Err(EnvelopeError::Shape(_))
    ));
    for shape in [
        &b"\xc0"[..],
        b"\x93\x00\x00\x00",
        b"\x80",
        b"\x94\xc0\x00\x00\x00",
    ] {
        assert!(
            matches!(opened(shape), Err(EnvelopeError::Shape(_))),
            "{shape:x?}"
        );
    }
    let mut bad = raw(good, sum, 3, "f");
    bad[1 + 2 + 4] = 0xc0;
    assert!(opened(&bad).is_err(), "a checksum that is nil");
    let twice = b"\x84\xa6format\xa1f\xa6format\xa1f\xa6format\xa1f\xa6format\xa1f";
    assert!(matches!(opened(twice), Err(EnvelopeError::Shape(_))));
}

#[test]
fn limits_hold_before_memory_is_taken() {
    // 1000:1 is allowed by the ratio (and then fails as a block), one more is not.
    let block = [0x10, 0];
    assert!(matches!(
        opened(&raw(&block, 0, 2000, "f")),
        Err(EnvelopeError::Size { .. })
    ));
    assert_eq!(
        opened(&raw(&block, 0, 2001, "f")),
        Err(EnvelopeError::Ratio {
            compressed: 2,
            original: 2001
        })
    );
    let most = MAX_BYTES as u64;
    assert_eq!(
        opened(&raw(&block, 0, most + 1, "f")),
        Err(EnvelopeError::TooLarge {
            what: "payload",
            bytes: most + 1
        })
    );
    // Zero pages: mapped, never touched.
    let long = vec![0; MAX_BYTES + 1];
    assert_eq!(
        opened(&long),
        Err(EnvelopeError::TooLarge {
            what: "envelope",
            bytes: most + 1
        })
    );
    let mut out = b"before".to_vec();
    assert_eq!(
        seal(&long, "f", Compression::Fast, &mut out),
        Err(EnvelopeError::TooLarge {
            what: "payload",
            bytes: most + 1
        })
    );
    assert!(matches!(
        seal(&long[..MAX_BYTES], "f", Compression::Off, &mut out),
        Err(EnvelopeError::TooLarge { .. })
    ));
    assert_eq!(out, b"before");
}
