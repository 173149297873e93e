//! Any bytes as a body behind its checksum and as a generation item; damaged real bodies.
#![no_main]

use cachekit_wire::{
    generation::Generation,
    payload::{CHECKSUM_BYTES, checksum_bytes, open_checked},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(body) = open_checked(data) {
        assert!(data.ends_with(body));
        let checked = body.len() + CHECKSUM_BYTES == data.len();
        assert!(checked || data.starts_with(b"ARROW1"));
    }
    if let Some(item) = Generation::from_bytes(data) {
        assert_eq!(Generation::from_bytes(&item.to_bytes()), Some(item));
    }
    damaged(data);
});

/// The first two bytes damage one byte of the rest and its checksum.
fn damaged(data: &[u8]) {
    let Some((&[at, flip], body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let mut stored = [&checksum_bytes(body)[..], body].concat();
    let at = usize::from(at) * stored.len() / 256;
    stored[at] ^= flip;
    if stored.starts_with(b"ARROW1") {
        return; // A body without a checksum.
    }
    match open_checked(&stored) {
        Ok(back) => assert_eq!((back, flip), (body, 0)),
        Err(_) => assert_ne!(flip, 0),
    }
}
