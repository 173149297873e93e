//! Any bytes as an auto payload: what it is said to be, and the head of an array's body.
#![no_main]

use cachekit_wire::{
    frame::Serializer,
    payload::{
        ARROW, NUMPY, Wrap, checksum_bytes, guess_auto, open_checked, read_numpy, write_numpy_head,
    },
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    body(data);
    // Spares the fuzzer from finding the mark.
    body(&[b"NUMPY_RAW", data].concat());
    guessed(data);
    made(data);
});

/// A head that was read can be written again, to the byte.
fn body(bytes: &[u8]) {
    let Some(array) = read_numpy(bytes) else {
        return;
    };
    let mut again = vec![];
    write_numpy_head(array.dtype, &array.shape, &mut again).expect("what was read fits");
    again.extend_from_slice(array.data);
    assert_eq!(again, bytes);
}

/// A payload without a header is taken for one of three, whose wrapping follows from that.
fn guessed(payload: &[u8]) {
    for integrity in [false, true] {
        let header = guess_auto(payload, integrity);
        assert_eq!(header.serializer, Serializer::Auto);
        let around = match header.original_type.as_deref() {
            Some(ARROW) => Wrap::Checksum,
            Some(NUMPY) if integrity => Wrap::Checksum,
            None if integrity => Wrap::Envelope,
            _ => Wrap::Bare,
        };
        assert_eq!(Wrap::of(&header, integrity), around);
    }
}

/// An array of the input's own: the type's name, the dimensions, the elements.
fn made(data: &[u8]) {
    let Some((&[name, dimensions], rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let (name, rest) = rest.split_at(usize::from(name).min(rest.len()));
    let (shape, elements) = rest.split_at((usize::from(dimensions) * 4).min(rest.len() / 4 * 4));
    let (shape, _) = shape.as_chunks::<4>();
    let shape: Vec<u32> = shape.iter().map(|d| u32::from_le_bytes(*d)).collect();
    let name = String::from_utf8_lossy(name);
    let mut written = vec![];
    write_numpy_head(&name, &shape, &mut written).expect("short enough");
    written.extend_from_slice(elements);
    let array = read_numpy(&written).expect("just written");
    assert_eq!(
        (array.dtype, &array.shape, array.data),
        (&*name, &shape, elements)
    );
    let payload = [&checksum_bytes(&written)[..], &written].concat();
    assert_eq!(open_checked(&payload), Ok(&written[..]));
    let guess = guess_auto(&payload, true);
    assert!(
        guess.original_type.as_deref() == Some(NUMPY) || payload.starts_with(b"ARROW1"),
        "{guess:?}"
    );
}
