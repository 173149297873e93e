//! Any bytes, any LZ4 block within a well-formed envelope, and damaged real envelopes.
#![no_main]

use cachekit_wire::envelope::{Compression, checksum, open, seal};
use cachekit_wire::msgpack::{write_array_header, write_bin, write_str, write_u64};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&mode, data)) = data.split_first() else {
        return;
    };
    match mode % 4 {
        0 => opened(data),
        1 => block(data),
        2 => round_trip(data, Compression::Fast),
        _ => round_trip(data, Compression::Off),
    }
});

/// What opens, opens again after it is sealed again.
fn opened(bytes: &[u8]) {
    let mut payload = vec![7; bytes.len() % 64];
    match open(bytes, &mut payload) {
        Ok(format) => {
            let mut again = vec![];
            seal(&payload, format, Compression::Fast, &mut again)
                .expect("it was within the limits");
            let mut back = vec![];
            assert_eq!(open(&again, &mut back), Ok(format));
            assert_eq!(back, payload);
        }
        Err(_) => assert!(payload.is_empty()),
    }
}

/// The first three bytes are the declared size, the rest the compressed bytes.
fn block(data: &[u8]) {
    let Some((size, block)) = data.split_first_chunk::<3>() else {
        return;
    };
    let size = u64::from(size[0]) | u64::from(size[1]) << 8 | u64::from(size[2] & 0x0f) << 16;
    let mut envelope = vec![];
    write_array_header(&mut envelope, 4);
    write_bin(&mut envelope, block);
    write_bin(&mut envelope, &checksum(block).to_be_bytes());
    write_u64(&mut envelope, size);
    write_str(&mut envelope, "msgpack");
    // Once into a new allocation and once into a used one, which are two ways in.
    opened(&envelope);
    let mut used = vec![1; size as usize + 1];
    let _ = open(&envelope, &mut used);
}

/// The first two bytes damage one byte of the envelope of the rest.
fn round_trip(data: &[u8], compression: Compression) {
    let Some((&[at, flip], payload)) = data.split_first_chunk::<2>() else {
        return;
    };
    let mut envelope = vec![];
    seal(payload, "f", compression, &mut envelope).expect("fuzz inputs are small");
    let at = usize::from(at) * envelope.len() / 256;
    envelope[at] ^= flip;
    let mut back = vec![];
    match open(&envelope, &mut back) {
        Ok(_) => assert_eq!(back, payload),
        Err(_) => assert_ne!(flip, 0),
    }
}
