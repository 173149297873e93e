//! Any bytes as what a Redis server sends: both parsers say the same, however the bytes arrive.
#![no_main]

use cachekit_backends::redis::fuzzing::replies;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&step, bytes)) = data.split_first() else {
        return;
    };
    replies(bytes, usize::from(step));
});
