//! Any bytes as a memcached server's replies: both readers find the same, however the bytes arrive.
#![no_main]

use cachekit_backends::memcached::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&step, bytes)) = data.split_first() else {
        return;
    };
    let step = usize::from(step).max(1);
    assert_eq!(
        fuzzing::read_all(bytes, step),
        fuzzing::take_all(bytes, step)
    );
});
