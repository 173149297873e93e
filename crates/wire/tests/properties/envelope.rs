use cachekit_wire::envelope::{Compression, open, seal};
use proptest::prelude::*;

use crate::Damage;

/// Payloads from incompressible to very compressible.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..600),
        prop::collection::vec(0..3_u8, 0..2000),
        (prop::collection::vec(any::<u8>(), 1..20), 0..4000_usize)
            .prop_map(|(unit, times)| unit.repeat(times)),
    ]
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::Fast), Just(Compression::Off)]
}

proptest! {
    #[test]
    fn what_was_sealed_opens_into_any_buffer(
        payload in payload(),
        format in any::<String>(),
        compression in compression(),
        before in prop::collection::vec(any::<u8>(), 0..20),
        mut into in prop::collection::vec(any::<u8>(), 0..5000),
    ) {
        let mut out = before.clone();
        seal(&payload, &format, compression, &mut out).expect("small");
        prop_assert!(out.starts_with(&before));
        prop_assert_eq!(open(&out[before.len()..], &mut into), Ok(&*format));
        prop_assert_eq!(into, payload);
    }

    #[test]
    fn damage_is_refused_or_harmless(
        payload in payload(),
        compression in compression(),
        damage in prop::collection::vec(Damage::any(), 1..4),
        mut into in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        let mut out = vec![];
        seal(&payload, "msgpack", compression, &mut out).expect("small");
        damage.iter().for_each(|d| d.to(&mut out));
        match open(&out, &mut into) {
            // A changed format name, or another encoding of the same envelope. (A changed payload
            // under a matching checksum would take some 2^64 attempts.)
            Ok(_) => prop_assert_eq!(into, payload),
            Err(_) => prop_assert!(into.is_empty()),
        }
    }

    #[test]
    fn any_bytes_open_or_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        block in prop::collection::vec(any::<u8>(), 0..100),
        original in 0..3000_u32,
    ) {
        let mut into = vec![1];
        let _ = open(&bytes, &mut into);
        // Past the outer shape, into the LZ4 decoder.
        let shaped = [
            &[0x94, 0xc4, block.len() as u8][..],
            &block,
            &[0xc4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0xce],
            &original.to_be_bytes(),
            b"\xa1f",
        ]
        .concat();
        prop_assert!(open(&shaped, &mut into).is_err());
        prop_assert!(into.is_empty());
    }
}
