//! Any bytes as the entry of each serializer; damaged entries of real bodies.
#![no_main]

use std::borrow::Cow;

use cachekit::payload::{Body, PayloadPolicy, open, seal};
use cachekit_wire::{
    envelope::Compression,
    frame::{Extension, Serializer},
};
use libfuzzer_sys::fuzz_target;

/// What the bodies of each serializer are called: format, original type.
const KINDS: [(Serializer, &str, &str); 6] = [
    (Serializer::Default, "msgpack", "msgpack"),
    (Serializer::Auto, "msgpack", "msgpack"),
    (Serializer::Auto, "msgpack", "numpy"),
    (Serializer::Auto, "arrow", "arrow"),
    (Serializer::Orjson, "orjson", "orjson"),
    (Serializer::Arrow, "arrow", "arrow"),
];

fuzz_target!(|data: &[u8]| {
    for (serializer, ..) in &KINDS {
        for integrity in [true, false] {
            let _ = body_of(data, &policy(serializer, integrity));
        }
    }
    let Some((&[kind, at, flip], body)) = data.split_first_chunk::<3>() else {
        return;
    };
    damaged(&KINDS[usize::from(kind) % KINDS.len()], at, flip, body);
});

fn policy(serializer: &Serializer, integrity: bool) -> PayloadPolicy {
    PayloadPolicy {
        serializer: serializer.clone(),
        integrity,
        compression: Compression::Fast,
        bare: false,
    }
}

/// The body and the kind that an entry is read as.
fn body_of(stored: &[u8], policy: &PayloadPolicy) -> Option<(Vec<u8>, Option<String>)> {
    let stored = stored.to_vec().into();
    let kind = |body: &[u8], header: &cachekit_wire::frame::Header| {
        Ok((
            body.to_vec(),
            header.original_type.as_deref().map(str::to_owned),
        ))
    };
    open(&stored, policy, None, &mut vec![], kind).ok()
}

/// An entry comes back; with one byte changed it is refused, or it is the same body still: what the
/// header says of an entry in plain is under no checksum.
fn damaged(kind: &(Serializer, &'static str, &'static str), at: u8, flip: u8, body: &[u8]) {
    let (serializer, format, original_type) = kind;
    let policy = policy(serializer, true);
    let made = Body {
        bytes: Cow::Borrowed(body),
        room: 0,
        format: Cow::Borrowed(*format),
        original_type: Some(Cow::Borrowed(*original_type)),
        compressed: None,
    };
    let entry = seal(made, &policy, None, Extension::default()).expect("far from the limits");
    let (back, named) = body_of(&entry, &policy).expect("just written");
    assert_eq!((&*back, named.as_deref()), (body, Some(*original_type)));
    let mut changed = entry.to_vec();
    let at = usize::from(at) * changed.len() / 256;
    changed[at] ^= flip;
    if let Some((back, _)) = body_of(&changed, &policy) {
        assert_eq!(back, body, "byte {at} of {}", entry.len());
    }
}
