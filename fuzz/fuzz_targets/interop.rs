//! Any bytes as an interop value, as the names of an operation, and as what its arguments are made of.
#![no_main]

use cachekit_wire::{
    interop::{Operation, document, normalized, write_float, write_map, write_set},
    msgpack::{Reader, Token, skip},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    value(data);
    names(data);
    arguments(data);
});

/// What is written in its shortest form is a document, stays as it is, and never gets longer but by
/// floats that were narrow.
fn value(data: &[u8]) {
    let whole = document(data);
    let Ok(short) = normalized(data) else { return };
    assert_eq!(whole, Ok(()), "only a document can be written");
    assert_eq!(document(&short), Ok(()));
    assert_eq!(normalized(&short).as_ref(), Ok(&short));
    assert!(short.len() <= data.len() * 9 / 5);
}

fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (namespace, operation) = text.split_once(':').unwrap_or((text, "o"));
    let Ok(operation) = Operation::new(namespace, operation) else {
        return;
    };
    let key = operation.key(data);
    assert!(key.len() <= 194 && !key.contains(".."));
    assert_eq!(key.split(':').count(), 3);
    assert!(!key.starts_with("ns:"));
}

/// Sets and maps of the input's pieces: sorted, and the same whatever the order they come in.
fn arguments(data: &[u8]) {
    let mut pieces = Vec::new();
    let mut reader = Reader::new(data);
    loop {
        let start = reader.position();
        if reader.is_empty() || skip(&mut reader).is_err() {
            break;
        }
        pieces.push(&data[start..reader.position()]);
    }
    let (mut one, mut other) = (Vec::new(), Vec::new());
    write_set(&mut one, pieces.clone());
    write_set(&mut other, pieces.iter().rev().copied().collect());
    assert_eq!(one, other);
    assert_eq!(
        document(&one).is_ok() || one.starts_with(b"CK"),
        too_deep(&one).is_none()
    );

    let texts = pieces
        .iter()
        .filter_map(|piece| match Reader::new(piece).next() {
            Ok(Token::Str(text)) => Some((text, &piece[..])),
            _ => None,
        });
    let mut entries: Vec<_> = texts.collect();
    entries.sort();
    entries.dedup_by_key(|entry| entry.0);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    write_map(&mut one, &mut entries.clone());
    entries.reverse();
    write_map(&mut other, &mut entries);
    assert_eq!(one, other);
    assert_eq!(
        normalized(&one).map(|short| short.len() <= one.len()),
        Ok(true)
    );

    for piece in pieces {
        if let Ok(Token::F64(v)) = Reader::new(piece).next() {
            let mut out = Vec::new();
            match write_float(&mut out, v) {
                Ok(()) => assert!(same(&out, v), "{v} came out as {out:?}"),
                Err(_) => assert!(!v.is_finite() && out.is_empty()),
            }
        }
    }
}

fn too_deep(bytes: &[u8]) -> Option<()> {
    skip(&mut Reader::new(bytes)).err().map(drop)
}

fn same(bytes: &[u8], v: f64) -> bool {
    match Reader::new(bytes).next() {
        Ok(Token::Int(i)) => i as f64 == v,
        Ok(Token::UInt(i)) => i as f64 == v,
        Ok(Token::F64(f)) => {
            f.to_bits() == v.to_bits() && v.trunc() != v || v.abs() >= 2f64.powi(63)
        }
        _ => false,
    }
}
