//! Any bytes: the reader never panics, `skip` agrees with reading, and what was read can be written
//! and read again as the same tokens.
#![no_main]

use cachekit_wire::msgpack::{
    DecodeErrorKind, Reader, Token, skip, write_array_header, write_bin, write_bool, write_ext,
    write_f64, write_i64, write_map_header, write_nil, write_str, write_u64,
};
use libfuzzer_sys::fuzz_target;

fn write(token: Token<'_>, out: &mut Vec<u8>) {
    match token {
        Token::Nil => write_nil(out),
        Token::Bool(v) => write_bool(out, v),
        Token::Int(v) => write_i64(out, v),
        Token::UInt(v) => write_u64(out, v),
        Token::F64(v) => write_f64(out, v),
        Token::Str(v) => write_str(out, v),
        Token::Bin(v) => write_bin(out, v),
        Token::Array(n) => write_array_header(out, n),
        Token::Map(n) => write_map_header(out, n),
        Token::Ext(ty, v) => write_ext(out, ty, v),
    }
}

fn same(a: Token<'_>, b: Token<'_>) -> bool {
    match (a, b) {
        (Token::F64(a), Token::F64(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

fuzz_target!(|data: &[u8]| {
    // The tokens of one document, without recursion.
    let mut reader = Reader::new(data);
    let mut tokens = vec![];
    let mut wanted = 1_u64;
    let mut failed = None;
    while wanted > 0 {
        let before = reader.position();
        match reader.next() {
            Ok(token) => {
                assert!(reader.position() > before && reader.position() <= data.len());
                wanted -= 1;
                match token {
                    Token::Array(n) => {
                        assert!(n as usize <= reader.remaining().len());
                        wanted += u64::from(n);
                    }
                    Token::Map(n) => {
                        assert!(n as usize <= reader.remaining().len() / 2);
                        wanted += 2 * u64::from(n);
                    }
                    _ => {}
                }
                tokens.push(token);
            }
            Err(error) => {
                assert_eq!(reader.position(), before);
                failed = Some(error);
                break;
            }
        }
    }
    let mut skipped = Reader::new(data);
    match (skip(&mut skipped), failed) {
        (Ok(()), None) => assert_eq!(skipped.position(), reader.position()),
        (Err(error), Some(failed)) if error.kind() != DecodeErrorKind::TooDeep => {
            assert_eq!(error, failed);
        }
        (Err(error), _) => assert_eq!(error.kind(), DecodeErrorKind::TooDeep),
        (Ok(()), Some(failed)) => panic!("skipped what cannot be read: {failed}"),
    }
    if failed.is_some() {
        return;
    }
    let mut out = vec![];
    tokens.iter().for_each(|&t| write(t, &mut out));
    let mut again = Reader::new(&out);
    for &token in &tokens {
        let back = again.next().expect("just written");
        assert!(same(token, back), "{token:?} came back as {back:?}");
    }
    assert!(again.is_empty());
});
