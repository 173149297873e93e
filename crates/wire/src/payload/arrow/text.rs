//! The layout of text columns.
//!
//! Format source: the Arrow columnar format, "Variable-size Binary Layout".

/// Whether the texts of an Arrow column without missing values are sound: each starts where the one before
/// ends, all lie within `values`, and each is UTF-8.
///
/// `offsets` are little-endian, of eight bytes each if `is_large` and else of four; one more than there are
/// texts. What is no whole number of them, or none, is not sound.
#[must_use]
pub fn is_arrow_text(offsets: &[u8], values: &[u8], is_large: bool) -> bool {
    if is_large {
        is_text(offsets, values, i64::from_le_bytes)
    } else {
        is_text(offsets, values, |bytes| i32::from_le_bytes(bytes).into())
    }
}

fn is_text<const N: usize>(offsets: &[u8], values: &[u8], read: impl Fn([u8; N]) -> i64) -> bool {
    let (offsets, []) = offsets.as_chunks::<N>() else {
        return false;
    };
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return false;
    };
    let (Ok(start), Ok(end)) = (usize::try_from(read(*first)), usize::try_from(read(*last))) else {
        return false;
    };
    // Without a way out of the loop, which lets it look at many at a time.
    let rises = offsets
        .windows(2)
        .fold(true, |rises, pair| rises & (read(pair[0]) <= read(pair[1])));
    let Some(values) = values.get(start..end).filter(|_| rises) else {
        return false;
    };
    values.is_ascii()
        || std::str::from_utf8(values).is_ok_and(|text| {
            // Rising offsets that begin with `start` and end with `end` are all within.
            offsets
                .iter()
                .all(|offset| text.is_char_boundary(read(*offset) as usize - start))
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(offsets: &[i64], is_large: bool) -> Vec<u8> {
        let narrow = |offset: &i64| {
            i32::try_from(*offset)
                .expect("small")
                .to_le_bytes()
                .to_vec()
        };
        let wide = |offset: &i64| offset.to_le_bytes().to_vec();
        offsets
            .iter()
            .flat_map(if is_large { wide } else { narrow })
            .collect()
    }

    #[test]
    fn what_is_not_sound_is_told() {
        for is_large in [false, true] {
            let is_sound = |offsets: &[i64], values: &[u8]| {
                is_arrow_text(&bytes(offsets, is_large), values, is_large)
            };
            assert!(is_sound(&[0], b""));
            assert!(is_sound(&[0, 2, 2, 3], b"abc"));
            assert!(is_sound(&[1, 2], b"\xffb\xff"), "what no text is made of");
            assert!(is_sound(&[0, 2, 3], "éa".as_bytes()));
            assert!(!is_sound(&[], b"abc"), "no offset");
            assert!(!is_sound(&[0, 4], b"abc"), "past the end");
            assert!(!is_sound(&[-1, 3], b"abc"), "before the start");
            assert!(!is_sound(&[0, 3, 2, 3], b"abc"), "falling");
            assert!(!is_sound(&[0, -3, 3], b"abc"), "falling below the start");
            assert!(!is_sound(&[0, 9, 3], b"abc"), "past the end in between");
            assert!(!is_sound(&[0, 1, 3], "éa".as_bytes()), "within a character");
            assert!(!is_sound(&[0, 2], b"a\xff"), "no UTF-8");
            assert!(
                !is_arrow_text(&[0; 9], b"abc", is_large),
                "no whole number of offsets"
            );
        }
        assert!(!is_arrow_text(&bytes(&[0, i64::MAX], true), b"abc", true));
        assert!(!is_arrow_text(&bytes(&[i64::MIN, 3], true), b"abc", true));
    }

    proptest! {
        /// What is sound can be read as texts one by one, and the other way round.
        #[test]
        fn sound_is_what_reads(
            offsets in prop::collection::vec(-2_i64..12, 0..6),
            values in prop_oneof![Just("aéb€c".as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..10)],
            sort in any::<bool>(),
            is_large in any::<bool>(),
        ) {
            let mut offsets = offsets;
            if sort {
                offsets.sort_unstable();
            }
            let read = |pair: &[i64]| {
                let (start, end) = (usize::try_from(pair[0]).ok()?, usize::try_from(pair[1]).ok()?);
                std::str::from_utf8(values.get(start..end)?).ok()
            };
            let reads = match &*offsets {
                [] => false,
                [only] => usize::try_from(*only).is_ok_and(|only| only <= values.len()),
                _ => offsets.windows(2).all(|pair| read(pair).is_some()),
            };
            prop_assert_eq!(is_arrow_text(&bytes(&offsets, is_large), &values, is_large), reads);
        }
    }
}
