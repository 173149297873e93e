use super::*;

fn written(f: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    f(&mut out);
    out
}

fn one(bytes: &[u8]) -> Result<Token<'_>, DecodeErrorKind> {
    let mut reader = Reader::new(bytes);
    let token = reader.next().map_err(|e| e.kind())?;
    reader.finish().map_err(|e| e.kind())?;
    Ok(token)
}

/// Both sides of every width boundary, with the bytes the format's table gives.
#[test]
fn integers_take_the_shortest_form() {
    let cases: &[(i128, &[u8])] = &[
        (0, &[0x00]),
        (0x7f, &[0x7f]),
        (0x80, &[0xcc, 0x80]),
        (0xff, &[0xcc, 0xff]),
        (0x100, &[0xcd, 0x01, 0x00]),
        (0xffff, &[0xcd, 0xff, 0xff]),
        (0x1_0000, &[0xce, 0, 1, 0, 0]),
        (0xffff_ffff, &[0xce, 0xff, 0xff, 0xff, 0xff]),
        (0x1_0000_0000, &[0xcf, 0, 0, 0, 1, 0, 0, 0, 0]),
        (
            i64::MAX as i128,
            &[0xcf, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
        (i64::MAX as i128 + 1, &[0xcf, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        (
            u64::MAX as i128,
            &[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
        (-1, &[0xff]),
        (-32, &[0xe0]),
        (-33, &[0xd0, 0xdf]),
        (-128, &[0xd0, 0x80]),
        (-129, &[0xd1, 0xff, 0x7f]),
        (-32768, &[0xd1, 0x80, 0x00]),
        (-32769, &[0xd2, 0xff, 0xff, 0x7f, 0xff]),
        (i32::MIN as i128, &[0xd2, 0x80, 0, 0, 0]),
        (
            i32::MIN as i128 - 1,
            &[0xd3, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff],
        ),
        (i64::MIN as i128, &[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for &(value, bytes) in cases {
        let token = match i64::try_from(value) {
            Ok(v) => {
                assert_eq!(written(|o| write_i64(o, v)), bytes, "{value}");
                Token::Int(v)
            }
            Err(_) => Token::UInt(u64::try_from(value).expect("in the table as a u64")),
        };
        if let Ok(v) = u64::try_from(value) {
            assert_eq!(written(|o| write_u64(o, v)), bytes, "{value}");
        }
        assert_eq!(one(bytes), Ok(token), "{value}");
    }
}

#[test]
fn longer_forms_of_integers_read_alike() {
    for bytes in [
        &[0xcc, 5][..],
        &[0xcd, 0, 5],
        &[0xce, 0, 0, 0, 5],
        &[0xcf, 0, 0, 0, 0, 0, 0, 0, 5],
        &[0xd0, 5],
        &[0xd1, 0, 5],
        &[0xd2, 0, 0, 0, 5],
        &[0xd3, 0, 0, 0, 0, 0, 0, 0, 5],
    ] {
        assert_eq!(one(bytes), Ok(Token::Int(5)));
    }
}

#[test]
fn scalars() {
    assert_eq!(written(write_nil), [0xc0]);
    assert_eq!(written(|o| write_bool(o, false)), [0xc2]);
    assert_eq!(written(|o| write_bool(o, true)), [0xc3]);
    assert_eq!(
        written(|o| write_f64(o, 3.0)),
        [0xcb, 0x40, 0x08, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        written(|o| write_f64(o, -0.0)),
        [0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(one(&[0xc0]), Ok(Token::Nil));
    assert_eq!(one(&[0xc2]), Ok(Token::Bool(false)));
    assert_eq!(one(&[0xc3]), Ok(Token::Bool(true)));
    assert_eq!(one(&[0xca, 0x3f, 0xc0, 0, 0]), Ok(Token::F64(1.5)));
    assert_eq!(
        one(&[0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]),
        Ok(Token::F64(1.5))
    );
    let nan = written(|o| write_f64(o, f64::from_bits(0x7ff8_0000_0000_0001)));
    let Ok(Token::F64(v)) = one(&nan) else {
        panic!("a float")
    };
    assert_eq!(v.to_bits(), 0x7ff8_0000_0000_0001);
}

#[test]
fn headers_take_the_shortest_form() {
    type Header = fn(&mut Vec<u8>, u32);
    let str: Header = |o, n| write_str_header(o, n);
    let bin: Header = |o, n| write_bin_header(o, n);
    let array: Header = |o, n| write_array_header(o, n);
    let map: Header = |o, n| write_map_header(o, n);
    let cases: &[(Header, u32, &[u8])] = &[
        (str, 0, &[0xa0]),
        (str, 31, &[0xbf]),
        (str, 32, &[0xd9, 32]),
        (str, 255, &[0xd9, 255]),
        (str, 256, &[0xda, 1, 0]),
        (str, 65535, &[0xda, 255, 255]),
        (str, 65536, &[0xdb, 0, 1, 0, 0]),
        (str, u32::MAX, &[0xdb, 255, 255, 255, 255]),
        (bin, 0, &[0xc4, 0]),
        (bin, 255, &[0xc4, 255]),
        (bin, 256, &[0xc5, 1, 0]),
        (bin, 65535, &[0xc5, 255, 255]),
        (bin, 65536, &[0xc6, 0, 1, 0, 0]),
        (bin, u32::MAX, &[0xc6, 255, 255, 255, 255]),
        (array, 0, &[0x90]),
        (array, 15, &[0x9f]),
        (array, 16, &[0xdc, 0, 16]),
        (array, 65535, &[0xdc, 255, 255]),
        (array, 65536, &[0xdd, 0, 1, 0, 0]),
        (array, u32::MAX, &[0xdd, 255, 255, 255, 255]),
        (map, 0, &[0x80]),
        (map, 15, &[0x8f]),
        (map, 16, &[0xde, 0, 16]),
        (map, 65535, &[0xde, 255, 255]),
        (map, 65536, &[0xdf, 0, 1, 0, 0]),
        (map, u32::MAX, &[0xdf, 255, 255, 255, 255]),
    ];
    for &(header, len, bytes) in cases {
        assert_eq!(written(|o| header(o, len)), bytes, "{len}");
    }
}

#[test]
fn strings_and_binaries_of_every_width_read_back() {
    for len in [0, 1, 31, 32, 255, 256, 65535, 65536] {
        let text = "x".repeat(len);
        assert_eq!(
            one(&written(|o| write_str(o, &text))),
            Ok(Token::Str(&text))
        );
        let bytes = vec![0xfe; len];
        assert_eq!(
            one(&written(|o| write_bin(o, &bytes))),
            Ok(Token::Bin(&bytes))
        );
    }
    // Longer headers than needed.
    assert_eq!(one(b"\xd9\x01x"), Ok(Token::Str("x")));
    assert_eq!(one(b"\xda\x00\x01x"), Ok(Token::Str("x")));
    assert_eq!(one(b"\xdb\x00\x00\x00\x01x"), Ok(Token::Str("x")));
    assert_eq!(one(b"\xc5\x00\x01x"), Ok(Token::Bin(b"x")));
    assert_eq!(one(b"\xc6\x00\x00\x00\x01x"), Ok(Token::Bin(b"x")));
}

#[test]
fn extensions_of_every_width() {
    for (len, header) in [
        (0_usize, &[0xc7, 0][..]),
        (1, &[0xd4]),
        (2, &[0xd5]),
        (3, &[0xc7, 3]),
        (4, &[0xd6]),
        (5, &[0xc7, 5]),
        (8, &[0xd7]),
        (16, &[0xd8]),
        (17, &[0xc7, 17]),
        (255, &[0xc7, 255]),
        (256, &[0xc8, 1, 0]),
        (65535, &[0xc8, 255, 255]),
        (65536, &[0xc9, 0, 1, 0, 0]),
    ] {
        let data = vec![7; len];
        let bytes = written(|o| write_ext(o, -3, &data));
        assert_eq!(&bytes[..header.len()], header, "{len}");
        assert_eq!(one(&bytes), Ok(Token::Ext(-3, &data)), "{len}");
    }
}

#[test]
fn container_lengths_are_checked_against_the_rest() {
    use DecodeErrorKind::LengthExceedsInput;
    assert_eq!(Reader::new(&[0x92, 1, 2]).next(), Ok(Token::Array(2)));
    assert_eq!(Reader::new(&[0x81, 1, 2]).next(), Ok(Token::Map(1)));
    let kind = |b: &[u8]| Reader::new(b).next().map_err(|e| e.kind()).err();
    assert_eq!(kind(&[0x92, 1]), Some(LengthExceedsInput(2)));
    assert_eq!(kind(&[0x82, 1, 2, 3]), Some(LengthExceedsInput(2)));
    assert_eq!(kind(&[0xdc, 0, 3, 1, 2]), Some(LengthExceedsInput(3)));
    assert_eq!(
        kind(&[0xdd, 255, 255, 255, 255]),
        Some(LengthExceedsInput(u32::MAX))
    );
    assert_eq!(
        kind(&[0xdf, 255, 255, 255, 255, 0]),
        Some(LengthExceedsInput(u32::MAX))
    );
}

#[test]
fn errors_name_their_place_and_do_not_move_the_reader() {
    let mut reader = Reader::new(&[0x01, 0xc1]);
    assert_eq!(reader.next(), Ok(Token::Int(1)));
    let error = reader.next().expect_err("0xc1 is reserved");
    assert_eq!(
        (error.position(), error.kind()),
        (1, DecodeErrorKind::ReservedByte)
    );
    assert_eq!(reader.next(), Err(error), "the reader stayed");
    assert_eq!(
        error.to_string(),
        "not MessagePack: at byte 1, the reserved byte 0xc1"
    );

    assert_eq!(one(&[0xa1, 0xff]), Err(DecodeErrorKind::InvalidUtf8));
    assert_eq!(
        one(b"\xa3\xed\xa0\x80"),
        Err(DecodeErrorKind::InvalidUtf8),
        "a lone surrogate"
    );
    assert_eq!(one(&[]), Err(DecodeErrorKind::Truncated));
    assert_eq!(one(&[1, 1]), Err(DecodeErrorKind::TrailingBytes));
}

#[test]
fn every_proper_prefix_of_a_scalar_is_truncated() {
    let values = [
        written(|o| write_u64(o, 200)),
        written(|o| write_u64(o, 60_000)),
        written(|o| write_u64(o, 1 << 20)),
        written(|o| write_u64(o, 1 << 40)),
        written(|o| write_i64(o, -100)),
        written(|o| write_i64(o, -10_000)),
        written(|o| write_i64(o, -(1 << 20))),
        written(|o| write_i64(o, -(1 << 40))),
        written(|o| write_f64(o, 0.5)),
        vec![0xca, 0, 0, 0, 0],
        written(|o| write_str(o, "short")),
        written(|o| write_str(o, &"l".repeat(40))),
        written(|o| write_str(o, &"l".repeat(400))),
        written(|o| write_bin(o, b"b")),
        written(|o| write_bin(o, &[1; 400])),
        written(|o| write_ext(o, 1, &[1; 4])),
        written(|o| write_ext(o, 1, &[1; 5])),
        written(|o| write_ext(o, 1, &[1; 500])),
    ];
    for value in &values {
        for end in 0..value.len() {
            assert_eq!(
                one(&value[..end]),
                Err(DecodeErrorKind::Truncated),
                "{value:x?} to {end}"
            );
        }
    }
}

#[test]
fn skip_takes_exactly_one_value() {
    let value = written(|o| {
        write_array_header(o, 3);
        write_map_header(o, 2);
        write_str(o, "k");
        write_array_header(o, 0);
        write_i64(o, -7);
        write_nil(o);
        write_map_header(o, 0);
        write_bin(o, b"xyz");
    });
    let mut twice = value.clone();
    twice.extend_from_slice(&value);
    let mut reader = Reader::new(&twice);
    skip(&mut reader).expect("well-formed");
    assert_eq!(reader.position(), value.len());
    skip(&mut reader).expect("well-formed");
    reader.finish().expect("two values");
    for end in 0..value.len() {
        assert!(
            skip(&mut Reader::new(&value[..end])).is_err(),
            "a value cut at {end}"
        );
    }
}

#[test]
fn skip_follows_exactly_max_depth() {
    let nested = |depth: usize| {
        let mut bytes = vec![0x91; depth];
        bytes.push(0xc0);
        bytes
    };
    skip(&mut Reader::new(&nested(MAX_DEPTH))).expect("the deepest allowed");
    let error = skip(&mut Reader::new(&nested(MAX_DEPTH + 1))).expect_err("too deep");
    assert_eq!(
        (error.position(), error.kind()),
        (MAX_DEPTH, DecodeErrorKind::TooDeep)
    );
    // An empty container is one level too, and a closed one gives its level back.
    let mut empty = vec![0x91; MAX_DEPTH];
    empty.push(0x90);
    assert_eq!(
        skip(&mut Reader::new(&empty)).map_err(|e| e.kind()),
        Err(DecodeErrorKind::TooDeep)
    );
    let wide = written(|o| {
        write_array_header(o, 5000);
        (0..5000).for_each(|_| write_array_header(o, 0));
    });
    skip(&mut Reader::new(&wide)).expect("wide, not deep");
}
