use super::*;
use crate::msgpack::{
    DecodeErrorKind, MAX_DEPTH, write_array_header, write_bin, write_f64, write_i64,
    write_map_header, write_str, write_u64,
};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![];
    write(&mut out);
    out
}

fn float(v: f64) -> Vec<u8> {
    written(|out| write_float(out, v).expect("finite"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn keys_of_the_published_package() {
    let users = Operation::new("users", "get_user").expect("good names");
    assert_eq!(
        users.key(b"\x91\x2a"),
        "users:get_user:61598716255080080f6456eb065c2e51badfaa4320b0efe97469c29cffee8875"
    );
    assert_eq!(
        users.key(b"\x90"),
        "users:get_user:8064bf5f945dba521b017bb3f32b31a293a6e16944838d171ea9e77fab085e8e"
    );
    let longest = Operation::new(&"n".repeat(64), &"o".repeat(64)).expect("64 are allowed");
    assert_eq!(longest.key(b"").len(), 194);
}

#[test]
fn names() {
    for good in ["a", "0", "a.b-c_d", "9.", "a-"] {
        Operation::new(good, good).expect(good);
    }
    let long = "a".repeat(65);
    for bad in [
        "", "A", "_a", ".a", "-a", "a:b", "a b", "a\n", "é", "a\0", &long,
    ] {
        let characters = |part| {
            let text = bad.to_owned();
            Err(NameError::Characters { part, text })
        };
        assert_eq!(Operation::new(bad, "o"), characters("namespace"));
        assert_eq!(Operation::new("n", bad), characters("operation"));
    }
    assert!(matches!(
        Operation::new("n", "a..b"),
        Err(NameError::Dots { .. })
    ));
    for reserved in ["ns", "nsapi"] {
        assert!(matches!(
            Operation::new(reserved, "o"),
            Err(NameError::Reserved { .. })
        ));
        Operation::new("n", reserved).expect("as an operation");
    }
}

#[test]
fn floats_that_are_integers_become_integers() {
    const TWO_53: f64 = 9_007_199_254_740_992.0;
    for (v, expected) in [
        (0.0, "00"),
        (-0.0, "00"),
        (1.0, "01"),
        (-1.0, "ff"),
        (127.0, "7f"),
        (128.0, "cc80"),
        (255.0, "ccff"),
        (256.0, "cd0100"),
        (65_535.0, "cdffff"),
        (65_536.0, "ce00010000"),
        (4_294_967_295.0, "ceffffffff"),
        (4_294_967_296.0, "cf0000000100000000"),
        (-32.0, "e0"),
        (-33.0, "d0df"),
        (-128.0, "d080"),
        (-129.0, "d1ff7f"),
        (-32_768.0, "d18000"),
        (-32_769.0, "d2ffff7fff"),
        (-2_147_483_648.0, "d280000000"),
        (-2_147_483_649.0, "d3ffffffff7fffffff"),
        (TWO_53, "cf0020000000000000"),
        (9_223_372_036_854_774_784.0, "cf7ffffffffffffc00"),
        (9_223_372_036_854_775_808.0, "cf8000000000000000"),
        (18_446_744_073_709_549_568.0, "cffffffffffffff800"),
        (-9_223_372_036_854_775_808.0, "d38000000000000000"),
        // Beyond integers of 64 bits, and between them.
        (18_446_744_073_709_551_616.0, "cb43f0000000000000"),
        (-9_223_372_036_854_777_856.0, "cbc3e0000000000001"),
        (1.5, "cb3ff8000000000000"),
        (-0.5, "cbbfe0000000000000"),
        (5e-324, "cb0000000000000001"),
        (f64::MAX, "cb7fefffffffffffff"),
    ] {
        assert_eq!(hex(&float(v)), expected, "{v}");
    }
    for v in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut out = vec![];
        assert_eq!(write_float(&mut out, v), Err(NotFinite));
        assert!(out.is_empty());
    }
}

#[test]
fn integers_of_64_bits() {
    for (v, expected) in [
        (0, "00"),
        (i128::from(u64::MAX), "cfffffffffffffffff"),
        (i128::from(i64::MIN), "d38000000000000000"),
    ] {
        let mut out = vec![];
        assert!(write_int(&mut out, v));
        assert_eq!(hex(&out), expected);
    }
    for v in [i128::from(u64::MAX) + 1, i128::from(i64::MIN) - 1] {
        let mut out = vec![];
        assert!(!write_int(&mut out, v));
        assert!(out.is_empty());
    }
}

#[test]
fn moments_are_seconds() {
    for (micros, expected) in [
        (0, "00"),
        (1, "cb3eb0c6f7a0b5ed8d"),
        (-1, "cbbeb0c6f7a0b5ed8d"),
        (1_500_000, "cb3ff8000000000000"),
        (1_577_836_800_000_000, "ce5e0be100"),
        (1_577_836_800_000_001, "cb41d782f840000004"),
        (-62_135_596_800_000_000, "d3fffffff1886e0900"),
    ] {
        assert_eq!(
            hex(&written(|out| write_micros(out, micros))),
            expected,
            "{micros}"
        );
    }
}

#[test]
fn maps_are_sorted_by_code_point() {
    // In UTF-16 the last two would change places.
    let mut entries = [
        ("\u{1F600}", &b"\x05"[..]),
        ("\u{FFFD}", b"\x04"),
        ("b", b"\x02"),
        ("é", b"\x03"),
        ("", b"\x00"),
        ("a", b"\x01"),
    ];
    let bytes = written(|out| write_map(out, &mut entries));
    assert_eq!(
        hex(&bytes),
        "86a000a16101a16202a2c3a903a3efbfbd04a4f09f988005"
    );
}

#[test]
fn sets_are_sorted_by_bytes_and_have_each_element_once() {
    // -1 (ff) comes behind 128 (cc80), "a" (a161) before both.
    let elements = vec![
        &b"\xff"[..],
        b"\xcc\x80",
        b"\x01",
        b"\xa1a",
        b"\x01",
        b"\xc0",
    ];
    let bytes = written(|out| write_set(out, elements));
    assert_eq!(hex(&bytes), "9501a161c0cc80ff");
}

/// Every width of every header and number, written at its boundaries and read as a document.
#[test]
fn every_width_is_written_shortest() {
    type Write = fn(&mut Vec<u8>, usize);
    let str: Write = |out, n| write_str(out, &"x".repeat(n));
    let bin: Write = |out, n| write_bin(out, &vec![0; n]);
    let array: Write = |out, n| {
        write_array_header(out, n as u32);
        out.extend_from_slice(&vec![0xc0; n]);
    };
    let set: Write = |out, n| {
        let elements: Vec<Vec<u8>> = (0..n as u64)
            .map(|v| written(|out| write_u64(out, v)))
            .collect();
        write_set(out, elements.iter().map(Vec::as_slice).collect());
    };
    let map: Write = |out, n| {
        let keys: Vec<String> = (0..n).map(|v| format!("{v:06}")).collect();
        let mut entries: Vec<_> = keys.iter().map(|k| (k.as_str(), &b"\xc0"[..])).collect();
        write_map(out, &mut entries);
    };
    for (write, n, head) in [
        (str, 31, "bf"),
        (str, 32, "d920"),
        (str, 255, "d9ff"),
        (str, 256, "da0100"),
        (str, 65_535, "daffff"),
        (str, 65_536, "db00010000"),
        (bin, 0, "c400"),
        (bin, 255, "c4ff"),
        (bin, 256, "c50100"),
        (bin, 65_535, "c5ffff"),
        (bin, 65_536, "c600010000"),
        (array, 15, "9f"),
        (array, 16, "dc0010"),
        (array, 65_535, "dcffff"),
        (array, 65_536, "dd00010000"),
        (set, 15, "9f"),
        (set, 16, "dc0010"),
        (set, 65_535, "dcffff"),
        (set, 65_536, "dd00010000"),
        (map, 15, "8f"),
        (map, 16, "de0010"),
        (map, 65_535, "deffff"),
        (map, 65_536, "df00010000"),
    ] {
        let bytes = written(|out| write(out, n));
        let start = hex(&bytes[..bytes.len().min(6)]);
        assert!(start.starts_with(head), "{n}: {start}");
        document(&bytes).expect("well-formed");
        assert_eq!(normalized(&bytes).expect("in the model"), bytes);
    }
}

#[test]
fn values_are_normalized_to_their_shortest_form() {
    for (given, expected) in [
        ("cf0000000000000001", "01"),
        ("d3ffffffffffffffff", "ff"),
        ("d200000080", "cc80"),
        ("ca3fc00000", "cb3ff8000000000000"),
        ("cb0000000000000000", "cb0000000000000000"),
        ("cb8000000000000000", "cb8000000000000000"),
        ("da000161", "a161"),
        ("c6000000016a", "c4016a"),
        ("dd00000001c0", "91c0"),
        ("df00000001d90161dc0000", "81a16190"),
        ("82a161918101", "!"),
        ("82a16201a16180", "82a16180a16201"),
        (
            "9182a17a82a16201a16102a16182a17901a178c0",
            "9182a16182a178c0a17901a17a82a16102a16201",
        ),
        ("9390809180", "9390809180"),
    ] {
        let bytes: Vec<u8> = (0..given.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&given[at..at + 2], 16).expect("hex"))
            .collect();
        let told = normalized(&bytes);
        match expected {
            "!" => assert!(told.is_err(), "{given}"),
            _ => assert_eq!(hex(&told.expect(given)), expected, "{given}"),
        }
    }
}

#[test]
fn what_is_not_in_the_model_is_not_written() {
    assert_eq!(normalized(b"\x81\x01\x02"), Err(Unwritable::Key { at: 1 }));
    assert_eq!(
        normalized(b"\x82\xa1a\x91\x01\xc4\x01b\x02"),
        Err(Unwritable::Key { at: 5 })
    );
    assert_eq!(
        normalized(b"\x91\xd4\x01\x00"),
        Err(Unwritable::Extension { at: 1 })
    );
    for v in [f64::NAN, f64::INFINITY] {
        let bytes = written(|out| {
            write_array_header(out, 1);
            write_f64(out, v);
        });
        let cause = NotFinite;
        assert_eq!(
            normalized(&bytes),
            Err(Unwritable::NotFinite { at: 1, cause })
        );
    }
}

#[test]
fn exactly_one_document() {
    let bytes = written(|out| {
        write_map_header(out, 1);
        write_str(out, "k");
        write_i64(out, -40_000);
    });
    document(&bytes).expect("one");
    for end in 0..bytes.len() {
        assert!(matches!(
            document(&bytes[..end]),
            Err(ValueError::Format(_))
        ));
    }
    let longer = [&bytes[..], b"\xc0"].concat();
    let Err(ValueError::Format(error)) = document(&longer) else {
        panic!("trailing bytes are refused");
    };
    assert_eq!(error.kind(), DecodeErrorKind::TrailingBytes);
    assert_eq!(error.position(), bytes.len());
    // Any encoding is read, extension values and keys of any kind included.
    for other in [
        &b"\xd4\x01\x00"[..],
        b"\x81\x01\x02",
        b"\xca\x7f\xc0\x00\x00",
    ] {
        document(other).expect("well-formed");
    }
}

#[test]
fn a_frame_is_named_as_one() {
    for bytes in [&b"CK\x03\x00\x00\x00\x00"[..], b"CK", b"CK\x04"] {
        assert_eq!(document(bytes), Err(ValueError::Framed));
    }
    document(b"C").expect("the integer 67");
    assert!(matches!(document(b"CX"), Err(ValueError::Format(_))));
}

#[test]
fn nesting_is_bounded() {
    let deep = |n: usize| [vec![0x91; n], vec![0xc0]].concat();
    document(&deep(MAX_DEPTH)).expect("as deep as allowed");
    normalized(&deep(MAX_DEPTH)).expect("as deep as allowed");
    assert!(document(&deep(MAX_DEPTH + 1)).is_err());
    assert!(normalized(&deep(MAX_DEPTH + 1)).is_err());
}
