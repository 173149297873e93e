//! Files of pyarrow 26 in hexadecimal, as they are and altered.

use super::*;

/// `pa.table({"a": [0] * 64})`, compressed with zstd.
const ZSTD: &str = include_str!("zstd.hex");
/// `pa.table({"a": pa.array(["x", "y"]).dictionary_encode(), "n": pa.nulls(2)})`, as it is.
const PLAIN: &str = include_str!("plain.hex");

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The file with the only place where `from` stands saying `to`.
fn with(file: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<usize> = (0..=file.len() - from.len())
        .filter(|&at| file[at..].starts_with(from))
        .collect();
    assert_eq!(places.len(), 1, "{places:?}");
    let mut file = file.to_vec();
    file[places[0]..][..to.len()].copy_from_slice(to);
    file
}

/// The head of the compressed buffer: its length, and the mark of zstd.
fn buffer(announced: i64) -> [u8; 12] {
    let mut head = [0x28, 0xb5, 0x2f, 0xfd].repeat(3);
    head[..8].copy_from_slice(&announced.to_le_bytes());
    head.try_into().unwrap()
}

#[test]
fn what_pyarrow_writes_is_measured() {
    let found = size(&bytes(ZSTD)).expect("a file");
    assert_eq!((found.announced, found.values), (512, 64));
    let plain = size(&bytes(PLAIN)).expect("a file");
    // The dictionary has two values, and each of two columns.
    assert_eq!((plain.announced, plain.values), (0, 2 + 2 + 2));
    assert_eq!(check_arrow(&bytes(ZSTD)), Ok(()));
    assert_eq!(check_arrow(&bytes(PLAIN)), Ok(()));
}

#[test]
fn a_buffer_may_announce_so_much() {
    let file = bytes(ZSTD);
    let announcing = |announced: u64| with(&file, &buffer(512), &buffer(announced as i64));
    let stored = file.len() as u64;
    assert_eq!(check_arrow(&announcing(64 << 20)), Ok(()));
    let announced = (64 << 20) + 1;
    let found = check_arrow(&announcing(announced));
    assert_eq!(found, Err(ArrowError::Ratio { stored, announced }));
    // Not compressed after all.
    assert_eq!(check_arrow(&announcing(u64::MAX)), Ok(()));
    let malformed = check_arrow(&announcing(u64::MAX - 1));
    assert_eq!(malformed, Err(ArrowError::Malformed));
}

#[test]
fn values_need_bits() {
    let file = bytes(PLAIN);
    // The node of the column of nulls: two values, two of them null.
    let node = [2_i64.to_le_bytes(), 2_i64.to_le_bytes()].concat();
    let values = |count: i64| with(&file, &node, &count.to_le_bytes());
    assert_eq!(check_arrow(&values(60 << 20)), Ok(()));
    let found = check_arrow(&values(1 << 40));
    assert!(matches!(found, Err(ArrowError::Values { .. })), "{found:?}");
    assert_eq!(check_arrow(&values(-1)), Err(ArrowError::Malformed));
    assert_eq!(check_arrow(&values(i64::MAX)), Err(ArrowError::Malformed));
}

#[test]
fn buffers_are_no_longer_than_the_file() {
    let file = bytes(ZSTD);
    let held = size(&file).expect("a file").held;
    // The metadata of the batch, and its buffer.
    assert!((100..file.len() as u64).contains(&held), "{held}");
    let longer = |at: usize| {
        let mut altered = file.clone();
        altered[at..at + 8].copy_from_slice(&(1_i64 << 20).to_le_bytes());
        size(&altered)
            .is_some_and(|size| size.held > altered.len() as u64)
            .then_some(altered)
    };
    let altered: Vec<_> = (0..file.len() - 8).filter_map(longer).collect();
    assert!(!altered.is_empty());
    for file in altered {
        assert_eq!(check_arrow(&file), Err(ArrowError::Malformed));
    }
}

