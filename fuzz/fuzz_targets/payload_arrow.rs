//! Any bytes as an Arrow IPC file: what is told of its size, whole and as it is written.
#![no_main]

use cachekit_wire::payload::{ArrowError, ArrowMeter, check_arrow};
use libfuzzer_sys::fuzz_target;

const MAGIC: &[u8] = b"ARROW1";

fuzz_target!(|data: &[u8]| {
    checked(data);
    metered(data);
    // Spares the fuzzer from finding the marks, and the length of the footer: two bytes of the input.
    if let Some((&footer, rest)) = data.split_first_chunk::<2>() {
        let footer = i32::from(u16::from_le_bytes(footer));
        let file = [MAGIC, &[0; 2], rest, &footer.to_le_bytes(), MAGIC].concat();
        checked(&file);
        metered(&file);
    }
});

/// What is said of a file refers to its length, and a file ends with its footer.
fn checked(file: &[u8]) {
    match check_arrow(file) {
        Ok(()) => assert!(file.ends_with(MAGIC)),
        Err(
            ArrowError::Ratio { stored, .. }
            | ArrowError::Values { stored, .. }
            | ArrowError::Shared { stored, .. },
        ) => assert_eq!(stored, file.len() as u64),
        Err(_) => {}
    }
    let longer = [file, b"\0"].concat();
    assert_eq!(check_arrow(&longer), Err(ArrowError::Malformed));
}

/// A file that is written in pieces of any size is what it is in one.
fn metered(file: &[u8]) {
    let size = usize::from(file.last().copied().unwrap_or(0)) + 1;
    let (whole, pieces) = (meter(file, usize::MAX), meter(file, size));
    assert_eq!(whole, pieces);
}

fn meter(file: &[u8], size: usize) -> Result<(), ArrowError> {
    let mut meter = ArrowMeter::default();
    for piece in file.chunks(size) {
        meter.add(piece)?;
    }
    meter.finish()
}
