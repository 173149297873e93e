//! Any bytes as a stored value: a header that was read can be written and read again.
#![no_main]

use cachekit_wire::frame::{Header, parse, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // As it is, and as the header of a frame, which spares the fuzzer from finding the length.
    check(data);
    let mut framed = b"CK\x03".to_vec();
    framed.extend_from_slice(&(data.len() as u32).to_be_bytes());
    framed.extend_from_slice(data);
    check(&framed);
});

fn check(bytes: &[u8]) {
    let Ok(frame) = parse(bytes) else { return };
    // The members of encryption are written for ciphertext only.
    let header = Header {
        encrypted: true,
        ..frame.header
    };
    let mut again = vec![];
    write(&header, &mut again);
    again.extend_from_slice(&frame.payload);
    let back = parse(&again).expect("just written");
    assert_eq!(back.header, header);
    assert_eq!(back.payload, frame.payload);
}