#[test]
fn large_files_may_be_compressed_too() {
    let of = |announced: u64, stored: u64| {
        let size = Size {
            announced,
            ..Size::default()
        };
        size.check(stored << 20).is_ok()
    };
    assert!(of(512 << 20, 1));
    assert!(!of((512 << 20) + 1, 1));
    assert!(of(4 << 30, 512));
    assert!(!of((4 << 30) + 1, 512));
}

#[test]
fn no_more_values_than_bits() {
    let of = |values: u64, announced: u64, stored: u64| {
        let size = Size {
            values,
            announced,
            ..Size::default()
        };
        size.check(stored).is_ok()
    };
    let many = 100 << 20;
    assert!(of(many, 0, many / 8));
    assert!(!of(many, 0, many / 8 - 1));
    assert!(of(many, 4 * many, 1 << 20), "decompressed");
    assert!(!of(many, many, 1 << 20), "decompressed bytes");
}

#[test]
fn shared_values_take_no_more_than_compressed_ones() {
    let mebibytes = |stored: u64, expanded: u64| check_arrow_shared(stored, expanded << 20).is_ok();
    assert!(mebibytes(1000, 64));
    assert!(!mebibytes(1000, 65));
    assert!(mebibytes(50 << 20, 562));
    assert!(!mebibytes(50 << 20, 563));
    assert!(mebibytes(2 << 30, 9 * 2048));
    assert!(!mebibytes(2 << 30, 9 * 2048 + 1));
    let most = u64::MAX;
    assert_eq!(check_arrow_shared(most, most), Ok(()));
}

/// What a meter says of a file that comes in parts of `len` bytes.
fn metered(file: &[u8], len: usize) -> Result<(), ArrowError> {
    let mut meter = ArrowMeter::default();
    for part in file.chunks(len) {
        meter.add(part)?;
    }
    meter.finish()
}

#[test]
fn a_meter_says_what_the_check_says() {
    let zstd = bytes(ZSTD);
    let announcing = |announced: i64| with(&zstd, &buffer(512), &buffer(announced));
    let node = [2_i64.to_le_bytes(), 2_i64.to_le_bytes()].concat();
    let files = [
        announcing(64 << 20),
        announcing((64 << 20) + 1),
        announcing(1 << 40),
        announcing(-1),
        announcing(-2),
        with(&bytes(PLAIN), &node, &(1_i64 << 40).to_le_bytes()),
        zstd,
        bytes(PLAIN),
    ];
    for (number, file) in files.iter().enumerate() {
        for len in [1, 7, 8, 64, file.len()] {
            assert_eq!(metered(file, len), check_arrow(file), "{number}, {len}");
        }
    }
}

#[test]
fn a_meter_wants_the_whole_file() {
    let file = bytes(ZSTD);
    for end in 0..200 {
        assert_eq!(metered(&file[..end], 5), Err(ArrowError::Malformed));
    }
    let mut altered = file.clone();
    for place in 0..file.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            altered[place] = byte;
            let _ = metered(&altered, 64);
        }
        altered[place] = file[place];
    }
}

#[test]
fn any_bytes_are_a_size_or_an_error() {
    for file in [bytes(ZSTD), bytes(PLAIN)] {
        for end in 0..file.len() {
            assert_eq!(
                check_arrow(&file[..end]),
                Err(ArrowError::Malformed),
                "{end}"
            );
        }
        let mut altered = file.clone();
        for place in 0..file.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                altered[place] = byte;
                let _ = check_arrow(&altered);
            }
            altered[place] = file[place];
        }
        for place in 0..file.len() - 8 {
            for number in [i64::MIN, i64::MAX, -1, i64::from(i32::MAX), 1 << 31] {
                altered[place..place + 8].copy_from_slice(&number.to_le_bytes());
                let _ = check_arrow(&altered);
            }
            altered[place..place + 8].copy_from_slice(&file[place..place + 8]);
        }
    }
}
