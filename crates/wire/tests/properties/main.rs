//! Properties of the wire over generated and over hostile input.

mod envelope;
mod frame;
mod keys;
mod msgpack;

use proptest::prelude::*;

/// One change to otherwise good bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Set(usize, u8),
    Cut(usize),
    Insert(usize, u8),
    Append(Vec<u8>),
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Self::Flip(at, 1 << bit)),
            (any::<usize>(), any::<u8>()).prop_map(|(at, b)| Self::Set(at, b)),
            any::<usize>().prop_map(Self::Cut),
            (any::<usize>(), any::<u8>()).prop_map(|(at, b)| Self::Insert(at, b)),
            prop::collection::vec(any::<u8>(), 1..8).prop_map(Self::Append),
        ]
    }

    /// Applies the change; positions wrap around.
    fn to(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Self::Flip(at, bit) if len > 0 => bytes[at % len] ^= bit,
            Self::Set(at, b) if len > 0 => bytes[at % len] = *b,
            Self::Cut(at) => bytes.truncate(at % (len + 1)),
            Self::Insert(at, b) => bytes.insert(at % (len + 1), *b),
            Self::Append(more) => bytes.extend_from_slice(more),
            Self::Flip(..) | Self::Set(..) => {}
        }
    }
}
